from __future__ import annotations

import numpy as np
import skeletons
from hypothesis import given
from hypothesis import strategies as st

from tmor_train.data import Clip, from_clips
from tmor_train.data.frames import people_of, uniform_frames, window_frames


def test_uniform_frames_are_one_of_each_part() -> None:
    frames = np.array([8, 3, 1])
    assert uniform_frames(frames, length=4, draw_NT=np.full((3, 4), 0.5)).tolist() == [
        [1, 3, 5, 7],
        [0, 1, 1, 2],
        [0, 0, 0, 0],
    ]
    assert uniform_frames(frames[:1], length=4, draw_NT=np.array([[0, 0.99, 0, 0.99]])).tolist() == [[0, 3, 4, 7]]


@given(frames=st.integers(1, 500), length=st.integers(1, 100), draw=st.floats(0, 1, exclude_max=True))
def test_uniform_frames_stay_in_the_clip_and_in_order(frames: int, length: int, draw: float) -> None:
    chosen = uniform_frames(np.array([frames]), length=length, draw_NT=np.full((1, length), draw))[0]
    assert chosen.min() >= 0
    assert chosen.max() < frames
    assert (np.diff(chosen) >= 0).all()
    if frames >= length:
        assert len(set(chosen.tolist())) == length


def test_windows_begin_early_late_or_between() -> None:
    frames = np.array([10, 10, 10])
    assert window_frames(frames, length=4, draw_N=np.array([0, 0.5, 1.0])).tolist() == [
        [0, 1, 2, 3],
        [3, 4, 5, 6],
        [6, 7, 8, 9],
    ]


def test_shorter_clips_lie_among_absent_frames() -> None:
    frames = np.array([2, 2, 2])
    assert window_frames(frames, length=4, draw_N=np.array([0, 0.5, 1.0])).tolist() == [
        [0, 1, -1, -1],
        [-1, 0, 1, -1],
        [-1, -1, 0, 1],
    ]


def test_people_are_taken_by_their_spread() -> None:
    joints = skeletons.counted("a", people=3, frames=4).joints_MTJC.copy()
    joints[1, ..., :2] *= 0.001  # spreads least
    joints[2, ..., :2] = joints[2, ..., :2] * 5  # and this one most
    gone = skeletons.counted("b", people=2, frames=4).joints_MTJC.copy()
    gone[0] = 0  # never seen
    motions = from_clips(
        [
            Clip(key=key, joints_MTJC=values, layout="coco17", width=640, height=480)
            for key, values in (("a", joints), ("b", gone), ("c", joints[:1]))
        ]
    )
    assert people_of(motions, most=2, by="spread").tolist() == [[2, 0], [1, 0], [0, -1]]
    assert people_of(motions, most=2, by="first").tolist() == [[0, 1], [0, 1], [0, -1]]


def test_a_draw_just_below_one_stays_in_its_part() -> None:
    draw = np.full((2, 4), 1 - 2.0**-52)
    assert uniform_frames(np.array([4, 6]), length=4, draw_NT=draw).tolist() == [[0, 1, 2, 3], [1, 2, 4, 5]]
