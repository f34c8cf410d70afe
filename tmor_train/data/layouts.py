"""Joints from one layout to another, a whole batch at once: the exact maps of :mod:`posecap.joints` as tensors."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from posecap.joints import LAYOUTS, convert


@lru_cache(maxsize=64)
def _weights(source: str, target: str) -> Tensor:
    """What each source joint gives to each target joint, (J, K); a column of zeros where the source lacks it."""
    joints = len(LAYOUTS[source].names) if source in LAYOUTS else 0
    # A skeleton for each source joint, with 1 at that joint and 0 elsewhere, comes back as that joint's weights.
    probes = np.zeros((joints, joints, 3), np.float32)
    probes[..., 2] = 1
    probes[np.arange(joints), np.arange(joints), 0] = 1
    return torch.from_numpy(convert(probes, source=source, target=target)[..., 0].copy())


def relayout(joints: Tensor, seen: Tensor, *, source: str, target: str) -> tuple[Tensor, Tensor]:
    """The same skeletons in another layout.

    A joint that the source lacks is not seen, and neither is a mean of which one joint is not seen; no joint is
    invented. Where a joint is not seen, its coordinates mean nothing.

    Args:
        joints: (..., J) float, one coordinate of all joints last, all finite.
        seen: (..., J) bool.

    Returns:
        (..., K) and (..., K).

    Raises:
        posecap.joints.LayoutError: unknown layout, or no exact map between the two.
    """
    if source == target:
        return joints, seen
    weights_JK = _weights(source, target).to(joints)
    uses_JK = (weights_JK != 0).to(joints.dtype)
    needed_K = uses_JK.sum(0)
    there = seen.to(joints.dtype) @ uses_JK
    return joints @ weights_JK, (there > needed_K - 0.5) & (needed_K > 0)


__all__ = ["relayout"]
