"""Encodes frames and their times as an H.264 mp4, with PyAV (FFmpeg's libraries and x264)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from posecap.stage import Engine
from posecap.types import Pixels, Seconds, ShapeError

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream

_BASE = Fraction(1, 90_000)
"""Time base of the mp4, seconds: the usual one of video. Frames at 24, 25, 29.97, 30, 50 and 60 a second last a whole
number of them; those of other rates are rounded."""
_LONE = round(1 / (25 * _BASE))
"""How long a lone frame lasts, 1/25 s in units of the time base."""
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo")
"""x264's, from the fastest to the smallest files."""
_BT709 = 1
_LIMITED_RANGE = 1
"""FFmpeg's numbers for these colours (``AVCOL_SPC_BT709`` and its like) and this range (``AVCOL_RANGE_MPEG``)."""


@dataclass(frozen=True)
class PyAVEncoder(Engine):
    """Writes every frame with its own time, rounded to 1/90,000 s; the first frame has time 0.

    Sizes that are odd grow by one pixel at the right or bottom edge, which repeats, since H.264's usual
    colour format stores colour for 2x2 pixels. Colours are written and labelled as BT.709. x264 runs on one
    thread and nothing in the file depends on the time, so that equal frames give equal bytes with one version of the
    libraries on one kind of processor.

    Args:
        crf: x264's constant rate factor, 0 to 51: 18 looks like the original, 23 is its default, 28 is small.
        preset: x264's trade of time for size: one of ``PRESETS``, the fastest first.

    Raises:
        ValueError: x264 has no such factor or preset.
    """

    name: ClassVar[str] = "pyav-libx264"
    packages: ClassVar[tuple[str, ...]] = ("av",)
    thread_safe: ClassVar[bool] = True

    crf: int = 23
    preset: str = "veryfast"

    def __post_init__(self) -> None:
        if not 0 <= self.crf <= 51:
            raise ValueError(f"PyAVEncoder: crf is {self.crf}, expected 0 to 51")
        if self.preset not in PRESETS:
            raise ValueError(f"PyAVEncoder: preset is {self.preset!r}, expected one of {', '.join(PRESETS)}")

    def load(self) -> None:
        """Load the library."""
        import av  # noqa: F401

    def encode(self, frames_THW3: Pixels, pts_T: Seconds) -> bytes:
        """The mp4's bytes, with the index in front so that it plays while it loads.

        Args:
            frames_THW3: uint8 RGB, at least one frame.
            pts_T: float64 seconds, strictly increasing by at least 1/90,000 s.

        Raises:
            ShapeError: frames are not as described, there are more or fewer times than frames, or times are closer.
        """
        ticks = _ticks(frames_THW3, pts_T)
        # Each frame lasts until the next; the last as long as the one before it, a lone one as long as _LONE.
        steps = [after - before for before, after in pairwise(ticks)] or [_LONE]
        rate = len(ticks) / ((ticks[-1] + steps[-1]) * _BASE)
        # The muxer moves the index to the front in a second pass over the file, which it opens by its name.
        with tempfile.TemporaryDirectory(prefix="posecap-mp4-") as folder:
            path = Path(folder) / "clip.mp4"
            self._write(path, zip(frames_THW3, ticks, strict=True), rate)
            return path.read_bytes()

    def encode_to(self, path: Path, frames: Iterable[tuple[Pixels, float]], *, fps: float) -> int:
        """Writes frames to an mp4 as they come, so that one is in memory at a time, and returns their number. Where
        there are none, no file is written.

        Args:
            path: of the file, which is replaced where it exists.
            frames: each (H, W, 3) uint8 RGB, all of the first one's size, and its time in seconds, above the one
                before by at least 1/90,000 s.
            fps: about how many frames a second there will be, above 0; a hint for x264.

        Raises:
            ShapeError: a frame has another size, or times are closer.
        """
        rate = Fraction(fps).limit_denominator(1001)
        return self._write(path, _timed_frames(frames), max(rate, Fraction(1, 1001)))

    def _write(self, path: Path, frames: Iterable[tuple[Pixels, int]], rate: Fraction) -> int:
        """Writes frames (H, W, 3) with their times in units of :data:`_BASE`; returns their number."""
        import av

        timed = iter(frames)
        held = next(timed, None)
        if held is None:
            return 0
        count, lasting = 0, _LONE
        options = {"movflags": "+faststart", "fflags": "+bitexact"}
        with av.open(str(path), "w", format="mp4", options=options) as container:
            stream = self._stream(container, held[0].shape, rate)
            while held is not None:
                (frame_HW3, tick), held = held, next(timed, None)
                lasting = held[1] - tick if held is not None else lasting
                frame = _yuv(frame_HW3)
                frame.pts, frame.time_base, frame.duration = tick, _BASE, lasting
                container.mux(stream.encode(frame))
                count += 1
            container.mux(stream.encode())
        return count

    def _stream(self, container: Any, shape: tuple[int, ...], rate: Fraction) -> VideoStream:
        """The container's stream, with x264 set up for frames of ``shape`` (H, W, 3) at about ``rate`` a second."""
        settings = {
            "crf": str(self.crf),
            "preset": self.preset,
            "threads": "1",
            "flags": "+bitexact+frame_duration",
            # With B-frames at uneven times the muxer counts the clip's length from decoding times, and comes out short.
            "bf": "0",
            # With a lookahead in a thread of its own, about one in 200 encodings of equal frames came out otherwise.
            "x264-params": "threads=1:lookahead-threads=1:sync-lookahead=0",
        }
        # A hint for x264, as frames have their own times; 1001 is the denominator of NTSC's rates.
        stream = cast(
            "VideoStream", container.add_stream("libx264", rate=rate.limit_denominator(1001), options=settings)
        )
        stream.height, stream.width = (side + side % 2 for side in shape[:2])
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = _BASE
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED_RANGE
        return stream


def _yuv(frame_HW3: Pixels) -> VideoFrame:
    """A frame of even sides in the format of the stream."""
    from av import VideoFrame
    from av.video.reformatter import Colorspace

    height, width, _ = frame_HW3.shape
    even = np.pad(frame_HW3, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rgb = VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
    return rgb.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709)


def _timed_frames(frames: Iterable[tuple[Pixels, float]]) -> Iterator[tuple[Pixels, int]]:
    """Frames with their times in units of :data:`_BASE`, from 0; each is checked against the first and the one before
    it."""
    first: tuple[tuple[int, ...], float] | None = None
    before = -1
    for frame_HW3, seconds in frames:
        first = first or (frame_HW3.shape, seconds)
        if frame_HW3.shape != first[0] or frame_HW3.dtype != np.uint8:
            raise ShapeError(f"encode_to: a frame is {frame_HW3.dtype} {frame_HW3.shape}, expected uint8 {first[0]}")
        tick = int(np.floor((seconds - first[1]) / float(_BASE) + 0.5))
        if tick <= before:
            raise ShapeError(f"encode_to: times must rise by at least {float(_BASE):.2g} s from frame to frame")
        before = tick
        yield frame_HW3, tick


def _ticks(frames_THW3: Pixels, pts_T: Seconds) -> list[int]:
    """Times as whole numbers of the mp4's time base, from 0."""
    if frames_THW3.ndim != 4 or frames_THW3.shape[3] != 3 or frames_THW3.dtype != np.uint8 or not frames_THW3.size:
        raise ShapeError(f"encode: frames are {frames_THW3.dtype} {frames_THW3.shape}, expected uint8 (T, H, W, 3)")
    if pts_T.shape != frames_THW3.shape[:1]:
        raise ShapeError(f"encode: times are {pts_T.shape}, expected {frames_THW3.shape[:1]}")
    ticks_T = np.floor((pts_T - pts_T[0]) / float(_BASE) + 0.5)
    if not bool(np.all(np.diff(ticks_T) > 0)):
        raise ShapeError(f"encode: times must rise by at least {float(_BASE):.2g} s from frame to frame")
    return [int(tick) for tick in ticks_T]
