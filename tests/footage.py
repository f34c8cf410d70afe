"""Small real videos, written with PyAV, in which every frame carries its own number.

write_video(path, frames=60, codec="mpeg4")         numbered(frame_HW3) -> 0, 1, 2 …
write_video(path, shots=(40, 30))                   two shots of different brightness
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
import pytest
from av.stream import Disposition

from posecap.types import Row, Video
from tests import DATA

VIDEOS = DATA / "videos"
BITS = 9
BACKGROUNDS = (40, 200, 120)


def real_video(name: str) -> Path:
    """One of the project's shared videos, or a skipped test."""
    path = VIDEOS / name
    if not path.is_file():
        pytest.skip(f"the shared video {name} is not beside this checkout")
    return path


def video(path: Path, *, start: float | None = None, end: float | None = None) -> Video:
    """A local file as a downloaded video; ``start`` and ``end`` are the span of its row in seconds."""
    row = Row(row_id="row-1", uri=path.name, start_seconds=start, end_seconds=end)
    return Video(row=row, path=path, source_id="a1" * 32, size_bytes=path.stat().st_size)


def painted(number: int, background: int, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8: grey, a red lower right corner, and the frame's number in black and white bars on top.

    The bars are so thin that their change is not taken for a cut. ``size`` is (width, height).
    """
    width, height = size
    frame = np.full((height, width, 3), background, np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        frame[: height // 8, left:right] = 255 if number >> bit & 1 else 0
    frame[3 * height // 4 :, 3 * width // 4 :] = (220, 20, 20)
    return frame


def numbered(frame_HW3: np.ndarray) -> int:
    """The number that :func:`painted` wrote, whatever size and codec the frame has been through."""
    height, width = frame_HW3.shape[:2]
    bars = [frame_HW3[height // 16, (2 * bit + 1) * width // (2 * BITS)].mean() for bit in range(BITS)]
    return sum(1 << bit for bit, level in enumerate(bars) if level > 127)


def numbers(frames_THW3: np.ndarray) -> list[int]:
    return [numbered(frame) for frame in frames_THW3]


def write_video(
    path: Path,
    *,
    frames: int = 60,
    fps: int | Fraction = 30,
    size: tuple[int, int] = (160, 96),
    codec: str = "libx264",
    pixels: str = "yuv420p",
    milliseconds: Sequence[int] | None = None,
    shots: Sequence[int] = (),
    rotation: int = 0,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
) -> Path:
    """A video of ``frames`` numbered frames.

    ``milliseconds`` gives each frame's own time (a variable rate), ``shots`` the length of each shot in frames
    (their sum replaces ``frames``), ``rotation`` the display rotation in degrees counterclockwise.
    """
    shot_of = [shot for shot, length in enumerate(shots) for _ in range(length)] or [0] * len(
        milliseconds or range(frames)
    )
    unit = Fraction(1, 1000) if milliseconds else 1 / Fraction(fps)
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.codec_context.time_base = unit
        stream.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        for index, shot in enumerate(shot_of):
            frame = av.VideoFrame.from_ndarray(
                painted(index, BACKGROUNDS[shot % len(BACKGROUNDS)], size), format="rgb24"
            )
            frame.pts, frame.time_base = milliseconds[index] if milliseconds else index, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@dataclass(frozen=True)
class Picture:
    """A video stream for :func:`write_streams`: numbered frames, the first of them shown at ``start`` seconds.

    ``shape`` is the stored pixels' (SAR): a picture of ``size`` is stored narrower by as much. ``offset`` is added to
    the frames' numbers, and ``default`` is the stream's flag. ``rotation`` is in degrees counterclockwise.
    """

    frames: int = 60
    fps: int = 30
    size: tuple[int, int] = (160, 96)
    codec: str = "libx264"
    start: float = 0.0
    default: bool = True
    shape: Fraction = Fraction(1)
    offset: int = 0
    rotation: int = 0
    mirrored: bool = False
    options: Mapping[str, str] = field(default_factory=dict)


def write_streams(path: Path, *pictures: Picture, sound: tuple[float, float] | None = None, codec: str = "aac") -> Path:
    """A file with video streams, and silence from one second to another where ``sound`` is given."""
    with av.open(str(path), "w") as container:
        streams = [_stream(container, picture) for picture in pictures]
        packets = [
            packet for stream, picture in zip(streams, pictures, strict=True) for packet in _packets(stream, picture)
        ]
        if sound is not None:
            packets += _silence(container.add_stream(codec, rate=48000), *sound)
        packets.sort(key=lambda packet: packet.dts * packet.time_base)
        for packet in packets:
            container.mux(packet)
    return path


def _stream(container: Any, picture: Picture) -> Any:
    stream = container.add_stream(picture.codec, rate=picture.fps, options=dict(picture.options))
    stream.width, stream.height = round(picture.size[0] / picture.shape), picture.size[1]
    stream.pix_fmt, stream.thread_count = "yuv420p", 1
    stream.codec_context.sample_aspect_ratio = picture.shape
    stream.disposition = Disposition.default if picture.default else Disposition(0)
    if picture.rotation or picture.mirrored:
        stream.set_display_rotation(picture.rotation, hflip=picture.mirrored)
    return stream


def _packets(stream: Any, picture: Picture) -> Iterator[Any]:
    for index in range(picture.frames):
        square = av.VideoFrame.from_ndarray(painted(index + picture.offset, 40, picture.size), format="rgb24")
        frame = square.reformat(width=stream.width, height=stream.height, format="yuv420p")
        frame.pts = index + round(picture.start * picture.fps)
        frame.time_base = Fraction(1, picture.fps)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _silence(stream: Any, start: float, end: float) -> Iterator[Any]:
    stream.format = "s16" if stream.codec_context.codec.audio_formats[0].name == "s16" else "fltp"
    samples = stream.codec_context.frame_size or 1024
    for first in range(round(start * 48000), round(end * 48000), samples):
        kind = np.int16 if stream.format.name == "s16" else np.float32
        frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), kind), format=stream.format.name, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, first, Fraction(1, 48000)
        yield from stream.encode(frame)
    yield from stream.encode(None)


def write_sound(path: Path) -> Path:
    """Half a second of silence and no picture."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        for index in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, index * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def truncated(path: Path, share: float) -> Path:
    """A copy that stops after ``share`` of its bytes."""
    content = path.read_bytes()
    copy = path.with_stem(f"{path.stem}_truncated")
    copy.write_bytes(content[: int(len(content) * share)])
    return copy


def damaged(path: Path, *packets: int) -> Path:
    """A copy in which the given video packets, counted from 0, are overwritten with nonsense."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        for number, packet in enumerate(container.demux(video=0)):
            if number in packets and packet.pos is not None:
                content[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    copy = path.with_stem(f"{path.stem}_damaged")
    copy.write_bytes(content)
    return copy


def write_rough_video(
    path: Path, *, frames: int, codec: str = "libx264", options: Mapping[str, str] | None = None
) -> Path:
    """A pattern of 8-pixel squares that moves by two pixels a frame, 160x96 at 30 a second."""
    squares = np.random.default_rng(1).integers(0, 255, (40, 80, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = 160, 96, "yuv420p", 1
        stream.bit_rate = 1_000_000
        for index in range(frames):
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(squares[index : index + 96, 2 * index : 2 * index + 160]), format="rgb24"
            )
            frame.pts, frame.time_base = index, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def overwritten(path: Path, *, packet: int, content: bytes) -> Path:
    """A copy in which a video packet, counted from 0, holds ``content`` from a fifth of its length on."""
    whole = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        place = [(p.pos, p.size) for p in container.demux(video=0) if p.size][packet]
    begin = place[0] + place[1] // 5
    written = content[: place[0] + place[1] - begin]
    whole[begin : begin + len(written)] = written
    copy = path.with_stem(f"{path.stem}_overwritten")
    copy.write_bytes(whole)
    return copy


def write_interlaced(path: Path, *, codec: str, options: Mapping[str, str], order: str) -> Path:
    """Ten frames of 320x240 at 25 a second, of which each field shows a bar 40 pixels wide, 8 pixels further right than
    in the field before. ``order`` is ``tff`` where the top field is the earlier one, or ``bff``."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=dict(options))
        stream.width, stream.height, stream.thread_count = 320, 240, 1
        stream.pix_fmt = "yuv422p10le" if codec.startswith("prores") else "yuv420p"
        graph = av.filter.Graph()
        source = graph.add_buffer(width=320, height=240, format="yuv420p", time_base=Fraction(1, 25))
        graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
        for index in range(10):
            picture = np.full((240, 320, 3), 16, np.uint8)
            for field in range(2):
                left = 16 * index + 8 * field
                picture[(field if order == "tff" else 1 - field) :: 2, left : left + 40] = 235
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            graph.push(frame)
            flagged = graph.pull()
            container.mux(stream.encode(flagged.reformat(format=stream.pix_fmt) if codec == "prores_ks" else flagged))
        container.mux(stream.encode(None))
    return path


def filtered(path: Path, copy: Path, words: str) -> Path:
    """A copy whose video packets went through a bitstream filter of FFmpeg, named with its options."""
    with av.open(str(path)) as source, av.open(str(copy), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        change = av.BitStreamFilterContext(words, source.streams.video[0], stream)
        for packet in source.demux(video=0):
            for changed in change.filter(packet if packet.size else None):  # the last one is empty
                changed.stream = stream
                out.mux(changed)
    return copy


def remuxed(path: Path, copy: Path, *, packets_per_second: int) -> Path:
    """A bare video stream in a container, its packets at a constant rate in the order in which they are shown."""
    with av.open(str(path)) as source, av.open(str(copy), "w") as out:
        stream = out.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.size:
                packet.stream, packet.time_base = stream, Fraction(1, packets_per_second)
                packet.pts, packet.dts, packet.duration = number, number, 1
                out.mux(packet)
    return copy


def with_edits(path: Path, copy: Path, edits: Sequence[tuple[int, int]]) -> Path:
    """A copy of an MP4 file, whose index is at its end, with other edits: (milliseconds, first tick of the track)."""
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") - 4
    before = int.from_bytes(content[at : at + 4], "big")
    entries = b"".join(struct.pack(">Iihh", length, first, 1, 0) for length, first in edits)
    content[at : at + before] = box = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    for name in (b"edts", b"trak", b"moov"):
        size = content.rindex(name, 0, at) - 4
        longer = int.from_bytes(content[size : size + 4], "big") + len(box) - before
        content[size : size + 4] = longer.to_bytes(4, "big")
    copy.write_bytes(content)
    return copy


def write_field_pairs(path: Path, *, frames: int, order: str) -> Path:
    """A bare H.264 stream, 160x96 at 25 a second, each field of which is coded as a picture of its own (PAFF), as no
    encoder here does. Every macroblock has its samples as they are (I_PCM)."""
    width, height = 160, 96
    # ITU-T H.264, 7.3.2.1 and E.1.1: Main profile, level 3, order counts of 8 bits, frames or fields, 50 ticks/s.
    sps = _bits("77:8 0:8 30:8 u0 u0 u0 u4 u1 0:1", f"u{width // 16 - 1} u{height // 32 - 1}", "0:1 0:1 1:1 0:1 1:1")
    sps += _bits("0:4 1:1 1:32 50:32 1:1 0:1 0:1 0:1 1:1 1:1 u0 u0 u10 u10 u0 u1")
    pps = _bits("u0 u0 0:1 0:1 u0 u0 u0 0:1 0:2 u0 u0 u0 1:1 0:1 0:1")
    stream = b""
    for number in range(frames):
        picture = av.VideoFrame.from_ndarray(painted(number, 40, (width, height)), format="rgb24")
        planes = picture.reformat(format="yuv420p").to_ndarray()
        luma, chroma = planes[:height], planes[height:].reshape(2, height // 2, width // 2)
        stream += _nal(0x67, sps + "1") + _nal(0x68, pps + "1")
        for later in range(2):
            bottom = later if order == "tff" else 1 - later
            y, uv = luma[bottom::2], chroma[:, bottom::2]
            # 7.3.3: an IDR picture's first field, and a field of the same frame behind it, which refers to nothing.
            head = _bits("u0 u7 u0 0:4 1:1", f"{bottom}:1", f"u{number % 2}" if not later else "", f"{later}:8")
            head += _bits("0:1" if later else "0:1 0:1", "u0 u1")
            coded = b""
            for row in range(0, height // 2, 16):
                for column in range(0, width, 16):
                    head += _bits("u25")
                    coded += _packed(head) + y[row : row + 16, column : column + 16].tobytes()
                    half = (slice(row // 2, row // 2 + 8), slice(column // 2, column // 2 + 8))
                    coded += uv[0][half].tobytes() + uv[1][half].tobytes()
                    head = ""
            stream += _nal(0x61 if later else 0x65, "1", before=coded)
    path.write_bytes(stream)
    return path


def _bits(*words: str) -> str:
    """``value:width`` and, as Exp-Golomb codes, ``uvalue``."""
    out = ""
    for word in " ".join(words).split():
        if word.startswith("u"):
            code = format(int(word[1:]) + 1, "b")
            out += "0" * (len(code) - 1) + code
        else:
            value, _, width = word.partition(":")
            out += format(int(value), f"0{width}b")
    return out


def _packed(bits: str) -> bytes:
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def _nal(kind: int, bits: str, *, before: bytes = b"") -> bytes:
    """A NAL unit with its start code, and 3 behind two zeros wherever it could be taken for one."""
    content = re.sub(rb"\0\0(?=[\0-\3])", b"\0\0\3", before + _packed(bits))
    return b"\0\0\0\1" + bytes([kind]) + content
