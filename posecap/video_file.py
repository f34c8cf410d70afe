"""Opens a video file, decides what in it is the video and how its times count, and reads its sound frames.

The prober and the decoders all follow what is decided here:

* the **stream** is FFmpeg's best one (:func:`best_stream`);
* the **clock** is the player's: it starts where the first stream of the file starts, as ``ffmpeg -ss`` counts
  (:attr:`VideoFile.zero`), and goes on where two recordings were joined (:class:`JoinedClock`);
* a **frame** is given only if it decoded cleanly from a keyframe on (:class:`Reading`).
"""

from __future__ import annotations

import heapq
import math
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from itertools import chain, pairwise, repeat
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

from posecap.stage import PermanentError, Reject

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.video.stream import VideoStream

FORMATS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,gif,mjpeg,rm,mxf,dv,ivf,"
    "nut,wtv,gxf,yuv4mpegpipe,obu,vc1,nsv,nuv,dhav"
)
"""FFmpeg's names of the containers and bare streams that are videos of one file. Playlists and manifests (HLS, DASH,
concat, SDP, IMF) and formats whose reader opens files beside its own (image sequences, MLV) are absent."""
_SEEKABLE = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv", "asf")
"""Containers that store when each frame is shown. In MPEG streams FFmpeg estimates it after a seek, often wrongly."""
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
"""FFmpeg's name of the container whose index tells the number of frames and where they end; of others every packet is
read. That of AVI has no frames that were left out to save space, and none of a second file behind the first."""
BARE_STREAMS = ("h264", "hevc", "m4v", "mpegvideo", "obu", "vc1")
"""Streams without a container. What FFmpeg's readers of them state as the average rate is a default, 25 a second."""
_JUMPY = ("mpegts", "mpeg", "ogg")
"""FFmpeg's formats whose clock may start anew (``AVFMT_TS_DISCONT``)."""
LONGEST_SECONDS = 7 * 24 * 3600.0
"""A longer duration in a container is taken for an error, and the duration for unknown; so is a packet's time that is
as far from the start. A week is our choice: longer than any recording that
is kept in one file."""
_BACK_SECONDS, _AHEAD_SECONDS = 0.1, 10.0
"""FFmpeg's limits (``ts_discontinuity_process`` and its ``-dts_delta_threshold``): a decoding time that is earlier than
the one expected by more than the first, or in jumpy formats later by more than the second, starts another clock."""
_MOST_DELAY = 16
"""Frames by which one may be shown after it is decoded: as many as H.264 and HEVC decoders hold."""
_REORDER = 8
"""How many frames are held back to sort their presentation times: more than encoders move a frame by (x264 by up to 3
unless asked otherwise), and few enough to hold."""
_LOOK_BACK_SECONDS = (0.0, 1.0, 5.0)
"""How much earlier than wanted to seek; the next one is tried when the first frame found comes too late. Our
choices: most videos have a keyframe every few seconds; after the last one the file is read from its beginning."""
_LOOK_BACK_KEYFRAMES = (1, 2, 5)
"""The same in files without an index: which keyframe before the moment wanted, counted back from it."""
_READ_FROM_START_SECONDS = 2.0
"""A span that begins this early is reached by reading; it costs less than to look at every packet first."""
_MOST_PACKETS = 2_000_000
"""Nine hours at 60 a second. A longer file is not remembered packet by packet, and read from its beginning."""
_STEPS_TO_SYNC = 64
"""Packets read after a seek to find the keyframe that was aimed at: a parser may give a torn one or two before it."""
CHECKED_SIDE_AT_MOST = 32768
"""Most pixels of a side of videos that are only checked. How large they may be is the prober's to say, before."""
_CHECKED_SECONDS_PER_BLOCK = 60.0
"""As PyAV allows for the same frames with their pictures."""
_ERRORS = {
    "hevc": "explode+crccheck",
    "mjpeg": "explode",
    **dict.fromkeys(("wmv1", "wmv2", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "flv", "h263"), "bitstream+buffer"),
}
"""FFmpeg's ``err_detect`` for decoders that otherwise hide errors: with it they tell of damage, as others do anyway."""
_ROUNDING = 1e-9
"""Seconds by which one time must be later than another."""
_BEFORE_JOIN = 4
"""How many packets before a join may be called damaged because of it: one or two were seen."""
_SAME_TIME_SECONDS = 1e-3
"""By which two decoders' times of a frame may differ: one lasts 4 ms or more in usual video; Decord's times are in
single precision, 0.5 ms after two hours."""
_SAME_START_SECONDS = 2e-6
"""FFmpeg rounds a container's start to microseconds; a stream that starts so near to it is meant."""


@dataclass(frozen=True, slots=True)
class VideoFile:
    """An open file (``container``, as PyAV has it) with the stream that is its video.

    ``zero`` is the player's clock's start in seconds of the stream's own clock, ``video_streams`` how many streams are
    videos, attached pictures not counted. ``side_at_most`` and ``purpose`` are those of :func:`opened`.
    """

    path: Path
    container: InputContainer
    stream: VideoStream
    video_streams: int
    zero: Fraction
    side_at_most: int
    purpose: Purpose

    @property
    def unit(self) -> Fraction:
        """Seconds of one tick of the stream's clock; 0 where the container has none."""
        return Fraction(self.stream.time_base or 0)

    @property
    def starts_seconds(self) -> float:
        """Where the video stream starts on the player's clock."""
        if self.stream.start_time is None:
            return 0.0
        return max(0.0, float(self.stream.start_time * self.unit - self.zero))

    @property
    def fps(self) -> float:
        """Average frames per second as the container states it, or the stream where it has no container; 0 where
        neither states one."""
        stated, guessed = self.stream.average_rate or 0, self.stream.guessed_rate or 0
        return float((guessed or stated) if self.container.format.name in BARE_STREAMS else (stated or guessed))

    @property
    def step(self) -> int:
        """Ticks from frame to frame, for those that do not say it; at 25 a second where no rate is stated either."""
        return max(1, round(1 / ((self.fps or 25) * (float(self.unit) or 1.0))))

    def lasts(self, packet: Packet[VideoStream]) -> int:
        """Ticks from a packet's frame to the next one. A duration without a time beside it follows from a default."""
        timed = packet.pts is not None or packet.dts is not None
        return (packet.duration if timed else 0) or self.step


Purpose = Literal["pictures", "soundness"]
"""What a file is opened for: its pictures, or whether and when frames decode, without the pixels of the video."""


@contextmanager
def opened(path: Path, *, side_at_most: int, purpose: Purpose = "pictures") -> Iterator[VideoFile]:
    """The file with its video stream, errors of the library mapped to outcomes, also those of the ``with`` block.

    Decoding is on one thread, so that damaged streams give the same frames on every run.

    Args:
        side_at_most: most pixels of a stored frame's width, and of its height.
        purpose: of ``soundness`` frames have the size that decoders give which do not crop to the pixel.

    Raises:
        Reject: ``undecodable``, ``no_video_stream`` or ``too_large``.
        OSError: of the machine: the file is missing or cannot be opened.
    """
    import av

    with path.open("rb"):
        pass  # what the machine refuses is an OSError here, and not to be confused with FFmpeg's below
    try:
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        # An absolute path: FFmpeg takes what stands before a colon for a protocol, unless there is a slash before it.
        # Some real AVI files carry tags that are not UTF-8; posecap does not read tags.
        with av.open(str(path.absolute()), metadata_errors="ignore", options=options) as container:
            stream, count = best_stream(container)
            _check_size(stream, side_at_most)
            stream.codec_context.thread_type = "NONE"
            faster = {"skip_loop_filter": "all", "skip_idct": "all"} if purpose == "soundness" else {}
            # Without it FFmpeg crops the left and top edges no further than keeps its memory aligned.
            exactly = {"flags": "unaligned"} if purpose == "pictures" else {}
            strict = {"err_detect": words} if (words := _ERRORS.get(stream.codec_context.name)) else {}
            stream.codec_context.options = {"max_pixels": str(side_at_most**2), **exactly, **faster, **strict}
            yield VideoFile(path, container, stream, count, clock_zero(container, stream), side_at_most, purpose)
    except av.error.FFmpegError as error:
        raise Reject("undecodable", f"FFmpeg says: {error.strerror}") from error
    except (ArithmeticError, LookupError, UnicodeError) as error:
        # PyAV believes what a container says of times, streams and names.
        raise Reject("undecodable", f"the container contradicts itself ({type(error).__name__})") from error


def best_stream(container: InputContainer) -> tuple[VideoStream, int]:
    """FFmpeg's best video stream (``av_find_best_stream``), and how many video streams there are.

    The default one comes first, then the one with the highest bit rate, then the first. Attached pictures are no video:
    where FFmpeg's best is one, it is the first of the rest, default ones before others.

    Raises:
        Reject: ``no_video_stream``.
    """
    from av.stream import Disposition

    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise Reject("no_video_stream", f"{len(container.streams)} streams, none of them video")
    best = container.streams.best("video")
    named = next((s for s in streams if best is not None and s.index == best.index), None)
    return named or max(streams, key=lambda s: bool(s.disposition & Disposition.default)), len(streams)


def clock_zero(container: InputContainer, stream: VideoStream) -> Fraction:
    """Where the player's clock starts, in seconds of the stream's own clock: where the file's first stream starts.

    It is the container's start time, as FFmpeg reckons it, exactly: without its rounding to microseconds.
    """
    starts = [
        s.start_time * Fraction(s.time_base) for s in container.streams if s.start_time is not None and s.time_base
    ]
    own = stream.start_time * Fraction(stream.time_base) if stream.start_time is not None and stream.time_base else None
    if container.start_time is None:
        return own or Fraction(0)
    zero = Fraction(container.start_time, 1_000_000)
    near = [s for s in (own, *starts) if s is not None and abs(s - zero) < _SAME_START_SECONDS]
    return near[0] if near else zero


def _check_size(stream: VideoStream, side_at_most: int) -> None:
    """Raise Reject for a stream that cannot be decoded, states no size, or is larger."""
    context = stream.codec_context
    if context is None:
        raise Reject("undecodable", "no decoder for the stream's codec")
    if not context.width or not context.height:
        raise Reject("undecodable", "the container gives the video no size")
    if max(context.width, context.height) > side_at_most:
        raise Reject(
            "too_large",
            f"{context.width}x{context.height} pixels, at most {side_at_most} a side; "
            "shrink the video or raise side_at_most",
        )


class JoinedClock:
    """Keeps a stream's times going where its clock starts anew, as when two recordings were joined into one file.

    A decoding time that is earlier than the one before by more than 0.1 s, or in the formats of ``_JUMPY`` later than
    the one expected by more than 10 s, belongs to another clock; what follows is moved so that it goes on where the one
    before ended. FFmpeg does the same. Packets without a decoding time are moved like the one before. Those that are
    not shown, which the edit lists of MP4 files decode again or beyond an edit, do not count. A time that is
    more than a week from the file's start is taken for none, and the frame follows the one before. ``joins`` are the
    times, in ticks, of the first packets of other clocks.
    """

    def __init__(self, file: VideoFile) -> None:
        unit = float(file.unit) or 1.0
        self._back = _BACK_SECONDS / unit
        self._ahead = _AHEAD_SECONDS / unit if file.container.format.name in _JUMPY else float("inf")
        self._step = file.step
        self._zero, self._most = int(file.zero / file.unit) if file.unit else 0, LONGEST_SECONDS / unit
        self._last: int | None = None
        self._expected = self._offset = 0
        self._shown_until: int | None = None
        self.joins: list[int] = []

    def place(self, packet: Packet[VideoStream]) -> None:
        """Move the packet's times to the clock that goes on."""
        if packet.pts is not None and abs(packet.pts - self._zero) > self._most:
            packet.pts = None
        if packet.dts is not None and abs(packet.dts - self._zero) > self._most:
            packet.dts = None
        if packet.dts is not None and not packet.is_discard:
            if packet.pts is not None and abs(packet.pts - packet.dts) > max(self._ahead, _MOST_DELAY * self._step):
                packet.pts = None  # a parser gives the last frame before a join the time of the first one after it
            moved = packet.dts + self._offset
            if self._last is not None and (moved < self._last - self._back or moved > self._expected + self._ahead):
                # Not into the frames before it, where those are shown later than their decoding times say.
                ahead = 0 if packet.pts is None else packet.pts - packet.dts
                begins = max(self._expected, (self._shown_until or self._expected) - ahead)
                self._offset += begins - moved
                moved = begins
                self.joins.append(moved if packet.pts is None else packet.pts + self._offset)
            self._last, self._expected = moved, moved + (packet.duration or self._step)
            if packet.pts is not None:
                ends = packet.pts + self._offset + (packet.duration or self._step)
                self._shown_until = ends if self._shown_until is None else max(self._shown_until, ends)
        if self._offset:
            packet.pts = None if packet.pts is None else packet.pts + self._offset
            packet.dts = None if packet.dts is None else packet.dts + self._offset


@dataclass(frozen=True, slots=True)
class Timeline:
    """What every packet of the video says, in the file's order and on a clock that goes on over joins.

    Seconds are those of the player's clock: ``first_seconds`` and ``last_seconds`` are when the first and the last of
    ``packet_count`` packets is shown, those of hidden frames not counted, ``ends_seconds`` is until when the last one
    is. ``all_streams_end_seconds`` is the end of the stream that ends last, sound and others included. ``pts_N``,
    ``dts_N``, in ticks, and ``size_N``, bytes, are empty where there are more packets than are remembered;
    ``keyframes`` are (number of the packet, its position in the file, or that of the last one before it whose position
    is known), position -1 where none is; ``joined`` the numbers of the packets at which ``joins`` are.
    """

    packet_count: int
    first_seconds: float
    last_seconds: float
    ends_seconds: float
    all_streams_end_seconds: float
    joins: tuple[float, ...]
    pts_N: array[int] = field(repr=False)
    dts_N: array[int] = field(repr=False)
    size_N: array[int] = field(repr=False)
    keyframes: tuple[tuple[int, int], ...] = field(repr=False)
    joined: tuple[int, ...] = ()


_NONE = -(2**63)
"""Stands for a time that a packet does not state, as FFmpeg's ``AV_NOPTS_VALUE``."""


def timeline(path: Path, *, side_at_most: int, seconds_at_most: float) -> Timeline:
    """The times of all packets of a file, read without decoding. The last few files' are remembered.

    Raises:
        Reject: as :func:`opened`.
        PermanentError: ``decode_timeout`` after ``seconds_at_most`` seconds.
    """
    stat = path.stat()
    return _timeline(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns), side_at_most, seconds_at_most)


@lru_cache(maxsize=4)
def _timeline(path: Path, version: tuple[int, ...], side_at_most: int, seconds_at_most: float) -> Timeline:
    """``version`` tells a file from another one that had its name before."""
    until = monotonic() + seconds_at_most
    with opened(path, side_at_most=side_at_most) as file:
        seen = _SeenPackets(file)
        for packet in _demuxed(file.container.demux()):
            if monotonic() > until:
                raise PermanentError("decode_timeout", f"to read all packets took more than {seconds_at_most:g} s")
            if packet.size and packet.stream_index == file.stream.index:
                seen.add(packet)
            elif packet.pts is not None and packet.time_base:
                seen.others_end = max(seen.others_end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        return seen.timeline()


def _demuxed(packets: Iterator[Packet[Any]]) -> Iterator[Packet[Any]]:
    """Packets up to where the file ends or is cut off."""
    import av

    with suppress(av.error.FFmpegError):
        yield from packets


class _SeenPackets:
    """Collects a :class:`Timeline`."""

    def __init__(self, file: VideoFile) -> None:
        self._file, self._clock = file, JoinedClock(file)
        self._times = (array("q"), array("q"), array("q"))
        self._keyframes: list[tuple[int, int]] = []
        self._number = self._shown = 0
        self._position = -1
        self._first: int | None = None
        self._before: int | None = None  # the time of the packet before
        self._last = self._end = 0
        self._joined: list[int] = []
        self.others_end = Fraction(0)

    def add(self, packet: Packet[VideoStream]) -> None:
        """Remember the next packet of the video."""
        self._clock.place(packet)
        if len(self._clock.joins) > len(self._joined):
            self._joined.append(self._number)
        if packet.pos is not None:  # of MPEG-PS only for the first packet that begins in a block
            self._position = packet.pos
        if packet.is_keyframe:
            self._keyframes.append((self._number, self._position))
        if self._number < _MOST_PACKETS:
            for column, value in zip(self._times, (packet.pts, packet.dts, packet.size), strict=True):
                column.append(_NONE if value is None else value)
        self._number += 1
        time = packet.dts if packet.pts is None else packet.pts
        if time is None and self._before is None and self._file.stream.start_time is not None:
            return  # before the clock's start, as in Reading
        if time is None:  # follows the one before, in the order of decoding; where none has a time, from 0 on
            time = 0 if self._before is None else self._before + self._file.step
        self._before = time
        if not (packet.is_discard or is_hidden(packet)):  # such a one is needed to decode others, and not shown
            self._shown += 1
            self._first = time if self._first is None else min(self._first, time)
            self._last = max(self._last, time)
            self._end = max(self._end, time + self._file.lasts(packet))

    def timeline(self) -> Timeline:
        """Of all packets so far."""
        unit, zero = self._file.unit, self._file.zero
        remembered = self._number <= _MOST_PACKETS
        end = float(self._end * unit - zero)
        return Timeline(
            packet_count=self._shown,
            first_seconds=float((self._first or 0) * unit - zero),
            last_seconds=float(self._last * unit - zero),
            ends_seconds=end,
            all_streams_end_seconds=max(end, float(self.others_end - zero)),
            joins=tuple(float(join * unit - zero) for join in self._clock.joins),
            pts_N=self._times[0] if remembered else array("q"),
            dts_N=self._times[1] if remembered else array("q"),
            size_N=self._times[2] if remembered else array("q"),
            keyframes=tuple(self._keyframes) if remembered else (),
            joined=tuple(self._joined),
        )


def is_hidden(packet: Packet[VideoStream]) -> bool:
    """Whether a packet has a frame that others are made from and that is not shown, as VP8's "alternate reference".

    Other codecs pack such frames together with one that is shown.
    """
    # RFC 6386, 9.1: the frame tag's bit 4 is show_frame.
    return packet.stream.codec_context.name == "vp8" and packet.size > 0 and not memoryview(packet)[0] & 0x10


class OutOfStepError(Exception):
    """After a seek other packets came than when the file was read through."""


@contextmanager
def soundness(path: Path) -> Iterator[Reading]:
    """A pass over a video that says which frames are sound, and their times, for decoders that do not. It makes no
    pictures.

    Raises:
        Reject: as :func:`opened`.
    """
    with opened(path, side_at_most=CHECKED_SIDE_AT_MOST, purpose="soundness") as file:
        yield Reading(file, side_at_most=CHECKED_SIDE_AT_MOST, seconds_per_block=_CHECKED_SECONDS_PER_BLOCK)


class Reading:
    """One pass over a video: its frames in presentation order with their times on the player's clock.

    A damaged packet also damages the frames after it, up to the next keyframe. All of these are left out. A file that
    is cut off is read to where it ends.

    Args:
        seconds_per_block: most seconds of real time until :meth:`restart_clock` is called again.

    Attributes:
        sound: how many frames that are not damaged the decoder gave so far.
        size: (width, height) in pixels of the stored frames, as the file states it.
    """

    def __init__(self, file: VideoFile, *, side_at_most: int, seconds_per_block: float) -> None:
        self._file, self._side, self._allowed = file, side_at_most, seconds_per_block
        self._unit = float(file.unit)
        ticks = file.zero / file.unit if file.unit else Fraction(0)
        self._zero = ticks.numerator if ticks.denominator == 1 else float(ticks)
        # Only for frames without a time of their own; the 25 a second for streams that state no rate either.
        self._step = 1 / (file.fps or 25)
        self.size = (file.stream.codec_context.width, file.stream.codec_context.height)
        self._begin()
        self._given = self._again_until = float("-inf")
        self.sound = 0
        self.restart_clock()

    def _begin(self) -> None:
        """Forget what the decoder was given: it begins anew, at the file's beginning or after a seek."""
        self._fed: dict[int, float] = {}  # times, in seconds, of packets whose frames have not come, by their number
        self._number_of: dict[int, int] = {}  # of a packet, by its time in ticks
        self._bad: list[int] = []  # numbers of damaged packets since the last sound keyframe
        self._lost: list[float] = []  # times, in seconds, of frames that are left out and not yet said to be
        self._waiting: deque[tuple[VideoFrame, float, int]] = deque()
        self._stamps: list[float] = []
        self._trusted: set[int] = set()  # packets, by id, that are decoded though FFmpeg calls them damaged

    def restart_clock(self) -> None:
        """Start the time limit of the next block."""
        self._until = monotonic() + self._allowed

    def since(self, start: float) -> Iterator[tuple[float, VideoFrame | None]]:
        """Frames in strictly increasing time to the end of the stream, from ``start`` or earlier: from the keyframe
        before it, or from the beginning of a file in which FFmpeg cannot seek reliably. None stands for a frame that
        is left out since it is damaged.

        A seek may land on a keyframe that comes too late, or whose leading frames are lost; it then aims
        earlier, at last at the beginning.

        Raises:
            PermanentError: ``decode_timeout``.
        """
        name = self._file.container.format.name
        ways = self._seeks(start) if name in _SEEKABLE else self._jumps(start)
        for packets, is_last in ways:
            self._begin()
            timed = self._timed(packets)
            held: list[tuple[float, VideoFrame | None]] = []
            try:
                for seconds, frame in timed:
                    held.append((seconds, frame))
                    if frame is not None:
                        break
                if is_last or (held and held[-1][1] is not None and held[-1][0] <= start + 1e-6):  # as Span.holds
                    yield from chain(held, timed)
                    return
            except OutOfStepError:
                self._again_until = self._given  # some may have been given; they come again
                continue
            self._given = float("-inf")

    def _seeks(self, start: float) -> Iterator[tuple[Iterator[Packet[VideoStream]], bool]]:
        """Packets from a keyframe on, in containers that know where it is; and whether there is no earlier one."""
        for target in (*(start - earlier for earlier in _LOOK_BACK_SECONDS if earlier < start), 0.0):
            if start > 0:
                self._seek(target)
            yield self._packets(), target == 0

    def _seek(self, seconds: float) -> None:
        """Go to the last keyframe before a moment. Where the container cannot, stay: the caller looks at the
        first frame, and takes what comes when it has asked for the beginning.
        """
        import av

        with suppress(av.error.FFmpegError):
            self._file.container.seek(int(self._zero + seconds / self._unit), stream=self._file.stream)

    def _jumps(self, start: float) -> Iterator[tuple[Iterator[Packet[VideoStream]], bool]]:
        """Packets from a keyframe on, in files that must be read through to know where it is."""
        import av

        if start <= _READ_FROM_START_SECONDS:
            yield self._packets(), True
            return
        known = timeline(self._file.path, side_at_most=self._side, seconds_at_most=self._allowed)
        self.restart_clock()
        wanted = int(self._zero + start / self._unit)
        # One right behind another one may be the second field of a frame, of which decoding cannot begin.
        beginnings = [k for before, k in pairwise(((-2, -1), *known.keyframes)) if k[0] > before[0] + 1]
        keyframes = beginnings if len(beginnings) > 1 else known.keyframes
        ahead = bisect_right(keyframes, wanted, key=lambda keyframe: known.pts_N[keyframe[0]])
        for back in _LOOK_BACK_KEYFRAMES:
            number, position = keyframes[ahead - back] if ahead >= back else (0, -1)
            if number and position >= 0 and known.pts_N[number] != _NONE:
                with suppress(av.error.FFmpegError):
                    self._file.container.seek(position, stream=self._file.stream, unsupported_byte_offset=True)
                    yield self._known_packets(known, number, position), False
        # Opened again, as not every format can be read after a seek to its first byte.
        with opened(self._file.path, side_at_most=self._side, purpose=self._file.purpose) as self._file:
            yield self._packets(), True

    def _known_packets(self, known: Timeline, number: int, position: int) -> Iterator[Packet[VideoStream]]:
        """Packets from the keyframe with this number on, each with the times that it has in a file read through."""
        found = False
        for step, packet in enumerate(self._demuxed()):
            # Right after a seek FFmpeg's reader of MPEG-PS does not know where the packet is.
            is_there = packet.is_keyframe and packet.size == known.size_N[number] and packet.pos in (position, None)
            found = found or is_there
            if not found and step < _STEPS_TO_SYNC:
                continue
            if not found or (packet.size and (number >= len(known.size_N) or packet.size != known.size_N[number])):
                raise OutOfStepError
            if packet.size:
                if any(number < join <= number + _BEFORE_JOIN for join in known.joined):
                    self._trusted.add(id(packet))
                packet.pts = None if known.pts_N[number] == _NONE else known.pts_N[number]
                packet.dts = None if known.dts_N[number] == _NONE else known.dts_N[number]
                number += 1
            yield packet

    def _packets(self) -> Iterator[Packet[VideoStream]]:
        """Packets from here on, on a clock that goes on over joins; last an empty one, at which the decoder empties.

        Where recordings were joined FFmpeg calls the last packets of the first one damaged, as their numbering breaks
        off. Whether they are is left to the decoder.
        """
        clock, joins, held = JoinedClock(self._file), 0, deque[Any]()
        for packet in self._demuxed():
            if packet.size:
                clock.place(packet)
            if len(clock.joins) > joins:
                joins = len(clock.joins)
                self._trusted.update(id(late) for late in held)
            held.append(packet)
            if len(held) > _BEFORE_JOIN:
                yield held.popleft()
        yield from held

    def _demuxed(self) -> Iterator[Packet[VideoStream]]:
        for packet in _demuxed(self._file.container.demux(self._file.stream)):
            if monotonic() > self._until:
                raise PermanentError("decode_timeout", f"one block of frames took more than {self._allowed:g} s")
            yield packet

    def _timed(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[tuple[float, VideoFrame | None]]:
        """Sound frames with their times, and None for those left out.

        The decoder gives frames in presentation order. Where a container only has decode times (AVI), their
        stamps are shuffled among neighbours: the earliest stamp belongs to the earliest frame. One whose stamp is that
        of the frame before, or a little earlier, is given half way to the next one.
        """
        for stamp, number, frame in chain(self._stamped(self._sound_frames(packets)), repeat((0.0, 0, None))):
            if frame is not None:
                heapq.heappush(self._stamps, stamp)
                self._waiting.append((frame, stamp, number))
                if len(self._waiting) <= _REORDER:
                    continue
            elif not self._waiting:
                yield from ((lost, None) for lost in self._left_out(float("inf")))
                return
            earliest, (shown, _, _) = heapq.heappop(self._stamps), self._waiting.popleft()
            if earliest <= self._again_until + _ROUNDING:
                continue
            if self._given - _BACK_SECONDS < earliest <= self._given + _ROUNDING:
                later = (stamp for stamp in self._stamps if stamp > self._given + _ROUNDING)
                earliest = self._given + (min(later, default=self._given + self._step) - self._given) / 2
            if self._lost:
                yield from ((lost, None) for lost in self._left_out(earliest))
            if earliest > self._given + _ROUNDING:
                self._given = earliest
                yield earliest, shown

    def _stamped(self, frames: Iterator[tuple[int, VideoFrame]]) -> Iterator[tuple[float, int, VideoFrame]]:
        """Frames with their times in seconds. One without a time follows the one before, and the first few precede the
        first one with a time: in Matroska they may be before the clock's start. Where none has a time, the first is at
        0.
        """
        early: deque[tuple[int, VideoFrame]] = deque(maxlen=_REORDER)
        stamp = -self._step if self._file.stream.start_time is None else None
        for number, frame in frames:
            if frame.pts is not None:
                stamp = self._seconds(frame.pts)
            elif stamp is not None:
                stamp += self._step
            else:
                early.append((number, frame))
                continue
            while early:
                yield stamp - len(early) * self._step, *early.popleft()
            yield stamp, number, frame
        for place, late in enumerate(early):
            yield place * self._step, *late

    def _left_out(self, until: float) -> list[float]:
        """The times of frames that were left out before ``until``, each once."""
        out = sorted({t for t in self._lost if self._given + _ROUNDING < t < until - _ROUNDING})
        self._lost = [t for t in self._lost if t >= until]
        return out

    def _seconds(self, tick: int) -> float:
        return (tick - self._zero) * self._unit

    def _sound_frames(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[tuple[int, VideoFrame]]:
        """Frames that are not damaged, from a keyframe on, with the numbers of their packets.

        What was decoded after a damaged frame is not sound until the next keyframe, also where it is shown before it.
        """
        started = False
        for count, frame in enumerate(self._decoded(packets)):
            number = count if frame.pts is None else self._number_of.pop(frame.pts, count)
            time = self._fed.pop(number, None)
            if frame.is_corrupt:
                self._bad.append(number)
                self._retract(number)
            if any(bad <= number for bad in self._bad):
                if frame.is_corrupt or not frame.key_frame:
                    self._lost += [] if time is None else [time]
                    continue
                self._lose(since=min(self._bad), until=number)
                self._bad = [bad for bad in self._bad if bad > number]
            elif not started:
                self._lose(since=0, until=number)
            elif frame.key_frame:  # packets that hold no frame of their own are forgotten
                self._fed = {late: shown for late, shown in self._fed.items() if late > number}
            started = True
            self.sound += 1
            yield number, frame
        if self._bad:
            self._lose(since=min(self._bad), until=None)

    def _retract(self, number: int) -> None:
        """Take back the waiting frames that were decoded after a damaged one."""
        kept = [entry for entry in self._waiting if entry[2] < number]
        self._lost += [stamp for _, stamp, late in self._waiting if late >= number]
        self._waiting = deque(kept)
        self._stamps = sorted(stamp for _, stamp, _ in kept)

    def _lose(self, *, since: int, until: int | None) -> None:
        """Packets with these numbers gave no frame and will not."""
        gone = [number for number in self._fed if number >= since and (until is None or number < until)]
        self._lost += [self._fed.pop(number) for number in gone]

    def _decoded(self, packets: Iterator[Packet[VideoStream]]) -> Iterator[VideoFrame]:
        """Everything the decoder gives. Packets that would not decode are noted as bad."""
        import av

        for number, packet in enumerate(packets):
            if not packet.size and packet.dts is None:
                break  # PyAV's last one, with which the decoder is emptied below
            shown = packet.dts if packet.pts is None else packet.pts
            if shown is not None and not packet.is_discard and not is_hidden(packet):
                self._fed[number] = self._seconds(shown)
            if packet.pts is not None:
                self._number_of[packet.pts] = number
            if packet.is_corrupt and id(packet) not in self._trusted:
                self._bad.append(number)
                continue
            self._trusted.discard(id(packet))
            decoded: list[VideoFrame] = []
            try:
                decoded = list(packet.decode())
            except (av.error.FFmpegError, LookupError):  # LookupError of a stream that the header did not announce
                self._bad.append(number)
            yield from decoded
        with suppress(av.error.FFmpegError):
            yield from self._file.stream.codec_context.decode(None)  # frames still in the decoder


def fault_of_next(frames: Iterator[tuple[float, VideoFrame | None]], pts: float, size: tuple[int, int]) -> str:
    """Why the next frame of :meth:`Reading.since` is not one that another decoder may show at ``pts`` seconds as it is;
    empty where it is. ``size`` is :attr:`Reading.size`."""
    seconds, frame = next(frames, (math.nan, None))
    if not abs(seconds - pts) <= _SAME_TIME_SECONDS:
        return "frames are missing or damaged, or have other times"
    if frame is None:
        return "frames are damaged"
    if (frame.width, frame.height) != size:
        return "frames are cropped in another way, or change their size"
    return "frames are interlaced" if frame.interlaced_frame else ""
