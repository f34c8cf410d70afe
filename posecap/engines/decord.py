"""Decodes with Decord the files that it is known to read correctly."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from posecap.interfaces import DecoderGaveUpError, Frames
from posecap.stage import Engine
from posecap.types import Media, Seconds, Span
from posecap.video_file import CHECKED_SIDE_AT_MOST, fault_of_next, opened, soundness

_MOST_FRAMES = 2_000_000
"""Nine hours at 60 a second; Decord makes room for as many at once."""


@dataclass(frozen=True)
class Decord(Engine):
    """Reads constant-rate files from their first frame on, on one thread, and leaves the rest to the next decoder.

    Decord 0.6.0 was checked frame by frame against PyAV, and eight of its faults are avoided:

    * Seeking gives frames two or three too late where frames are shown before their keyframe (open GOPs, MPEG-4 and
      MPEG-2 with B frames), and fails in HEVC. So this engine never seeks: it gives up a span that begins later than
      ``reads_over_seconds``.
    * Its times are in single precision, and wrong where a container lacks presentation times. So they only have to
      confirm a constant frame rate, from which exact times follow; any other file is given up.
    * It makes room for as many frames as a container states, or as its duration would hold, at once, and the process
      ends where memory does not have it. So files that state millions, or neither, are not read.
    * It turns pictures as the container says, and mirrors none. So a file with mirrored frames, or with frames that say
      themselves how to turn them, is not accepted.
    * It says nothing of damage, and gives smeared frames for sound ones; nor does it say which are interlaced. So the
      same packets go through PyAV first, which makes no pictures of them (less than Decord's own time): a file of which
      one frame is damaged, interlaced, missing or shown at another time is given up.
    * It decodes ahead in a thread of its own, however far it gets, and reports damage that it meets there: or not,
      as the threads happen to run. So the whole file is looked at before it begins, and a span that ends more than
      ``reads_over_seconds`` before the video does is given up.
    * It takes a stream of its own choice. So a file with several videos is not accepted.
    * VP9 fails by a race condition, AV1 does not open, MPEG-TS gives wrong pictures. So only ``codecs`` in
      ``containers`` (FFmpeg's names, as in :class:`posecap.types.Media`) are accepted.

    To give up means :class:`posecap.interfaces.DecoderGaveUpError`, after which the stage's next decoder is asked.
    Where Decord is not installed, no file is accepted.

    Args:
        codecs, containers: what is accepted, a file only if both of its own are named.
        reads_over_seconds: a span may begin this late, and end this long before the video; what comes before it is
            decoded too, and left out. Our choice: what most spans of short videos keep to, at the price of two
            seconds' decoding.
        block_frames: frames per block. Our choice: 32 frames of 640 x 360 take 22 MB.

    Raises:
        ValueError: a number is out of its range.
    """

    name: ClassVar[str] = "decord"
    packages: ClassVar[tuple[str, ...]] = ("decord",)
    thread_safe: ClassVar[bool] = True

    codecs: tuple[str, ...] = ("h264", "mpeg4", "msmpeg4v2", "msmpeg4v3", "mjpeg")
    containers: tuple[str, ...] = ("mov,mp4,m4a,3gp,3g2,mj2", "avi")
    reads_over_seconds: float = 2.0
    block_frames: int = 32

    def __post_init__(self) -> None:
        if self.block_frames < 1 or self.reads_over_seconds < 0:
            raise ValueError(
                f"Decord: block_frames is {self.block_frames} and reads_over_seconds {self.reads_over_seconds:g}; "
                "needs block_frames >= 1 and reads_over_seconds >= 0"
            )

    def load(self) -> None:
        """Load the library, where it is installed, and keep it from writing to stderr."""
        if find_spec("decord"):
            _library()

    def accepts(self, media: Media) -> bool:
        """Whether the file is of a kind that Decord reads correctly, by what the prober found, and Decord is here."""
        known = (
            media.codec in self.codecs
            and media.container in self.containers
            and media.video_streams == 1
            and not (media.interlaced or media.mirrored or media.turned_by_frames)
        )
        frames = media.frame_count or (media.seconds or math.inf) * media.fps
        return known and media.fps > 0 and frames <= _MOST_FRAMES and find_spec("decord") is not None

    def frames(self, path: Path, media: Media, *, span: Span | None, size: tuple[int, int]) -> Iterator[Frames]:
        """Blocks of ``block_frames`` frames; see :class:`posecap.interfaces.Decoder`.

        Raises:
            DecoderGaveUpError: late span, variable rate, damage, or anything that Decord cannot read.
            Reject: ``undecodable``: PyAV cannot open the file.
            PermanentError: ``decode_timeout``.
        """
        if span is not None and span.start_seconds > self.reads_over_seconds:
            raise DecoderGaveUpError("the span begins too late to be reached without seeking")
        if _stated_frames(path) > _MOST_FRAMES:
            raise DecoderGaveUpError("the container states more frames than there can be")
        decord = _library()
        try:
            reader = decord.VideoReader(str(path), ctx=decord.cpu(0), width=size[0], height=size[1], num_threads=1)
            clock_T = np.asarray(reader.get_frame_timestamp(range(len(reader))))[:, 0]
            pts_T = media.starts_seconds + _exact(clock_T, media.fps)
            if span is not None and pts_T[-1] - span.end_seconds > self.reads_over_seconds:
                raise DecoderGaveUpError("too much of the video follows the span")
            _check(path, pts_T, block_frames=self.block_frames)
            for first in range(0, len(pts_T), self.block_frames):
                pts = pts_T[first : first + self.block_frames]
                wanted = np.array([span is None or span.holds(t) for t in pts.tolist()])
                if span is not None and pts[0] >= span.end_seconds:
                    return
                frames = reader.get_batch(range(first, first + len(pts))).asnumpy()
                if wanted.any():
                    yield Frames(frames if wanted.all() else frames[wanted], pts[wanted])
        except (decord.DECORDError, RuntimeError, LookupError) as error:  # LookupError where it finds no frame at all
            # Decord's own message holds times of day and addresses, which differ from run to run.
            raise DecoderGaveUpError("the stream cannot be read") from error


def _stated_frames(path: Path) -> float:
    """How many frames Decord makes room for: those that the container states, or as its duration would hold. The prober
    may say less, as it counts what is there where the container cannot be right.
    """
    with opened(path, side_at_most=CHECKED_SIDE_AT_MOST) as file:
        seconds = float((file.stream.duration or 0) * file.unit) or (file.container.duration or 0) / 1e6
        return max(file.stream.frames or 0, seconds * file.fps)


def _check(path: Path, pts_T: Seconds, *, block_frames: int) -> None:
    """Compare all frames that PyAV decodes with those that Decord would give, at ``pts_T``.

    Raises:
        DecoderGaveUpError: they are not the same, or not sound.
        Reject, PermanentError: as :meth:`Decord.frames`.
    """
    with soundness(path) as reading:
        checked = reading.since(0.0)
        for number, pts in enumerate(pts_T.tolist()):
            if fault := fault_of_next(checked, pts, reading.size):
                raise DecoderGaveUpError(fault)
            if number % block_frames == 0:
                reading.restart_clock()


def _exact(clock_T: Seconds, fps: float) -> Seconds:
    """Times from the first frame on in double precision, from a clock that only has to agree with a constant rate.
    Raises DecoderGaveUpError where it does not."""
    pts_T = np.arange(len(clock_T)) / fps
    # Two units in the last place of single precision, and less than the finest usual clock, 1/90,000 s.
    if len(clock_T) == 0 or not np.allclose(clock_T, pts_T, rtol=2.5e-7, atol=1e-5):
        raise DecoderGaveUpError("its frame times do not follow one constant rate")
    return pts_T


def _library() -> Any:
    """Decord, set to write nothing. Raises ModuleNotFoundError where it is not installed."""
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    return decord
