"""Probes and decodes video files with PyAV (FFmpeg's libraries); it accepts every file."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from posecap.inference.video_content import FORMATS
from posecap.interfaces import Frames
from posecap.stage import Engine, PermanentError, Reject
from posecap.types import Media, Pixels, Span

if TYPE_CHECKING:
    from av import VideoFrame
    from av.container import InputContainer
    from av.video.reformatter import VideoReformatter
    from av.video.stream import VideoStream

_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf")
"""Containers that store when each frame is shown. In MPEG streams FFmpeg estimates it after a seek, often wrongly."""
_LONGEST_SECONDS = 7 * 24 * 3600.0
"""A longer duration in a container is taken for an error, and the duration for unknown. A week is a free choice."""
_REORDER = 8
"""How many frames are held back to sort their presentation times: more than encoders move a frame by (x264 by up to 3
unless asked otherwise), and few enough to hold. A stamp displaced by more would lose its frame."""
_LOOK_BACK_SECONDS = (0.0, 1.0, 5.0)
"""How much earlier than wanted to seek; the next one is tried when the first frame found comes too late. Free
choices; after the last one the file is read from its beginning."""


@dataclass(frozen=True)
class PyAV(Engine):
    """Decodes on one thread, so that damaged streams give the same frames on every run.

    A damaged packet also damages the frames after it, up to the next keyframe. All of these are left out. A file that
    is cut off is read to where it ends.

    Args:
        side_at_most: most pixels of a stored frame's width, and of its height; larger videos are rejected as
            ``too_large``.
        damaged_at_most: more damaged frames in a row make the stream ``undecodable``; those before the first sound
            frame do not count. 15 are half a second at 30 a second.
        seconds_per_block: most seconds of real time for one block of frames, the seek included; a longer one is a
            ``decode_timeout``.
        block_frames: frames per block.

    Raises:
        ValueError: a number is out of its range.
    """

    name: ClassVar[str] = "pyav"
    packages: ClassVar[tuple[str, ...]] = ("av",)
    thread_safe: ClassVar[bool] = True

    side_at_most: int = 8192
    damaged_at_most: int = 15
    seconds_per_block: float = 60.0
    block_frames: int = 32

    def __post_init__(self) -> None:
        if min(self.side_at_most, self.block_frames) < 1 or self.damaged_at_most < 0 or self.seconds_per_block <= 0:
            raise ValueError(
                f"PyAV: side_at_most is {self.side_at_most}, block_frames {self.block_frames}, damaged_at_most "
                f"{self.damaged_at_most} and seconds_per_block {self.seconds_per_block:g}; the first two must be at "
                "least 1, the third at least 0 and the last above 0"
            )

    def load(self) -> None:
        """Load the library."""
        import av  # noqa: F401

    def accepts(self, media: Media) -> bool:
        return True

    def probe(self, path: Path) -> Media:
        """See :class:`posecap.interfaces.Prober`. One frame is decoded for its rotation.

        Raises:
            Reject: ``undecodable``, ``no_video_stream`` or ``too_large``.
        """
        with self._opened(path) as (container, stream):
            context = stream.codec_context
            rotation = _rotation(container, stream)
            width, height = context.width, context.height
            if not width or not height:  # the decoder may correct what the container says
                raise Reject("undecodable", "the stream gives the video no size")
            seconds = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
            if seconds is None and container.duration:
                seconds = container.duration / 1e6
            return Media(
                width=height if rotation % 180 else width,
                height=width if rotation % 180 else height,
                fps=float(stream.average_rate or stream.guessed_rate or 0),
                codec=context.codec.canonical_name,
                rotation_degrees=rotation,
                seconds=seconds if seconds and 0 < seconds < _LONGEST_SECONDS else None,
                container=container.format.name,
                frame_count=max(0, stream.frames),
            )

    def frames(self, path: Path, media: Media, *, span: Span | None, size: tuple[int, int]) -> Iterator[Frames]:
        """Blocks of ``block_frames`` frames; see :class:`posecap.interfaces.Decoder`.

        The clock starts where the video stream starts. Frames whose time does not come after the one before
        are left out.

        Raises:
            Reject: ``undecodable`` or ``too_large``.
            PermanentError: ``decode_timeout``.
        """
        from av.video.reformatter import VideoReformatter

        with self._opened(path) as (container, stream):
            reading = _Reading(container, stream, self)
            scaler = VideoReformatter()
            images: list[Pixels] = []
            pts: list[float] = []
            for seconds, frame in reading.since(span.start_seconds if span else 0.0):
                if span is not None and seconds >= span.end_seconds:
                    break
                if seconds < 0 or not (span is None or span.holds(seconds)):
                    continue
                images.append(_image(frame, scaler, media.rotation_degrees, size))
                pts.append(seconds)
                if len(images) == self.block_frames:
                    yield Frames(np.stack(images), np.array(pts))
                    images, pts = [], []
                    reading.restart_clock()
            if images:
                yield Frames(np.stack(images), np.array(pts))
            if not reading.sound:
                raise Reject("undecodable", "the stream holds no usable frame")

    @contextmanager
    def _opened(self, path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
        """The container and its first video stream, errors of the library mapped to outcomes."""
        import av

        with path.open("rb"):
            pass  # what the machine refuses is an OSError here, and not to be confused with FFmpeg's below
        try:
            options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
            # Some real AVI files carry tags that are not UTF-8; posecap does not read tags.
            with av.open(str(path), metadata_errors="ignore", options=options) as container:
                yield container, self._video_stream(container)
        except av.error.FFmpegError as error:
            raise Reject("undecodable", f"FFmpeg says: {error.strerror}") from error
        except (ArithmeticError, LookupError, UnicodeError) as error:
            # PyAV believes what a container says of times, streams and names.
            raise Reject("undecodable", f"the container contradicts itself ({type(error).__name__})") from error

    def _video_stream(self, container: InputContainer) -> VideoStream:
        from av.stream import Disposition

        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not streams:
            raise Reject("no_video_stream", f"{len(container.streams)} streams, none of them video")
        stream = streams[0]
        context = stream.codec_context
        if context is None:
            raise Reject("undecodable", "no decoder for the stream's codec")
        if not context.width or not context.height:
            raise Reject("undecodable", "the container gives the video no size")
        if max(context.width, context.height) > self.side_at_most:
            raise Reject(
                "too_large",
                f"{context.width}x{context.height} pixels, at most {self.side_at_most} a side; "
                "shrink the video or raise side_at_most",
            )
        context.thread_type = "NONE"
        context.options = {"max_pixels": str(self.side_at_most**2)}
        return stream


class _Reading:
    """One pass over a stream: sound frames in presentation order with their times."""

    def __init__(self, container: InputContainer, stream: VideoStream, engine: PyAV) -> None:
        self._container, self._stream, self._engine = container, stream, engine
        self._unit = float(stream.time_base or 0)
        self._zero = stream.start_time or 0
        # Only for frames without a time of their own; the 25 a second for streams that state no rate either.
        self._step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
        self.sound = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Start the time limit of the next block."""
        self._until = monotonic() + self._engine.seconds_per_block

    def since(self, start: float) -> Iterator[tuple[float, VideoFrame]]:
        """Frames in strictly increasing time to the end of the stream, from ``start`` or earlier: from the keyframe
        before it, or from the beginning of a file in which FFmpeg cannot seek reliably.

        A seek may land on a keyframe that comes too late, or whose leading frames are lost; it then aims
        earlier, at last at the beginning.
        """
        if self._container.format.name not in _SEEKABLE:
            yield from self._timed()
            return
        for target in (*(start - earlier for earlier in _LOOK_BACK_SECONDS if earlier < start), 0.0):
            if start > 0:
                self._seek(target)
            timed = self._timed()
            first = next(timed, None)
            if target == 0 or (first is not None and first[0] <= start + 1e-6):  # as Span.holds rounds
                yield from chain([] if first is None else [first], timed)
                return

    def _seek(self, seconds: float) -> None:
        """Go to the last keyframe before a moment. Where the container cannot, stay: the caller looks at the
        first frame, and takes what comes when it has asked for the beginning.
        """
        import av

        with suppress(av.error.FFmpegError):
            self._container.seek(self._zero + int(seconds / self._unit), stream=self._stream)

    def _timed(self) -> Iterator[tuple[float, VideoFrame]]:
        """Sound frames with their times.

        The decoder gives frames in presentation order. Where a container only has decode times (AVI), their
        stamps are shuffled among neighbours: the earliest stamp belongs to the earliest frame.
        """
        waiting: deque[VideoFrame] = deque()
        stamps: list[float] = []
        stamp = given = -self._step
        for frame in chain(self._sound_frames(), repeat(None)):
            if frame is not None:
                stamp = stamp + self._step if frame.pts is None else (frame.pts - self._zero) * self._unit
                heapq.heappush(stamps, stamp)
                waiting.append(frame)
                if len(waiting) <= _REORDER:
                    continue
            elif not waiting:
                return
            earliest, shown = heapq.heappop(stamps), waiting.popleft()
            if earliest > given + 1e-9:  # later by more than rounding
                given = earliest
                yield earliest, shown

    def _sound_frames(self) -> Iterator[VideoFrame]:
        """Frames that are not damaged. Damaged ones before the first of them do not count towards the limit."""
        damaged, started, lost = False, False, 0
        for frame in self._frames():
            if frame is not None and not frame.is_corrupt and (frame.key_frame or not damaged):
                damaged, started, lost = False, True, 0
                self.sound += 1
                yield frame
                continue
            damaged = True
            lost += started
            if lost > self._engine.damaged_at_most:
                raise Reject("undecodable", f"more than {self._engine.damaged_at_most} frames in a row are damaged")

    def _frames(self) -> Iterator[VideoFrame | None]:
        """Everything the decoder gives, None for a packet that would not decode."""
        import av

        packets = self._container.demux(self._stream)
        while True:
            if monotonic() > self._until:
                allowed = self._engine.seconds_per_block
                raise PermanentError("decode_timeout", f"one block of frames took more than {allowed:g} s")
            try:
                packet = next(packets, None)
            except av.error.FFmpegError:
                yield from self._stream.codec_context.decode(
                    None
                )  # the file is cut off here: frames still in the decoder
                return
            if packet is None:
                return
            decoded: list[VideoFrame | None] = [None]
            if not packet.is_corrupt:
                with suppress(av.error.FFmpegError, LookupError):  # of a stream that the header did not announce
                    decoded = list(packet.decode())
            yield from decoded


def _rotation(container: InputContainer, stream: VideoStream) -> int:
    """Degrees clockwise, from the first frame: only there is the rotation of every kind of container known. 0 where no
    frame decodes; whether the video can be read is found out when its frames are asked for."""
    import av

    with suppress(av.error.FFmpegError):
        for frame in container.decode(stream):
            return round(-frame.rotation / 90) * 90 % 360
    return 0


def _image(frame: VideoFrame, scaler: VideoReformatter, rotation_degrees: int, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) uint8 RGB, scaled before it is turned: fewer pixels to move.

    ``scaler`` is one for the whole video: a frame's own would be set up anew with every frame.
    """
    turns = rotation_degrees // 90
    width, height = size[::-1] if turns % 2 else size
    pixels = np.asarray(scaler.reformat(frame, width=width, height=height, format="rgb24").to_ndarray(), np.uint8)
    return np.rot90(pixels, -turns) if turns else pixels
