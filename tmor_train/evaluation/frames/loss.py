"""Losses of frames: padded ones count neither in the sum nor in the number that it is divided by."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def frame_bce(logits_NKT: Tensor, label_NTK: Tensor, valid_NT: Tensor) -> Tensor:
    """Binary cross-entropy summed over classes and valid frames, divided by the number of valid frames.

    L = 1/|V| sum_{(n,t) in V} sum_k -[y log s(z) + (1 - y) log(1 - s(z))], which is K times the mean, as in UNIK's
    detector; that one also sums over padded frames.

    Args:
        logits_NKT: float; label_NTK: bool; valid_NT: bool, true for at least one frame.
    """
    one_NKT = functional.binary_cross_entropy_with_logits(
        logits_NKT, label_NTK.transpose(1, 2).to(logits_NKT.dtype), reduction="none"
    )
    return (one_NKT.sum(1) * valid_NT).sum() / valid_NT.sum()


def event_cross_entropy(logits_NKT: Tensor, label_NTK: Tensor, valid_NT: Tensor, *, background: float) -> Tensor:
    """Cross-entropy over K + 1 classes, background first, the mean over valid frames by the weight of their class.

    L = sum_V w(y) (-log softmax(z)_y) / sum_V w(y), with w(0) = ``background`` and 1 for every other class.

    Args:
        logits_NKT: float, with K + 1 classes; label_NTK: bool without background; valid_NT: bool.
    """
    class_NT = event_classes(label_NTK)
    one_NT = functional.cross_entropy(logits_NKT, class_NT, reduction="none")
    weight_NT = torch.where(class_NT == 0, background, 1.0) * valid_NT
    return (one_NT * weight_NT).sum() / weight_NT.sum()


def event_classes(label_NTK: Tensor) -> Tensor:
    """One class a frame: 0 where there is none, else 1 + its number, the lowest one where there are several."""
    return torch.where(label_NTK.any(-1), label_NTK.to(torch.uint8).argmax(-1) + 1, 0)


__all__ = ["event_classes", "event_cross_entropy", "frame_bce"]
