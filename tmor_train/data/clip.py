"""One clip of moving people."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from posecap.joints import LAYOUTS, LayoutError
from tmor_train.data.flat import Floats

NOT_KNOWN = -1
"""What stands for a subject, camera, label or row that is not known."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip as it is: ``joints_MTJC`` float32, people x frames x joints x (x, y, score) or (x, y, z, score).

    Two coordinates are pixels of a picture of ``width`` and ``height``. Three are metres as a camera sees them: x to
    the right, y down, z away from it. A joint that was not seen has the score 0. ``fps`` is 0 where unknown.
    """

    key: str
    joints_MTJC: Floats = field(repr=False)
    layout: str
    fps: float = 0.0
    width: float = 0.0
    height: float = 0.0
    label: str | None = None
    captions: tuple[str, ...] = ()
    split: str = "train"
    subject: int = NOT_KNOWN
    camera: int = NOT_KNOWN

    def __post_init__(self) -> None:
        shape = self.joints_MTJC.shape
        joints = len(LAYOUTS[self.layout].names) if self.layout in LAYOUTS else None
        if len(shape) != 4 or shape[2] != joints or shape[3] not in (3, 4) or not shape[0] or not shape[1]:
            raise LayoutError(f"clip {self.key}: joints {shape} are not (M, T, {joints}, 3 or 4) of {self.layout!r}")
        if shape[3] == 3 and not (self.width > 0 and self.height > 0):
            raise LayoutError(f"clip {self.key}: joints in pixels need the width and height of their picture")
        if self.joints_MTJC.dtype != np.float32 or not np.isfinite(self.joints_MTJC).all():
            raise LayoutError(f"clip {self.key}: joints are to be finite float32")
