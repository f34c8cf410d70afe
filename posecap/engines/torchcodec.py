"""Decodes with TorchCodec, PyTorch's decoder on FFmpeg's libraries, on the CPU or with NVDEC on a GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from posecap.inference.package_compat import ensure_torchvision
from posecap.interfaces import DecoderGaveUpError, Frames
from posecap.stage import Engine
from posecap.types import Media, Seconds, Span
from posecap.video_file import fault_of_next, soundness

if TYPE_CHECKING:
    from av import VideoFrame

_ASSUMED_FPS = 25.0
"""Of a stream whose rate is not known; it decides only how far ahead is looked."""
_MOST_PROBES = 8
"""Frames decoded to find the number of a span's first frame; constant rates need one or two. Our choice; after
them decoding begins behind the latest frame that was found to be before the span."""


@dataclass(frozen=True)
class TorchCodec(Engine):
    """Reads files whose frames it counts and dates as the prober does, and leaves the rest to the next decoder.

    It looks at every packet before it decodes (its ``exact`` mode), so that frames are found by number, at their own
    times, constant rate or not. It is not used, by not accepting a file or by giving it up
    (:class:`posecap.interfaces.DecoderGaveUpError`), where

    * its number of frames is not the prober's;
    * its pictures are mirrored, or turned by what the frames say and not the container;
    * its frames are interlaced, of which it shows both fields at once;
    * two recordings were joined (``Media.joins``), of which it shows the second at the times of the first;
    * the container is none of ``containers`` (FFmpeg's names, as in :class:`posecap.types.Media`). TorchCodec takes no
      list of formats that FFmpeg may open, and these are recognised by their first bytes, so that no file passes for
      one of them here and for a playlist, which would open other files, there;
    * it cannot read a packet, or frames of the span are damaged: it would show them smeared, and does not say so. So
      the same packets go through PyAV, which makes no pictures of them.

    TorchCodec loads the FFmpeg (4 to 8) of the machine, which its wheel does not bring, and whose version changes
    pixels by a level here and there; so it is in the fingerprint (:attr:`libraries`). On a GPU it scales and converts
    colours in other ways: builds are the same only among machines of one kind.

    Args:
        device: ``cpu``, or a GPU as PyTorch names it, such as ``cuda``; frames are then decoded by NVDEC where it knows
            the codec, and copied to the CPU.
        containers: what is accepted.
        block_frames: frames per block; 32, our choice, as in :class:`posecap.engines.pyav.PyAV`.

    Raises:
        ValueError: ``block_frames`` is below 1.
    """

    name: ClassVar[str] = "torchcodec"
    packages: ClassVar[tuple[str, ...]] = ("torchcodec",)
    extra: ClassVar[str] = "torchcodec"
    modules: ClassVar[tuple[str, ...]] = ("torchcodec",)
    thread_safe: ClassVar[bool] = True

    device: str = "cpu"
    containers: tuple[str, ...] = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "flv")
    block_frames: int = 32

    def __post_init__(self) -> None:
        if self.block_frames < 1:
            raise ValueError(f"TorchCodec: block_frames is {self.block_frames}, and must be at least 1")

    @property
    def libraries(self) -> Mapping[str, str]:
        """The major version of the FFmpeg that TorchCodec loads on this machine."""
        return {"ffmpeg of torchcodec": _ffmpeg_version()}

    def load(self) -> None:
        """Load the library.

        Raises:
            ModuleNotFoundError: it is not installed, or finds no shared libraries of FFmpeg that it can use.
        """
        _library()

    def accepts(self, media: Media) -> bool:
        unusual = media.joins or media.interlaced or media.mirrored or media.turned_by_frames
        return media.container in self.containers and media.frame_count > 0 and not unusual

    def frames(self, path: Path, media: Media, *, span: Span | None, size: tuple[int, int]) -> Iterator[Frames]:
        """Blocks of ``block_frames`` frames; see :class:`posecap.interfaces.Decoder`.

        Raises:
            DecoderGaveUpError: another number of frames than the prober's, damage, or anything that TorchCodec cannot
                read.
            Reject: ``undecodable``: PyAV cannot open the file.
            PermanentError: ``decode_timeout``.
        """
        decoders, transforms = _library()
        try:
            reader = decoders.VideoDecoder(
                str(path.absolute()),
                dimension_order="NHWC",
                num_ffmpeg_threads=1,
                device=self.device,
                stream_index=media.stream,
                transforms=[transforms.Resize(size[::-1])],
            )
            count = len(reader)
            if count != media.frame_count:
                raise DecoderGaveUpError(f"it counts {count} frames and the prober {media.frame_count}")
            zero = reader.metadata.begin_stream_seconds_from_content
            start = 0.0 if span is None else span.start_seconds - media.starts_seconds
            with soundness(path) as reading:
                checked = _from(reading.since(0.0 if span is None else span.start_seconds), span)
                first, reached = _first_frame(reader, zero + start, media.fps), start + media.starts_seconds
                while first < count and (span is None or reached < span.end_seconds):
                    # Not far beyond the span: what follows it may be damaged.
                    left = math.inf if span is None else (span.end_seconds - reached) * (media.fps or _ASSUMED_FPS)
                    last = min(first + self.block_frames, count, first + max(1.0, left))
                    batch = reader.get_frames_in_range(first, math.ceil(last))
                    pts = media.starts_seconds + (batch.pts_seconds.numpy() - zero)
                    first, reached = first + len(pts), float(pts[-1])
                    wanted = np.array([span is None or span.holds(t) for t in pts.tolist()])
                    for time in pts[wanted].tolist():
                        if fault := fault_of_next(checked, time, reading.size):
                            raise DecoderGaveUpError(fault)
                    reading.restart_clock()
                    if wanted.any():
                        frames = batch.data.cpu().numpy()
                        yield Frames(frames if wanted.all() else frames[wanted], _increasing(pts[wanted]))
        except (RuntimeError, ValueError, LookupError) as error:
            # TorchCodec's own message holds addresses of its C++ sources, which differ from release to release.
            raise DecoderGaveUpError("the stream cannot be read") from error


def _from(
    frames: Iterator[tuple[float, VideoFrame | None]], span: Span | None
) -> Iterator[tuple[float, VideoFrame | None]]:
    """Those of the span, and the ones after it."""
    return dropwhile(
        lambda frame: span is not None and frame[0] < span.start_seconds and not span.holds(frame[0]), frames
    )


def _first_frame(reader: Any, start: float, fps: float) -> int:
    """The number of the first frame that begins at ``start`` (seconds of the stream's own clock) or later, or of one a
    little earlier.

    It is looked for by way of the frame before it, after which the decoder goes on without seeking.
    """
    begins, rate = reader.metadata.begin_stream_seconds_from_content, fps or _ASSUMED_FPS
    if start - begins < 1 / rate:
        return 0
    low, high = -1, len(reader)  # the last frame before the start is low, or between the two
    guess = round((start - begins) * rate) - 1
    for _ in range(_MOST_PROBES):
        if high - low <= 1:
            break
        guess = guess if low < guess < high else (low + high) // 2
        ahead = start - reader.get_frame_at(guess).pts_seconds
        if ahead <= 1e-6:  # as Span.holds rounds
            high = guess
        else:
            low = guess
            if ahead <= 2 / rate:
                break
        guess += round(ahead * rate) - 1
    return low + 1


def _increasing(pts_T: Seconds) -> Seconds:
    if (np.diff(pts_T) <= 0).any():
        raise DecoderGaveUpError("two frames have one time")
    return np.asarray(pts_T, np.float64)


def _library() -> tuple[Any, Any]:
    """TorchCodec's modules of decoders and of transforms, with the shared libraries of FFmpeg loaded."""
    try:
        import torchcodec
    except (RuntimeError, OSError) as error:  # releases before 0.15 do not import without FFmpeg
        raise _no_ffmpeg() from error
    if not torchcodec.ffmpeg_major_version:
        raise _no_ffmpeg()
    if find_spec("torchvision"):  # TorchCodec imports it where it is installed, to know its transforms
        ensure_torchvision()
    return torchcodec.decoders, torchcodec.transforms


@cache
def _ffmpeg_version() -> str:
    """TorchCodec states no more than the major version; "not found" where it finds no FFmpeg or is not installed."""
    try:
        import torchcodec
    except (ImportError, RuntimeError, OSError):  # as in _library
        return "not found"
    return str(torchcodec.ffmpeg_major_version or "not found")


def _no_ffmpeg() -> ModuleNotFoundError:
    return ModuleNotFoundError(
        "torchcodec of posecap[torchcodec] finds no shared libraries of FFmpeg 4 to 8, or is built for another torch: "
        "install FFmpeg (apt install ffmpeg, conda install ffmpeg), and beside a torch without CUDA the torchcodec of "
        "constraints/cpu.txt",
        name="torchcodec",
    )
