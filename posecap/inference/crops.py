"""What every top-down pose estimator does around its network: which boxes it looks into, and the array it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecap.types import Floats, TrackedClip, Tracks


@dataclass(frozen=True, slots=True)
class Sight:
    """One person in one frame. ``box_4`` float32 (x0, y0, x1, y1) in pixels of that frame."""

    person: int
    frame: int
    box_4: Floats


def sights(tracks: Tracks) -> list[Sight]:
    """Everybody who is seen, frame after frame: those with a score and a box that is not empty."""
    sizes = tracks.boxes_MT4[..., 2:] - tracks.boxes_MT4[..., :2]
    there = (tracks.scores_MT > 0) & (sizes > 0).all(-1) & np.isfinite(tracks.boxes_MT4).all(-1)
    return [
        Sight(int(person), int(frame), tracks.boxes_MT4[person, frame].astype(np.float32))
        for frame, person in np.argwhere(there.T)
    ]


def gathered(joints: Sequence[Floats], seen: Sequence[Sight], *, shape_MT: tuple[int, int], count: int) -> Floats:
    """(M, T, J, 3) float32 out of one (J, 3) array for each sight; zeros wherever nobody was seen.

    Scores are cut to [0, 1]: the peak of a network's distribution can lie a little above 1. A joint whose score is 0
    or not a number was not found, and is (0, 0, 0).
    """
    joints_MTJ3 = np.zeros((*shape_MT, count, 3), np.float32)
    for joints_J3, sight in zip(joints, seen, strict=True):
        joints_MTJ3[sight.person, sight.frame] = joints_J3
    joints_MTJ3[~(np.isfinite(joints_MTJ3).all(-1) & (joints_MTJ3[..., 2] > 0))] = 0
    np.minimum(joints_MTJ3[..., 2], 1, out=joints_MTJ3[..., 2])
    return joints_MTJ3


# The part of a clip's frames that its people are in.


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
