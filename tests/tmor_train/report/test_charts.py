"""What charts show, and how they fit into the page."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from tmor_train.report.charts import binned, confusion, ordered
from tmor_train.report.collect import Collected, StoredResult
from tmor_train.report.section import svg
from tmor_train.results import Result, Scores, save


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


def test_damaged_scores_are_named_and_results_without_scores_have_no_matrix(tmp_path: Path) -> None:
    result = replace(_kept(0.5, None, 0.0, None).result, classes=("a", "b"), per_class=())
    scores = Scores(np.eye(2, dtype=np.float32), np.arange(2), np.array(["k0", "k1"]))
    kept = []
    for mode in ("whole", "damaged", "wide", "bare"):
        folder, one = tmp_path / mode, replace(result, mode=mode)
        if mode == "wide":
            save(one, folder, scores=replace(scores, scores_NK=np.ones((2, 3), np.float32)))
        else:
            save(one, folder, scores=None if mode == "bare" else scores)
        kept.append(StoredResult(folder, mode, one))
    (tmp_path / "damaged/scores.npz").write_bytes(b"PK")
    blocks = list(confusion(Collected(folder=tmp_path, results=kept)))
    assert [block.text.partition(" ")[0] for block in blocks if block.text] == [
        str(tmp_path / "damaged/scores.npz"),
        str(tmp_path / "wide/scores.npz"),
    ]
    assert [chart.caption for block in blocks for chart in block.charts] == ["whole: every clip is recognized"]


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
