from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecap.joints import LAYOUTS, flip
from posecap.skeletons import _medians, body_sizes, measure, own_motion
from posecap.types import Quality
from tests.building import walkers

PENN = LAYOUTS["penn13"].names.index


def still(*, people: int = 1, frames: int = 6, score: float = 0.5) -> np.ndarray:
    """Penn-13 people 300 pixels apart who do not move; each spans 60 by 80 pixels, so that a size is 100."""
    joints = np.zeros((people, frames, 13, 3), np.float32)
    joints[..., 0] = np.linspace(0, 60, 13)
    joints[..., 1] = np.linspace(0, 80, 13)
    joints[..., 0] += 10 + 300 * np.arange(people)[:, None, None]
    joints[..., 1] += 10
    joints[..., 2] = score
    return joints


def times(frames: int) -> np.ndarray:
    return np.arange(frames) / 25


def measured(joints: np.ndarray, pts: np.ndarray | None = None) -> Quality:
    return measure(joints, times(joints.shape[1]) if pts is None else pts, "penn13")


def test_people_who_stand_still_are_faultless() -> None:
    assert measured(still(people=2)) == Quality(
        coverage=1.0,
        mean_score=0.5,
        zero_pose_share=0.0,
        jitter=0.0,
        bone_jump_share=0.0,
        identity_switches=0,
        motion=0.0,
    )


@pytest.mark.parametrize("shape", [(0, 5), (1, 0), (0, 0), (2, 1), (1, 2)])
def test_nothing_to_measure_measures_as_zero(shape: tuple[int, int]) -> None:
    quality = measured(np.zeros((*shape, 13, 3), np.float32))
    assert astuple(quality) == (0, 0, 0, 0, 0, 0, 0)


def test_size_is_the_median_diagonal_of_seen_joints() -> None:
    joints = still(people=3, frames=5)
    joints[1, 3:] = 0
    joints[1, 0, 1:] = 0  # one joint spans nothing: this frame does not count
    joints[2, :, 1:] = 0
    np.testing.assert_allclose(body_sizes(joints), [100, 100, 0], rtol=1e-6)


def test_coverage_mean_score_and_holes() -> None:
    joints = still(people=2, frames=10)
    joints[0, :2] = 0  # enters late: no hole
    joints[0, 4:6] = 0  # a hole of two in the eight frames from first to last
    joints[1, :, 0, 2] = 0.9
    joints[1, :, 1:] = 0
    quality = measured(joints)
    assert quality.coverage == pytest.approx((6 + 10) / 20)
    assert quality.zero_pose_share == pytest.approx(2 / 18, abs=1e-6)
    assert quality.mean_score == pytest.approx((6 * 13 * 0.5 + 10 * 0.9) / (6 * 13 + 10), abs=1e-6)


def test_jitter_is_the_distance_from_the_straight_line() -> None:
    joints = still(frames=5)
    joints[0, [1, 3], :, 1] += 3  # every joint up and down by 3 pixels: 3 % of the size
    assert measured(joints).jitter == pytest.approx(0.03, abs=1e-6)
    joints[0, 2] = 0  # no three frames running any more
    assert measured(joints).jitter == 0


def test_even_motion_is_no_jitter_even_at_uneven_times() -> None:
    pts = np.array([0.0, 0.04, 0.2, 0.24, 0.5])
    joints = still(frames=5)
    joints[..., 0] += (200 * pts)[None, :, None].astype(np.float32)
    assert measured(joints, pts).jitter == pytest.approx(0, abs=1e-6)
    assert measured(joints).jitter > 0.01


def test_bones_that_jump() -> None:
    joints = still(frames=3)
    wrist, elbow = PENN("left_wrist"), PENN("left_elbow")
    bone = joints[0, 0, wrist, :2] - joints[0, 0, elbow, :2]  # (10, 13.3), 16.7 long
    # 1.5 x 16.7 + 5 = 30 pixels are allowed.
    joints[0, 1, wrist, :2] = joints[0, 0, elbow, :2] + bone * 1.75
    assert measured(joints).bone_jump_share == 0
    joints[0, 1, wrist, :2] = joints[0, 0, elbow, :2] + bone * 1.85
    assert measured(joints).bone_jump_share == pytest.approx(2 / 24, abs=1e-6)  # there and back
    joints[0, 1, elbow] = 0  # now that bone is never seen in two frames running
    assert measured(joints).bone_jump_share == 0


def test_an_exchange_of_two_people_is_counted_once_each_way() -> None:
    joints = still(people=2, frames=8)
    joints[:, 4:6] = joints[::-1, 4:6]
    assert measured(joints).identity_switches == 2


def test_two_people_close_together_are_told_apart() -> None:
    joints = still(people=2, frames=8)
    joints[1, :, :, 0] -= 280  # 20 pixels apart
    assert measured(joints).identity_switches == 0
    joints[:, 4:] = joints[::-1, 4:]
    assert measured(joints).identity_switches == 1


def test_a_jump_farther_than_the_own_size_is_a_switch_unless_time_passed() -> None:
    joints = still(frames=8)
    joints[0, 4:, :, 0] += 99
    assert measured(joints).identity_switches == 0
    joints[0, 4:, :, 0] += 2
    assert measured(joints).identity_switches == 1
    joints[0, 3] = 0  # a short hole does not hide it
    assert measured(joints).identity_switches == 1
    joints[0, 1:4] = 0
    assert measured(joints, times(8) * 2).identity_switches == 0  # 0.32 s unseen


def test_own_motion_sees_one_moving_arm_but_no_moving_camera() -> None:
    joints = still(people=3, frames=40)
    swing = np.where(np.arange(40) % 2, 10, -10).astype(np.float32)
    joints[0, :, :, 0] += np.linspace(0, 200, 40, dtype=np.float32)[:, None]  # a pan
    for joint in ("left_wrist", "right_wrist", "left_elbow"):
        joints[1, :, PENN(joint), 1] += swing
    joints[2, :, PENN("left_wrist"), 1] += swing
    motion = own_motion(joints)
    assert motion[0] == pytest.approx(0, abs=1e-6)
    assert motion[1] == pytest.approx(0.1, abs=1e-3)  # 10 of about 100 pixels
    assert motion[2] == 0  # a single joint of 13 may be a wrong guess
    assert measured(joints).motion == pytest.approx(motion[1], abs=1e-6)


def test_joints_that_come_and_go_are_no_motion() -> None:
    joints = still(frames=10)
    for joint in range(9, 13):
        joints[0, 6:, joint] = 0
        joints[0, :6, joint, 0] += np.array([50, -50, 50, -50, 50, -50], np.float32)
    assert own_motion(joints)[0] > 0.3
    joints[0, 4:6, 9:13] = 0  # now seen in 4 of 10 frames
    assert own_motion(joints)[0] == 0


def test_every_figure_is_rounded_to_six_digits() -> None:
    quality = measure(walkers(people=2, frames=30), times(30), "coco17")
    assert all(value == round(value, 6) for value in astuple(quality))
    assert 0.05 < quality.motion < 0.5


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 2**32 - 1),
    people=st.integers(0, 3),
    frames=st.integers(0, 7),
    missing=st.sampled_from([0.0, 0.3, 0.9]),
    layout=st.sampled_from(sorted(LAYOUTS)),
)
def test_measures_are_finite_bounded_and_the_same_in_the_mirror(
    seed: int, people: int, frames: int, missing: float, layout: str
) -> None:
    rng = np.random.default_rng(seed)
    joints = rng.random((people, frames, len(LAYOUTS[layout].names), 3)).astype(np.float32)
    joints[..., :2] *= 400
    joints[rng.random(joints.shape[:3]) < missing] = 0
    pts = np.cumsum(rng.random(frames) + 0.001)
    quality = measure(joints, pts, layout)
    assert np.isfinite(astuple(quality)).all()
    for share in (quality.coverage, quality.mean_score, quality.zero_pose_share, quality.bone_jump_share):
        assert 0 <= share <= 1
    assert 0 <= quality.identity_switches <= frames
    assert type(quality.identity_switches) is int
    mirrored = measure(flip(joints, layout=layout, width=400), pts, layout)
    np.testing.assert_allclose(astuple(mirrored), astuple(quality), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1])
def test_medians_are_those_of_numpy_bit_by_bit(axis: int) -> None:
    values = np.random.default_rng(0).normal(0, 50, (31, 18))
    values[np.random.default_rng(1).random(values.shape) < 0.4] = np.nan
    values[3], values[:, 5] = np.nan, np.nan
    with pytest.warns(RuntimeWarning, match="All-NaN slice"):
        expected = np.nanmedian(values, axis=axis, keepdims=True)
    assert _medians(values, axis=axis).tobytes() == expected.tobytes()
    assert np.isnan(_medians(values[:0], axis=0)).all()
