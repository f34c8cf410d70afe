"""Which frames of a clip a network sees, and which people."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.flat import Numbers
from tmor_train.data.motion import MotionSet

Choice = Literal["uniform", "window"]
Draw = Literal["random", "centre"]
ByPeople = Literal["spread", "first"]


def uniform_frames(frames_N: Numbers, *, length: int, draw_NT: NDArray[np.float64]) -> Numbers:
    """One frame out of each of ``length`` equal parts of the whole clip, in order: (N, T).

    Args:
        draw_NT: where in its part each frame lies, in [0, 1); 0.5 everywhere takes the middle. A clip of fewer frames
            shows some of them more than once.
    """
    position = (np.arange(length) + draw_NT) * (frames_N[:, None] / length)
    # A draw just below 1 may round up into the next part.
    last = -(-np.arange(1, length + 1) * frames_N[:, None] // length) - 1
    frames: Numbers = np.minimum(position.astype(np.int64), last)
    return frames


def window_frames(frames_N: Numbers, *, length: int, draw_N: NDArray[np.float64]) -> Numbers:
    """``length`` frames in a row, (N, T); a shorter clip lies somewhere among frames that are absent (-1).

    Args:
        draw_N: where the window begins, from 0 (as early as can be) to 1 (as late). For a shorter clip: how many of
            the absent frames stand before it, from none to all.
    """
    spare = frames_N - length
    begin_N = np.floor(np.minimum(draw_N, 1 - 2.0**-53) * (np.abs(spare) + 1)).astype(np.int64) * np.sign(spare)
    frames = begin_N[:, None] + np.arange(length)
    return np.where((frames >= 0) & (frames < frames_N[:, None]), frames, -1)


def people_of(motions: MotionSet, *, most: int, by: ByPeople) -> Numbers:
    """The people that are shown of each clip, (N, ``most``); -1 for a place that nobody takes.

    ``first`` takes them as they are stored. ``spread`` takes those whose joints spread furthest (standard deviation of
    x plus that of y, over all joints seen in the clip), the furthest first; it reads the clips with several people.
    """
    people_N = motions.clips.people_N
    places = np.arange(most)
    chosen = np.where(places < people_N[:, None], places, -1)
    if by == "spread":
        for number in np.flatnonzero(people_N > 1).tolist():
            joints = motions.clip(number).joints_MTJC
            order = np.argsort([-_spread(person) for person in joints], kind="stable")[:most]
            chosen[number, : len(order)] = order
    return chosen


def _spread(joints_TJC: NDArray[np.float32]) -> float:
    seen = joints_TJC[..., -1] > 0
    if not seen.any():
        return -1.0
    return float(joints_TJC[seen][:, :2].astype(np.float64).std(0).sum())
