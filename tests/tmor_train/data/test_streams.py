from __future__ import annotations

import pytest
import skeletons
import torch

from posecap.joints import LAYOUTS
from tmor_train.data.streams import streamed

NAMES = LAYOUTS["unik17"].names
ELBOW, WRIST, ROOT = NAMES.index("left_elbow"), NAMES.index("left_wrist"), LAYOUTS["unik17"].root


def batch() -> skeletons.MotionBatch:
    joints = torch.zeros(1, 1, 3, 17, 2)
    joints[..., ELBOW, :] = torch.tensor([1.0, 2.0])
    joints[0, 0, :, WRIST] = torch.tensor([[4.0, 6.0], [5.0, 6.0], [7.0, 6.0]])
    seen = torch.ones(1, 1, 3, 17, dtype=torch.bool)
    seen[0, 0, 1, ELBOW] = False
    return skeletons.batch_of(joints, seen)


def test_bones_point_from_the_parent() -> None:
    bones = streamed(batch(), ["bone"])
    assert bones.joints[0, 0, :, WRIST].tolist() == [[3, 4], [0, 0], [6, 4]]
    assert bones.seen[0, 0, :, WRIST].tolist() == [True, False, True]
    assert not bones.joints[..., ROOT, :].any()
    assert bones.seen[..., ROOT].all()


def test_motion_is_the_next_place_minus_this_one() -> None:
    moves = streamed(batch(), ["motion"])
    assert moves.joints[0, 0, :, WRIST].tolist() == [[1, 0], [2, 0], [0, 0]]
    assert moves.seen[0, 0, :, WRIST].tolist() == [True, True, False]
    assert moves.seen[0, 0, :, ELBOW].tolist() == [False, False, False]


def test_streams_side_by_side_are_channels() -> None:
    fused = streamed(batch(), ["joint", "bone", "motion"])
    assert fused.motion_NCTVM.shape == (1, 6, 3, 17, 1)
    assert fused.joints[0, 0, 0, WRIST].tolist() == [4, 6, 3, 4, 1, 0]
    assert torch.equal(fused.seen, batch().seen)
    same = streamed(batch(), ["joint"])
    assert torch.equal(same.motion_NCTVM, batch().motion_NCTVM)


@pytest.mark.parametrize("streams", [[], ["joint", "joint"], ["speed"]])
def test_other_streams_are_refused(streams: list[str]) -> None:
    with pytest.raises(ValueError, match="each once"):
        streamed(batch(), streams)  # type: ignore[arg-type]
