from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import skeletons
from tmor_train.data.augment import (
    FAITHFUL,
    FAITHFUL_3D,
    STRONG,
    STRONG_3D,
    AxisMask,
    JointDropout,
    Noise,
    Occlusion,
    Project,
    RandomMove,
    ShiftCrop,
    augmented,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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


def test_settings_out_of_range_are_refused() -> None:
    for make in (
        lambda: Noise(sigma=2),
        lambda: JointDropout(share=1.1),
        lambda: AxisMask(probability=2),
        lambda: Occlusion(longest=2),
    ):
        with pytest.raises(ValueError, match="expected"):
            make()
    with pytest.raises(ValueError, match="'corrupt'"):
        JointDropout(how="eat")  # type: ignore[arg-type]
