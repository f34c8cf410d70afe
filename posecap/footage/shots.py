"""Where one shot ends and the next begins: a hard cut is a jump between two small grey pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posecap.types import Pixels

_COLUMNS, _ROWS = 32, 18
_SAMPLES = 4
"""Pixels looked at per thumbnail cell and axis: enough to be calm on texture, few enough to cost nothing."""
_LUMA = np.array([77, 150, 29], np.uint32)
"""BT.601 weights in 1/256, so that grey levels are whole numbers and the same on every machine."""


def thumbnails(frames_THW3: Pixels) -> NDArray[np.uint32]:
    """(T, 18, 32) uint32: mean grey of each cell, in 1/4096 grey levels, from 4x4 pixels per cell."""
    count, height, width = frames_THW3.shape[:3]
    rows, columns = _grid(_ROWS, height), _grid(_COLUMNS, width)
    sampled = frames_THW3[:, rows[:, None], columns[None, :]]
    grey = sampled.astype(np.uint32) @ _LUMA
    cells: NDArray[np.uint32] = grey.reshape(count, _ROWS, _SAMPLES, _COLUMNS, _SAMPLES).sum(
        axis=(2, 4), dtype=np.uint32
    )
    return cells


def _grid(cells: int, pixels: int) -> NDArray[np.intp]:
    """Positions of ``cells`` x 4 samples spread evenly over ``pixels``."""
    samples = cells * _SAMPLES
    return ((2 * np.arange(samples) + 1) * pixels // (2 * samples)).astype(np.intp)


class ShotDetector:
    """Finds hard cuts in frames that come in blocks; the blocks' sizes make no difference.

    ``threshold`` is that of :class:`posecap.types.ShotRule`. Dissolves and fades are not found.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._last: NDArray[np.uint32] | None = None

    def begins(self, frames_THW3: Pixels) -> NDArray[np.bool_]:
        """(T,) True where a frame begins a new shot. The very first frame begins none: nothing precedes it."""
        seen = thumbnails(frames_THW3)
        before = seen[:1] if self._last is None else self._last[None]
        chain = np.concatenate([before, seen]).astype(np.int64)
        self._last = seen[-1] if len(seen) else self._last
        # Whole numbers up to here, so the comparison cannot depend on the order of a sum.
        jump = np.abs(np.diff(chain, axis=0)).sum(axis=(1, 2))
        return np.asarray(jump > self._threshold * 256 * _SAMPLES**2 * _ROWS * _COLUMNS)
