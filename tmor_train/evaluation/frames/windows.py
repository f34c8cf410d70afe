"""Windows over long recordings, and one score a frame from the scores of windows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import torch
from torch.nn import functional

from tmor_train.data.arrays import Floats

Last = Literal["shorter", "shifted"]
"""What becomes of a recording's last window where too few frames are left: it has those, or begins earlier."""


def windows(
    frames: int, *, length: int = 300, stride: int | None = None, last: Last = "shorter"
) -> tuple[tuple[int, int], ...]:
    """Begin and end (excluded) of windows that cover ``frames`` frames.

    Args:
        stride: frames from one begin to the next; ``length`` where None, so that windows do not overlap.
        last: ``shifted`` leaves only recordings shorter than ``length`` with a shorter window.

    Raises:
        ValueError: no frame, or a stride that is not 1 to ``length``.
    """
    step = length if stride is None else stride
    if frames < 1 or not 1 <= step <= length:
        raise ValueError(f"frames is at least 1 and stride 1 to {length}, not {frames} and {step}")
    count = 1 + max(0, -(-(frames - length) // step))
    found = [(n * step, min(n * step + length, frames)) for n in range(count)]
    if last == "shifted":
        found[-1] = (max(0, frames - length), frames)
    return tuple(found)


def to_frames(logits_NKt: torch.Tensor, frames: int) -> torch.Tensor:
    """Logits of T' feature frames as logits of T frames, linearly between centres: (N, K, T)."""
    return functional.interpolate(logits_NKt, size=frames, mode="linear", align_corners=False)


def averaged(scores: Iterable[tuple[int, Floats]], *, frames: int) -> Floats:
    """The mean over all windows that hold a frame, (T, K) float32, of (begin, (length, K)) each.

    Raises:
        ValueError: a frame lies in no window, or a window goes beyond the recording.
    """
    total: Floats | None = None
    count_T = np.zeros(frames, np.int64)
    for begin, score in scores:
        if begin < 0 or begin + len(score) > frames:
            raise ValueError(f"frames {begin} to {begin + len(score)} lie outside a recording of {frames}")
        if total is None:
            total = np.zeros((frames, score.shape[1]), np.float32)
        total[begin : begin + len(score)] += score
        count_T[begin : begin + len(score)] += 1
    if total is None or not count_T.all():
        raise ValueError(f"{int((count_T == 0).sum())} of {frames} frames lie in no window")
    mean: Floats = (total / count_T[:, None]).astype(np.float32)
    return mean
