from __future__ import annotations

import math
from pathlib import Path

import pytest

from posecap.stage import Reject
from posecap.stages.split import Split
from posecap.types import CutVideo, ShotRule, Span
from tests.footage import video


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "walk.mp4"
    path.write_bytes(b"never opened by this stage")
    return path


def cut(path: Path, start: float | None, end: float | None, stage: Split | None = None) -> CutVideo:
    (result,) = (stage or Split())(video(path, start=start, end=end))
    return result


@pytest.mark.parametrize(
    ("start", "end", "span"),
    [
        (None, None, None),
        (1.5, 4.0, Span(1.5, 4.0)),
        (4.4, 64.4, Span(4.4, 64.4)),  # 60 s, though the difference of the two floats is a little more
        (1.5, None, Span(1.5, math.inf)),
        (None, 4.0, Span(0.0, 4.0)),
        (0.0, None, Span(0.0, math.inf)),
        (0.0, 60.0, Span(0.0, 60.0)),
    ],
)
def test_a_rows_span_is_kept(path: Path, start: float | None, end: float | None, span: Span | None) -> None:
    assert cut(path, start, end).span == span


def test_the_rule_for_shots_goes_along(path: Path) -> None:
    rule = cut(path, None, None, Split(threshold=50.0, shortest_seconds=2.0, longest_seconds=8.0)).shots
    assert rule == ShotRule(threshold=50.0, shortest_seconds=2.0, longest_seconds=8.0)


@pytest.mark.parametrize(
    ("start", "end"),
    [(2.0, 2.0), (3.0, 2.0), (-1.0, 2.0), (None, 0.0), (None, -1.0), (math.nan, 2.0), (0.0, math.nan), (0.0, math.inf)],
)
def test_a_span_that_is_none_is_rejected(path: Path, start: float | None, end: float | None) -> None:
    with pytest.raises(Reject) as caught:
        cut(path, start, end)
    assert caught.value.reason == "bad_span"


def test_a_span_beyond_the_bound_is_rejected(path: Path) -> None:
    with pytest.raises(Reject) as caught:
        cut(path, 10.0, 75.0)
    assert caught.value.reason == "span_too_long"
    assert caught.value.detail == "65 s, at most 60: shorten the row's span or raise row_longest_seconds"


def test_bounds_that_contradict_each_other_are_an_error() -> None:
    with pytest.raises(ValueError, match="no longer than the longest"):
        Split(shortest_seconds=5.0, longest_seconds=4.0)


@pytest.mark.parametrize(
    "fields", [{"shortest_seconds": 0.0, "longest_seconds": 0.0}, {"row_longest_seconds": 0.0}, {"threshold": -1.0}]
)
def test_a_number_out_of_its_range_is_refused_by_name(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=list(fields)[-1]):
        Split(**fields)
