"""Labels of frames, of points in time and of events, by hand."""

import numpy as np
import pytest

from tmor_train.benchmarks import Timelines
from tmor_train.benchmarks.base import events_from_intervals
from tmor_train.evaluation.detection.detect import runs
from tmor_train.metrics.average_precision import points


def timelines(bounds: str) -> Timelines:
    found = [[(0, 1.0, 4.0), (1, 5.0, 2.0)], [], [(1, 0.5, 2.5), (1, 8.0, 99.0)]]
    return Timelines(np.array([6, 3, 10]), 2, events_from_intervals(found, bounds=bounds))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bounds", "first", "third"),
    [("strict", [2, 3], [1, 2, 9]), ("closed", [1, 2, 3, 4], [1, 2, 8, 9]), ("half_open", [1, 2, 3], [1, 2, 8, 9])],
)
def test_bounds_say_which_frames_an_event_holds(bounds: str, first: list[int], third: list[int]) -> None:
    found = timelines(bounds)
    assert found.labels(0).shape == (6, 2)
    assert np.flatnonzero(found.labels(0)[:, 0]).tolist() == first
    assert not found.labels(0)[:, 1].any()  # it ends before it begins
    assert not found.labels(1).any()
    assert np.flatnonzero(found.labels(2)[:, 1]).tolist() == third


def test_labels_are_the_rule_in_loops() -> None:
    random = np.random.default_rng(0)
    events = [(int(n), float(b), float(e)) for n, b, e in zip(*random.integers(0, 20, (3, 30)), strict=True)]
    events = [(n % 3, b / 2, e / 2) for n, b, e in events]
    for bounds in ("strict", "closed", "half_open"):
        found = Timelines(np.array([12]), 3, events_from_intervals([events], bounds=bounds)).labels(0)  # type: ignore[arg-type]
        for frame in range(12):
            for number in range(3):
                inside = {
                    "strict": any(n == number and b < frame < e for n, b, e in events),
                    "closed": any(n == number and b <= frame <= e for n, b, e in events),
                    "half_open": any(n == number and b <= frame < e for n, b, e in events),
                }
                assert found[frame, number] == inside[bounds]


def test_points_lie_between_frames_and_both_ends_count() -> None:
    found = Timelines(np.array([10]), 1, events_from_intervals([[(0, 2.5, 5.0)]]))
    assert found.labels_at_points(0, count=4)[:, 0].tolist() == [False, True, True, False]  # at 0, 2.5, 5 and 7.5
    assert found.labels(0)[points(10, count=4), 0].tolist() == [False, False, False, False]
    assert found.labels_at_points(0).shape == (25, 1)


def test_with_a_length_times_are_in_its_unit() -> None:
    found = Timelines(
        np.array([10]), 1, events_from_intervals([[(0, 1.0, 2.0)]]), np.array([5.0])
    )  # two frames a second
    assert np.flatnonzero(found.labels(0)[:, 0]).tolist() == [3]
    assert np.flatnonzero(found.labels_at_points(0, count=5)[:, 0]).tolist() == [1, 2]
    assert [(one.begin, one.end) for one in found.truths(0)] == [(3, 4)]


def test_seconds_become_frames_by_the_rate_of_each_recording() -> None:
    events = events_from_intervals([[(0, 1.0, 2.0)], [(0, 1.0, 2.0)]], rate_N=np.array([24.0, 30.0]))
    assert events.begin_E.tolist() == [24, 30]
    assert events.end_E.tolist() == [48, 60]


@pytest.mark.parametrize("bounds", ["strict", "closed", "half_open"])
def test_truths_are_the_runs_of_labelled_frames(bounds: str) -> None:
    found = timelines(bounds)
    for number in range(3):
        truths = sorted((one.label, one.begin, one.end) for one in found.truths(number))
        label_KT = found.labels(number).T
        assert truths == [(k, begin, end) for k in range(2) for begin, end in runs(label_KT[k])]
