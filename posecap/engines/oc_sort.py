"""Tracks people by OC-SORT (Cao et al., "Observation-Centric SORT: Rethinking SORT for Robust Multi-Object Tracking",
CVPR 2023), by the motion of their boxes alone.

A Kalman filter of constant velocity predicts each box, as in SORT, and detections are assigned to predictions by the
overlap of boxes. What OC-SORT adds trusts observations more than predictions:

* momentum: of two detections that overlap a prediction alike, the one in the direction in which the track has moved is
  preferred;
* recovery: tracks left over are matched again by their last observed boxes, where a person stopped or turned;
* re-update: when a lost person is seen again, the filter goes back to when it lost them and follows a straight line
  of observations from there, so that what it made up meanwhile is forgotten.

Who is who is what the authors' program finds (github.com/noahcao/OC_SORT), with one difference: a track is given from
its first detection on, since a clip is tracked as a whole, and short tracks are left out at the end instead of
held back at the beginning. Motion is counted in frames, as there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from posecap.interfaces import Detections
from posecap.skeletons import tracks_of
from posecap.stage import Engine
from posecap.types import Pixels, Seconds, Tracks

Doubles = NDArray[np.float64]

# The filter's state: centre x, centre y (px), area (px²), width / height, and changes of the first three per frame.
# The numbers are those of SORT's filter, which the authors' program keeps.
_STEP = np.eye(7) + np.eye(7, k=4)
_BEGINNING = np.diag([10.0] * 4 + [10_000.0] * 3)
_PROCESS_NOISE = np.diag([1.0] * 4 + [0.01] * 2 + [0.0001])
_MEASURED = np.eye(4, 7)
_MEASUREMENT_NOISE = np.diag([1.0, 1.0, 10.0, 10.0])
_TINY = 1e-6
"""Added to what is divided by, as there."""


@dataclass
class _Track:
    """One person's track.

    Attributes:
        seen: index of the detection by frame.
        observed: boxes (x0, y0, x1, y1) by frame, without the first detection, which only begins the filter.
        direction: unit vector (x, y) of the motion over the last frames; zeros before two observations.
        when_lost: the filter's state in the first of the frames since the last observation; None while the person is
            seen, and before a first observation.
    """

    mean: Doubles
    covariance: Doubles
    seen: dict[int, int]
    observed: dict[int, Doubles] = field(default_factory=dict)
    direction: Doubles = field(default_factory=lambda: np.zeros(2))
    when_lost: tuple[Doubles, Doubles] | None = None

    @property
    def last(self) -> int:
        return max(self.seen)

    @property
    def box(self) -> Doubles:
        """That of the filter; not finite where the area or the proportions have come out negative."""
        with np.errstate(invalid="ignore", divide="ignore"):
            width = np.sqrt(self.mean[2] * self.mean[3])
            half = np.array([width, self.mean[2] / width]) / 2
        return np.concatenate([self.mean[:2] - half, self.mean[:2] + half])

    def observation_before(self, t: int, frames: int) -> Doubles | None:
        """The box that was observed ``frames`` before frame ``t``, else the next later one, else the last one; None
        before a first observation.
        """
        wanted = [t - back for back in range(frames, 0, -1) if t - back in self.observed]
        return self.observed[wanted[0] if wanted else max(self.observed)] if self.observed else None


@dataclass(frozen=True)
class OCSort(Engine):
    """Joins detections of consecutive frames into tracks; no state is kept between clips.

    Args:
        track_high_thresh: detections with a higher score, in [0, 1], may start a track.
        low_scores: ``no``: all others are left out, as in the published tracker. ``yes``: those with a score above
            ``track_low_thresh`` may continue a track that no better one continues, as in ByteTrack; the authors offer
            this too.
        track_low_thresh: see ``low_scores``.
        overlap: least intersection over union of a match.
        inertia: how much the direction of motion counts beside the overlap.
        direction_frames: frames over which directions are measured.
        track_buffer_seconds: a track that is not seen for longer is closed. The published tracker counts frames; their
            number follows from the clip's frame rate.
        fewest_frames: tracks that are seen in fewer frames are dropped.

    Defaults are the authors', 1 second being their 30 frames at 30 frames a second, but for ``track_high_thresh``,
    which is that of :class:`posecap.engines.bytetrack.ByteTrack` and suits MoveNet's scores (theirs is 0.6), and
    ``fewest_frames``, a free choice.

    Raises:
        ValueError: ``low_scores`` is another word, or ``direction_frames`` below 1.
    """

    name: ClassVar[str] = "oc-sort"
    packages: ClassVar[tuple[str, ...]] = ("scipy",)
    thread_safe: ClassVar[bool] = True

    track_high_thresh: float = 0.3
    low_scores: Literal["no", "yes"] = "no"
    track_low_thresh: float = 0.1
    overlap: float = 0.3
    inertia: float = 0.2
    direction_frames: int = 3
    track_buffer_seconds: float = 1.0
    fewest_frames: int = 3

    def __post_init__(self) -> None:
        if self.low_scores not in ("no", "yes"):
            raise ValueError(f"oc-sort: low_scores is {self.low_scores!r}; write 'yes' or 'no'")
        if self.direction_frames < 1:
            raise ValueError(f"oc-sort: direction_frames is {self.direction_frames}, expected at least 1")

    def track(
        self, detections: Sequence[Detections], pts_T: Seconds, *, layout: str | None, frames_THW3: Pixels
    ) -> Tracks:
        """See :meth:`posecap.interfaces.Tracker.track`; boxes, scores and joints are those of the detections."""
        interval = float(np.median(np.diff(pts_T))) if len(pts_T) > 1 else self.track_buffer_seconds
        longest = max(1, round(self.track_buffer_seconds / interval)) if interval > 0 else 1
        live: list[_Track] = []
        closed: list[_Track] = []
        for t, found in enumerate(detections):
            for track in live:
                _predict(track)
            closed += [k for k in live if not np.isfinite(k.box).all()]
            live = [k for k in live if np.isfinite(k.box).all()]
            live += self._continue(live, found, t)
            closed += [k for k in live if t - k.last > longest]
            live = [k for k in live if t - k.last <= longest]
        people = [k for k in closed + live if len(k.seen) >= self.fewest_frames]
        # Who is seen longest comes first; the rest of the key makes the order independent of how tracks were made.
        people.sort(key=lambda k: (-len(k.seen), min(k.seen.items())))
        return tracks_of([k.seen for k in people], detections, layout)

    def _continue(self, live: list[_Track], found: Detections, t: int) -> list[_Track]:
        """Give the tracks the detections of frame ``t``; returns the tracks that begin there."""
        boxes, scores = found.boxes_N4.astype(np.float64), found.scores_N.astype(np.float64)
        high = np.flatnonzero(scores > self.track_high_thresh)
        low = np.flatnonzero((scores > self.track_low_thresh) & (scores <= self.track_high_thresh))
        predicted = np.array([k.box for k in live]).reshape(-1, 4)
        iou = _overlaps(boxes[high], predicted)
        momentum = self._momentum(live, boxes[high], scores[high], t)
        pairs = _assign(iou, iou + momentum, least=self.overlap)
        pairs = [(int(high[a]), b) for a, b in pairs]
        if self.low_scores == "yes":
            left = _others(len(live), [b for _, b in pairs])
            pairs += self._match(boxes, low, predicted, left)
        left = _others(len(live), [b for _, b in pairs])
        fresh = high[_others(len(high), np.flatnonzero(np.isin(high, [i for i, _ in pairs])))]
        # Before its first observation a track has no last one, and cannot be recovered.
        left = np.array([b for b in left if live[b].observed], np.intp)
        last = np.array([k.observed[max(k.observed)] if k.observed else np.zeros(4) for k in live]).reshape(-1, 4)
        pairs += self._match(boxes, fresh, last, left)
        for i, b in pairs:
            _update(live[b], boxes[i], i, t, self.direction_frames)
        for b in _others(len(live), [b for _, b in pairs]):
            if live[b].observed and live[b].when_lost is None:
                live[b].when_lost = live[b].mean, live[b].covariance
        matched = {i for i, _ in pairs}
        return [_start(boxes[i], int(i), t) for i in high if i not in matched]

    def _match(
        self, boxes_N4: Doubles, candidates: NDArray[np.intp], of_tracks_K4: Doubles, left: NDArray[np.intp]
    ) -> list[tuple[int, int]]:
        """(detection, track) of ``candidates`` and of the tracks ``left`` that overlap most, by overlap alone."""
        iou = _overlaps(boxes_N4[candidates], of_tracks_K4[left])
        if not (iou > self.overlap).any():
            return []
        return [(int(candidates[a]), int(left[b])) for a, b in _solve(iou) if iou[a, b] >= self.overlap]

    def _momentum(self, live: list[_Track], boxes_N4: Doubles, scores_N: Doubles, t: int) -> Doubles:
        """(N, K) how well each detection lies in the direction in which each track moves, from minus to plus half of
        ``inertia``, times the detection's score; 0 for tracks without observations.
        """
        momentum = np.zeros((len(boxes_N4), len(live)))
        for b, track in enumerate(live):
            before = track.observation_before(t, self.direction_frames)
            if before is not None and len(boxes_N4):
                cosines = np.clip(_direction(before, boxes_N4) @ track.direction, -1, 1)
                momentum[:, b] = (np.pi / 2 - np.arccos(cosines)) / np.pi * self.inertia * scores_N
        return momentum


def _assign(iou_NK: Doubles, likeness_NK: Doubles, *, least: float) -> list[tuple[int, int]]:
    """(detection, track) of the assignment with the largest sum of likeness, less pairs that overlap too little; where
    overlaps leave no choice, the pairs that overlap.
    """
    enough = iou_NK > least
    if enough.any() and enough.sum(0).max() == 1 and enough.sum(1).max() == 1:
        return [(int(a), int(b)) for a, b in np.argwhere(enough)]
    return [(a, b) for a, b in _solve(likeness_NK) if iou_NK[a, b] >= least]


def _solve(likeness_NK: Doubles) -> list[tuple[int, int]]:
    """The assignment with the largest sum."""
    from scipy.optimize import linear_sum_assignment

    return [(int(a), int(b)) for a, b in zip(*linear_sum_assignment(-likeness_NK), strict=True)]


def _others(count: int, taken: Sequence[int] | NDArray[np.intp]) -> NDArray[np.intp]:
    """The numbers below ``count`` that are not taken, in order."""
    return np.setdiff1d(np.arange(count), np.asarray(taken, np.intp))


def _overlaps(boxes_N4: Doubles, others_K4: Doubles) -> Doubles:
    """(N, K) intersection over union of boxes (x0, y0, x1, y1); 0 where there is no area."""
    low = np.maximum(boxes_N4[:, None, :2], others_K4[None, :, :2])
    high = np.minimum(boxes_N4[:, None, 2:], others_K4[None, :, 2:])
    both = np.prod(np.maximum(high - low, 0), -1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], -1) for boxes in (boxes_N4, others_K4)]
    union = areas[0][:, None] + areas[1][None] - both
    overlaps: Doubles = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return overlaps


def _direction(before_4: Doubles, boxes_N4: Doubles) -> Doubles:
    """(N, 2) unit vectors (x, y) from the centre of a box to those of others."""
    moved = (boxes_N4[:, :2] + boxes_N4[:, 2:] - before_4[:2] - before_4[2:]) / 2
    directions: Doubles = moved / (np.linalg.norm(moved, axis=-1, keepdims=True) + _TINY)
    return directions


def _start(box_4: Doubles, i: int, t: int) -> _Track:
    """A track that begins with detection ``i`` of frame ``t``."""
    return _Track(np.concatenate([_measured(box_4), np.zeros(3)]), _BEGINNING, {t: i})


def _measured(box_4: Doubles) -> Doubles:
    """(centre x, centre y, area, width / height) of a box."""
    width, height = box_4[2:] - box_4[:2]
    x, y = box_4[:2] + (box_4[2:] - box_4[:2]) / 2
    return np.array([x, y, width * height, width / (height + _TINY)])


def _predict(track: _Track) -> None:
    """Move the filter on by a frame; an area does not shrink to nothing."""
    if track.mean[6] + track.mean[2] <= 0:
        track.mean = track.mean * [1, 1, 1, 1, 1, 1, 0]
    track.mean, track.covariance = _stepped(track.mean, track.covariance)


def _stepped(mean: Doubles, covariance: Doubles) -> tuple[Doubles, Doubles]:
    return _STEP @ mean, _STEP @ covariance @ _STEP.T + _PROCESS_NOISE


def _corrected(mean: Doubles, covariance: Doubles, measured_4: Doubles) -> tuple[Doubles, Doubles]:
    """The filter's state with a measurement taken into account, in Joseph's form."""
    gain = covariance @ _MEASURED.T @ np.linalg.inv(_MEASURED @ covariance @ _MEASURED.T + _MEASUREMENT_NOISE)
    rest = np.eye(7) - gain @ _MEASURED
    corrected = rest @ covariance @ rest.T + gain @ _MEASUREMENT_NOISE @ gain.T
    return mean + gain @ (measured_4 - _MEASURED @ mean), corrected


def _update(track: _Track, box_4: Doubles, i: int, t: int, direction_frames: int) -> None:
    """Continue the track with detection ``i`` of frame ``t``."""
    measured = _measured(box_4)
    if track.when_lost is not None:
        track.mean, track.covariance = track.when_lost
        for virtual in _line(_measured(track.observed[max(track.observed)]), measured, t - max(track.observed)):
            if virtual is not None:
                track.mean, track.covariance = _corrected(track.mean, track.covariance, virtual)
            else:
                track.mean, track.covariance = _stepped(track.mean, track.covariance)
        track.when_lost = None
    # Once more after a re-update, whose last observation is this one, as in the authors' program.
    track.mean, track.covariance = _corrected(track.mean, track.covariance, measured)
    before = track.observation_before(t, direction_frames)
    if before is not None:
        (track.direction,) = _direction(before, box_4[None])
    track.observed[t] = box_4
    track.seen[t] = i


def _line(first_4: Doubles, last_4: Doubles, frames: int) -> list[Doubles | None]:
    """Measurements of each frame after ``first_4`` up to ``last_4``, with centre, width and height on straight lines;
    None between two of them, where the filter moves on by a frame.
    """
    ends = [np.array([x, y, np.sqrt(area * ratio), np.sqrt(area / ratio)]) for x, y, area, ratio in (first_4, last_4)]
    line: list[Doubles | None] = []
    for step in range(1, frames + 1):
        x, y, width, height = ends[0] + (ends[1] - ends[0]) / frames * step
        line += [np.array([x, y, width * height, width / height]), None]
    return line[:-1]
