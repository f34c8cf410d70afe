"""Smooths skeletons over time and fills short gaps. Not part of the default pipeline; where it stands in one:

``Skeleton(layout="coco17"), Smooth(filter=SavitzkyGolay(window_seconds=0.3), fill_frames=5), WriteCaptions()``
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from posecap.skeletons import body_sizes
from posecap.stage import Stage, configuration
from posecap.types import Floats, Seconds, SkeletonClip

Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class OneEuro:
    """The 1 € filter (Casiez, Roussel and Vogel, CHI 2012): a low-pass filter whose cut-off rises with the speed.

    It looks at the past alone, as a live system must, so that fast movements lag: at a cut-off of f Hz by about
    1 / (2 π f) seconds.

    Args:
        cutoff: cut-off frequency at rest, Hz. Lower is smoother.
        beta: how much the cut-off rises, Hz for each body size a second. Higher lags less.
        speed_cutoff: cut-off frequency of the speed itself, Hz; 1 in the paper.

    The other two defaults are our choices, by no measurement: at rest a joint lags by 0.11 s, and at one body size a
    second, where the cut-off is 11.5 Hz, by 0.014 s.

    Raises:
        ValueError: a number is out of its range.
    """

    cutoff: float = 1.5
    beta: float = 10.0
    speed_cutoff: float = 1.0

    def __post_init__(self) -> None:
        if min(self.cutoff, self.speed_cutoff) <= 0 or self.beta < 0:
            raise ValueError(
                f"OneEuro: cutoff is {self.cutoff:g}, speed_cutoff {self.speed_cutoff:g} and beta {self.beta:g}; "
                "the first two must be above 0, beta at least 0"
            )

    def smoothed(self, xy_NJ2: Doubles, pts_N: Seconds, size: float) -> Doubles:
        """(N, J, 2) smoothed pixels of joints seen in N frames running, at the times ``pts_N``.

        Args:
            size: of the body, pixels (:func:`posecap.skeletons.body_sizes`).
        """
        smooth, speed_J2 = xy_NJ2.copy(), np.zeros(xy_NJ2.shape[1:])
        for n in range(1, len(xy_NJ2)):
            seconds = float(pts_N[n] - pts_N[n - 1])
            away_J2 = xy_NJ2[n] - smooth[n - 1]
            speed_J2 += _gain(np.float64(self.speed_cutoff), seconds) * (away_J2 / seconds - speed_J2)
            cutoff_J1 = self.cutoff + self.beta * np.linalg.norm(speed_J2, axis=-1, keepdims=True) / max(size, 1.0)
            smooth[n] = smooth[n - 1] + _gain(cutoff_J1, seconds) * away_J2
        return smooth


@dataclass(frozen=True, kw_only=True)
class SavitzkyGolay:
    """A polynomial fitted by least squares to the frames around each frame (Savitzky and Golay, 1964). No lag.

    Frames need not be evenly spaced. Where they are, and the window spans an even number of their intervals, the
    result is that of ``scipy.signal.savgol_filter``. At the ends of what is seen of a joint the window does not
    stand around the frame but ends where the joint does.

    Args:
        window_seconds: length of time that the frames of one fit cover. Longer is smoother. A window of ``degree`` + 1
            frames or fewer, as at low frame rates, changes nothing.
        degree: of the polynomial, lower where a window has too few frames. 2 and 3 keep peaks, as of a jump, better
            than 0 and 1.

    The defaults are our choices, by no measurement: at 30 frames a second, parabolas over nine frames.

    Raises:
        ValueError: a number is out of its range.
    """

    window_seconds: float = 0.3
    degree: int = 2

    def __post_init__(self) -> None:
        if self.window_seconds <= 0 or self.degree < 0:
            raise ValueError(
                f"SavitzkyGolay: window_seconds is {self.window_seconds:g} and degree {self.degree}; "
                "needs window_seconds > 0 and degree >= 0"
            )

    def smoothed(self, xy_NJ2: Doubles, pts_N: Seconds, size: float) -> Doubles:
        """(N, J, 2) smoothed pixels of joints seen in N frames running, at the times ``pts_N``; ``size`` is unused."""
        half = self.window_seconds / 2
        last_centre = max(float(pts_N[-1]) - half, float(pts_N[0]) + half)
        centres_N = np.clip(pts_N, pts_N[0] + half, last_centre)
        # Presentation times are rounded to the container's clock, so a frame on the edge of the window belongs to it.
        first_N = np.searchsorted(pts_N, centres_N - half - _CLOCK_SECONDS)
        end_N = np.searchsorted(pts_N, centres_N + half + _CLOCK_SECONDS)
        smooth = np.empty_like(xy_NJ2)
        for n, (first, end) in enumerate(zip(first_N.tolist(), end_N.tolist(), strict=True)):
            degree = min(self.degree, end - first - 1)
            powers = np.vander((pts_N[first:end] - pts_N[n]) / half, degree + 1, increasing=True)
            # The polynomial's value at the frame itself, where all powers but the first are 0.
            smooth[n] = np.tensordot(np.linalg.pinv(powers)[0], xy_NJ2[first:end], 1)
        return smooth


_CLOCK_SECONDS = 0.5e-3
"""Most by which a container's clock displaces a time: Matroska rounds to milliseconds."""


@dataclass(frozen=True, kw_only=True)
class Smooth(Stage):
    """Fills gaps of joints by interpolation, then smooths every joint over time, at the true presentation times.

    Stands after :class:`~posecap.stages.pose.Skeleton`: quality measures, such as jitter, are those of the joints
    as they were estimated. What was done, and to how many joints, stands in the sample's facts as ``smoothing``; a
    build without this stage gives the joints as they were. A joint is seen where its score is above 0.

    A joint unseen between two frames that see it is put on the line between them. Its score says so: it is the lower
    of the scores of these two frames, times ``filled_score``. Gaps longer than ``fill_frames`` or ``fill_seconds``
    stay open, and the filter begins anew after them. Smoothed joints keep their scores.

    Args:
        filter: of x and y, or None to fill gaps only.
        fill_frames: most frames of a gap that is filled; 0 fills none, and the two fields below then do nothing.
        fill_seconds: longest time from the frame before a gap to the frame after it, whatever the frame rate.
        filled_score: factor of the scores of interpolated joints, from 0 (excluded) to 1.

    Raises:
        ValueError: a number is out of its range.
    """

    name: ClassVar[str] = "smooth"
    takes: ClassVar[type] = SkeletonClip
    gives: ClassVar[type] = SkeletonClip
    row_fields: ClassVar[tuple[str, ...] | None] = ()

    filter: OneEuro | SavitzkyGolay | None = SavitzkyGolay()
    fill_frames: int = 0
    fill_seconds: float = 0.5
    filled_score: float = 0.5

    def __post_init__(self) -> None:
        if self.fill_frames < 0 or self.fill_seconds <= 0:
            raise ValueError(
                f"smooth: fill_frames is {self.fill_frames} and fill_seconds {self.fill_seconds:g}; "
                "needs fill_frames >= 0 and fill_seconds > 0"
            )
        if not 0 < self.filled_score <= 1:
            raise ValueError(
                f"smooth: filled_score is {self.filled_score:g}; it lies between 0 (excluded: a joint that scores 0 "
                "is unseen) and 1"
            )

    def __call__(self, item: SkeletonClip) -> Iterator[SkeletonClip]:
        joints_MTJ3 = self._filled(item.joints_MTJ3, item.pts_T)
        filled = int(((joints_MTJ3[..., 2] > 0) & (item.joints_MTJ3[..., 2] == 0)).sum())
        if self.filter is not None:
            _smooth(joints_MTJ3, item.pts_T, self.filter)
        done = {key: value for key, value in configuration(self).items() if key != "name"}
        if self.filter is not None:
            done["filter"] = {"name": type(self.filter).__name__, **done["filter"]}
        yield replace(item, joints_MTJ3=joints_MTJ3, smoothing={**done, "filled_joints": filled})

    def _filled(self, joints_MTJ3: Floats, pts_T: Seconds) -> Floats:
        """A copy of the joints with short gaps filled."""
        filled = joints_MTJ3.copy()
        for person, joint in np.ndindex(joints_MTJ3.shape[0], joints_MTJ3.shape[2]):
            track_T3 = filled[person, :, joint]
            at = np.flatnonzero(track_T3[:, 2] > 0)
            for before, after in zip(at[:-1].tolist(), at[1:].tolist(), strict=True):
                seconds = float(pts_T[after] - pts_T[before])
                if not 0 < after - before - 1 <= self.fill_frames or seconds > self.fill_seconds + _CLOCK_SECONDS:
                    continue
                share_G1 = ((pts_T[before + 1 : after] - pts_T[before]) / seconds)[:, None]
                ends = track_T3[[before, after]].astype(np.float64)
                track_T3[before + 1 : after, :2] = ends[0, :2] + share_G1 * (ends[1, :2] - ends[0, :2])
                track_T3[before + 1 : after, 2] = self.filled_score * ends[:, 2].min()
        return filled


def _smooth(joints_MTJ3: Floats, pts_T: Seconds, chosen: OneEuro | SavitzkyGolay) -> None:
    """Smooth, in place, every joint in each stretch of frames that see it."""
    for joints_TJ3, size in zip(joints_MTJ3, body_sizes(joints_MTJ3), strict=True):
        runs: dict[tuple[int, int], list[int]] = {}  # first frame, frame after the last → joints seen just there
        for joint in range(joints_TJ3.shape[1]):
            steps = np.diff(joints_TJ3[:, joint, 2] > 0, prepend=False, append=False)
            for first, end in np.flatnonzero(steps).reshape(-1, 2).tolist():
                runs.setdefault((first, end), []).append(joint)
        for (first, end), joints in runs.items():
            xy_NJ2 = joints_TJ3[first:end, joints, :2].astype(np.float64)
            joints_TJ3[first:end, joints, :2] = chosen.smoothed(xy_NJ2, pts_T[first:end], float(size))


def _gain(cutoff: Doubles | np.float64, seconds: float) -> Doubles | np.float64:
    """Share of the new value in a first-order low-pass filter of ``cutoff`` Hz, for one time step."""
    return 1 / (1 + 1 / (2 * math.pi * seconds * cutoff))
