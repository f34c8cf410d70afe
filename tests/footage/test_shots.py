from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap.footage.shots import ShotDetector, thumbnails


def grey(*levels: int, height: int = 90, width: int = 160) -> np.ndarray:
    return np.stack([np.full((height, width, 3), level, np.uint8) for level in levels])


def test_a_thumbnail_is_the_mean_grey_of_each_cell() -> None:
    frame = grey(0)
    frame[0, :45, :80] = (255, 0, 0)  # the upper left quarter, pure red: 255 * 77 / 256 grey levels
    small = thumbnails(frame)[0] / (256 * 16)
    assert small.shape == (18, 32)
    assert (small[:9, :16] == 255 * 77 / 256).all()
    assert (small[9:] == 0).all()
    assert (small[:, 16:] == 0).all()


@pytest.mark.parametrize(("jump", "found"), [(42, False), (43, True)])
def test_a_shot_begins_where_the_jump_exceeds_the_threshold(jump: int, found: bool) -> None:
    assert ShotDetector(42).begins(grey(100, 100, 100 + jump, 100 + jump)).tolist() == [False, False, found, False]


def test_a_jump_on_half_the_picture_counts_half() -> None:
    frames = grey(50, 50)
    frames[1, :, :80] = 150
    assert ShotDetector(49).begins(frames).tolist() == [False, True]
    assert ShotDetector(50).begins(frames).tolist() == [False, False]


@given(st.lists(st.integers(0, 255), min_size=2, max_size=20), st.data())
def test_blocks_make_no_difference(levels: list[int], data: st.DataObject) -> None:
    frames = grey(*levels, height=20, width=34)
    at = data.draw(st.integers(1, len(levels) - 1))
    whole, parts = ShotDetector(30), ShotDetector(30)
    assert whole.begins(frames).tolist() == [*parts.begins(frames[:at]).tolist(), *parts.begins(frames[at:]).tolist()]


@pytest.mark.parametrize("size", [(1, 1), (7, 500), (17, 31), (512, 290)])
def test_any_size_of_frame_will_do(size: tuple[int, int]) -> None:
    assert ShotDetector(30).begins(grey(0, 200, height=size[0], width=size[1])).tolist() == [False, True]
