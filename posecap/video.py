"""Decoding helpers: a frame buffer, a frame rate limiter, shot detection, and timestamps of partial files."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posecap.interfaces import Decoder, Frames
from posecap.types import Media, Pixels, Span

_COLUMNS, _ROWS = 32, 18
"""Size of a thumbnail, in cells. Our choice: square ones in pictures of 16:9."""
_SAMPLES = 4
"""Pixels sampled per thumbnail cell and axis: one alone would depend on fine texture, all would cost more."""
_LUMA = np.array([77, 150, 29], np.uint32)
"""BT.601 weights in 1/256: grey levels are integers, identical on every machine."""


class FrameBuffer:
    """A queue of decoded frames of one size with their timestamps; frames leave in the order in which they came.

    An empty one has no first or last timestamp, and no more frames can be dropped or popped than it has: IndexError.
    """

    def __init__(self) -> None:
        self._frames: deque[tuple[Pixels, float, bool]] = deque()

    def __len__(self) -> int:
        return len(self._frames)

    def append(self, frame_HW3: Pixels, pts: float, *, deinterlaced: bool = False) -> None:
        """Append one frame, uint8 RGB, with its timestamp in seconds."""
        self._frames.append((frame_HW3, pts, deinterlaced))

    @property
    def first_pts(self) -> float:
        """Timestamp of the first frame, seconds."""
        return self._frames[0][1]

    @property
    def last_pts(self) -> float:
        """Timestamp of the last frame, seconds."""
        return self._frames[-1][1]

    @property
    def pts(self) -> list[float]:
        """Timestamps of all frames, seconds."""
        return [pts for _, pts, _ in self._frames]

    def drop(self, count: int) -> None:
        """Discard the first ``count`` frames."""
        for _ in range(count):
            self._frames.popleft()

    def pop(self, count: int) -> Frames:
        """Remove and return the first ``count`` frames. Each is released once copied, so that beside the clip
        little more is held than the decoder's blocks that its last frames are part of.
        """
        frames, pts = np.empty((count, *self._frames[0][0].shape), np.uint8), np.empty(count)
        deinterlaced = np.empty(count, np.bool_)
        for index in range(count):
            frames[index], pts[index], deinterlaced[index] = self._frames.popleft()
        return Frames(frames, pts, deinterlaced)


class FrameRateLimiter:
    """Selects frames evenly in time so that on average at most ``fps_at_most`` per second remain.

    Frames that come a period or more after one another are all kept, and the first frame is always kept. A frame that
    comes a little early is kept too: the tolerance is 7 % of a period, since containers round timestamps (Matroska to
    milliseconds: 3 % at 60 fps, for this frame and for the one that the period is counted from).
    """

    _TOLERANCE = 0.07

    def __init__(self, fps_at_most: float) -> None:
        self._period = 1 / fps_at_most
        self._due = float("-inf")

    def keeps(self, pts: float) -> bool:
        """Whether to keep the frame at ``pts`` seconds. Call it once per frame, in order."""
        if pts < self._due - self._period * self._TOLERANCE:
            return False
        # Counted from when this frame was due rather than from its own time, so that errors do not accumulate.
        late = pts - self._due >= self._period
        self._due = (pts if late else self._due) + self._period
        return True


def displayed_size(width: int, height: int, sample_aspect_ratio: Fraction, rotation_degrees: int) -> tuple[int, int]:
    """(width, height) in square pixels, as a player shows a picture that is stored with ``width`` times ``height``.

    The stored width is multiplied by the sample aspect ratio and the height kept, as FFmpeg reckons it; then the
    picture is turned.
    """
    shown = max(1, round(width * sample_aspect_ratio))
    return (height, shown) if rotation_degrees % 180 else (shown, height)


_SAME_RATE_FRAMES = 0.07
"""By how many frames a count may differ from what a stated rate gives over the same time, and the rate still be right.
Containers round times: Matroska to milliseconds, which at 60 a second is 0.06 frames."""


def frame_rate(frames: int, seconds: float, *, stated: float) -> float:
    """Frames per second of ``frames`` frames of which the last begins ``seconds`` after the first.

    It is ``stated``, a rate known otherwise (0 for none), where the two agree but for the rounding of times, or where
    there are too few frames to tell.
    """
    if frames < 2 or seconds <= 0 or abs(seconds * stated - (frames - 1)) <= _SAME_RATE_FRAMES:
        return stated
    return round((frames - 1) / seconds, 6)


def working_size(media: Media, long_side: int) -> tuple[int, int]:
    """(width, height) of decoded frames: both even, the longer side at most ``long_side`` pixels and never enlarged.

    Proportions are kept up to the rounding to even numbers. An odd ``long_side`` may be exceeded by one pixel, and a
    side is 2 pixels at least.
    """
    scale = min(1.0, long_side / max(media.width, media.height))
    width, height = (max(2, min(2 * round(side * scale / 2), side - side % 2)) for side in (media.width, media.height))
    return width, height


def thumbnails(frames_THW3: Pixels) -> NDArray[np.uint32]:
    """(T, 18, 32) uint32: mean grey of each cell, in 1/4096 grey levels, from 4x4 pixels per cell."""
    height, width = frames_THW3.shape[1:3]
    rows, columns = _grid(_ROWS, height), _grid(_COLUMNS, width)
    # Whole lines are added before columns are picked, and colours are weighed last: most of the work is then on
    # contiguous memory, in 16 bits, which hold the sum of 16 samples.
    lines = frames_THW3[:, rows[::_SAMPLES]].astype(np.uint16)
    for i in range(1, _SAMPLES):
        lines += frames_THW3[:, rows[i::_SAMPLES]]
    cells = lines[:, :, columns[::_SAMPLES]]
    for i in range(1, _SAMPLES):
        cells += lines[:, :, columns[i::_SAMPLES]]
    grey: NDArray[np.uint32] = cells.astype(np.uint32) @ _LUMA
    return grey


def _grid(cells: int, pixels: int) -> NDArray[np.intp]:
    """Positions of ``cells`` x 4 samples spread evenly over ``pixels``."""
    samples = cells * _SAMPLES
    return ((2 * np.arange(samples) + 1) * pixels // (2 * samples)).astype(np.intp)


class ShotDetector:
    """Detects hard cuts as large differences between thumbnails of consecutive frames.

    Frames are given in consecutive blocks of any size, which do not affect the result. ``threshold`` is that of
    :class:`posecap.types.ShotRule`. Dissolves and fades are not detected.
    """

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._last: NDArray[np.uint32] | None = None

    def begins(self, frames_THW3: Pixels) -> NDArray[np.bool_]:
        """(T,) True where a frame starts a new shot; False for the first frame of the first block."""
        seen = thumbnails(frames_THW3)
        before = seen[:1] if self._last is None else self._last[None]
        chain = np.concatenate([before, seen]).astype(np.int64)
        self._last = seen[-1] if len(seen) else self._last
        # Integers up to here, so the comparison does not depend on the order of summation.
        jump = np.abs(np.diff(chain, axis=0)).sum(axis=(1, 2))
        # The sum over all cells, in units of thumbnails: 256 * 16 of them are a grey level.
        return np.asarray(jump > self._threshold * 256 * _SAMPLES**2 * _ROWS * _COLUMNS)


def shift_media(media: Media, begins_seconds: float) -> Media:
    """``media`` of a file that holds a part of a video, with the times in it those of the whole video.

    Args:
        begins_seconds: where in the whole video the file begins.
    """
    if not begins_seconds:
        return media
    return replace(
        media,
        seconds=None if media.seconds is None else media.seconds + begins_seconds,
        starts_seconds=media.starts_seconds + begins_seconds,
        joins=tuple(join + begins_seconds for join in media.joins),
    )


def decode_span(
    decoder: Decoder,
    path: Path,
    media: Media,
    *,
    begins_seconds: float,
    span: Span | None,
    size: tuple[int, int],
) -> Iterator[Frames]:
    """:meth:`posecap.interfaces.Decoder.frames` with ``span`` and timestamps in the whole video's time.

    Args:
        media: of the file, as its container states it.
        begins_seconds: where in the whole video the file begins.
        span: in the whole video; None for all of the file.
    """
    if not begins_seconds:
        yield from decoder.frames(path, media, span=span, size=size)
        return
    if span is not None:
        if span.end_seconds <= begins_seconds:
            return
        span = Span(max(0.0, span.start_seconds - begins_seconds), span.end_seconds - begins_seconds)
    for block in decoder.frames(path, media, span=span, size=size):
        damaged = tuple(pts + begins_seconds for pts in block.damaged)
        yield replace(block, pts_T=block.pts_T + begins_seconds, damaged=damaged)
