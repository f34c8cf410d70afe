from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.footage.take import Take, Thinner, working_size
from posecap.types import Media


def kept(fps: float, fps_at_most: float, count: int = 240) -> list[int]:
    thinner = Thinner(fps_at_most)
    return [n for n in range(count) if thinner.keeps(n / fps)]


def test_frames_are_handed_out_from_the_front() -> None:
    take = Take()
    for n in range(5):
        take.add(np.full((2, 4, 3), n, np.uint8), n / 10)
    first = take.hand_out(3)
    assert first.frames_THW3[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert first.pts_T.tolist() == [0.0, 0.1, 0.2]
    take.leave_out(1)
    assert (len(take), take.first, take.last, take.pts) == (1, 0.4, 0.4, [0.4])


@pytest.mark.parametrize(
    ("fps", "step"),
    [(24, 1), (30, 1), (59.94, 1), (60, 1), (120, 2), (119.88, 2), (180, 3), (240, 4), (480, 8), (600, 10)],
)
def test_footage_is_thinned_evenly(fps: float, step: int) -> None:
    assert kept(fps, 60) == list(range(0, 240, step))


def test_rates_that_do_not_divide_alternate() -> None:
    assert kept(90, 60, 9) == [0, 2, 3, 5, 6, 8]


def test_times_rounded_to_milliseconds_lose_no_frame() -> None:
    thinner = Thinner(60)
    assert all(thinner.keeps(round(n / 60, 3)) for n in range(600))


def test_a_pause_does_not_let_the_frames_behind_it_pass() -> None:
    thinner = Thinner(10)
    times = [0.0, 5.0, 5.05, 5.1, 5.15, 5.2]
    assert [t for t in times if thinner.keeps(t)] == [0.0, 5.0, 5.1, 5.2]


@given(st.lists(st.integers(1, 100), min_size=1, max_size=200), st.integers(1, 100))
def test_never_more_frames_than_allowed(gaps: list[int], rate: int) -> None:
    times = np.cumsum(gaps) / 1000
    thinner = Thinner(rate)
    passed = [t for t in times if thinner.keeps(t)]
    assert passed[0] == times[0]
    assert len(passed) <= (times[-1] - times[0]) * rate + 1.5


@pytest.mark.parametrize(
    ("source", "long_side", "working"),
    [
        ((1920, 1080), 512, (512, 288)),
        ((1080, 1920), 512, (288, 512)),
        ((340, 256), 512, (340, 256)),
        ((427, 241), 512, (426, 240)),
        ((1768, 994), 512, (512, 288)),
        ((4000, 20), 512, (512, 2)),
        ((1, 1), 512, (2, 2)),
    ],
)
def test_working_size_keeps_the_shape_and_never_enlarges(
    source: tuple[int, int], long_side: int, working: tuple[int, int]
) -> None:
    media = Media(width=source[0], height=source[1], fps=30, codec="h264", rotation_degrees=0, seconds=None)
    assert working_size(media, long_side) == working
