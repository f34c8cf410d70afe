"""The protocols of engines, which stages call. An engine has the methods of one and passes its contract tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from posecap.types import Clip, Floats, Media, Pixels, Seconds, SkeletonClip, Span, Tracks


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on one download."""

    size_bytes: int = 2 * 1024**3
    seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file on local disk; ``temporary`` ones are deleted after their row, ``borrowed`` ones stay.

    ``begins_seconds`` says where the file's first moment is on the video's own clock; it is 0 for whole videos.
    """

    path: Path
    keeping: Literal["borrowed", "temporary"]
    begins_seconds: float = 0.0


@runtime_checkable
class Named(Protocol):
    """What every engine has: the name that reports and sidecars record."""

    @property
    def name(self) -> str: ...


@runtime_checkable
class Fetcher(Named, Protocol):
    """Brings the file behind a URI to local disk."""

    def accepts(self, uri: str) -> bool: ...

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """Fetch into ``folder`` (or point at a file that is already here).

        Args:
            span: what is wanted of the video, None for all of it. A fetcher may bring more, up to the whole.

        Raises:
            Reject: the file is gone for good or is no video (``not_found``, ``too_large``, ``not_a_video`` …).
            TransientError: a temporary failure, after the engine's own retries.
        """
        ...


@runtime_checkable
class Prober(Named, Protocol):
    """Reads what a container states of its video, without decoding it."""

    def probe(self, path: Path) -> Media:
        """The first video stream's facts; cover pictures are no video.

        Raises:
            Reject: ``undecodable``, ``no_video_stream`` or ``too_large``.
        """
        ...


@dataclass(frozen=True, slots=True)
class Frames:
    """Consecutive decoded frames: ``frames_THW3`` uint8 RGB at working size, ``pts_T`` float64 seconds."""

    frames_THW3: Pixels
    pts_T: Seconds


@runtime_checkable
class Decoder(Named, Protocol):
    """Decodes a video, rotation applied, at a bounded size, in presentation order."""

    def accepts(self, media: Media) -> bool: ...

    def frames(self, path: Path, media: Media, *, span: Span | None, size: tuple[int, int]) -> Iterator[Frames]:
        """Yield consecutive blocks of frames whose pts lie in ``span`` (all frames for None).

        The clock starts where the video stream starts; times strictly increase. A span's end may be infinite.

        Args:
            size: (width, height) of the frames to give, in pixels.

        Raises:
            Reject: ``undecodable`` when the stream holds no usable frame.
            DecoderGaveUpError: this decoder cannot, another may.
        """
        ...


class DecoderGaveUpError(Exception):
    """This decoder cannot read the file; the next one in the stage's list is asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detections:
    """People found in one frame, in working pixels.

    ``boxes_N4`` float32 (x0, y0, x1, y1); ``scores_N`` float32; one-pass models add ``joints_NJ3`` (x, y, score).
    """

    boxes_N4: Floats
    scores_N: Floats
    joints_NJ3: Floats | None = None


@runtime_checkable
class Detector(Named, Protocol):
    """Finds people in frames; one-pass pose models also give their joints."""

    @property
    def layout(self) -> str | None: ...

    def detect(self, frames_THW3: Pixels) -> list[Detections]: ...


@runtime_checkable
class Tracker(Named, Protocol):
    """Joins detections of consecutive frames into people."""

    def track(
        self, detections: Sequence[Detections], pts_T: Seconds, *, layout: str | None, frames_THW3: Pixels
    ) -> Tracks:
        """Tracks in working pixels, most persistent person first. A tracker keeps no state between clips.

        Args:
            detections: one per frame.
            pts_T: (T,) seconds.
            layout: of the detections' joints, None when they have none.
            frames_THW3: the frames themselves, for trackers that look at how the camera moves.
        """
        ...


@runtime_checkable
class PoseEstimator(Named, Protocol):
    """Gives each tracked person's joints."""

    @property
    def layout(self) -> str: ...

    def estimate(self, frames_THW3: Pixels, tracks: Tracks) -> Floats:
        """Joints (M, T, J, 3) float32 in working pixels + score, zeros where a person is not seen."""
        ...


@runtime_checkable
class VideoEmbedder(Named, Protocol):
    """A frozen vector for a clip's pixels."""

    @property
    def dimension(self) -> int: ...

    def frame_indices(self, clip: Clip) -> list[int]:
        """Indices of the frames that the vector is made from."""
        ...

    def embed_video(self, frames_THW3: Pixels) -> Floats:
        """(D,) float32, L2-normalised, from the frames that :meth:`frame_indices` named."""
        ...


@runtime_checkable
class TextEmbedder(Named, Protocol):
    """Frozen vectors for sentences."""

    @property
    def dimension(self) -> int: ...

    def embed_text(self, sentences: Sequence[str]) -> Floats:
        """(C, D) float32, rows L2-normalised."""
        ...


@runtime_checkable
class VideoEncoder(Named, Protocol):
    """Writes frames as an mp4."""

    def encode(self, frames_THW3: Pixels, pts_T: Seconds) -> bytes:
        """The same bytes for the same frames, whatever the machine's number of cores."""
        ...


@runtime_checkable
class Captioner(Named, Protocol):
    """Writes sentences about a clip from its frames."""

    def write(self, clip: SkeletonClip) -> Sequence[str]: ...
