"""The measure of skeletons against cameras and points that are known."""

import re
from types import ModuleType

import numpy as np
import pytest

from tests import ROOT
from tests.building import skeleton, tracks_of
from tests.programs import program

FRAMES, JOINTS = 6, 17


@pytest.fixture(scope="module")
def multiview() -> ModuleType:
    return program(ROOT / "benchmarks" / "multiview.py")


def cameras(multiview: ModuleType) -> list:
    """Four around the origin at 5 m, 1.2 m high, looking at it, with some distortion."""
    made = []
    for number, angle in enumerate(np.deg2rad([0, 80, 170, 265])):
        place = np.array([5 * np.cos(angle), 1.2, 5 * np.sin(angle)])
        ahead = -place / np.linalg.norm(place)
        right = np.cross(ahead, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(ahead, right), ahead])
        made.append(
            multiview.Camera(
                name=str(number),
                size=(1080, 1920),
                intrinsics_33=np.array([[1600.0, 0, 540], [0, 1600, 960], [0, 0, 1]]),
                distortion_4=np.array([-0.05, 0.02, 0.001, -0.001]),
                rotation_33=rotation,
                translation_3=-rotation @ place,
            )
        )
    return made


def people(count: int = 1) -> np.ndarray:
    """(P, T, J, 3) metres: joints within a metre of where somebody stands."""
    rng = np.random.default_rng(3)
    return rng.uniform(-0.5, 0.5, (count, FRAMES, JOINTS, 3)) + np.arange(count)[:, None, None, None] * [1.5, 0, 0.5]


def seen_by(views: list, points: np.ndarray, *, noise: float = 0.0) -> np.ndarray:
    """(V, P, T, J, 3) what the cameras see, every joint with a score of 1."""
    rng = np.random.default_rng(4)
    pixels = np.stack([camera.project(points) for camera in views])
    pixels += rng.normal(0, noise, pixels.shape) if noise else 0
    return np.concatenate([pixels, np.ones((*pixels.shape[:-1], 1))], -1)


def test_exact_joints_have_no_error(multiview: ModuleType) -> None:
    views, points = cameras(multiview), people()
    joints = seen_by(views, points)
    found = multiview.reproject(views, joints, joints[..., 2] > 0)
    assert np.abs(found.points_PTJ3 - points).max() < 1e-6
    assert found.errors_VPTJ.max() < 1e-3
    assert found.judged.all()


def test_noise_of_some_pixels_is_an_error_of_about_as_many(multiview: ModuleType) -> None:
    views = cameras(multiview)
    joints = seen_by(views, people(), noise=3.0)
    errors = multiview.reproject(views, joints, joints[..., 2] > 0).errors_VPTJ
    # Of the 8 coordinates of a joint 3 are taken by its point, so that 5/8 of the noise's square are left.
    assert np.sqrt((errors**2).mean()) == pytest.approx(3.0 * np.sqrt(2) * np.sqrt(5 / 8), rel=0.1)


def test_another_calibration_is_found_out(multiview: ModuleType) -> None:
    views = cameras(multiview)
    joints = seen_by(views, people())
    swapped = [views[1], views[0], *views[2:]]
    assert np.median(multiview.reproject(swapped, joints, joints[..., 2] > 0).errors_VPTJ) > 20


def test_a_joint_of_one_view_is_not_triangulated_and_one_of_two_is_not_judged(multiview: ModuleType) -> None:
    views = cameras(multiview)
    joints = seen_by(views, people())
    seen = joints[..., 2] > 0
    seen[1:, :, :, 0] = False
    seen[2:, :, :, 1] = False
    found = multiview.reproject(views, joints, seen)
    assert np.isnan(found.points_PTJ3[:, :, 0]).all()
    assert not np.isnan(found.points_PTJ3[:, :, 1]).any()
    assert not found.judged[..., :2].any()
    assert found.judged[..., 2:].all()


def test_people_are_put_in_one_order_across_views(multiview: ModuleType) -> None:
    views = cameras(multiview)
    joints = seen_by(views, people(2))
    mixed = joints.copy()
    mixed[2] = joints[2, ::-1]
    mixed[1, :, 3] = joints[1, ::-1, 3]
    found = multiview.same_people(views, mixed, 0.5)
    assert multiview.reproject(views, found, found[..., 2] > 0).errors_VPTJ.max() < 1e-3


def test_a_view_is_compared_with_what_the_others_show(multiview: ModuleType) -> None:
    views = cameras(multiview)
    joints = seen_by(views, people())
    off = joints.copy()
    off[1, ..., 0] += 7.0
    apart = np.linalg.norm(off[..., :2] - multiview.from_others(views, joints, 0.5), axis=-1)
    assert apart[1] == pytest.approx(np.full(apart[1].shape, 7.0), abs=1e-3)
    assert apart[[0, 2, 3]].max() < 1e-3
    one_view = joints.copy()
    one_view[2:, ..., 2] = 0
    assert np.isnan(multiview.from_others(views, one_view, 0.5)[:2]).all()


@pytest.mark.parametrize("frames", [-2, 0, 3])
def test_lag_is_that_of_a_delayed_movement(multiview: ModuleType, frames: int) -> None:
    times = np.arange(200) / 60
    moving = 400 + 100 * np.sin(2 * np.pi * times)[None, None, :, None, None] * np.ones((1, 1, 1, 17, 2))
    noise = np.random.default_rng(5).normal(0, 2, moving.shape)
    delayed = np.roll(moving, frames, axis=2)
    lag = multiview.lag_seconds(delayed[:, :, 5:-5], (moving)[:, :, 5:-5], (moving + noise)[:, :, 5:-5], 1 / 60)
    assert lag == pytest.approx(frames / 60, abs=0.004)


@pytest.mark.parametrize("count", [1, 2])
def test_smoothing_is_told_apart_by_jitter_error_and_lag(multiview: ModuleType, count: int) -> None:
    """People who sway by half a metre once a second, 60 frames a second, with noise."""
    views, times = cameras(multiview), np.arange(120) / 60
    still = people(count)[:, :1]
    points = still + 0.25 * np.sin(2 * np.pi * times)[:, None, None] * np.array([1.0, 0.0, 0.3])
    joints = seen_by(views, points, noise=3.0)
    clips = []
    for view in joints:
        shown = view.astype(np.float32)
        clips.append(skeleton(joints_MTJ3=shown, tracks=tracks_of(shown), frames=120, fps=60.0, people=count))
    ordered = multiview.same_people(views, multiview.views_of(clips, count), 0.5)
    lines = list(multiview.smoothings(views, clips, ordered, 0.5))
    figures = [[float(word) for word in re.findall(r"[-+]?\d+\.\d+", line)] for line in lines]
    assert [line.split("jitter")[0].strip() for line in lines] == ["as they are", "Savitzky-Golay", "One-Euro"]
    raw, two_sided, one_sided = figures  # jitter, error median and mean, the same against the others, lag
    assert raw[0] > 2 * one_sided[0] > 2 * two_sided[0]
    assert raw[1] > two_sided[1]
    assert abs(raw[5]) < 0.5
    assert abs(two_sided[5]) < 2
    assert 3 < one_sided[5] < 60
