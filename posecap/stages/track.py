"""Detects and tracks the people of a clip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from posecap.interfaces import Detector, Tracker
from posecap.stage import Reject, Stage
from posecap.types import Clip, Floats, TrackedClip, Tracks


@dataclass(frozen=True)
class Track(Stage):
    """Detects people frame by frame and joins them into tracks.

    Rejects with ``no_person_found`` when no person is tracked; people whom the detector misses may be there.
    """

    name: ClassVar[str] = "track"
    takes: ClassVar[type] = Clip
    gives: ClassVar[type] = TrackedClip

    detector: Detector
    tracker: Tracker

    def __call__(self, item: Clip) -> Iterator[TrackedClip]:
        found = self.detector.detect(item.frames_THW3)
        tracks = self.tracker.track(found, item.pts_T, layout=self.detector.layout, frames_THW3=item.frames_THW3)
        if tracks.people == 0:
            raise Reject("no_person_found", f"nobody was tracked in {item.frame_count} frames by {self.detector.name}")
        yield item.extend(
            TrackedClip,
            tracks=_to_source_pixels(tracks, item.source_per_working),
            detector=self.detector.name,
            tracker=self.tracker.name,
        )


def _to_source_pixels(tracks: Tracks, source_per_working: tuple[float, float]) -> Tracks:
    x, y = source_per_working
    joints: Floats | None = None
    if tracks.joints_MTJ3 is not None:
        joints = tracks.joints_MTJ3 * np.array([x, y, 1], np.float32)
    return replace(tracks, boxes_MT4=tracks.boxes_MT4 * np.array([x, y, x, y], np.float32), joints_MTJ3=joints)
