"""Converts a clip's joints to the dataset's layout and measures their quality."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from posecap.joints import LAYOUTS, LayoutError, convert
from posecap.skeletons import measure
from posecap.stage import Stage
from posecap.types import PosedClip, SkeletonClip


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
