"""Augmentations of space, of time, and those that take something away."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from posecap.joints import JOINT_KINDS, LAYOUTS, joint_kind
from tests import skeletons
from tmor_train.data.augment import (
    FAITHFUL,
    FAITHFUL_3D,
    STRONG,
    STRONG_3D,
    AxisMask,
    Blur,
    CropResize,
    EstimatorError,
    Flip,
    JointDropout,
    Noise,
    Occlusion,
    Project,
    RandomMove,
    Rotate,
    Rotate3D,
    Shear,
    ShiftCrop,
    TimeFlip,
    augmented,
    body_radius,
    resampled,
)
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
def test_settings_out_of_range_are_refused_of_space(make: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()  # type: ignore[operator]
    with pytest.raises(ValueError, match="'orthographic'"):
        Project(camera="fisheye")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one value each"):
        RandomMove(angles=())


def line(*values: float, gaps: tuple[int, ...] = ()) -> skeletons.MotionBatch:
    """One joint over time, its x and y alike; not seen in the frames of ``gaps``."""
    joints = torch.tensor(values).view(1, 1, -1, 1, 1).repeat(1, 1, 1, 1, 2)
    seen = torch.ones(joints.shape[:-1], dtype=torch.bool)
    seen[:, :, list(gaps)] = False
    return skeletons.batch_of(joints, seen)


def values(batch: skeletons.MotionBatch) -> list[float]:
    return batch.joints[0, 0, :, 0, 0].tolist()


def shown(batch: skeletons.MotionBatch) -> list[bool]:
    return batch.seen[0, 0, :, 0].tolist()


def test_moments_between_frames_are_blended() -> None:
    got = resampled(line(0.0, 10.0, 20.0, 40.0), torch.tensor([[0.0, 0.5, 1.25, 3.0, 2.5]]))
    assert values(got) == [0, 5, 12.5, 40, 30]
    assert all(shown(got))


def test_a_gap_is_never_blended_in() -> None:
    got = resampled(line(1.0, 99.0, 3.0, gaps=(1,)), torch.tensor([[0.0, 0.4, 0.6, 1.0, 1.4, 1.6, 2.0]]))
    assert shown(got) == [True, True, False, False, False, True, True]
    assert values(got) == [1, 1, 0, 0, 0, 3, 3]


def test_crop_resize_keeps_a_stretch_and_the_number_of_frames() -> None:
    batch = skeletons.batch_of(torch.arange(32.0).view(1, 1, 32, 1, 1).repeat(200, 2, 1, 17, 2))
    got = CropResize()(batch, generator()).joints[:, 0, :, 0, 0]
    assert got.shape == (200, 32)
    steps = got.diff(dim=1)
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-4)  # linear in, linear out
    lengths = got[:, -1] - got[:, 0] + 1
    assert lengths.min() >= 15.99
    assert lengths.max() <= 32
    assert lengths.max() - lengths.min() > 12
    assert got.min() >= 0
    assert got.max() <= 31


def test_cropping_nothing_changes_nothing() -> None:
    batch = skeletons.batch_of(torch.randn(3, 2, 9, 17, 2, generator=generator()))
    torch.testing.assert_close(CropResize(shortest=1)(batch, generator()).joints, batch.joints)
    assert torch.equal(ShiftCrop(share=0)(batch, generator()).joints, batch.joints)


def test_a_shifted_window_is_mirrored_at_the_ends() -> None:
    batch = line(0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    found = {tuple(values(ShiftCrop(share=0.34)(batch, generator(seed)))) for seed in range(60)}
    assert found == {
        (1, 0, 0, 1, 2, 3),
        (0, 0, 1, 2, 3, 4),
        (0, 1, 2, 3, 4, 5),
        (1, 2, 3, 4, 5, 5),
        (2, 3, 4, 5, 5, 4),
    }


def test_time_goes_back_for_those_it_happens_to() -> None:
    batch = line(1.0, 2.0, 3.0, gaps=(0,))
    got = TimeFlip(probability=1)(batch, generator())
    assert values(got) == [3, 2, 0]
    assert shown(got) == [True, True, False]
    assert values(TimeFlip(probability=0)(batch, generator())) == [0, 2, 3]
    many = skeletons.batch_of(torch.arange(3.0).view(1, 1, 3, 1, 1).repeat(400, 1, 1, 1, 2))
    flipped = TimeFlip(probability=0.25)(many, generator()).joints[:, 0, 0, 0, 0] == 2
    assert 70 <= int(flipped.sum()) <= 130


def test_a_blur_weighs_neighbours_by_a_gaussian_and_leaves_gaps_out() -> None:
    blur = Blur(taps=3, least=1, most=1, probability=1)
    near = float(np.exp(-0.5))
    got = values(blur(line(0.0, 0.0, 1.0, 0.0, 0.0), generator()))
    np.testing.assert_allclose(got, [0, near / (1 + 2 * near), 1 / (1 + 2 * near), near / (1 + 2 * near), 0], atol=1e-6)
    holed = blur(line(4.0, 99.0, 4.0, gaps=(1,)), generator())
    np.testing.assert_allclose(values(holed), [4, 0, 4], atol=1e-6)
    assert shown(holed) == [True, False, True]


@pytest.mark.parametrize(
    "make",
    [
        lambda: CropResize(shortest=0),
        lambda: CropResize(shortest=0.8, longest=0.5),
        lambda: ShiftCrop(share=2),
        lambda: TimeFlip(probability=1.5),
        lambda: Blur(taps=4),
        lambda: Blur(least=3, most=2),
    ],
)
def test_settings_out_of_range_are_refused_of_time(make: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        make()  # type: ignore[operator]


def ones(clips: int = 200, channels: int = 2) -> skeletons.MotionBatch:
    return skeletons.batch_of(torch.ones(clips, 2, 3, 17, channels))


def test_noise_has_its_size_and_share() -> None:
    away = (Noise(sigma=0.1, probability=0.5)(ones(), generator()).joints - 1).flatten(1)
    struck = away.abs().sum(1) > 0
    assert 75 <= int(struck.sum()) <= 125
    assert 0.095 < float(away[struck].std()) < 0.105


def test_dropout_hides_a_share_of_the_joints_throughout() -> None:
    got = JointDropout(share=0.6, probability=1)(ones(), generator())
    hidden = (~got.seen).sum(3)
    assert (hidden == 10).all()  # 0.6 of 17
    assert (got.seen == got.seen[:, :1, :1]).all()
    assert not got.joints[~got.seen].any()
    assert (got.seen[0] != got.seen[1]).any()
    shares = (~got.seen[:, 0, 0]).float().mean(0)
    assert shares.min() > 0.4
    assert shares.max() < 0.75


def test_corrupted_joints_move_alike_in_every_frame_and_stay_seen() -> None:
    got = JointDropout(share=0.6, how="corrupt", amount=2, probability=1)(ones(), generator())
    away = got.joints - 1
    assert got.seen.all()
    assert (away.abs().sum(-1) > 0).sum(3).eq(10).all()
    assert (away == away[:, :1, :1]).all()
    assert 1.9 < float(away.abs().max()) <= 2


def test_joints_go_out_of_sight_for_one_stretch_each() -> None:
    batch = skeletons.batch_of(torch.ones(200, 2, 40, 17, 2))
    got = Occlusion(probability=0.5, longest=0.6)(batch, generator())
    hidden = ~got.seen
    assert not got.joints[hidden].any()
    assert (hidden == hidden[:, :1]).all()  # in both people alike
    one = hidden[:, 0].transpose(1, 2).reshape(-1, 40).int()
    begins = (one.diff(dim=1) > 0).sum(1) + one[:, 0]
    assert begins.max() == 1
    assert 0.45 < float((begins > 0).float().mean()) < 0.5  # a stretch shorter than a frame may hide nothing
    assert 20 < int(one.sum(1).max()) <= 24
    assert float(one.float().mean(0).std()) < 0.01  # no frame more than others
    assert Occlusion(probability=0)(batch, generator()).seen.all()


def standing(clips: int, frames: int = 40, size: float = 1.0) -> skeletons.MotionBatch:
    """Clips of one person whose 13 joints never move."""
    place = torch.randn(1, 1, 1, 13, 2, generator=generator(5)) * size
    return skeletons.batch_of(place.repeat(clips, 1, frames, 1, 1), layout="penn13")


def test_an_estimators_errors_have_the_spread_and_the_memory_that_are_set() -> None:
    errors = (0.05, 0.4, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35)
    batch = standing(400, size=3.0)
    step = EstimatorError(errors=errors, lost=(0,) * 8, memory=0.2)
    radius_NM = body_radius(batch.joints, batch.seen)
    away = (step(batch, generator()).joints - batch.joints) / radius_NM[:, :, None, None, None]
    for joint, name in enumerate(LAYOUTS["penn13"].names):
        wanted = errors[JOINT_KINDS.index(joint_kind(name))]
        assert float(away[:, 0, :, joint].std()) == pytest.approx(wanted, rel=0.05)
        assert float(away[:, 0, 0, joint].std()) == pytest.approx(wanted, rel=0.12)  # from the first frame on
        assert float(away[:, 0, :, joint].mean()) == pytest.approx(0, abs=0.1 * wanted)
    lag = 8  # of 40 frames: the memory
    kept = (away[:, :, lag:] * away[:, :, :-lag]).mean() / away.square().mean()
    assert float(kept) == pytest.approx(math.exp(-1), abs=0.05)


def test_two_draws_differ_as_the_two_estimators_did() -> None:
    """Shares of joints that are more than half a radius apart, against the measured ones."""
    batch = standing(1500)
    radius_NM = body_radius(batch.joints, batch.seen)
    one, other = (EstimatorError()(batch, generator(seed)).joints for seed in (1, 2))
    apart = (one - other).norm(dim=-1)[:, 0] / radius_NM[:, :, None]
    measured = {"head": 0.069, "shoulder": 0.091, "elbow": 0.14, "wrist": 0.15, "knee": 0.267, "ankle": 0.322}
    for kind, share in measured.items():
        joints = [at for at, name in enumerate(LAYOUTS["penn13"].names) if joint_kind(name) == kind]
        assert float((apart[..., joints] > 0.5).float().mean()) == pytest.approx(share, rel=0.2)


def test_lost_joints_are_elsewhere_for_one_stretch() -> None:
    batch = standing(300)
    step = EstimatorError(errors=(0,) * 8, lost=(0, 0, 0, 0, 0.5, 0, 0, 0), longest=0.5, far=0.75)
    away = (step(batch, generator()).joints - batch.joints).norm(dim=-1)[:, 0]
    radius = body_radius(batch.joints, batch.seen)[0, 0]
    wrists = [at for at, name in enumerate(LAYOUTS["penn13"].names) if "wrist" in name]
    others = [at for at in range(13) if at not in wrists]
    assert not away[..., others].any()
    hit = away[..., wrists] > 0
    torch.testing.assert_close(away[..., wrists][hit], (0.75 * radius).expand(int(hit.sum())), rtol=1e-4, atol=1e-5)
    assert 0.42 < float(hit.any(1).float().mean()) < 0.5  # a stretch shorter than a frame may hit nothing
    assert int(hit.sum(1).max()) <= 20
    assert ((hit.int().diff(dim=1) > 0).sum(1) + hit[:, 0] <= 1).all()


def test_the_radius_is_of_seen_joints_about_their_middle() -> None:
    joints = torch.tensor([[0.0, 0.0], [4.0, 0.0], [99.0, 99.0]]).view(1, 1, 1, 3, 2)
    seen = torch.tensor([True, True, False]).view(1, 1, 1, 3)
    assert body_radius(joints, seen).tolist() == [[2.0]]
    assert body_radius(joints, ~seen & False).tolist() == [[0.0]]


def test_estimators_do_not_err_in_depth_and_amounts_are_a_number_for_each_part() -> None:
    batch = people(channels=3)
    got = EstimatorError()(batch, generator())
    assert torch.equal(got.joints[..., 2], batch.joints[..., 2])
    assert not torch.equal(got.joints[..., :2], batch.joints[..., :2])
    assert torch.equal(EstimatorError(probability=0)(batch, generator()).joints, batch.joints)
    with pytest.raises(ValueError, match="for each of head, trunk"):
        EstimatorError(errors=(0.1,))


def test_one_axis_is_masked() -> None:
    got = AxisMask(probability=1)(ones(), generator())
    empty = (got.joints == 0).flatten(1, 3).all(1)
    assert (empty.sum(1) == 1).all()
    assert 70 <= int(empty[:, 0].sum()) <= 130
    assert got.seen.all()


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), frames=st.sampled_from([1, 2, 9]), deep=st.booleans())
def test_masks_travel_along_and_nothing_unseen_gets_a_place(seed: int, frames: int, deep: bool) -> None:
    joints = torch.randn(5, 2, frames, 17, 3 if deep else 2, generator=generator(seed))
    seen = torch.rand(joints.shape[:-1], generator=generator(seed + 1)) < 0.7
    seen[0] = False  # nobody in the first clip
    seen[:, 1, frames // 2 :] = False
    batch = skeletons.batch_of(joints, seen)
    before = batch.joints.clone()
    for steps in (
        FAITHFUL,
        STRONG,
        (RandomMove(), ShiftCrop()),
        (Occlusion(),),
        (EstimatorError(),),
        (FAITHFUL_3D, STRONG_3D)[deep],
        (Project(), *STRONG),
    ):
        got = augmented(batch, steps, generator(seed))
        assert got.joints.isfinite().all()
        assert not got.joints[~got.seen].any()
        assert not got.people[0].any()
        assert torch.equal(got.joints, augmented(batch, steps, generator(seed)).joints)
        assert got.motion_NCTVM.shape[2:] == batch.motion_NCTVM.shape[2:]
    assert torch.equal(batch.joints, before)


def test_settings_out_of_range_are_refused_of_noise() -> None:
    for make in (
        lambda: Noise(sigma=2),
        lambda: JointDropout(share=1.1),
        lambda: AxisMask(probability=2),
        lambda: Occlusion(longest=2),
        lambda: EstimatorError(memory=0),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()
    with pytest.raises(ValueError, match="'corrupt'"):
        JointDropout(how="eat")  # type: ignore[arg-type]
