"""The part of a clip's frames that its people are in."""

from __future__ import annotations

import numpy as np

from posecap.types import TrackedClip

_MARGIN = 0.15
_SMALLEST = 32


def size(clip: TrackedClip) -> tuple[int, int]:
    """Width and height of the clip's frames, in working pixels."""
    height, width = clip.frames_THW3.shape[1:3]
    return width, height


def around_people(clip: TrackedClip) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in working pixels: every person throughout the clip, with a margin on all sides.

    The margin is 15 % of the boxes' width and height. A clip in which nobody was seen gives its whole frame.
    """
    width, height = size(clip)
    boxes = clip.tracks.boxes_MT4[clip.tracks.scores_MT > 0]
    if not len(boxes):
        return 0, 0, width, height
    per_working = np.array(clip.source_per_working * 2)
    x0, y0, x1, y1 = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)]) / per_working
    left, right = _widened(x0, x1, width)
    top, bottom = _widened(y0, y1, height)
    return left, top, right, bottom


def _widened(low: float, high: float, end: int) -> tuple[int, int]:
    """The stretch with its margins, or with ``_SMALLEST`` pixels around its middle, as far as it lies in [0, end)."""
    middle, half = (low + high) / 2, max((high - low) * (0.5 + _MARGIN), _SMALLEST / 2)
    middle = min(max(middle, 0.0), float(end))
    return max(0, int(np.floor(middle - half))), min(end, int(np.ceil(middle + half)))
