"""Person crops of top-down pose estimators, and the region of a clip that holds its people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from posecap.types import Floats, TrackedClip, Tracks

_MARGIN = 0.15
_MIN_PIXELS = 32


@dataclass(frozen=True, slots=True)
class PersonCrop:
    """One person in one frame. ``box_4`` float32 (x0, y0, x1, y1) in pixels of that frame."""

    person: int
    frame: int
    box_4: Floats


def person_crops(tracks: Tracks) -> list[PersonCrop]:
    """One crop per visible person and frame, in order of frames: those with a score and a box that is not empty."""
    sizes = tracks.boxes_MT4[..., 2:] - tracks.boxes_MT4[..., :2]
    there = (tracks.scores_MT > 0) & (sizes > 0).all(-1) & np.isfinite(tracks.boxes_MT4).all(-1)
    return [
        PersonCrop(int(person), int(frame), tracks.boxes_MT4[person, frame].astype(np.float32))
        for frame, person in np.argwhere(there.T)
    ]


def scatter_keypoints(
    joints: Sequence[Floats], crops: Sequence[PersonCrop], *, shape_MT: tuple[int, int], count: int
) -> Floats:
    """(M, T, J, 3) float32 from one (J, 3) array per crop; zeros where no person is visible.

    Scores are clipped to [0, 1]: the peak of a network's distribution can be slightly above 1. Joints whose score is 0
    or not a number become (0, 0, 0).
    """
    joints_MTJ3 = np.zeros((*shape_MT, count, 3), np.float32)
    for joints_J3, crop in zip(joints, crops, strict=True):
        joints_MTJ3[crop.person, crop.frame] = joints_J3
    joints_MTJ3[~(np.isfinite(joints_MTJ3).all(-1) & (joints_MTJ3[..., 2] > 0))] = 0
    np.minimum(joints_MTJ3[..., 2], 1, out=joints_MTJ3[..., 2])
    return joints_MTJ3


def frame_size(clip: TrackedClip) -> tuple[int, int]:
    """Width and height of the clip's frames, in working pixels."""
    height, width = clip.frames_THW3.shape[1:3]
    return width, height


def people_region(clip: TrackedClip) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in working pixels of the region that holds every person in all frames, plus a margin.

    The margin is 15 % of the region's width and height. Without visible people it is the whole frame.
    """
    width, height = frame_size(clip)
    boxes = clip.tracks.boxes_MT4[clip.tracks.scores_MT > 0]
    if not len(boxes):
        return 0, 0, width, height
    per_working = np.array(clip.source_per_working * 2)
    x0, y0, x1, y1 = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)]) / per_working
    left, right = _widened(x0, x1, width)
    top, bottom = _widened(y0, y1, height)
    return left, top, right, bottom


def _widened(low: float, high: float, end: int) -> tuple[int, int]:
    """The interval with its margins, at least ``_MIN_PIXELS`` long, clipped to [0, end)."""
    middle, half = (low + high) / 2, max((high - low) * (0.5 + _MARGIN), _MIN_PIXELS / 2)
    middle = min(max(middle, 0.0), float(end))
    return max(0, int(np.floor(middle - half))), min(end, int(np.ceil(middle + half)))
