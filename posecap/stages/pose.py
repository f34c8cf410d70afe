"""From frames to skeletons: tracks the people of a clip, estimates their joints, and converts these to one layout."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from posecap.interfaces import Detector, PoseEstimator, Tracker
from posecap.joints import LAYOUTS, LayoutError, convert
from posecap.skeletons import measure
from posecap.stage import PermanentError, Reject, Stage
from posecap.types import Clip, Floats, Picture, PosedClip, SkeletonClip, TrackedClip, Tracks

_PICTURE_SIDE = 320
"""Pixels of a picture's longer side: a tile of a contact sheet (:mod:`posecap.visualization.contact_sheet`)."""
_JPEG_QUALITY = 85
"""0 to 95 in Pillow (75 by default). Our choice, that of thumbnails (:mod:`posecap.stages.pack`)."""


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
        frames_THW3 = np.asarray(item.frames_THW3)
        found = self.detector.detect(frames_THW3)
        tracks = self.tracker.track(found, item.pts_T, layout=self.detector.layout, frames_THW3=frames_THW3)
        if tracks.people == 0:
            raise Reject("no_person_found", f"nobody was tracked in {item.frame_count} frames by {self.detector.name}")
        yield item.extend(
            TrackedClip,
            tracks=_to_source_pixels(tracks, item.source_per_working),
            detector=self.detector.name,
            tracker=self.tracker.name,
        )


def _to_source_pixels(tracks: Tracks, source_per_working: tuple[float, float]) -> Tracks:
    """Boxes and joints in pixels of the source video instead of the decoded frames; the factors are for x and y."""
    x, y = source_per_working
    joints: Floats | None = None
    if tracks.joints_MTJ3 is not None:
        joints = tracks.joints_MTJ3 * np.array([x, y, 1], np.float32)
    return replace(tracks, boxes_MT4=tracks.boxes_MT4 * np.array([x, y, x, y], np.float32), joints_MTJ3=joints)


@dataclass(frozen=True)
class Pose(Stage):
    """Joints from ``estimator``; ``"detector"`` keeps those that a single-stage detector found with its boxes.

    It also makes the clip's :class:`~posecap.types.Picture`, of at most 320 pixels: with it a preview can be drawn of
    whomever later stages keep, without the video.

    Raises:
        PermanentError: ``no_joints``, for every clip, where ``estimator`` is ``"detector"`` and that gives boxes only.
    """

    name: ClassVar[str] = "pose"
    takes: ClassVar[type] = TrackedClip
    gives: ClassVar[type] = PosedClip

    estimator: PoseEstimator | Literal["detector"] = "detector"

    def __call__(self, item: TrackedClip) -> Iterator[PosedClip]:
        joints, layout, model = self._joints(item)
        yield item.extend(
            PosedClip, joints_MTJ3=joints, layout=layout, pose_model=model, picture=_picture(item, joints)
        )

    def _joints(self, item: TrackedClip) -> tuple[Floats, str, str]:
        """(M, T, J, 3) joints in pixels of the source video, their layout, and the name of the engine they are from."""
        if self.estimator == "detector":
            if item.tracks.joints_MTJ3 is None or item.tracks.layout is None:
                raise PermanentError(
                    "no_joints", "the detector gives boxes only: name a pose estimator in Pose(estimator=…)"
                )
            return item.tracks.joints_MTJ3, item.tracks.layout, item.detector
        x, y = item.source_per_working
        of_boxes, of_joints = np.array([x, y, x, y], np.float32), np.array([x, y, 1], np.float32)
        found = item.tracks.joints_MTJ3
        tracks = replace(
            item.tracks,
            boxes_MT4=item.tracks.boxes_MT4 / of_boxes,
            joints_MTJ3=None if found is None else found / of_joints,
        )
        working = self.estimator.estimate(np.asarray(item.frames_THW3), tracks)
        return working * of_joints, self.estimator.layout, self.estimator.name


def fullest_frame_of_all(joints_MTJ3: Floats) -> int:
    """The frame in which most joints are seen, where each person's count as often as they are seen in the whole clip;
    the most central one if several.

    So it is one that shows those who are most likely kept, whatever is chosen later.
    """
    seen_MT = (joints_MTJ3[..., 2] > 0).sum(-1)
    seen_T = (seen_MT * seen_MT.sum(1, keepdims=True)).sum(0)
    from_middle_T = np.abs(np.arange(len(seen_T)) - len(seen_T) // 2)
    return int(np.lexsort((from_middle_T, -seen_T))[0])


def _picture(item: TrackedClip, joints_MTJ3: Floats) -> Picture:
    """The clip's picture: the frame of :func:`fullest_frame_of_all`, no larger than :data:`_PICTURE_SIDE`."""
    from PIL import Image

    best = fullest_frame_of_all(joints_MTJ3)
    image = Image.fromarray(np.asarray(item.frames_THW3[best]))
    image.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=_JPEG_QUALITY)
    return Picture(best, jpeg.getvalue())


@dataclass(frozen=True, kw_only=True)
class Skeleton(Stage):
    """Converts joints to ``layout`` (:func:`posecap.joints.convert`) and measures them there.

    Args:
        layout: a name in :data:`posecap.joints.LAYOUTS`.
        joint_score: joints that score less become missing, (0, 0, 0), before the conversion, so that no joint
            is derived from one of them. 0 keeps every joint with its score.

    Raises:
        LayoutError: unknown layout; or, on a clip, no exact map from the clip's layout.
        ValueError: ``joint_score`` is not in [0, 1].
    """

    name: ClassVar[str] = "skeleton"
    takes: ClassVar[type] = PosedClip
    gives: ClassVar[type] = SkeletonClip
    row_fields: ClassVar[tuple[str, ...] | None] = ()

    layout: str = "coco17"
    joint_score: float = 0.0

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise LayoutError(f"skeleton: unknown layout {self.layout!r}; known: {', '.join(LAYOUTS)}")
        if not 0 <= self.joint_score <= 1:
            raise ValueError(f"skeleton: joint_score is {self.joint_score}; it lies between 0 and 1")

    def __call__(self, item: PosedClip) -> Iterator[SkeletonClip]:
        clear = item.joints_MTJ3[..., 2:] >= self.joint_score
        joints_MTJ3 = np.where(clear, item.joints_MTJ3, np.float32(0))
        converted = convert(joints_MTJ3, source=item.layout, target=self.layout)
        yield item.extend(
            SkeletonClip,
            joints_MTJ3=converted,
            layout=self.layout,
            quality=measure(converted, item.pts_T, self.layout),
        )
