"""Scorers that look at no frame: what chance reaches, and what nothing can surpass."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.arrays import Floats


def class_shares(labels: Iterable[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Each class's share of positive frames over recordings with labels (T, K) bool: (K,) float64.

    Raises:
        ValueError: there is no frame.
    """
    frames, positive_K = 0, None
    for label_TK in labels:
        count_K = label_TK.sum(0, dtype=np.int64)
        positive_K = count_K if positive_K is None else positive_K + count_K
        frames += len(label_TK)
    if positive_K is None or not frames:
        raise ValueError("there is no frame to count classes in")
    share_K: NDArray[np.float64] = positive_K / frames
    return share_K


def prior_scores(share_K: NDArray[np.float64], frames: int) -> Floats:
    """The shares of :func:`class_shares` as the score of every frame: (T, K) float32."""
    return np.broadcast_to(share_K.astype(np.float32), (frames, len(share_K)))


def perfect_scores(label_TK: NDArray[np.bool_]) -> Floats:
    """1 where a class is labelled and 0 elsewhere, (T, K) float32."""
    return label_TK.astype(np.float32)


__all__ = ["class_shares", "perfect_scores", "prior_scores"]
