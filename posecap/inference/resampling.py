"""Pictures brought to another size and place by linear interpolation, as OpenCV's ``warpAffine`` and ``resize`` do it.

No rotation, so rows and columns are interpolated one after the other. Results differ from OpenCV's by at most one
grey level, in few pixels, for OpenCV rounds its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from posecap.types import Floats, Pixels

Outside = Literal["black", "edge"]
Places = NDArray[np.floating[Any]]


def sampled(picture_HW3: Pixels, rows_h: Places, columns_w: Places, *, outside: Outside) -> Pixels:
    """The picture read at every crossing of ``rows_h`` and ``columns_w``: (h, w, 3) uint8.

    Args:
        rows_h: increasing places in pixels, where 0 is the middle of the first pixel.
        outside: what lies beyond the picture: black, or its outermost pixels.
    """
    rows = _weighed(rows_h, picture_HW3.shape[0], outside)
    columns = _weighed(columns_w, picture_HW3.shape[1], outside)
    used = slice(int(columns.low.min()), int(columns.high.max()) + 1)
    lines = _mixed(picture_HW3[:, used], rows, axis=0)
    return np.rint(_mixed(lines, columns.shifted(used.start), axis=1)).astype(np.uint8)


def resized(picture_HW3: Pixels, *, height: int, width: int) -> Pixels:
    """The whole picture at another size; larger pixels are sampled, not averaged, as ``cv2.INTER_LINEAR`` does."""
    have_h, have_w = picture_HW3.shape[:2]
    rows = (np.arange(height) + 0.5) * (have_h / height) - 0.5
    columns = (np.arange(width) + 0.5) * (have_w / width) - 0.5
    return sampled(picture_HW3, rows, columns, outside="edge")


@dataclass(frozen=True, slots=True)
class _Weighed:
    """For each place its two neighbours along one axis, and how much each counts."""

    low: NDArray[np.intp]
    high: NDArray[np.intp]
    low_weight: Floats
    high_weight: Floats

    def shifted(self, start: int) -> _Weighed:
        return _Weighed(self.low - start, self.high - start, self.low_weight, self.high_weight)


def _weighed(places: Places, size: int, outside: Outside) -> _Weighed:
    floor = np.floor(places)
    low = floor.astype(np.intp)
    high_weight = (places - floor).astype(np.float32)
    low_weight = 1 - high_weight
    if outside == "black":
        low_weight = low_weight * ((low >= 0) & (low < size))
        high_weight = high_weight * ((low >= -1) & (low < size - 1))
    return _Weighed(np.clip(low, 0, size - 1), np.clip(low + 1, 0, size - 1), low_weight, high_weight)


def _mixed(lines: Pixels | Floats, weighed: _Weighed, *, axis: Literal[0, 1]) -> Floats:
    def part(index: NDArray[np.intp], weight: Floats) -> Floats:
        taken: Floats = np.take(lines, index, axis=axis).astype(np.float32, copy=False)
        taken *= weight[:, None, None] if axis == 0 else weight[None, :, None]
        return taken

    mixed = part(weighed.low, weighed.low_weight)
    mixed += part(weighed.high, weighed.high_weight)
    return mixed


__all__ = ["resized", "sampled"]
