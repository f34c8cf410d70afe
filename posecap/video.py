"""Frames in hand: what has been decoded of a clip that has not ended yet."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posecap.interfaces import Decoder, Frames
from posecap.types import Media, Pixels, Span


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


# Where one shot ends and the next begins: a hard cut is a jump between two small grey pictures.


_COLUMNS, _ROWS = 32, 18
_SAMPLES = 4
"""Pixels looked at per thumbnail cell and axis: enough to be calm on texture, few enough to cost nothing."""
_LUMA = np.array([77, 150, 29], np.uint32)
"""BT.601 weights in 1/256, so that grey levels are whole numbers and the same on every machine."""


def thumbnails(frames_THW3: Pixels) -> NDArray[np.uint32]:
    """(T, 18, 32) uint32: mean grey of each cell, in 1/4096 grey levels, from 4x4 pixels per cell."""
    count, height, width = frames_THW3.shape[:3]
    rows, columns = _grid(_ROWS, height), _grid(_COLUMNS, width)
    sampled = frames_THW3[:, rows[:, None], columns[None, :]]
    grey = sampled.astype(np.uint32) @ _LUMA
    cells: NDArray[np.uint32] = grey.reshape(count, _ROWS, _SAMPLES, _COLUMNS, _SAMPLES).sum(
        axis=(2, 4), dtype=np.uint32
    )
    return cells


def _grid(cells: int, pixels: int) -> NDArray[np.intp]:
    """Positions of ``cells`` x 4 samples spread evenly over ``pixels``."""
    samples = cells * _SAMPLES
    return ((2 * np.arange(samples) + 1) * pixels // (2 * samples)).astype(np.intp)


class ShotDetector:
    """Finds hard cuts in frames that come in blocks; the blocks' sizes make no difference.

    ``threshold`` is that of :class:`posecap.types.ShotRule`. Dissolves and fades are not found.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._last: NDArray[np.uint32] | None = None

    def begins(self, frames_THW3: Pixels) -> NDArray[np.bool_]:
        """(T,) True where a frame begins a new shot. The very first frame begins none: nothing precedes it."""
        seen = thumbnails(frames_THW3)
        before = seen[:1] if self._last is None else self._last[None]
        chain = np.concatenate([before, seen]).astype(np.int64)
        self._last = seen[-1] if len(seen) else self._last
        # Whole numbers up to here, so the comparison cannot depend on the order of a sum.
        jump = np.abs(np.diff(chain, axis=0)).sum(axis=(1, 2))
        return np.asarray(jump > self._threshold * 256 * _SAMPLES**2 * _ROWS * _COLUMNS)


# The video's own clock, for files that hold only a stretch of their video.


def on_the_videos_clock(media: Media, begins_seconds: float) -> Media:
    """``media`` with its end told on the clock of the video that the file was taken from."""
    if media.seconds is None or not begins_seconds:
        return media
    return replace(media, seconds=media.seconds + begins_seconds)


def frames_of(
    decoder: Decoder,
    path: Path,
    media: Media,
    *,
    begins_seconds: float,
    span: Span | None,
    size: tuple[int, int],
) -> Iterator[Frames]:
    """What :meth:`posecap.interfaces.Decoder.frames` gives, with ``span`` and times on the video's clock.

    Args:
        media: of the file itself, as its container states it.
        begins_seconds: where on the video's clock the file begins.
    """
    if not begins_seconds:
        yield from decoder.frames(path, media, span=span, size=size)
        return
    if span is not None:
        if span.end_seconds <= begins_seconds:
            return
        span = Span(max(0.0, span.start_seconds - begins_seconds), span.end_seconds - begins_seconds)
    for block in decoder.frames(path, media, span=span, size=size):
        yield Frames(block.frames_THW3, block.pts_T + begins_seconds)
