"""Frames in hand: what has been decoded of a clip that has not ended yet."""

from __future__ import annotations

from collections import deque

import numpy as np

from posecap.ports import Frames
from posecap.types import Media, Pixels


class Take:
    """Frames collected one by one and handed out from the front, never held twice."""

    def __init__(self) -> None:
        self._frames: deque[Pixels] = deque()
        self._pts: deque[float] = deque()

    def __len__(self) -> int:
        return len(self._pts)

    def add(self, frame_HW3: Pixels, pts: float) -> None:
        """Append one frame, shown at ``pts`` seconds."""
        self._frames.append(frame_HW3)
        self._pts.append(pts)

    @property
    def first(self) -> float:
        """When the first frame is shown, seconds."""
        return self._pts[0]

    @property
    def last(self) -> float:
        """When the last frame is shown, seconds."""
        return self._pts[-1]

    @property
    def pts(self) -> list[float]:
        """When each frame is shown, seconds."""
        return list(self._pts)

    def leave_out(self, count: int) -> None:
        """Let go of the first ``count`` frames."""
        for _ in range(count):
            self._frames.popleft()
            self._pts.popleft()

    def hand_out(self, count: int) -> Frames:
        """The first ``count`` frames as arrays. Each is let go as soon as it is copied: the peak is one clip."""
        frames = np.empty((count, *self._frames[0].shape), np.uint8)
        for index in range(count):
            frames[index] = self._frames.popleft()
        return Frames(frames, np.array([self._pts.popleft() for _ in range(count)], np.float64))


class Thinner:
    """Drops frames of fast footage, evenly in time, so that at most ``fps_at_most`` a second remain.

    Footage at or below that rate keeps every frame: 7 % of a period is forgiven, since containers round their
    times (Matroska to milliseconds, 3 % at 60 frames a second, for this frame and for the one it is counted from).
    """

    _FORGIVEN = 0.07

    def __init__(self, fps_at_most: float) -> None:
        self._period = 1 / fps_at_most
        self._due = float("-inf")

    def keeps(self, pts: float) -> bool:
        """Whether the frame shown at ``pts`` seconds stays; asked of every frame once, in order."""
        if pts < self._due - self._period * self._FORGIVEN:
            return False
        # Counted on from the moment that was due, not from this frame, so that errors do not add up.
        late = pts - self._due >= self._period
        self._due = (pts if late else self._due) + self._period
        return True


def working_size(media: Media, long_side: int) -> tuple[int, int]:
    """(width, height) of decoded frames: the longer side at most ``long_side``, even numbers, never enlarged."""
    scale = min(1.0, long_side / max(media.width, media.height))
    width, height = (max(2, min(2 * round(side * scale / 2), side - side % 2)) for side in (media.width, media.height))
    return width, height
