"""Probes and decodes video files with PyAV (FFmpeg's libraries); it accepts every file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, ClassVar, cast

import numpy as np

from posecap.interfaces import Frames
from posecap.stage import Engine, Reject
from posecap.types import Media, Pixels, Span
from posecap.video import displayed_size, frame_rate
from posecap.video_file import BARE_STREAMS, LONGEST_SECONDS, MP4, Reading, VideoFile, opened, timeline

if TYPE_CHECKING:
    from av import VideoFrame
    from av.filter import Graph
    from av.sidedata.sidedata import SideData
    from av.video.codeccontext import VideoCodecContext
    from av.video.reformatter import VideoReformatter

_STATE_SECONDS = (MP4, "avi", "matroska,webm", "flv")
"""Containers whose header states a duration that can be believed. MPEG streams state none, and ASF adds its preroll."""
_CUT_OFF_SECONDS = 1.0
"""Where all packets were read: a container that promises so much more than they reach is taken for cut off. Our
choice."""


@dataclass(frozen=True)
class PyAV(Engine):
    """Decodes on one thread (:func:`posecap.video_file.opened`), so that damaged streams give the same frames on every
    run.

    A damaged packet also damages the frames after it, up to the next keyframe. All of these are left out, and their
    times given (:attr:`posecap.interfaces.Frames.damaged`). A file that is cut off is read to where it ends. Of an
    interlaced frame the field that is shown first is given, scaled to the whole frame.

    Args:
        side_at_most: most pixels of a stored frame's width, and of its height, and of the width and height at which
            they are displayed; larger videos are rejected as ``too_large``.
        seconds_per_block: most seconds of real time for one block of frames, the seek included; a longer one is a
            ``decode_timeout``. The prober may take as long to read all packets of a file (:meth:`probe`).
        block_frames: frames per block.

    The defaults are our choices: the side of 8K video, a minute for what takes a second or less, and 25 MB of pixels at
    512 x 512.

    Raises:
        ValueError: a number is out of its range.
    """

    name: ClassVar[str] = "pyav"
    packages: ClassVar[tuple[str, ...]] = ("av",)
    thread_safe: ClassVar[bool] = True

    side_at_most: int = 8192
    seconds_per_block: float = 60.0
    block_frames: int = 32

    def __post_init__(self) -> None:
        if min(self.side_at_most, self.block_frames) < 1 or self.seconds_per_block <= 0:
            raise ValueError(
                f"PyAV: side_at_most is {self.side_at_most}, block_frames {self.block_frames} and seconds_per_block "
                f"{self.seconds_per_block:g}; the first two must be at least 1 and the last above 0"
            )

    def load(self) -> None:
        """Load the library."""
        import av  # noqa: F401

    def accepts(self, media: Media) -> bool:
        return True

    def probe(self, path: Path) -> Media:
        """See :class:`posecap.interfaces.Prober`. One frame is decoded; where it is turned or mirrored, the
        first 32 packets too, and again where it is interlaced.

        The rest is in the index of an MP4 file that states a duration and a number of frames, unless each field has a
        packet of its own. Of every other file all packets are read, without decoding them.

        Raises:
            Reject: ``undecodable``, ``no_video_stream`` or ``too_large``.
            PermanentError: ``decode_timeout``: the packets take too long to read.
        """
        with opened(path, side_at_most=self.side_at_most) as file:
            context = file.stream.codec_context
            first = _first_frame(file)
            # Only a decoded frame has the orientation of every kind of container, and that of the stream itself.
            rotation, mirrored = (0, False) if first is None else _orientation(first)
            shape = _sample_aspect_ratio(file)
            if not context.width or not context.height:  # the decoder may correct what the container says
                raise Reject("undecodable", "the stream gives the video no size")
            width, height = displayed_size(context.width, context.height, shape, rotation)
            if max(width, height) > self.side_at_most:
                raise Reject("too_large", f"displayed at {width}x{height} pixels, at most {self.side_at_most} a side")
            media = Media(
                width=width,
                height=height,
                fps=file.fps,
                codec=context.codec.canonical_name,
                rotation_degrees=rotation,
                seconds=_stated_seconds(file),
                container=file.container.format.name,
                stream=file.stream.index,
                video_streams=file.video_streams,
                sample_aspect_ratio=(shape.numerator, shape.denominator),
                starts_seconds=file.starts_seconds,
                interlaced=first is not None and first.interlaced_frame,
                mirrored=mirrored,
                # Decoders that ask the container alone, Decord and TorchCodec, leave such files to this one.
                turned_by_frames=(rotation > 0 or mirrored) and self._says_orientation(path),
            )
            per_frame = 2 if media.interlaced and self._has_field_packets(path) else 1
            if media.container == MP4 and media.seconds and file.stream.frames > 0 and per_frame == 1:
                return _indexed(file, media)  # 0 frames are stated where all are in fragments: no index in front
        return self._measured(path, media, per_frame)

    def _says_orientation(self, path: Path) -> bool:
        """Whether the first frame has its orientation from the stream itself, and not from the container."""
        _, frames = _first_frames(path, self.side_at_most)
        return bool(frames) and _orientation(frames[0]) != (0, False)

    def _has_field_packets(self, path: Path) -> bool:
        """Whether each field of the first frames has a packet of its own, as often in H.264 of MPEG-TS. One may have
        given no frame, or one without its pair."""
        packets, frames = _first_frames(path, self.side_at_most)
        return packets > 1 and abs(packets - 2 * len(frames)) <= 1

    def _measured(self, path: Path, media: Media, per_frame: int) -> Media:
        """``media`` with what the packets say of length, rate, number of frames and :attr:`~posecap.types.Media.joins`;
        ``per_frame`` packets are a frame."""
        found = timeline(path, side_at_most=self.side_at_most, seconds_at_most=self.seconds_per_block)
        # Packets of a bare stream state no times, and ``timeline`` lets each of them last as long as a whole frame.
        share = 1 / per_frame if media.container in BARE_STREAMS else 1.0
        lasts, seconds = share * (found.last_seconds - found.first_seconds), share * found.ends_seconds
        promised = media.seconds or 0.0
        if media.container in _STATE_SECONDS and promised > found.all_streams_end_seconds + _CUT_OFF_SECONDS:
            seconds = promised  # the file is cut off, and the stage that decodes it is to see how much is missing
        return replace(
            media,
            fps=frame_rate(found.packet_count, lasts, stated=media.fps * per_frame) / per_frame,
            seconds=seconds if 0 < seconds < LONGEST_SECONDS else None,
            frame_count=-(-found.packet_count // per_frame),
            starts_seconds=max(0.0, found.first_seconds),
            joins=found.joins,
        )

    def frames(self, path: Path, media: Media, *, span: Span | None, size: tuple[int, int]) -> Iterator[Frames]:
        """Blocks of ``block_frames`` frames; see :class:`posecap.interfaces.Decoder`.

        Frames that are shown more than 0.1 s, FFmpeg's limit for times that go back, before the one given before are
        left out.

        Raises:
            Reject: ``undecodable`` or ``too_large``.
            PermanentError: ``decode_timeout``.
        """
        from av.video.reformatter import VideoReformatter

        with opened(path, side_at_most=self.side_at_most) as file:
            reading = Reading(file, side_at_most=self.side_at_most, seconds_per_block=self.seconds_per_block)
            scaler, fields = VideoReformatter(), _FirstFields()
            block = _Block(size)
            for seconds, frame in reading.since(span.start_seconds if span else 0.0):
                if span is not None and seconds >= span.end_seconds:  # times increase: no frame of the span follows
                    break
                if seconds < 0 or not (span is None or span.holds(seconds)):
                    continue
                if frame is None:
                    block.damaged.append(seconds)
                    continue
                shown = fields.of(frame) if frame.interlaced_frame else frame
                block.append(_image(shown, scaler, media, size), seconds, shown is not frame)
                if len(block.images) == self.block_frames:
                    yield block.frames()
                    block = _Block(size)
                    reading.restart_clock()
            if block.images or block.damaged:
                yield block.frames()
            if not reading.sound:  # of all frames that were decoded, also those outside of the span
                raise Reject("undecodable", "the stream holds no usable frame")


def _stated_seconds(file: VideoFile) -> float | None:
    """Where the video ends on the player's clock, in seconds, as the container states it of the stream or else of the
    file; None where it does not, or states what no video has."""
    seconds = None
    if file.stream.duration and file.unit:
        seconds = file.starts_seconds + float(file.stream.duration * file.unit)
    elif file.container.duration:
        # Matroska states the time at which it ends, whatever time it starts at.
        begins = float(file.zero) if file.container.format.name == "matroska,webm" else 0.0
        seconds = file.container.duration / 1e6 - begins
    return seconds if seconds and 0 < seconds < LONGEST_SECONDS else None


def _indexed(file: VideoFile, media: Media) -> Media:
    """``media`` with what the index of an MP4 file says of the frames that are shown, without those that its edit lists
    leave out. The file's own statement of its end is believed up to the longest time between two frames.
    """
    times = sorted(e.timestamp for e in file.stream.index_entries if e.size and not e.is_discard)
    if not times or media.seconds is None:
        return media
    ticks = [after - before for before, after in pairwise(times)]
    unit, longest = float(file.unit), max((*ticks, file.step)) * float(file.unit)
    end = media.starts_seconds + (times[-1] - times[0] + file.step) * unit
    believed = abs(media.seconds - end) <= longest
    seconds = media.seconds if believed or not 0 < end < LONGEST_SECONDS else end
    return replace(media, frame_count=len(times), seconds=seconds)


def _first_frames(path: Path, side_at_most: int) -> tuple[int, list[VideoFrame]]:
    """How many of the first packets a new decoder took, up to the first that it cannot decode, and what frames it gave.

    It gets the codec's own headers, and not what the container says beside them, such as the orientation.
    """
    import av

    with opened(path, side_at_most=side_at_most) as file:
        context = file.stream.codec_context
        bare = cast("VideoCodecContext", av.CodecContext.create(context.codec, "r"))
        bare.extradata, bare.options = context.extradata, context.options
        packets = 0
        frames: list[VideoFrame] = []
        with suppress(av.error.FFmpegError):
            for packet in islice(file.container.demux(file.stream), _FIRST_PACKETS):
                frames += bare.decode(packet if packet.size else None)
                packets += packet.size > 0
        with suppress(av.error.FFmpegError):  # frames still in the decoder
            frames += bare.decode(None)
        return packets, frames


_FIRST_PACKETS = 32
"""Twice as many as a decoder of H.264 or HEVC may hold before it gives the first frame."""


def _orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Degrees clockwise by which a frame is turned for display, in steps of 90, and whether it is then mirrored.

    Both follow from its display matrix (p, q) -> (a p + c q, b p + d q): from which pair of numbers is the larger, and
    from their signs. One that turns by another angle is taken for the nearest.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None or len(content := bytes(cast("SideData", matrix))) < _MATRIX.size:
        return 0, False
    a, b, _, c, d, *_ = _MATRIX.unpack(content[: _MATRIX.size])
    on_its_side = abs(a) + abs(d) < abs(b) + abs(c)
    rotation = (90 if b >= 0 else 270) if on_its_side else (0 if d >= 0 else 180)
    return rotation, a * d - b * c < 0


_MATRIX = Struct("=9i")
"""FFmpeg's display matrix (``libavutil/display.h``), row by row a b u, c d v, x y w: integers of 32 bits in the
machine's order of bytes."""


def _sample_aspect_ratio(file: VideoFile) -> Fraction:
    """Width of a stored pixel over its height as displayed: the container's, else the codec's; 1 where neither has any.

    A pixel that is stretched by more than 10 is an error of the file, and is taken for a square.
    """
    stated = Fraction(file.stream.sample_aspect_ratio or 1)
    return stated if _MOST_STRETCHED >= stated >= 1 / _MOST_STRETCHED else Fraction(1)


_MOST_STRETCHED = Fraction(10)
"""Of pixels, in real video: 2 to 2.2 (anamorphic lenses, half-width DVD and broadcast). 10 leaves room."""


def _first_frame(file: VideoFile) -> VideoFrame | None:
    """None where no frame decodes; whether the video can be read is found out when its frames are asked for."""
    import av

    with suppress(av.error.FFmpegError):
        return next(iter(file.container.decode(file.stream)), None)
    return None


class _Block:
    """Collects frames, those of a video that is interlaced now and then too."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self.images: list[Pixels] = []
        self.damaged: list[float] = []
        self._pts: list[float] = []
        self._deinterlaced: list[bool] = []

    def append(self, image: Pixels, seconds: float, deinterlaced: bool) -> None:
        self.images.append(image)
        self._pts.append(seconds)
        self._deinterlaced.append(deinterlaced)

    def frames(self) -> Frames:
        width, height = self._size
        return Frames(
            np.stack(self.images) if self.images else np.zeros((0, height, width, 3), np.uint8),
            np.array(self._pts, np.float64),
            np.array(self._deinterlaced) if any(self._deinterlaced) else None,
            tuple(self.damaged),
        )


class _FirstFields:
    """Takes the field that is shown first, the top or the bottom one as the frame says, out of interlaced frames.

    Its lines are every second one of the frame; scaling it to the frame's size makes the missing lines from their
    neighbours. No pixel comes from another moment, and a frame is the same wherever reading began.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._kind: tuple[int, int, str] | None = None

    def of(self, frame: VideoFrame) -> VideoFrame:
        """The field of an interlaced frame, with half as many lines."""
        from av.error import FFmpegError
        from av.filter import Graph

        kind = (frame.width, frame.height, frame.format.name)
        if self._graph is None or self._kind != kind:
            self._graph, self._kind = Graph(), kind
            source = self._graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base or Fraction(1, 25),  # it must have one, and uses none
            )
            self._graph.link_nodes(source, self._graph.add("separatefields"), self._graph.add("buffersink")).configure()
        self._graph.push(frame)
        fields = []
        # The filter gives a frame's second field with the next frame: what comes last is this frame's first one.
        with suppress(FFmpegError):
            while True:
                fields.append(self._graph.pull())
        return cast("VideoFrame", fields[-1])


def _image(frame: VideoFrame, scaler: VideoReformatter, media: Media, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) uint8 RGB, scaled before it is turned: fewer pixels to move.

    ``scaler`` is one for the whole video: a frame's own would be set up anew with every frame.
    """
    turns = media.rotation_degrees // 90
    width, height = size[::-1] if turns % 2 else size
    pixels = np.asarray(scaler.reformat(frame, width=width, height=height, format="rgb24").to_ndarray(), np.uint8)
    turned = np.rot90(pixels, -turns) if turns else pixels
    return turned[:, ::-1] if media.mirrored else turned
