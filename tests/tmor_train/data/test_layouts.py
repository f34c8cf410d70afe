from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from posecap.joints import LAYOUTS, LayoutError, convert
from tmor_train.data.layouts import relayout


def _is_a_map(source: str, target: str) -> bool:
    try:
        convert(np.zeros((len(LAYOUTS[source].names), 3), np.float32), source=source, target=target)
    except LayoutError:
        return False
    return True


PAIRS = [(source, target) for source in LAYOUTS for target in LAYOUTS if _is_a_map(source, target)]


@given(pair=st.sampled_from(PAIRS), seed=st.integers(0, 1000))
def test_it_is_the_map_of_posecap(pair: tuple[str, str], seed: int) -> None:
    source, target = pair
    rng = np.random.default_rng(seed)
    joints = rng.random((2, 3, len(LAYOUTS[source].names), 3), np.float32)
    joints[rng.random(joints.shape[:-1]) < 0.15] = 0
    want = convert(joints, source=source, target=target)
    values = torch.from_numpy(joints)
    got, seen = relayout(values[..., :2].movedim(-1, 0), values[..., 2] > 0, source=source, target=target)
    assert (seen.numpy() == (want[..., 2] > 0)).all()
    np.testing.assert_allclose((got * seen).movedim(0, -1).numpy(), want[..., :2], atol=1e-6)


def test_a_joint_that_is_no_mean_comes_over_unrounded() -> None:
    joints = torch.rand(50, 17, generator=torch.Generator().manual_seed(0)) * 1920
    got, _ = relayout(joints, torch.ones(50, 17, dtype=torch.bool), source="coco17", target="unik17")
    wrist, there = (LAYOUTS[layout].names.index("left_wrist") for layout in ("coco17", "unik17"))
    assert torch.equal(got[:, there], joints[:, wrist])


def test_a_joint_that_the_source_lacks_is_not_seen() -> None:
    _, seen = relayout(torch.ones(17), torch.ones(17, dtype=torch.bool), source="coco17", target="ntu25")
    assert not seen[LAYOUTS["ntu25"].names.index("left_hand")]
    assert seen[LAYOUTS["ntu25"].names.index("left_hip")]


def test_unknown_maps_are_refused() -> None:
    with pytest.raises(LayoutError, match="no exact map"):
        relayout(torch.ones(13), torch.ones(13, dtype=torch.bool), source="penn13", target="ntu25")
    with pytest.raises(LayoutError, match="unknown layout"):
        relayout(torch.ones(3), torch.ones(3, dtype=torch.bool), source="thumbs", target="unik17")
