"""Tracks people by ByteTrack (Zhang et al., ECCV 2022), extended by joints and by joining broken tracks.

Association has two rounds, detections of high score first, then those of low score for the tracks left over, each a
minimum-cost assignment among the pairs that are like enough. Likeness is the intersection over union of a detection's
box with the box that a constant-velocity Kalman filter predicts; where the detector gives joints, it is the mean of
that and of object keypoint similarity. As the whole clip is given, a track may be followed back to before its first
clear detection, and two tracks are joined afterwards where one begins shortly after the other ended and near where that
was heading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from posecap.interfaces import Detections
from posecap.skeletons import box_iou, similarity, tracks_of
from posecap.stage import Engine
from posecap.types import Floats, Pixels, Seconds, Tracks

Doubles = NDArray[np.float64]


@dataclass
class _Track:
    """One person's track. The filter's state has this ``mean`` and ``covariance``: centre x, centre y, width, height
    (px), then their velocities (px/s)."""

    mean: Doubles
    covariance: Doubles
    seen: dict[int, tuple[int, float]] = field(default_factory=dict)  # frame -> (detection, score)
    joints: Floats | None = None  # (J, 3) of the latest detection; None where the detector gives boxes only

    @property
    def first(self) -> int:
        return min(self.seen)

    @property
    def last(self) -> int:
        return max(self.seen)

    @property
    def box(self) -> Doubles:
        centre, size = self.mean[:2], np.maximum(self.mean[2:4], 1.0)
        return np.concatenate([centre - size / 2, centre + size / 2])


@dataclass(frozen=True)
class ByteTrack(Engine):
    """Joins detections of consecutive frames into tracks; no state is kept between clips.

    Args:
        track_high_thresh: detections with this score or more, in [0, 1], are matched first and may start a track.
        track_low_thresh: detections with this score or more may continue a track.
        likeness: least likeness, in [0, 1], for a match in the first round: box overlap, or with joints its mean with
            object keypoint similarity, as the module describes it.
        doubtful_likeness: the same in the second round.
        track_buffer_seconds: a track that is not seen for longer is closed.
        join_seconds: longest time between two tracks of one person.
        join_distance: most by which the later track's first box may differ from the earlier track's: the distance of
            its centre from the one predicted or from the last one, whichever is nearer, in heights of the earlier
            track's last box, plus the absolute natural logarithm of the ratio of their heights.
        fewest_frames: tracks that are seen in fewer frames, after joining, are dropped.
        follow_back: ``no``: a track's first detection has a score of ``track_high_thresh`` or more, as in the published
            tracker, which sees no later frames. ``yes``: from there it is followed back in time as it is followed
            onward, through detections of ``track_low_thresh`` or more that no track has.

    ``likeness`` and ``track_buffer_seconds`` are the published tracker's (a match costs at most 0.8; 30 frames at 30 a
    second). Both thresholds of scores suit MoveNet, whose clear people have 0.4 to 0.7. The rest are our choices, by no
    measurement.

    Raises:
        ValueError: ``follow_back`` is another word.
    """

    name: ClassVar[str] = "bytetrack"
    packages: ClassVar[tuple[str, ...]] = ("scipy",)
    thread_safe: ClassVar[bool] = True

    track_high_thresh: float = 0.3
    track_low_thresh: float = 0.15
    likeness: float = 0.2
    doubtful_likeness: float = 0.4
    track_buffer_seconds: float = 1.0
    join_seconds: float = 2.0
    join_distance: float = 0.5
    fewest_frames: int = 3
    follow_back: Literal["no", "yes"] = "no"

    def __post_init__(self) -> None:
        if self.follow_back not in ("no", "yes"):
            raise ValueError(f"bytetrack: follow_back is {self.follow_back!r}; write 'yes' or 'no'")

    def track(
        self, detections: Sequence[Detections], pts_T: Seconds, *, layout: str | None, frames_THW3: Pixels
    ) -> Tracks:
        """See :meth:`posecap.interfaces.Tracker.track`; boxes, scores and joints are those of the detections."""
        live: list[_Track] = []
        closed: list[_Track] = []
        for t, found in enumerate(detections):
            if t:
                for track in live:
                    _predict(track, float(pts_T[t] - pts_T[t - 1]))
            high = [i for i, s in enumerate(found.scores_N) if s >= self.track_high_thresh]
            low = [i for i, s in enumerate(found.scores_N) if self.track_low_thresh <= s < self.track_high_thresh]
            unmatched = self._match(live, high, found, t, self.likeness)
            left = [track for track in live if t not in track.seen]
            self._match(left, low, found, t, self.doubtful_likeness)
            live += [_start(found, i, t) for i in unmatched]
            closed += [k for k in live if pts_T[t] - pts_T[k.last] > self.track_buffer_seconds]
            live = [k for k in live if pts_T[t] - pts_T[k.last] <= self.track_buffer_seconds]
        found_tracks = closed + live
        if self.follow_back == "yes":
            self._follow_back(found_tracks, detections, pts_T)
        people = [k for k in self._join(found_tracks, detections, pts_T) if len(k.seen) >= self.fewest_frames]
        # Who is seen longest comes first; the rest of the key makes the order independent of how tracks were made.
        people.sort(key=lambda k: (-len(k.seen), k.first, min(k.seen.values())))
        return tracks_of([{t: i for t, (i, _) in k.seen.items()} for k in people], detections, layout)

    def _match(self, tracks: list[_Track], candidates: list[int], found: Detections, t: int, least: float) -> list[int]:
        """Match detections of frame ``t``, given by index, to tracks; returns those that no track was matched with."""
        if not tracks or not candidates:
            return candidates
        like_KN = np.array([[_likeness(track, found, i) for i in candidates] for track in tracks])
        pairs = assign(like_KN, least=least)
        for a, b in pairs:
            _update(tracks[a], found, candidates[b], t)
        taken = {b for _, b in pairs}
        return [i for b, i in enumerate(candidates) if b not in taken]

    def _follow_back(self, tracks: list[_Track], detections: Sequence[Detections], pts_T: Seconds) -> None:
        """Add to each track the earlier detections that no track has and that are like it, from its first one on."""
        taken = {(t, i) for track in tracks for t, (i, _) in track.seen.items()}
        begins: dict[int, list[_Track]] = {}
        for track in tracks:
            begins.setdefault(track.first, []).append(track)
        live: list[tuple[_Track, _Track]] = []  # each track with one that begins where it does and runs backwards
        for t in range(len(detections) - 1, -1, -1):
            found = detections[t]
            if t + 1 < len(detections):
                for _, back in live:
                    _predict(back, float(pts_T[t + 1] - pts_T[t]))
            free = [i for i, s in enumerate(found.scores_N) if s >= self.track_low_thresh and (t, i) not in taken]
            self._match([back for _, back in live], free, found, t, self.doubtful_likeness)
            live = [(k, back) for k, back in live if pts_T[back.first] - pts_T[t] <= self.track_buffer_seconds]
            for track, back in live:
                if t in back.seen:
                    track.seen[t] = back.seen[t]
            live += [(track, _start(found, track.seen[t][0], t)) for track in begins.get(t, ())]

    def _join(self, tracks: list[_Track], detections: Sequence[Detections], pts_T: Seconds) -> list[_Track]:
        """Join broken tracks, nearest pair first, until no pair fits."""
        tracks = sorted(tracks, key=lambda k: (k.first, k.last))
        while True:
            best: tuple[float, int, int] | None = None
            for a, before in enumerate(tracks):
                for b, after in enumerate(tracks):
                    gap = pts_T[after.first] - pts_T[before.last]
                    if a == b or not 0 < gap <= self.join_seconds:
                        continue
                    miss = _miss(before, after, detections, pts_T)
                    if miss <= self.join_distance and (best is None or miss < best[0]):
                        best = (miss, a, b)
            if best is None:
                return tracks
            _, a, b = best
            tracks[a].seen.update(tracks[b].seen)
            del tracks[b]


def assign(like_KN: Doubles, *, least: float) -> list[tuple[int, int]]:
    """Pairs (track, detection) with the largest sum of ``likeness - least``, of those that are at least so like.

    A pair that is refused afterwards may have cost another its match: somebody who comes in beside two people would
    shift both identities. So pairs below ``least`` count as no match while the assignment is solved. This is the
    ``cost_limit`` of ``lap.lapjv``, with which ByteTrack is published: each side left alone costs half of the limit.

    Args:
        like_KN: (K, N) likeness of each track to each detection.
    """
    from scipy.optimize import linear_sum_assignment

    gain_KN = np.maximum(like_KN - least, 0.0)
    return [(int(a), int(b)) for a, b in zip(*linear_sum_assignment(-gain_KN), strict=True) if like_KN[a, b] >= least]


def _start(found: Detections, i: int, t: int) -> _Track:
    """A track that begins with detection ``i`` of frame ``t``."""
    centre_size = _centre_size(found.boxes_N4[i])
    height = centre_size[3]
    # Standard deviations: a tenth of the height for position and size, a height per second for their unknown speeds.
    covariance = np.diag(np.square(np.repeat([0.1 * height, height], 4)))
    joints = None if found.joints_NJ3 is None else found.joints_NJ3[i]
    return _Track(np.concatenate([centre_size, np.zeros(4)]), covariance, {t: (i, float(found.scores_N[i]))}, joints)


def _predict(track: _Track, seconds: float) -> None:
    """Move the track's state on by so many seconds, at constant velocity."""
    step = np.eye(8)
    step[:4, 4:] = np.eye(4) * seconds
    height = max(track.mean[3], 1.0)
    # Standard deviations for this step: half a body height per second of position beside the predicted motion, and one
    # body height per second, each second, of speed. Our choice by what people can do, as are the deviations in _start.
    noise = np.diag(np.square(np.repeat([0.5 * height * seconds, 1.0 * height * seconds], 4)))
    track.mean = step @ track.mean
    track.covariance = step @ track.covariance @ step.T + noise


def _update(track: _Track, found: Detections, i: int, t: int) -> None:
    """Continue the track with detection ``i`` of frame ``t``."""
    height = max(track.mean[3], 1.0)
    # A box is measured to a twentieth of the height, the standard deviation of the published tracker.
    observed = track.covariance[:4, :4] + np.eye(4) * (0.05 * height) ** 2
    gain = np.linalg.solve(observed, track.covariance[:4, :]).T
    track.mean = track.mean + gain @ (_centre_size(found.boxes_N4[i]) - track.mean[:4])
    track.covariance = track.covariance - gain @ track.covariance[:4, :]
    track.seen[t] = (i, float(found.scores_N[i]))
    track.joints = None if found.joints_NJ3 is None else found.joints_NJ3[i]


def _likeness(track: _Track, found: Detections, i: int) -> float:
    """Of detection ``i`` to the track, in [0, 1], as the module describes it."""
    overlap = box_iou(track.box, found.boxes_N4[i])
    if track.joints is None or found.joints_NJ3 is None:
        return overlap
    return 0.5 * overlap + 0.5 * similarity(found.joints_NJ3[i], track.joints, track.box.astype(np.float32))


def _miss(before: _Track, after: _Track, detections: Sequence[Detections], pts_T: Seconds) -> float:
    """How far ``after`` begins from where ``before`` was heading; see ``join_distance``."""
    # The velocity is that over the last five frames that see the person: fewer would follow the boxes' tremble.
    ends = sorted(before.seen)[-5:]
    boxes = np.array([_centre_size(detections[t].boxes_N4[before.seen[t][0]]) for t in ends])
    times = pts_T[ends]
    speed = (boxes[-1, :2] - boxes[0, :2]) / (times[-1] - times[0]) if len(ends) > 1 else np.zeros(2)
    begin = _centre_size(detections[after.first].boxes_N4[after.seen[after.first][0]])
    gap = pts_T[after.first] - times[-1]
    # Over a long gap the velocity predicts little, so that a person who stopped is taken into account as well.
    misses = [np.linalg.norm(boxes[-1, :2] + v * gap - begin[:2]) for v in (speed, np.zeros(2))]
    size_change = abs(np.log(max(begin[3], 1.0) / max(boxes[-1, 3], 1.0)))
    return float(min(misses) / max(boxes[-1, 3], 1.0) + size_change)


def _centre_size(box: Floats) -> Doubles:
    """(x, y, width, height) of a box (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = box.astype(np.float64)
    return np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0])
