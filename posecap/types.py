"""Data types of a build: row → video → clip → tracks → skeleton → caption → features → sample.

Each is a frozen dataclass that checks its fields when it is made. :class:`TrackedClip` is a :class:`Clip` with more
fields, and so on, so the type of an item says which stages it has passed.

Names end in their axes: ``M`` people, ``T`` frames, ``J`` joints, ``D`` vector length, ``C`` captions,
``H``/``W`` rows and columns of pixels. Image coordinates are pixels of the *source* video as displayed
(after rotation), x to the right and y down, unless a name says ``working``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from posecap.joints import LAYOUTS

Floats = NDArray[np.float32]
Seconds = NDArray[np.float64]
Pixels = NDArray[np.uint8]


class ShapeError(ValueError):
    """Fields of one object disagree; the message prints both values."""


def _expect(kind: str, what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise ShapeError(f"{kind}: {what} is {found}, expected {wanted}")


def _joints_of(kind: str, layout: str | None) -> int:
    """How many joints a layout has."""
    if layout not in LAYOUTS:
        raise ShapeError(f"{kind}: unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    return len(LAYOUTS[layout].names)


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open interval ``[start_seconds, end_seconds)`` in the video's time."""

    start_seconds: float
    end_seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.start_seconds < self.end_seconds:
            raise ShapeError(f"Span: needs 0 <= start < end, got {self.start_seconds} and {self.end_seconds}")

    @property
    def seconds(self) -> float:
        return self.end_seconds - self.start_seconds

    def holds(self, seconds: float) -> bool:
        """Whether a timestamp lies in the span, rounded to microseconds, so that rounding errors do not matter."""
        return self.start_seconds - 1e-6 <= seconds < self.end_seconds - 1e-6


@dataclass(frozen=True, slots=True, order=True)
class PartName:
    """A part, the unit of work and commit: a split and a number within it. ``str`` gives ``train/00042``."""

    split: str
    number: int

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", self.split):
            raise ShapeError(f"PartName: split {self.split!r} must be 1 to 64 letters, digits, '_' or '-'")
        if self.number < 0:
            raise ShapeError(f"PartName: number is {self.number}, expected 0 or more")

    def __str__(self) -> str:
        return f"{self.split}/{self.number:05d}"

    @property
    def stem(self) -> str:
        """Name of the part's files without their ending: ``pose-00042``."""
        return f"pose-{self.number:05d}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of a manifest's tables.

    ``uri`` is the video as the manifest names it, and what datasets record; ``location`` is where that leads
    from here (a relative path under the manifest's media root). ``place`` names table and row number as a
    person counts them (``rows.csv:17``), for messages. Neither of these two is part of the row's identity.
    """

    row_id: str
    uri: str
    start_seconds: float | None = None
    end_seconds: float | None = None
    label: str | None = None
    captions: tuple[str, ...] = ()
    split: str = "train"
    license: str | None = None
    source: str | None = None
    location: str = ""
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A row's video, on local disk, with the SHA-256 of its bytes as ``source_id``.

    ``keeping``: ``borrowed`` files stay, ``temporary`` files are deleted after the row. A file
    may hold only a stretch of the video; ``begins_seconds`` is where it begins on the video's own clock.
    """

    row: Row
    path: Path
    source_id: str
    size_bytes: int
    keeping: Literal["borrowed", "temporary"] = "borrowed"
    begins_seconds: float = 0.0

    def __post_init__(self) -> None:
        _expect("Video", "length of source_id", len(self.source_id), 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotRule:
    """When consecutive frames belong to different shots, and how long a clip cut from a shot may be.

    ``threshold`` is the mean absolute difference of two consecutive 32x18 grey thumbnails, in grey
    levels (0-255), above which a new shot begins.
    """

    threshold: float
    shortest_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CutVideo:
    """A video with its splitting into clips: one span, or shots detected while it is decoded."""

    video: Video
    span: Span | None
    shots: ShotRule

    @property
    def row(self) -> Row:
        return self.video.row


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A video stream's properties as the container states them.

    ``width`` and ``height`` are pixels after rotation; pixels are taken as square, as every tool of the field
    takes them. ``fps`` is the average frame rate, 0 where unknown. ``rotation_degrees`` (0, 90, 180, 270) is
    how far the stored picture is turned clockwise for display. ``container`` is FFmpeg's name of the format.
    """

    width: int
    height: int
    fps: float
    codec: str
    rotation_degrees: int
    seconds: float | None
    container: str = ""


ClipT = TypeVar("ClipT", bound="Clip")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Decoded frames of one span of one video, held in the worker that decoded them.

    ``frames_THW3`` uint8 RGB at working size; ``pts_T`` float64 seconds on the video's clock, strictly
    increasing. ``decoder`` names the engine that decoded them.
    """

    video: Video
    clip_id: str
    span: Span
    media: Media
    decoder: str
    frames_THW3: Pixels = field(repr=False)
    pts_T: Seconds = field(repr=False)

    def __post_init__(self) -> None:
        kind = type(self).__name__
        _expect(kind, "dtype of frames_THW3", str(self.frames_THW3.dtype), "uint8")
        _expect(kind, "axes of frames_THW3", self.frames_THW3.ndim, 4)
        _expect(kind, "frames in pts_T", self.pts_T.shape, (self.frames_THW3.shape[0],))
        if self.pts_T.size == 0:
            raise ShapeError(f"{kind}: a clip needs at least one frame")
        if self.pts_T.size > 1 and not bool(np.all(np.diff(self.pts_T) > 0)):
            raise ShapeError(f"{kind}: pts_T must strictly increase")

    @property
    def row(self) -> Row:
        return self.video.row

    @property
    def frame_count(self) -> int:
        return int(self.pts_T.size)

    @property
    def source_per_working(self) -> tuple[float, float]:
        """Factors (x, y) from working pixels to source pixels."""
        height, width = self.frames_THW3.shape[1:3]
        return self.media.width / width, self.media.height / height

    def extend(self, kind: type[ClipT], **new: Any) -> ClipT:
        """This clip as another ``kind`` of clip, with ``new`` fields added or replaced."""
        known = {f.name: getattr(self, f.name) for f in fields(self)}
        return kind(**{**known, **new})


@dataclass(frozen=True, kw_only=True)
class Tracks:
    """Tracks of the people of a clip, in source pixels.

    ``boxes_MT4`` float32 (x0, y0, x1, y1), zeros where a person is not seen; ``scores_MT`` float32 in
    [0, 1], 0 where not seen. One-pass models also leave ``joints_MTJ3`` (x, y, score) in ``layout``.
    """

    boxes_MT4: Floats = field(repr=False)
    scores_MT: Floats = field(repr=False)
    joints_MTJ3: Floats | None = field(default=None, repr=False)
    layout: str | None = None

    def __post_init__(self) -> None:
        people, frames = self.scores_MT.shape
        _expect("Tracks", "shape of boxes_MT4", self.boxes_MT4.shape, (people, frames, 4))
        if self.joints_MTJ3 is not None:
            wanted = (people, frames, _joints_of("Tracks", self.layout), 3)
            _expect("Tracks", "shape of joints_MTJ3", self.joints_MTJ3.shape, wanted)

    @property
    def people(self) -> int:
        return int(self.scores_MT.shape[0])


@dataclass(frozen=True, kw_only=True)
class TrackedClip(Clip):
    """A clip with tracks of its people, and the names of the engines that made them."""

    tracks: Tracks
    detector: str = ""
    tracker: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect("TrackedClip", "frames of tracks", self.tracks.scores_MT.shape[1], self.frame_count)


@dataclass(frozen=True, kw_only=True)
class PosedClip(TrackedClip):
    """A clip with every person's joints: ``joints_MTJ3`` float32 (x, y in source pixels, score in [0, 1]).

    A joint that was not seen is (0, 0, 0).
    """

    joints_MTJ3: Floats = field(repr=False)
    layout: str
    pose_model: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = (self.tracks.people, self.frame_count, _joints_of("PosedClip", self.layout), 3)
        _expect("PosedClip", "shape of joints_MTJ3", self.joints_MTJ3.shape, wanted)
        _expect("PosedClip", "dtype of joints_MTJ3", str(self.joints_MTJ3.dtype), "float32")
        if not bool(np.isfinite(self.joints_MTJ3).all()):
            raise ShapeError("PosedClip: joints_MTJ3 holds NaN or infinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Kinematic quality of one clip's skeletons; see :mod:`posecap.skeletons` for each definition."""

    coverage: float
    mean_score: float
    zero_pose_share: float
    jitter: float
    bone_jump_share: float
    identity_switches: int
    motion: float


@dataclass(frozen=True, kw_only=True)
class SkeletonClip(PosedClip):
    """A posed clip in the dataset's joint layout, measured."""

    quality: Quality


@dataclass(frozen=True, slots=True)
class Caption:
    """One sentence and its origin: ``row``, ``label``, ``template:…`` or a captioner's name."""

    text: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class CaptionedClip(SkeletonClip):
    """A skeleton clip with its captions."""

    captions: tuple[Caption, ...]


@dataclass(frozen=True, kw_only=True)
class EmbeddedClip(CaptionedClip):
    """A captioned clip with frozen features: ``video_D`` and ``text_CD`` float32, L2-normalised.

    ``video_span`` is the span of the frames of the video vector.
    """

    video_D: Floats = field(repr=False)
    text_CD: Floats = field(repr=False)
    video_span: Span
    video_model: str
    text_model: str

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect("EmbeddedClip", "axes of video_D", self.video_D.ndim, 1)
        _expect("EmbeddedClip", "rows of text_CD", self.text_CD.shape[0], len(self.captions))
        for name in ("video_D", "text_CD"):
            if not bool(np.isfinite(getattr(self, name)).all()):
                raise ShapeError(f"EmbeddedClip: {name} holds NaN or infinity")


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A clip as stored in a shard: arrays, captions and facts, without frames.

    ``joints_MTJ3`` float32 source pixels + score; ``pts_T`` float64 seconds; ``video_D``, ``text_CD``
    float32; ``facts`` JSON-able (span, size, fps, layout, quality, models, license …). ``video_mp4`` only
    where the pipeline stores video; ``thumbnail_jpeg`` feeds the contact sheet and is never in a shard.
    """

    key: str
    joints_MTJ3: Floats = field(repr=False)
    pts_T: Seconds = field(repr=False)
    video_D: Floats = field(repr=False)
    text_CD: Floats = field(repr=False)
    captions: tuple[Caption, ...]
    facts: Mapping[str, Any] = field(repr=False)
    video_mp4: bytes | None = field(default=None, repr=False)
    thumbnail_jpeg: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        _expect("Sample", "axes of joints_MTJ3", (self.joints_MTJ3.ndim, self.joints_MTJ3.shape[-1]), (4, 3))
        _expect("Sample", "frames in pts_T", self.pts_T.shape, (self.joints_MTJ3.shape[1],))
        _expect("Sample", "rows of text_CD", self.text_CD.shape[0], len(self.captions))
