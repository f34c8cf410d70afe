from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import savgol_filter

from posecap.skeletons import measure
from posecap.stage import configuration
from posecap.stages.pack import Pack
from posecap.stages.pose import Skeleton
from posecap.stages.smooth import OneEuro, SavitzkyGolay, Smooth
from posecap.types import EmbeddedClip, SkeletonClip
from tests.building import embedded, posed, skeleton, walkers

FPS = 25.0
FILTERS = pytest.mark.parametrize("chosen", [OneEuro(), SavitzkyGolay()], ids=["OneEuro", "SavitzkyGolay"])


def smooth(item: SkeletonClip, **settings: object) -> SkeletonClip:
    (made,) = Smooth(**settings)(item)  # type: ignore[arg-type]
    return made


def trembling(joints: np.ndarray, *, pixels: float = 2.0) -> np.ndarray:
    shaken = joints.copy()
    shaken[..., :2] += np.random.default_rng(1).normal(0, pixels, shaken[..., :2].shape)
    return shaken


def irregular_times(frames: int) -> np.ndarray:
    """A variable frame rate: intervals of 10 to 70 ms."""
    return np.cumsum(np.random.default_rng(2).uniform(0.01, 0.07, frames))


@FILTERS
@pytest.mark.parametrize("pts", [np.arange(100) / FPS, irregular_times(100)], ids=["constant", "variable frame rate"])
def test_trembling_goes_and_the_motion_stays(chosen, pts: np.ndarray) -> None:
    still = walkers(people=2, frames=100)
    item = skeleton(joints_MTJ3=trembling(still), pts_T=pts)
    made = smooth(item, filter=chosen)
    assert measure(made.joints_MTJ3, pts, "coco17").jitter < 0.5 * item.quality.jitter
    before, after = (
        np.linalg.norm(one[..., :2] - still[..., :2], axis=-1).mean() for one in (item.joints_MTJ3, made.joints_MTJ3)
    )
    assert after < before
    assert made.quality == item.quality  # of the joints as they were estimated
    np.testing.assert_array_equal(made.joints_MTJ3[..., 2], item.joints_MTJ3[..., 2])


@pytest.mark.parametrize(("window", "frames"), [(0.16, 5), (0.4, 11)])
@pytest.mark.parametrize("degree", [0, 2, 3])
def test_at_a_constant_frame_rate_savitzky_golay_is_scipys(window: float, frames: int, degree: int) -> None:
    joints = trembling(walkers(frames=60))
    pts = np.round(7.3 + np.arange(60) / FPS, 6)
    made = smooth(skeleton(joints_MTJ3=joints, pts_T=pts), filter=SavitzkyGolay(window_seconds=window, degree=degree))
    expected = savgol_filter(joints[..., :2].astype(np.float64), frames, degree, axis=1, mode="interp")
    np.testing.assert_allclose(made.joints_MTJ3[..., :2], expected, atol=2e-4)


def test_savitzky_golay_leaves_polynomials_alone_at_any_times() -> None:
    pts = irregular_times(50)
    joints = walkers(frames=50)
    joints[..., 0] = (100 + 30 * pts - 8 * pts**2).astype(np.float32)[:, None]
    made = smooth(skeleton(joints_MTJ3=joints, pts_T=pts))
    np.testing.assert_allclose(made.joints_MTJ3[..., 0], joints[..., 0], atol=1e-3)


def test_one_euro_follows_the_paper() -> None:
    """Algorithm 1 of Casiez et al., one coordinate in motion; speeds in body sizes."""
    pts, joints = irregular_times(30), np.repeat(walkers(frames=30)[:, :1], 30, axis=1)
    joints[..., 0] += trembling(np.zeros((1, 30, 1, 3)), pixels=5)[..., 0].astype(np.float32)
    size = float(np.linalg.norm(np.ptp(joints[0, 0, :, :2], axis=0)))

    def alpha(cutoff: float, interval: float) -> float:
        tau = 1 / (2 * np.pi * cutoff)
        return 1 / (1 + tau / interval)

    x, dx, expected = float(joints[0, 0, 0, 0]), 0.0, []
    for n, value in enumerate(joints[0, :, 0, 0].astype(float)):
        if n:
            interval = pts[n] - pts[n - 1]
            a = alpha(1.0, interval)
            dx = a * ((value - x) / interval) + (1 - a) * dx
            a = alpha(1.5 + 10.0 * abs(dx) / size, interval)
            x = a * value + (1 - a) * x
        expected.append(x)
    made = smooth(skeleton(joints_MTJ3=joints, pts_T=pts), filter=OneEuro())
    np.testing.assert_allclose(made.joints_MTJ3[0, :, 0, 0], expected, atol=1e-2)


def with_gap(first: int, end: int, *, frames: int = 40) -> np.ndarray:
    joints = walkers(frames=frames)
    joints[0, first:end, 9] = 0
    return joints


def test_a_short_gap_is_filled_on_a_line_in_time_and_its_scores_say_so() -> None:
    pts, joints = irregular_times(40), with_gap(10, 13)
    item = skeleton(joints_MTJ3=joints, pts_T=pts)
    made = smooth(item, filter=None, fill_frames=3)
    for axis in (0, 1):
        expected = np.interp(pts[10:13], pts[[9, 13]], joints[0, [9, 13], 9, axis])
        np.testing.assert_allclose(made.joints_MTJ3[0, 10:13, 9, axis], expected, rtol=1e-5)
    np.testing.assert_allclose(made.joints_MTJ3[0, 10:13, 9, 2], 0.5 * joints[0, [9, 13], 9, 2].min())
    others = np.ones((1, 40, 17), bool)
    others[0, 10:13, 9] = False
    np.testing.assert_array_equal(made.joints_MTJ3[others], joints[others])
    assert not item.joints_MTJ3[0, 10:13, 9].any()  # the clip that came in is not written to


@pytest.mark.parametrize(
    ("first", "end", "settings"),
    [
        (10, 14, {"fill_frames": 3}),
        (10, 13, {"fill_frames": 3, "fill_seconds": 0.1}),
        (0, 3, {"fill_frames": 9}),
        (37, 40, {"fill_frames": 9}),
        (10, 11, {}),
    ],
    ids=["too many frames", "too long a time", "before the first sight", "after the last", "by default"],
)
def test_other_gaps_stay_open(first: int, end: int, settings: dict[str, float]) -> None:
    item = skeleton(joints_MTJ3=with_gap(first, end))
    made = smooth(item, **settings)
    np.testing.assert_array_equal(made.joints_MTJ3[..., 2], item.joints_MTJ3[..., 2])
    assert not made.joints_MTJ3[0, first:end, 9].any()
    assert made.smoothing["filled_joints"] == 0


@FILTERS
def test_the_filter_begins_anew_after_a_gap(chosen) -> None:
    joints = trembling(with_gap(15, 25))
    joints[0, 15:25, 9] = 0
    whole = smooth(skeleton(joints_MTJ3=joints), filter=chosen).joints_MTJ3
    pts = np.arange(40) / FPS
    for stretch in (slice(0, 15), slice(25, 40)):
        alone = skeleton(joints_MTJ3=joints[:, stretch], pts_T=pts[stretch])
        np.testing.assert_allclose(
            whole[0, stretch, 9],
            smooth(alone, filter=chosen).joints_MTJ3[0, :, 9],
            atol=0.5 if chosen == OneEuro() else 1e-4,
        )


@FILTERS
def test_a_joint_seen_once_and_a_person_never_seen_stay_as_they_are(chosen) -> None:
    joints = np.zeros((2, 20, 17, 3), np.float32)
    joints[0, 7, 3] = (50, 60, 0.5)
    made = smooth(skeleton(joints_MTJ3=joints), filter=chosen, fill_frames=5)
    np.testing.assert_array_equal(made.joints_MTJ3, joints)


def test_the_facts_say_what_was_done() -> None:
    item = embedded(joints_MTJ3=with_gap(10, 13))
    (plain,) = Pack()(item)
    assert "smoothing" not in plain.facts
    made = smooth(item, filter=OneEuro(cutoff=2.0), fill_frames=4)
    assert isinstance(made, EmbeddedClip)
    (sample,) = Pack()(made)
    np.testing.assert_array_equal(sample.joints_MTJ3, made.joints_MTJ3)
    assert sample.facts["smoothing"] == {
        "filter": {"name": "OneEuro", "cutoff": 2.0, "beta": 10.0, "speed_cutoff": 1.0},
        "fill_frames": 4,
        "fill_seconds": 0.5,
        "filled_score": 0.5,
        "filled_joints": 3,
    }


def test_it_stands_after_the_skeleton_stage() -> None:
    (measured,) = Skeleton()(posed())
    assert Smooth.takes is type(measured) is Smooth.gives
    assert configuration(Smooth(filter=None))["filter"] is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: OneEuro(cutoff=0),
        lambda: OneEuro(beta=-1),
        lambda: SavitzkyGolay(window_seconds=0),
        lambda: SavitzkyGolay(degree=-1),
        lambda: Smooth(fill_frames=-1),
        lambda: Smooth(fill_seconds=0),
        lambda: Smooth(filled_score=0),
    ],
)
def test_settings_are_checked(make) -> None:
    with pytest.raises(ValueError, match=r"must be|needs|lies between"):
        make()
