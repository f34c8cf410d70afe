"""Data types of a build: row → video → clip → tracks → skeleton → caption → features → sample.

Each is a frozen dataclass; those that hold arrays check when they are made that shapes agree, and raise
:class:`ShapeError`. :class:`TrackedClip` is a :class:`Clip` with more fields, and so on, so the type of an item says
which stages it has passed.

Names end in their axes: ``M`` people, ``T`` frames, ``J`` joints, ``D`` vector length, ``C`` captions, ``H``/``W`` rows
and columns of pixels. Image coordinates are pixels of the *source* video as displayed (after rotation), x to the right
and y down, unless a name says ``working``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from posecap.joints import LAYOUTS

if TYPE_CHECKING:
    from posecap.outcomes import ClipOutcome

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
    """A half-open interval ``[start_seconds, end_seconds)`` of a video, whose end may be infinite.

    Seconds are those of the whole video as a player counts them: from where its first stream starts, be it the sound.
    Where a function says so, they are those of a file that holds a part of it.

    Raises:
        ShapeError: not ``0 <= start < end``.
    """

    start_seconds: float
    end_seconds: float

    def __post_init__(self) -> None:
        if not 0 <= self.start_seconds < self.end_seconds:
            raise ShapeError(f"Span: needs 0 <= start < end, got {self.start_seconds} and {self.end_seconds}")

    @property
    def seconds(self) -> float:
        """Its length; infinite where its end is."""
        return self.end_seconds - self.start_seconds

    def holds(self, seconds: float) -> bool:
        """Whether a timestamp lies in the span. Both ends are taken a microsecond earlier, so that a time that rounding
        made a little too small still counts as the one it stands for.
        """
        return self.start_seconds - 1e-6 <= seconds < self.end_seconds - 1e-6


@dataclass(frozen=True, slots=True, order=True)
class PartName:
    """A part, the unit of work and commit: a split and a number within it. ``str`` gives ``train/00042``.

    Raises:
        ShapeError: the split has other characters or another length, or the number is negative.
    """

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
    """One row of a manifest's tables: a video, or a span of one. ``row_id`` is its own among all rows of a plan.

    ``start_seconds`` (inclusive) and ``end_seconds`` (exclusive) count from the start of the video; None means from
    its beginning and to its end, and both None leave the choice of spans to shot detection. ``source`` says where the
    video comes from, for credit.

    ``uri`` is the video as the manifest names it, without secrets (:mod:`posecap.uris`), and what datasets record;
    ``location`` is the absolute path or URL that it stands for on this machine, to fetch from (empty: ``uri`` itself).
    ``license`` is the row's own; None says that neither the row nor its table's defaults state one. ``place`` is the
    table and the row's number in it, as :mod:`posecap.manifest.tables` counts (``rows.csv:17``), for messages. Neither
    ``location`` nor ``place`` is part of the row's identity.
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
    location: str = field(default="", repr=False)
    place: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledRow(Row):
    """A row of which a dataset has samples, to which something is added: their ``keys``, in order, and where captions
    are embedded, how many of ``captions`` are of each sample, by where they come from (:attr:`Addition.counts`)."""

    keys: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """A row's video, on local disk, with the SHA-256 of its bytes as ``source_id`` (64 lower-case hex digits).

    Where only a span was fetched, ``source_id`` and ``size_bytes`` are those of that file, not of the whole video.

    ``keeping`` and ``begins_seconds`` are those of :class:`posecap.interfaces.Fetched`: whether the file is deleted
    after the row, and where it begins in the whole video, of which it may hold only a part.
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
    levels (0-255), above which a new shot begins. Clips of ``shortest_seconds`` to ``longest_seconds``, both
    included, are kept.
    """

    threshold: float
    shortest_seconds: float
    longest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CutVideo:
    """A video with how it becomes clips: ``span`` as one clip, or by ``shots`` while it is decoded where it is None."""

    video: Video
    span: Span | None
    shots: ShotRule

    @property
    def row(self) -> Row:
        return self.video.row


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A video's properties, as the container states them or as its packets tell, where it has no index.

    ``width`` and ``height`` are displayed pixels, which are square: the stored width times ``sample_aspect_ratio``
    (numerator, denominator) and the stored height, then turned by ``rotation_degrees`` (0, 90, 180, 270) clockwise, and
    then ``mirrored``, left and right exchanged, where a file says so. ``turned_by_frames`` is whether the frames say it
    themselves (in H.264 and HEVC by a message, SEI), and not the container.
    ``fps`` is the average frame rate, 0 where unknown. ``codec`` and ``container`` are FFmpeg's names (``h264``,
    ``mov,mp4,m4a,3gp,3g2,mj2``). ``frame_count`` is the number of frames, 0 where the container states none; it may be
    false.

    Times are on the player's clock, which starts where the file's first stream starts: ``starts_seconds`` is where the
    video's first frame is shown, ``seconds`` where the video ends (None where the container states nothing), and
    ``joins`` where two recordings were joined, the second with a clock of its own.

    ``stream`` is the number of the stream in the file, and ``video_streams`` how many there were to choose from.
    ``interlaced`` is whether its first frame is, as the frame says; later ones may be otherwise.
    """

    width: int
    height: int
    fps: float
    codec: str
    rotation_degrees: int
    seconds: float | None
    container: str = ""
    frame_count: int = 0
    stream: int = 0
    video_streams: int = 1
    sample_aspect_ratio: tuple[int, int] = (1, 1)
    starts_seconds: float = 0.0
    joins: tuple[float, ...] = ()
    interlaced: bool = False
    mirrored: bool = False
    turned_by_frames: bool = False


@dataclass(frozen=True, slots=True)
class VideoVector:
    """A vector of a clip's frames, ``video_D`` float32, L2-normalised; ``span`` reaches from the first frame that it is
    made from to just after the time of the last."""

    video_D: Floats = field(repr=False)
    span: Span


@dataclass(frozen=True, slots=True)
class Picture:
    """One frame of a clip, by its number, as a small JPEG on which nothing is drawn."""

    frame: int
    jpeg: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Sentences:
    """What a captioner wrote about a clip, as it wrote it.

    ``inputs`` is a hash of what of the clip, beside its frames, shapes the ``texts``
    (:func:`posecap.stages.caption.inputs_of`).
    """

    inputs: str
    texts: tuple[str, ...]


ClipT = TypeVar("ClipT", bound="Clip")


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Decoded frames of one span of one video, held in the worker that decoded them.

    ``frames_THW3`` uint8 RGB at working size (:func:`posecap.video.working_size`), one frame or more; ``pts_T``
    float64 seconds from the start of the whole video, strictly increasing. ``media.seconds`` is the moment in the whole
    video at which the decoded file ends, None where its container states no duration; the other fields of ``media`` are
    those of the file, so its width and height are source pixels. ``decoder`` names the engine that decoded them,
    ``clip_id`` is :func:`posecap.files.clip_id`.
    ``deinterlaced_frames`` counts the frames of which one field is shown, ``damaged_frames`` those that were left out.
    ``signature`` is what :func:`posecap.signatures.make_signature` makes of the frames, empty where no stage did.
    ``video_vector`` is that of the pipeline's own model where an earlier build has computed it; ``text_vectors`` are
    those of sentences, ``video_mp4`` is the clip's frames as the pipeline's encoder stores them, and ``sentences`` are
    those of captioners, by their position among the pipeline's; of a :class:`CaptionedClip`, those of which captions
    were made.

    Of a clip that goes on from stored results, ``frames_THW3`` has dtype, shape and frames of such an array, and
    decodes the video once frames are asked for (:class:`posecap.run.replay.LazyFrames`). What needs an array for more
    than indexing it takes ``numpy.asarray`` of it.
    """

    video: Video
    clip_id: str
    span: Span
    media: Media
    decoder: str
    frames_THW3: Pixels = field(repr=False)
    pts_T: Seconds = field(repr=False)
    deinterlaced_frames: int = 0
    damaged_frames: int = 0
    signature: str = field(default="", repr=False)
    video_vector: VideoVector | None = field(default=None, repr=False)
    text_vectors: Mapping[str, Floats] = field(default_factory=dict, repr=False)
    video_mp4: bytes | None = field(default=None, repr=False)
    sentences: Mapping[int, Sentences] = field(default_factory=dict, repr=False)

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
        """T, the number of frames."""
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
    """Where each of the M people of a clip is in each of its T frames.

    ``boxes_MT4`` float32 (x0, y0, x1, y1), zeros where a person is not seen; ``scores_MT`` float32 in [0, 1], 0 where
    not seen. M may be 0, and boxes may reach beyond the frame. Single-stage pose models also leave ``joints_MTJ3``
    float32 (x, y, score in [0, 1]; zeros where a person is not seen) in ``layout``; both are None for detectors of
    boxes. In a :class:`TrackedClip` coordinates are source pixels; engines take and give pixels of the frames at hand.
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
        """M, the number of people."""
        return int(self.scores_MT.shape[0])


@dataclass(frozen=True, kw_only=True)
class TrackedClip(Clip):
    """A clip with tracks of its people, and the names of the engines that made them; empty where none is known."""

    tracks: Tracks
    detector: str = ""
    tracker: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect("TrackedClip", "frames of tracks", self.tracks.scores_MT.shape[1], self.frame_count)


@dataclass(frozen=True, kw_only=True)
class PosedClip(TrackedClip):
    """A clip with every person's joints: ``joints_MTJ3`` float32 (x, y in source pixels, score in [0, 1]).

    They are what later stages change and what is stored; ``tracks.joints_MTJ3`` stay as the detector gave them, in
    ``tracks.layout``, for the same people in the same order. A joint that was not seen is (0, 0, 0). ``people_choice``,
    JSON-able, says why these people were kept; it is empty where nobody chose. ``pose_model`` names the engine that
    estimated the joints. ``picture`` is the frame in which those who are longest in the clip are best seen
    (:func:`posecap.stages.pose.fullest_frame_of_all`), chosen before anybody is left out; None where no stage made it.
    """

    joints_MTJ3: Floats = field(repr=False)
    layout: str
    pose_model: str = ""
    people_choice: Mapping[str, Any] = field(default_factory=dict)
    picture: Picture | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = (self.tracks.people, self.frame_count, _joints_of("PosedClip", self.layout), 3)
        _expect("PosedClip", "shape of joints_MTJ3", self.joints_MTJ3.shape, wanted)
        _expect("PosedClip", "dtype of joints_MTJ3", str(self.joints_MTJ3.dtype), "float32")
        if not bool(np.isfinite(self.joints_MTJ3).all()):
            raise ShapeError("PosedClip: joints_MTJ3 holds NaN or infinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Kinematic quality of one clip's skeletons, as :func:`posecap.skeletons.measure` defines each number."""

    coverage: float
    mean_score: float
    zero_pose_share: float
    jitter: float
    bone_jump_share: float
    identity_switches: int
    motion: float


@dataclass(frozen=True, kw_only=True)
class SkeletonClip(PosedClip):
    """A posed clip whose joints are in the dataset's layout, with their quality.

    ``quality`` is that of the joints as they were estimated; ``smoothing``, JSON-able, says what was done to them
    afterwards, and is empty where nothing was.
    """

    quality: Quality
    smoothing: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caption:
    """One sentence and its origin: ``row``, ``label``, ``template:`` and the template, or a captioner's name."""

    text: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class CaptionedClip(SkeletonClip):
    """A skeleton clip with its captions."""

    captions: tuple[Caption, ...]


@dataclass(frozen=True, kw_only=True)
class EmbeddedClip(CaptionedClip):
    """A captioned clip with vectors of pretrained models: ``video_D``, and ``text_CD`` with one row per caption.

    Both are float32 and L2-normalised; their lengths D may differ. ``video_span`` reaches from the first frame that
    ``video_D`` is made from to just after the time of the last. ``video_model`` and ``text_model`` name the engines.
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
    """A clip as stored in a shard: arrays, captions and metadata, without frames.

    ``key`` is the clip's id. ``joints_MTJ3`` float32 (x, y in source pixels, score in [0, 1]); ``pts_T`` float64
    seconds from the start of the whole video; ``video_D``, ``text_CD`` float32, L2-normalised; ``facts`` is the
    sample's metadata as stored in its JSON (span, size, fps, layout, quality, models, license …;
    :mod:`posecap.stages.pack` writes it). ``video_mp4`` only where the pipeline stores video; ``thumbnail_jpeg`` feeds
    the contact sheet and is never in a shard.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Addition:
    """What is added to a sample that a dataset has, by its ``key`` (:mod:`posecap.shards.extra`).

    ``vector`` float32 is (D), of the frames in ``span``, or (C, D), of its captions; None where sentences are added,
    which are ``captions``. Of the C captions so many are the sample's own, and of each further captioner, as ``counts``
    says. ``clip`` is the span of the sample, None where it is not known.
    """

    key: str
    source_id: str = ""
    clip: Span | None = None
    vector: Floats | None = field(default=None, repr=False)
    counts: tuple[int, ...] = ()
    span: Span | None = None
    captions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FileRange:
    """``size`` bytes of a file from the position ``offset`` on; ``file`` is relative to the dataset's folder."""

    file: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedSample:
    """Where a sample lies that is not in its part yet, and what is asked about it before (:mod:`posecap.staging`).

    ``pose`` are its members of the pose tar with their headers, ``video`` and ``thumbnail`` the data of mp4 and JPEG
    without. ``sha256`` is that of the bytes of ``pose`` and ``video``, one after another; None where the whole file was
    checked. Of an ``addition`` (:class:`Addition`) ``pose`` is all that there is.
    """

    key: str
    source_id: str
    label: str | None
    pose: FileRange
    video: FileRange | None = None
    thumbnail: FileRange | None = None
    sha256: str | None = None
    what: Literal["sample", "addition"] = "sample"


@dataclass(frozen=True, slots=True)
class StagedResults:
    """Where a row's stored results lie (:mod:`posecap.shards.results`), the SHA-256 of these bytes, and the
    ``source_id`` of the video that they are of."""

    at: FileRange
    sha256: str
    source_id: str


KeepIntermediates = Literal["all", "perception", "none"]
"""What of a row a build stores, so that a later one can go on from it (:mod:`posecap.shards.results`): ``perception``,
what the stages that look at frames find; ``all``, sentences of captioners as well; or nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRow:
    """A row of which an earlier build's results can be used.

    ``after`` names the stage behind which it goes on. ``vectors`` is the hash of all that shaped the video vectors
    among the results (:attr:`posecap.pipeline.Perception.vectors`). ``texts`` is a columns file with vectors of
    sentences as the pipeline makes them, and its SHA-256; None where there is none. ``mp4s`` are the starts and ends,
    in seconds, of clips with stored video as the pipeline makes it, and where that lies. ``captioners`` are the hashes
    of those whose sentences are among the results, in order (:attr:`posecap.pipeline.Perception.captioners`).

    ``samples`` is a columns file, and its SHA-256, with samples of the row that the pipeline makes but for their texts
    (:attr:`posecap.pipeline.Perception.samples`); None where there is none. ``clips`` are then the outcomes of the
    row's clips, those of the samples and of clips that ended before captions were made, and ``previews`` are the
    thumbnails of some of the samples, by key.
    """

    row: Row
    results: StagedResults
    after: str
    vectors: str = ""
    texts: tuple[str, str] | None = None
    mp4s: tuple[tuple[float, float, FileRange], ...] = ()
    captioners: tuple[str, ...] = ()
    samples: tuple[str, str] | None = None
    clips: tuple[ClipOutcome, ...] = ()
    previews: Mapping[str, FileRange] = field(default_factory=dict)
