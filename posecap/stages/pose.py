"""Estimates the joints of every tracked person."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np

from posecap.interfaces import PoseEstimator
from posecap.stage import PermanentError, Stage
from posecap.types import Floats, PosedClip, TrackedClip


@dataclass(frozen=True)
class Pose(Stage):
    """Joints from ``estimator``; ``"detector"`` keeps those that a single-stage detector found with its boxes.

    Raises:
        PermanentError: ``no_joints``, for every clip, when these are asked for and the detector gives boxes only.
    """

    name: ClassVar[str] = "pose"
    takes: ClassVar[type] = TrackedClip
    gives: ClassVar[type] = PosedClip

    estimator: PoseEstimator | Literal["detector"] = "detector"

    def __call__(self, item: TrackedClip) -> Iterator[PosedClip]:
        joints, layout, model = self._joints(item)
        yield item.extend(PosedClip, joints_MTJ3=joints, layout=layout, pose_model=model)

    def _joints(self, item: TrackedClip) -> tuple[Floats, str, str]:
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
        working = self.estimator.estimate(item.frames_THW3, tracks)
        return working * of_joints, self.estimator.layout, self.estimator.name
