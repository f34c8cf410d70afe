"""Fetches a span of a remote video: reads only the bytes that hold it, and copies its packets without decoding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

from fsspec.spec import AbstractBufferedFile

from posecap.stage import Reject, TransientError
from posecap.types import Span
from posecap.video_file import best_stream, clock_zero

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

FetchRange = Callable[[int, int], tuple[bytes, int]]
"""Gives bytes ``first`` to ``last``, both included, and the size of the whole file in bytes. Only in the first call,
whose purpose is to learn that size, may ``last`` lie beyond the end; what exists is then given.
"""

_LOOK_BACK_SECONDS = (0.0, 2.0, 10.0, 60.0)
"""How much earlier than wanted to seek; the next one is tried when the keyframe found is after the span's start. Our
choices: most videos have a keyframe every few seconds."""
_CACHED_BLOCKS = 8
"""In memory: FFmpeg goes back and forth between a file's index and its packets. Our choice."""
_EPSILON_SECONDS = 1e-6
"""By so much may a keyframe's time, as rounded, be after the span's start."""


class RangeFile(AbstractBufferedFile):  # type: ignore[misc]  # fsspec has no types
    """A remote file with random access, read block by block; the last few blocks are cached until :meth:`close`.

    Args:
        fetch_range: called for the first block by the constructor, since its answer has the size of the file. What it
            raises later is raised by :meth:`read`, and again by :meth:`check`.
        size_limit: most bytes to fetch in all, blocks that are fetched again included.
        name: of the file in messages.
        block_bytes: fetched at a time.
    """

    def __init__(self, fetch_range: FetchRange, *, size_limit: int, name: str, block_bytes: int) -> None:
        self._ask, self._size_limit, self._name = fetch_range, size_limit, name
        self._fetched = 0
        self._error: Exception | None = None
        self._first, size = fetch_range(0, block_bytes - 1)
        self._count(self._first, min(block_bytes, size))
        cache: dict[str, Any] = {"cache_type": "blockcache", "cache_options": {"maxblocks": _CACHED_BLOCKS}}
        super().__init__(None, name, block_size=block_bytes, size=size, **cache)

    def check(self) -> None:
        """Raise what a read has raised: FFmpeg takes a failed read for the end of the file."""
        if self._error is not None:
            raise self._error

    def read(self, length: int = -1) -> bytes:
        # The oldest fsspec that is allowed asks for blocks beyond the end; and PyAV takes nothing but bytes.
        left = max(0, self.size - self.loc)
        return bytes(super().read(left if length < 0 else min(length, left)))

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Called by the cache for blocks that it does not have."""
        if start == 0:
            return self._first
        self.check()
        try:
            block, size = self._ask(start, min(end, self.size) - 1)
            if size != self.size:
                raise TransientError("changed", f"{self._name}: the file changed while it was read; run again")
            self._count(block, min(end, size) - start)
        except Exception as error:
            self._error = error
            raise
        return block

    def _count(self, block: bytes, announced: int) -> None:
        if len(block) != announced:
            raise TransientError("truncated", f"{self._name}: the server sent less than it announced")
        self._fetched += len(block)
        if self._fetched > self._size_limit:
            raise Reject("too_large", f"{self._name} needs more than {self._size_limit} bytes; raise limits.size_bytes")


def remux_span(remote: RangeFile, out: BinaryIO, *, span: Span, margin_seconds: float, container: str) -> float:
    """Write the packets of ``span`` from ``remote`` into ``out``, an mp4, without decoding them.

    They begin at a keyframe, ``margin_seconds`` before the span's start or earlier where the file allows, else at the
    last one before that start, or at the file's first where none is before it: no frame before that one can be decoded.
    They end before the first packet that is ``margin_seconds`` after the span's end or later. Every frame of the span
    that the whole file gives so decodes to the same pixels. Of a span beyond the file's end the last keyframe and what
    follows it are written, and the decode stage rejects it.

    Args:
        out: empty, seekable, and open for writing; the muxer goes back to write the file's index.
        span: in seconds of the player's clock, which starts where the remote file's first stream starts.
        margin_seconds: how much more to write on both sides.
        container: FFmpeg's name of the remote file's format, ``mp4`` or ``webm``; no other is tried.

    Returns:
        The time in the whole video, in seconds of its player's clock, at which ``out`` begins.

    Raises:
        Reject: ``no_video_stream``, ``undecodable``, or ``span_outside_video`` where no keyframe is before the span's
            end.
        Reject, TransientError: what reading raises.
    """
    import av

    try:
        with av.open(remote, "r", format=container, metadata_errors="ignore") as source:
            stream, _ = best_stream(source)
            zero = _zero(source, stream)
            start = _remux(_span_packets(source, stream, span, margin_seconds), stream, zero, out)
    except (av.error.FFmpegError, ArithmeticError, LookupError, ValueError, Reject) as error:
        remote.check()
        if isinstance(error, Reject):
            raise
        message = error.strerror if isinstance(error, av.error.FFmpegError) else str(error)
        raise Reject("undecodable", f"FFmpeg says of the remote file: {message}") from error
    remote.check()
    return start


def _span_packets(
    source: InputContainer, stream: VideoStream, span: Span, margin: float
) -> Iterator[Packet[VideoStream]]:
    """Packets in decoding order, from a keyframe on, without the leading pictures that need what comes before it."""
    unit, zero = float(stream.time_base or 0), _zero(source, stream)
    first, packets = _first_keyframe(source, stream, span, margin)
    if first.pts is None:
        raise Reject("undecodable", "the remote file does not say when its frames are shown")
    yield first
    for packet in packets:
        moment = packet.pts if packet.dts is None else packet.dts
        if moment is None or packet.pts is None:  # a frame that cannot be placed in time is in no span
            continue
        if (moment - zero) * unit >= span.end_seconds + margin:
            return
        if packet.pts > first.pts:
            yield packet


def _first_keyframe(
    source: InputContainer, stream: VideoStream, span: Span, margin: float
) -> tuple[Packet[VideoStream], Iterator[Packet[VideoStream]]]:
    """The keyframe to begin with, and the packets after it."""
    import av

    unit, zero = float(stream.time_base or 0), _zero(source, stream)
    wanted = span.start_seconds - margin
    for target in (*(wanted - earlier for earlier in _LOOK_BACK_SECONDS if earlier < wanted), 0.0):
        # Without a keyframe before the target FFmpeg refuses to seek there, and the file is read on from where it
        # stands: at first its beginning, to which the last target goes back with or without a keyframe.
        try:
            source.seek(int(zero + target / unit), stream=stream)
        except av.error.FFmpegError:
            if target == 0:
                with suppress(av.error.FFmpegError):
                    source.seek(int(zero), stream=stream, any_frame=True)
        packets = (packet for packet in source.demux(stream) if packet.size)
        first = next((packet for packet in packets if packet.is_keyframe), None)
        if first is None or first.pts is None:
            continue
        moment = (first.pts - zero) * unit
        if moment <= span.start_seconds + _EPSILON_SECONDS or (target == 0 and moment < span.end_seconds):
            return first, packets
    raise Reject("span_outside_video", f"the video has no keyframe before {span.end_seconds:g} s")


def _zero(source: InputContainer, stream: VideoStream) -> float:
    """Where the player's clock starts, in ticks of the stream."""
    return float(clock_zero(source, stream) / Fraction(stream.time_base)) if stream.time_base else 0.0


def _remux(packets: Iterator[Packet[VideoStream]], stream: VideoStream, zero: float, out: BinaryIO) -> float:
    """Write ``packets`` with times that count from the first one; returns the first one's time in the whole video."""
    import av

    first = next(packets)
    start = first.pts or 0
    # bitexact: no version of the library in the file, so the same span has the same bytes.
    with av.open(out, "w", format="mp4", options={"fflags": "+bitexact"}) as sink:
        target = sink.add_stream_from_template(stream)
        for packet in chain((first,), packets):
            packet.pts = (packet.pts or 0) - start
            if packet.dts is not None:
                packet.dts -= start
            packet.stream = target
            sink.mux_one(packet)
    return float((start - zero) * (stream.time_base or 0))
