"""Tracks the people of any detector with ByteTrack or BoT-SORT of the ultralytics package.

Both match by boxes alone. BoT-SORT (Aharon et al., 2022) also compensates for the camera's motion, which it estimates
from background points in two consecutive frames. It is used without its appearance model, so neither of the two has
weights. The package is AGPL-3.0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np

from posecap.inference.package_compat import ensure_ultralytics
from posecap.interfaces import Detections
from posecap.skeletons import tracks_of
from posecap.stage import Engine
from posecap.types import Pixels, Seconds, Tracks


@dataclass(frozen=True)
class _UltralyticsTracker(Engine, ABC):
    """What both trackers share. Scores and overlaps (intersection over union) are in [0, 1].

    Args:
        track_high_thresh: detections with this score or more are matched first.
        track_low_thresh: detections with a higher score, below ``track_high_thresh``, may continue a track that was
            seen in the frame before.
        begin: unmatched detections with this score or more start a track, which counts once a detection of the next
            frame continues it, or at once in a clip's first frame. Both must also reach ``track_high_thresh``, so a
            lower value changes nothing.
        match_cost: highest cost of a match in the first round. The package fixes that of the second, which is by
            overlap alone, at 0.5, and that of continuing a track just started at 0.7.
        cost: what that cost is: 1 - overlap, or 1 - overlap * score.
        track_buffer_seconds: a track that is not seen for longer is closed. The package counts frames; their number
            follows from the clip's frame rate. 1 second is the package's 30 frames at 30 frames a second.
        fewest_frames: tracks seen in fewer frames are dropped.

    Defaults are the package's own (``bytetrack.yaml``, ``botsort.yaml``), but ``fewest_frames``, which it does not
    have: 3 is our choice, against detections that flicker.
    """

    packages: ClassVar[tuple[str, ...]] = ("ultralytics", "lap", "opencv-python")
    extra: ClassVar[str] = "ultralytics"
    modules: ClassVar[tuple[str, ...]] = ("ultralytics", "lap")
    thread_safe: ClassVar[bool] = True  # the package's tracker is made anew for every clip

    track_high_thresh: float = 0.25
    track_low_thresh: float = 0.1
    begin: float = 0.25
    match_cost: float = 0.8
    cost: Literal["overlap", "overlap and score"] = "overlap and score"
    track_buffer_seconds: float = 1.0
    fewest_frames: int = 3

    def load(self) -> None:
        """Import the package. Raises ModuleNotFoundError where it, or ``lap``, is not installed."""
        ensure_ultralytics("lap")

    def track(
        self, detections: Sequence[Detections], pts_T: Seconds, *, layout: str | None, frames_THW3: Pixels
    ) -> Tracks:
        """See :meth:`posecap.interfaces.Tracker.track`; boxes, scores and joints are those of the detections.

        Raises:
            ModuleNotFoundError: the package, or ``lap`` that it matches with, is not installed.
        """
        ensure_ultralytics("lap")
        from ultralytics.engine.results import Boxes

        tracker = self._tracker(self._settings(pts_T))
        seen: dict[int, dict[int, int]] = {}  # track id → frame → detection within that frame
        for t, (found, frame) in enumerate(zip(detections, frames_THW3, strict=True)):
            rows = np.zeros((len(found.scores_N), 6), np.float32)  # box, score, class: all of the same one
            rows[:, :4], rows[:, 4] = found.boxes_N4, found.scores_N
            blue_green_red = np.ascontiguousarray(frame[..., ::-1])
            for *_, identity, _score, _class, index in tracker.update(Boxes(rows, frame.shape[:2]), blue_green_red):
                seen.setdefault(int(identity), {})[t] = int(index)
        people = [track for track in seen.values() if len(track) >= self.fewest_frames]
        people.sort(key=lambda track: (-len(track), min(track)))
        return tracks_of(people, detections, layout)

    def _settings(self, pts_T: Seconds) -> SimpleNamespace:
        """The parameters by the package's own names."""
        interval = float(np.median(np.diff(pts_T))) if len(pts_T) > 1 else self.track_buffer_seconds
        return SimpleNamespace(
            track_high_thresh=self.track_high_thresh,
            track_low_thresh=self.track_low_thresh,
            new_track_thresh=self.begin,
            track_buffer=max(1, round(self.track_buffer_seconds / interval)) if interval > 0 else 1,
            match_thresh=self.match_cost,
            fuse_score=self.cost == "overlap and score",
        )

    @abstractmethod
    def _tracker(self, settings: SimpleNamespace) -> Any:
        """A new tracker of the package."""


@dataclass(frozen=True)
class UltralyticsByteTrack(_UltralyticsTracker):
    """ByteTrack (Zhang et al., ECCV 2022): detections of high score are matched first, then those of low score."""

    name: ClassVar[str] = "ultralytics-bytetrack"

    def _tracker(self, settings: SimpleNamespace) -> Any:
        from ultralytics.trackers.byte_tracker import BYTETracker

        return BYTETracker(settings)


@dataclass(frozen=True)
class UltralyticsBoTSORT(_UltralyticsTracker):
    """BoT-SORT without appearance: as ByteTrack, with width and height instead of aspect and height in the filter's
    state, and with the camera's motion subtracted.

    Args:
        camera: the method that estimates the camera's motion; ``sparseOptFlow`` is the package's default, ``none``
            ignores the camera.
    """

    name: ClassVar[str] = "ultralytics-botsort"

    camera: Literal["sparseOptFlow", "orb", "sift", "ecc", "none"] = "sparseOptFlow"

    def _tracker(self, settings: SimpleNamespace) -> Any:
        from ultralytics.trackers.bot_sort import BOTSORT

        # The package reads both thresholds even where it does not use them.
        appearance = {"with_reid": False, "proximity_thresh": 0.5, "appearance_thresh": 0.8}
        return BOTSORT(SimpleNamespace(**vars(settings), gmc_method=self.camera, **appearance))
