"""What charts show, and how they fit into the page."""

from pathlib import Path

import numpy as np

from tmor_train.report.charts import binned, ordered
from tmor_train.report.collect import StoredResult
from tmor_train.report.section import svg
from tmor_train.results import Result


def _kept(*per_class: float | None) -> StoredResult:
    result = Result(
        benchmark="b",
        protocol="p",
        mode="m",
        recipe="r",
        seed=0,
        checkpoint=None,
        metrics={"top1": 0.5},
        primary_metric="top1",
        per_class=per_class,
        classes=tuple("abcd"),
    )
    return StoredResult(Path("x"), "x", result)


def test_classes_stand_by_the_first_results_figures_and_those_without_any_are_left_out() -> None:
    assert ordered([_kept(0.5, None, 0.0, None), _kept(None, 0.1, 0.9, None)], 4) == [1, 2, 0]


def test_lines_of_a_picture_take_the_colour_of_the_page() -> None:
    def draw(figure: object) -> None:
        figure.add_subplot().set_title("words")  # type: ignore[attr-defined]

    picture = svg(draw, width=2, height=2, name="a")
    assert picture.startswith("<svg")
    assert "currentColor" in picture
    assert "#010203" not in picture
    assert "<metadata>" not in picture
    assert svg(draw, width=2, height=2, name="a") == picture


def test_long_recordings_keep_their_peaks() -> None:
    score_TK = np.zeros((5000, 2), np.float32)
    score_TK[4321, 1] = 0.9
    strip = binned(score_TK)
    assert strip.shape == (2, 800)
    assert strip[1].max() == np.float32(0.9)
    assert (strip[1] > 0).sum() == 1
    np.testing.assert_array_equal(binned(score_TK[:30]), score_TK[:30].T)
