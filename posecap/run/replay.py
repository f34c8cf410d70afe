"""Storing what stages find in a row's video, and going on from it later without the video.

While a row is executed, :class:`Recorder` notes what the stages of :class:`posecap.pipeline.Perception` give.
:func:`stored_clip` makes a clip of it again, behind the stage that the build goes on from. Its frames are
:class:`LazyFrames`: a stage that asks for them has the row's video fetched and decoded, by the pipeline's own stages,
from its beginning up to that clip, so that frames are those of a build that begins anew. If the video is another one
than it was, or cannot be had, the row is stale and is done from the beginning.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from posecap.files import clip_id
from posecap.outcomes import ClipOutcome
from posecap.pipeline import Perception
from posecap.shards import ShardError
from posecap.shards.results import ResultsBlock, RowResults, StoredClip, encode_results
from posecap.shards.serialization import ColumnsBatch, read_columns, read_facts
from posecap.stage import Rejected, Stage
from posecap.stages.caption import WriteCaptions
from posecap.stages.pack import Embed, Pack, with_texts
from posecap.storage import Storage
from posecap.types import (
    CaptionedClip,
    Clip,
    EmbeddedClip,
    Floats,
    Pixels,
    PosedClip,
    Row,
    Sample,
    Sentences,
    StagedResults,
    StoredRow,
    TrackedClip,
    Video,
    VideoVector,
)


class StaleResultsError(Exception):
    """The video of a row is not the one that its stored results are of, or cannot be had."""


@dataclass
class Recorder:
    """Notes what the stages of ``perception`` find in one row; :meth:`block` gives it in the end.

    Nothing is stored of a row of which something failed in these stages, since another run may end otherwise, nor where
    one of them did what nothing here knows: gave several clips for one, or other frames.

    ``keep`` says whether sentences of captioners are noted, too.
    """

    perception: Perception
    keep: Literal["all", "perception"] = "perception"
    _source: Video | RowResults | None = None
    _entries: list[StoredClip | ClipOutcome] = field(default_factory=list)
    _failed: bool = False
    _earlier: StagedResults | None = None
    _unchanged: bool = False

    def gave(self, item: Any, output: Any) -> None:
        """A stage gave ``output`` for ``item``; before that item goes on, so that the last clip is the one at hand."""
        if isinstance(output, Clip) and not isinstance(item, Clip):
            self._source = output.video
            self._entries.append(_without_people(output))
        elif isinstance(item, Clip) and isinstance(output, Clip):
            self._extend(item, output)

    def _extend(self, item: Clip, output: Clip) -> None:
        """Enter what a stage that takes clips has added to the last one."""
        clip = self._entries[-1]
        changed: dict[str, Any] = {}
        if not isinstance(clip, StoredClip):
            self._failed = True
            return
        stored = len(self.perception.stages)  # of clips, tracks and joints, in this order
        if isinstance(output, TrackedClip) and not isinstance(item, TrackedClip) and stored > 1:
            self._failed |= clip.tracks is not None
            changed = {"tracks": output.tracks, "detector": output.detector, "tracker": output.tracker}
        if isinstance(output, PosedClip) and not isinstance(item, PosedClip) and stored > 2:
            self._failed |= clip.joints_MTJ3 is not None
            changed |= {"joints_MTJ3": output.joints_MTJ3, "layout": output.layout, "pose_model": output.pose_model}
            changed["picture"] = output.picture
        if changed:
            self._failed |= output.frames_THW3 is not item.frames_THW3 or output.span != clip.span
            self._entries[-1] = replace(clip, **changed)
        elif isinstance(output, EmbeddedClip) and not isinstance(item, EmbeddedClip) and self.perception.vectors:
            self._entries[-1] = replace(clip, video_vector=VideoVector(output.video_D, output.video_span))
        elif isinstance(output, CaptionedClip) and not isinstance(item, CaptionedClip) and self.keep == "all":
            self._entries[-1] = replace(clip, sentences=output.sentences)

    def lost(self, outcome: ClipOutcome, *, whole_clip: bool, sentences: Mapping[int, Sentences] | None = None) -> None:
        """A clip, or a span that became none, ended in a stage; what ends behind the stages that are stored is not
        noted, since the next build decides on it anew, but for the ``sentences`` that were written of it."""
        if outcome.stage not in self.perception.stages:
            clip = self._entries[-1] if self._entries else None
            if sentences and self.keep == "all" and isinstance(clip, StoredClip):
                self._entries[-1] = replace(clip, sentences=sentences)
            return
        self._failed |= outcome.status == "failed"
        if not whole_clip:
            self._entries.append(replace(outcome, clip_id=None))
        elif self._entries and isinstance(clip := self._entries[-1], StoredClip):
            self._entries[-1] = replace(clip, lost=replace(outcome, clip_id=None))

    def take(self, entry: StoredClip | ClipOutcome) -> None:
        """Note an entry of earlier results, which is the one at hand from now on."""
        self._entries.append(entry)

    def of_video(self, results: RowResults, staged: StagedResults) -> None:
        """The entries are those of earlier results, of the same video, which lie in ``staged``."""
        self._source, self._earlier = results, staged
        self._unchanged = self._are_as_they_were(results)

    def take_all(self, staged: StagedResults) -> None:
        """Nothing is added to earlier results, which lie in ``staged``, or left out of them."""
        self._earlier, self._unchanged = staged, True

    def _are_as_they_were(self, results: RowResults) -> bool:
        """Whether nothing was added to earlier results or left out of them, so that encoding them would give the same
        bytes: arrays that were kept are the same objects."""
        if len(self._entries) != len(results.entries):
            return False
        for now, before in zip(self._entries, results.entries, strict=True):
            if not isinstance(now, StoredClip) or not isinstance(before, StoredClip):
                if now != before:
                    return False
                continue
            vectors = [one.video_vector and one.video_vector.video_D for one in (now, before)]
            if vectors[0] is not vectors[1]:
                return False
            if any(getattr(now, name) is not getattr(before, name) for name in ("lost", "tracks", "joints_MTJ3")):
                return False
            if now.sentences != before.sentences:
                return False
        return True

    def block(self, video: Video | None) -> ResultsBlock | StagedResults | None:
        """The row's results, or where the same lie already; None where nothing can be stored of it.

        Args:
            video: the row's, where it is known beside its clips.
        """
        source = self._source or video
        if self._unchanged and not self._failed:
            return self._earlier
        if self._failed or source is None:
            return None
        results = RowResults(
            source_id=source.source_id,
            size_bytes=source.size_bytes,
            begins_seconds=source.begins_seconds,
            entries=tuple(self._entries),
        )
        try:
            return ResultsBlock(encode_results(results), source.source_id)
        except (ValueError, TypeError):  # NaN, or what an engine of somebody's own puts into fields
            return None


def _without_people(clip: Clip) -> StoredClip:
    """A clip as it was decoded."""
    height, width = clip.frames_THW3.shape[1:3]
    return StoredClip(
        span=clip.span,
        media=clip.media,
        decoder=clip.decoder,
        size=(width, height),
        pts_T=clip.pts_T,
        deinterlaced_frames=clip.deinterlaced_frames,
        damaged_frames=clip.damaged_frames,
        signature=clip.signature,
    )


def cut_back(entry: StoredClip | ClipOutcome, after: str, perception: Perception) -> StoredClip | ClipOutcome | None:
    """An entry as it was when it left the stage ``after``, without its video vector and sentences; None for a span that
    was rejected in a later one."""
    kept = perception.stages[: perception.stages.index(after) + 1]
    if not isinstance(entry, StoredClip):
        return entry if entry.stage in kept else None
    if entry.lost is not None and entry.lost.stage not in kept:
        entry = replace(entry, lost=None)
    if len(kept) < 3:
        entry = replace(entry, joints_MTJ3=None, layout="", pose_model="", picture=None)
    if len(kept) < 2:
        entry = replace(entry, tracks=None, detector="", tracker="")
    return replace(entry, video_vector=None, sentences={})


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a clip that later stages would make: the fields of :class:`posecap.types.Clip`."""

    video_vector: VideoVector | None = None
    text_vectors: Mapping[str, Floats] = field(default_factory=dict)
    video_mp4: bytes | None = None
    sentences: Mapping[int, Sentences] = field(default_factory=dict)


def stored_clip(
    clip: StoredClip, number: int, results: RowResults, frames: RowFrames, *, known: Known | None = None
) -> Clip:
    """A clip as it left the stage that the build goes on from (:func:`cut_back`).

    Args:
        number: of the clip among the row's, from 0.
        known: None for nothing.
    """
    more = known or Known()
    row = frames.row
    video = Video(
        row=row,
        path=Path(row.location or row.uri),  # of which only messages speak
        source_id=results.source_id,
        size_bytes=results.size_bytes,
        begins_seconds=results.begins_seconds,
    )
    width, height = clip.size
    lazy = LazyFrames(frames, number, clip.pts_T, results.source_id, (len(clip.pts_T), height, width, 3))
    made: dict[str, Any] = {
        "video": video,
        "clip_id": clip_id(results.source_id, row.row_id, clip.span),
        "span": clip.span,
        "media": clip.media,
        "decoder": clip.decoder,
        "frames_THW3": cast(Pixels, lazy),
        "pts_T": clip.pts_T,
        "deinterlaced_frames": clip.deinterlaced_frames,
        "damaged_frames": clip.damaged_frames,
        "signature": clip.signature,
        "video_vector": more.video_vector,
        "text_vectors": more.text_vectors,
        "video_mp4": more.video_mp4,
        "sentences": more.sentences,
    }
    if clip.tracks is None:
        return Clip(**made)
    made |= {"tracks": clip.tracks, "detector": clip.detector, "tracker": clip.tracker}
    if clip.joints_MTJ3 is None:
        return TrackedClip(**made)
    made |= {"joints_MTJ3": clip.joints_MTJ3, "layout": clip.layout, "pose_model": clip.pose_model}
    return PosedClip(**made, picture=clip.picture)


@lru_cache(maxsize=2)
def former_samples(storage: Storage, columns: tuple[str, str] | None) -> FormerSamples:
    """The samples of a part that is replaced; none where they cannot be read.

    Those of the last two files stay in memory, of which rows follow one another.

    Args:
        columns: the part's columns file and its SHA-256; None for none.
    """
    if columns is None:
        return FormerSamples(())
    name, sha256 = columns
    try:
        base = storage.map(name)
        if hashlib.sha256(base.data).hexdigest() == sha256:
            return FormerSamples([batch for _, batch in read_columns(base)])
    except (ShardError, OSError):
        pass
    return FormerSamples(())


class FormerSamples:
    """Samples in batches of a columns file whose bytes are those that were written."""

    def __init__(self, batches: Sequence[ColumnsBatch]) -> None:
        self._batches = batches
        self._places = {key: (batch, row) for batch in batches for row, key in enumerate(batch.keys)}

    def sample(self, key: str) -> Sample | None:
        """The sample with a key, without its video and thumbnail; None where there is none."""
        found = self._places.get(key)
        return None if found is None else found[0].sample(found[1])

    @cached_property
    def sentence_vectors(self) -> Mapping[str, Floats]:
        """Vectors of the samples' sentences, by sentence."""
        found: dict[str, Floats] = {}
        try:
            for batch in self._batches:
                for row in range(batch.rows):
                    captions = read_facts(batch.facts(row))["captions"]
                    for caption, vector in zip(captions, batch.array("text", row), strict=True):
                        found.setdefault(caption["text"], vector)
        except (ShardError, LookupError, TypeError, ValueError):
            return {}
        return found


def samples_with_texts(
    stages: Sequence[Stage], item: StoredRow, storage: Storage, perception: Perception
) -> dict[str, Sample] | None:
    """The samples of a row, by key, that the pipeline makes but for their texts, with the captions that the row has now
    and their vectors. None where one of them cannot be read, or where what became of a clip depends on fields of the
    row that are not, or may not be, as they were. Thumbnails are left where they lie.

    Args:
        stages: of the pipeline, whose last three make captions, vectors and samples.

    Raises:
        Exception: what the stages raise, a rejection among it.
    """
    captioning, embedding, packing = cast(tuple[WriteCaptions, Embed, Pack], tuple(stages[-3:]))
    kept = [clip for clip in item.clips if clip.status == "kept"]
    if not kept:
        return None if perception.row_fields else {}
    former = former_samples(storage, item.samples)
    captions = captioning.of_row(item.row)
    text_CD = embedding.of_captions(captions, former.sentence_vectors if item.texts is not None else {})
    if len(text_CD) != len(captions) or not np.isfinite(text_CD).all():
        return None
    made = {}
    for clip in kept:
        sample = former.sample(clip.clip_id or "")
        if sample is None or any(sample.facts[name] != getattr(item.row, name) for name in perception.row_fields):
            return None
        if packing.store_video == "clip":
            sample = replace(sample, video_mp4=stored_mp4(item, clip.start_seconds, clip.end_seconds, storage))
            if sample.video_mp4 is None:
                return None
        made[sample.key] = with_texts(sample, item.row, captions, text_CD, embedding.text.name)
    return made


def stored_mp4(item: StoredRow, start: float | None, end: float | None, storage: Storage) -> bytes | None:
    """The stored video of a clip from ``start`` to ``end``, in seconds, as the pipeline makes it; None where there is
    none that can be read."""
    at = next((at for begins, ends, at in item.mp4s if (begins, ends) == (start, end)), None)
    if at is None:
        return None
    try:
        return bytes(storage.read_range(at.file, at.offset, at.size))
    except (ShardError, OSError):
        return None


@dataclass
class RowFrames:
    """The clips of one row, decoded once one is asked for; use as a context manager, which deletes what was fetched.

    Args:
        stages: of the pipeline, up to the one that gives clips.

    ``stale`` is set once they turn out not to be those of the stored results; ``decoded`` counts frames of clips that
    were asked for.
    """

    row: Row
    stages: Sequence[Stage]
    stale: bool = False
    decoded: int = 0
    _clips: Generator[Clip] | None = None
    _next: int = 0
    _held: tuple[int, Clip] | None = None

    def clip(self, number: int) -> Clip:
        """The clip with a number. Of those asked for one after another the video is decoded once, and one is held.

        Raises:
            StaleResultsError: the row has no such clip, or its video cannot be had or decoded.
        """
        if self._held is not None and self._held[0] == number:
            return self._held[1]
        self._held = None
        if self._clips is None or number < self._next:
            self.close()
            self._clips, self._next = _clips(self.stages, self.row), 0
        try:
            while self._next <= number:
                found = next(self._clips)
                self._next += 1
        except Exception as error:  # whatever it is, doing the row from the beginning tells
            self.stale = True
            raise StaleResultsError(f"clip {number} of row {self.row.row_id}: {error}") from error
        self.decoded += found.frame_count
        self._held = number, found
        return found

    def close(self) -> None:
        """Stop decoding, and delete a fetched file."""
        if self._clips is not None:
            self._clips.close()
            self._clips = None
        self._held = None

    def __enter__(self) -> RowFrames:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _clips(stages: Sequence[Stage], item: Any) -> Generator[Clip]:
    """The clips that stages give for an item, one in memory at a time."""
    stage, *later = stages
    for output in stage(item):
        if isinstance(output, Clip):
            yield output
        elif not isinstance(output, Rejected):
            try:
                yield from _clips(later, output)
            finally:
                if isinstance(output, Video) and output.keeping == "temporary":
                    output.path.unlink(missing_ok=True)
        del output  # frees a clip's frames before the next clip is decoded


@dataclass(frozen=True, eq=False)
class LazyFrames(NDArrayOperatorsMixin):
    """Stands for the frames of a clip, uint8 (T, H, W, 3), which are decoded once they are asked for: by an index, an
    operator, an attribute or method of arrays such as ``mean``, or as an array.

    All raise :class:`StaleResultsError` where the row's video has no such clip.

    Args:
        frames: the row's.
        number: of the clip among the row's, from 0.
        pts_T, source_id, shape: times of the clip's frames, hash of its video, and (T, H, W, 3), as they were stored.
    """

    frames: RowFrames
    number: int
    pts_T: NDArray[np.float64]
    source_id: str
    shape: tuple[int, int, int, int]

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        return 4

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[Pixels]:
        return iter(self._array())

    def __getitem__(self, index: Any) -> Pixels:
        found: Pixels = self._array()[index]
        return found

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # as those by which NumPy and pickle look for what a class can do
            raise AttributeError(name)
        return getattr(self._array(), name)

    def __array_ufunc__(self, function: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [one._array() if isinstance(one, LazyFrames) else one for one in inputs]
        return getattr(function, method)(*arrays, **options)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self._array(), dtype=dtype, copy=copy)

    def _array(self) -> Pixels:
        clip = self.frames.clip(self.number)
        same = clip.video.source_id == self.source_id and np.array_equal(clip.pts_T, self.pts_T)
        if not same or clip.frames_THW3.shape != self.shape:
            self.frames.stale = True
            raise StaleResultsError(f"clip {self.number} of row {self.frames.row.row_id} is another one than it was")
        return clip.frames_THW3
