from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from posecap.joints import LAYOUTS
from tests import skeletons
from tmor_train.data.augment import Flip, Project, RandomMove, Rotate, Rotate3D, Shear
from tmor_train.data.batch import body_centre


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def people(clips: int = 50, channels: int = 2, **known: object) -> skeletons.MotionBatch:
    joints = torch.randn(clips, 2, 4, 17, channels, generator=generator(7))
    seen = torch.rand(joints.shape[:-1], generator=generator(8)) < 0.8
    return skeletons.batch_of(joints, seen, **known)  # type: ignore[arg-type]


def distances(batch: skeletons.MotionBatch) -> torch.Tensor:
    joints = batch.joints
    return (joints[:, :, :, 1:] - joints[:, :, :, :-1]).norm(dim=-1) * (batch.seen[..., 1:] & batch.seen[..., :-1])


def centre(batch: skeletons.MotionBatch) -> torch.Tensor:
    return body_centre(batch.joints, batch.seen)


@pytest.mark.parametrize(("step", "channels"), [(Rotate(degrees=180), 2), (Rotate3D(vertical=180, others=90), 3)])
def test_a_turn_keeps_distances_and_the_centre(step: Rotate | Rotate3D, channels: int) -> None:
    batch = people(channels=channels)
    got = step(batch, generator())
    assert not torch.allclose(got.joints, batch.joints, atol=0.1)
    torch.testing.assert_close(distances(got), distances(batch), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(centre(got), centre(batch), atol=1e-5, rtol=1e-4)
    assert torch.equal(got.seen, batch.seen)
    assert not got.joints[~got.seen].any()


def test_a_turn_stays_within_its_degrees() -> None:
    joints = torch.tensor([[-1.0, 0.0], [1.0, 0.0]]).view(1, 1, 1, 2, 2).repeat(500, 1, 1, 1, 1)
    turned = Rotate(degrees=15)(skeletons.batch_of(joints, layout="unik17"), generator()).joints[:, 0, 0, 1]
    degrees = torch.atan2(turned[:, 1], turned[:, 0]) * 180 / math.pi
    assert degrees.abs().max() <= 15.001
    assert degrees.max() > 14
    assert degrees.min() < -14


def test_clips_without_depth_do_not_turn_in_space() -> None:
    depth = torch.arange(6) % 2 == 0
    flat = torch.randn(6, 1, 3, 17, 3, generator=generator())
    flat[~depth, ..., 2] = 0
    batch = skeletons.batch_of(flat, depth=depth)
    got = Rotate3D()(batch, generator())
    torch.testing.assert_close(got.joints[~depth], batch.joints[~depth])
    assert not torch.allclose(got.joints[depth], batch.joints[depth], atol=1e-3)


def test_an_orthographic_view_from_the_front_drops_depth() -> None:
    batch = people(channels=3)
    got = Project(yaw=0, pitch=0, camera="orthographic")(batch, generator())
    assert got.motion_NCTVM.shape[1] == 2
    torch.testing.assert_close(got.joints, batch.joints[..., :2])
    assert not got.has_depth_N.any()


def test_a_view_from_the_side_shows_depth_as_width() -> None:
    joints = torch.tensor([[0.0, 1.0, 2.0], [0.0, -1.0, -2.0]]).view(1, 1, 1, 2, 3).repeat(300, 1, 1, 1, 1)
    got = Project(yaw=90, pitch=0, camera="orthographic")(skeletons.batch_of(joints), generator()).joints[:, 0, 0]
    torch.testing.assert_close(got[:, 0, 1], torch.ones(300))
    assert got[:, 0, 0].abs().max() <= 2.0001
    assert got[:, 0, 0].max() > 1.99
    assert got[:, 0, 0].min() < -1.99


def test_what_is_nearer_is_larger_in_perspective() -> None:
    joints = torch.tensor([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]).view(1, 1, 1, 2, 3)
    got = Project(yaw=0, pitch=0, nearest=4, farthest=4)(skeletons.batch_of(joints), generator()).joints[0, 0, 0]
    np.testing.assert_allclose(got, [[0.8, 0.8], [-4 / 3, -4 / 3]], rtol=1e-6)


def test_clips_without_depth_pass_a_view_untouched() -> None:
    depth = torch.tensor([True, False])
    batch = skeletons.batch_of(torch.randn(2, 1, 3, 17, 3, generator=generator()), depth=depth)
    got = Project()(batch, generator())
    assert torch.equal(got.joints[1], batch.joints[1, ..., :2])
    assert not torch.allclose(got.joints[0], batch.joints[0, ..., :2], atol=1e-3)
    plain = people(channels=2)
    assert Project()(plain, generator()) is plain


def test_a_mirror_swaps_sides_with_their_masks() -> None:
    names = LAYOUTS["unik17"].names
    left, right, head = (names.index(name) for name in ("left_wrist", "right_wrist", "head"))
    joints = torch.zeros(1, 1, 1, 17, 2)
    joints[..., left, :], joints[..., head, :] = torch.tensor([0.5, 0.25]), torch.tensor([-0.1, 0.9])
    seen = torch.ones(1, 1, 1, 17, dtype=torch.bool)
    seen[..., right] = False
    got = Flip(probability=1)(skeletons.batch_of(joints, seen), generator())
    assert got.joints[0, 0, 0, right].tolist() == [-0.5, 0.25]
    np.testing.assert_allclose(got.joints[0, 0, 0, head], [0.1, 0.9])
    assert not got.seen[0, 0, 0, left]
    assert got.seen[0, 0, 0, right]
    twice = Flip(probability=1)(got, generator())
    torch.testing.assert_close(twice.joints, skeletons.batch_of(joints, seen).joints)


def test_a_moving_camera_goes_evenly_from_one_place_to_another() -> None:
    joints = torch.tensor([1.0, 0.0]).repeat(300, 1, 5, 1, 1)
    still = RandomMove(angles=(0.0,), scales=(1.0,), shifts=(-0.2, 0.2))(skeletons.batch_of(joints), generator())
    ends = still.joints[:, 0, :, 0] - joints[:, 0, :, 0]
    torch.testing.assert_close(ends[:, 2], (ends[:, 0] + ends[:, 4]) / 2)
    assert set(ends[:, 0].round(decimals=4).flatten().tolist()) == set(torch.tensor([-0.2, 0.2]).tolist())
    grown = RandomMove(angles=(0.0,), scales=(1.1,), shifts=(0.0,))(skeletons.batch_of(joints), generator())
    torch.testing.assert_close(grown.joints, joints * 1.1)
    turned = RandomMove(angles=(90.0,), scales=(1.0,), shifts=(0.0,))(skeletons.batch_of(joints), generator())
    torch.testing.assert_close(turned.joints, torch.tensor([0.0, 1.0]).expand_as(joints), atol=1e-6, rtol=0)


def test_shear_keeps_the_centre_and_flat_clips_flat() -> None:
    batch = people(channels=3, depth=torch.arange(50) < 25)
    batch = batch.moved(batch.joints * torch.tensor([1.0, 1.0, 0.0]))
    got = Shear()(batch, generator())
    torch.testing.assert_close(centre(got), centre(batch), atol=1e-5, rtol=1e-4)
    assert not got.joints[25:, ..., 2].any()
    assert got.joints[:25, ..., 2].any()
    axis = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]).view(1, 1, 1, 2, 2).repeat(300, 1, 1, 1, 1)
    leaning = Shear(amount=0.5)(skeletons.batch_of(axis), generator()).joints[:, 0, 0, 0]
    torch.testing.assert_close(leaning[:, 0], torch.ones(300))
    assert 0.45 < leaning[:, 1].abs().max() <= 0.5


@pytest.mark.parametrize(
    "make",
    [
        lambda: Rotate(degrees=181),
        lambda: Rotate3D(others=-1),
        lambda: Project(nearest=1),
        lambda: Project(nearest=9, farthest=5),
        lambda: RandomMove(scales=(0.0,)),
        lambda: Shear(amount=2),
        lambda: Flip(probability=-0.1),
    ],
)
def test_settings_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()  # type: ignore[operator]
    with pytest.raises(ValueError, match="'orthographic'"):
        Project(camera="fisheye")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="nothing to draw"):
        RandomMove(angles=())
