"""Runs one item through the stages of one worker: exceptions become outcomes, and time is measured by stage."""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from time import monotonic, perf_counter
from typing import Any

from posecap.outcomes import ClipOutcome, Status
from posecap.pipeline import Perception, Segment, Storing
from posecap.run.replay import (
    Known,
    Recorder,
    RowFrames,
    StaleResultsError,
    cut_back,
    former_samples,
    samples_with_texts,
    stored_clip,
    stored_mp4,
)
from posecap.shards import ShardError
from posecap.shards.results import ResultsBlock, RowResults, StoredClip, decode_results
from posecap.stage import PermanentError, Reject, Rejected, Stage, TransientError, take_engine_seconds
from posecap.stages.caption import NoCaption
from posecap.staging import OUTPUT_NOT_VISIBLE, Staging, StagingError, StagingFile, WriteJob, WritePart
from posecap.types import Addition, Clip, CutVideo, Row, Sample, Span, StagedResults, StoredRow, Video
from posecap.uris import hide_secrets

MAX_DETAIL_LENGTH = 500
"""Characters of an outcome's detail: sidecars hold one for every row, and some libraries' errors are pages long."""
WRITE = "write"
"""The name, among stages, of what writes samples down."""
NOT_RENEWED = "not_renewed"
"""The reason of a part that was not written since not all samples of its rows could get new texts."""
OUTPUT_NOT_WRITABLE = "output_not_writable"
"""The reason of an item whose samples could not be staged."""


@dataclass
class ItemError:
    """Why an item was lost; the fields are those of :class:`posecap.outcomes.RowOutcome`.

    ``retryable`` is True after a :class:`posecap.stage.TransientError`, an OSError of whatever kind and a MemoryError,
    and False after any other exception.
    """

    status: Status
    stage: str
    reason: str
    detail: str
    retryable: bool


@dataclass
class ItemResult:
    """The result of one item in one segment of a pipeline.

    Args:
        outputs: items for the next segment; in the pipeline's last one, samples or where they were staged.
        clips: outcomes of its clips that ended here: kept, rejected or failed.
        error: why the item itself ended; None if it did not. Clips before the error may have been kept.
        seconds: wall seconds by stage.
        engine_seconds: of these, wall seconds within engines, by stage and engine (:class:`posecap.stage.Engine`).
        frames: number of frames of the clips that were decoded, whatever became of the clips.
        bytes_read: size of the row's video, in the result of the segment that fetched it.
        machine_dependent: whether another machine may give another result: the item or one of its clips failed, or was
            rejected by a :class:`posecap.stage.Reject` that says so.
        reason: of the first such failure or rejection.
        results: what was stored of the row, or where that was staged; None where nothing was.
    """

    outputs: list[Any] = field(default_factory=list)
    clips: list[ClipOutcome] = field(default_factory=list)
    error: ItemError | None = None
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    engine_seconds: dict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    frames: int = 0
    bytes_read: int = 0
    machine_dependent: bool = False
    reason: str = ""
    results: StagedResults | ResultsBlock | None = None


class _StaleRowError(Exception):
    """The stored results of a row cannot be used."""


@dataclass(frozen=True)
class _Sinks:
    """Where a row's samples and what its stages perceive go; None for nowhere."""

    file: StagingFile | None = None
    recorder: Recorder | None = None


def execute(
    stages: Sequence[Stage], item: Any, *, staging: Staging | None = None, storing: Storing | None = None
) -> ItemResult:
    """Run ``item`` through ``stages``, depth first, so that one clip's frames are in memory at a time.

    Never raises for what an item holds: an unexpected error in a stage is a failure of that item. A temporary video
    file, of ``item`` or of a stage, is deleted after the stages that read it, unless it is among the outputs and so for
    a later segment.

    A :class:`posecap.types.StoredRow` goes on behind the stage that it names. Where its results turn out to be damaged,
    or not to be of the row's video, the row is done from the beginning. A :class:`posecap.staging.WriteJob` is written
    with the last stages' texts for its rows, or has failed with the reason :data:`NOT_RENEWED`.

    Args:
        staging: where samples are written as they come, so that one is in memory at a time. None, and a worker that
            does not see the place, gives back the samples themselves. Where it cannot be written, the item has failed
            with the reason :data:`OUTPUT_NOT_WRITABLE`.
        storing: which results are stored, and how a row goes on from them; None where neither is done.
    """
    if isinstance(item, WriteJob) and staging is not None and storing is not None:
        return _renew(stages, item, staging, storing.perception)
    if isinstance(item, StoredRow):
        try:
            return _execute_item(stages, item, staging, storing)
        except _StaleRowError:
            before = () if storing is None else storing.before
            item, stages = item.row, (*before, *stages)
    return _execute_item(stages, item, staging, storing)


def execute_each(
    stages: Sequence[Stage],
    items: Sequence[Any],
    *,
    staging: Staging | None = None,
    storing: Storing | None = None,
    around: Callable[[Any], AbstractContextManager[None]] = lambda item: nullcontext(),
    seconds: float = math.inf,
) -> list[ItemResult]:
    """Run items of one part one after another, as :func:`execute` does each, and stage the samples of all in one file.

    Args:
        around: gives the context in which an item is run.
        seconds: after which no further item is begun: those left have no result.
    """

    def run(staging: Staging | None) -> Iterator[ItemResult]:
        until = monotonic() + seconds
        for number, item in enumerate(items):
            if number and monotonic() > until:
                return
            with around(item):
                yield execute(stages, item, staging=staging, storing=storing)

    if staging is None or len(items) == 1 or not staging.is_visible():
        return list(run(staging))
    results: list[ItemResult] = []
    try:
        with staging.shared(items[0]) as shared:
            results.extend(run(shared))
    except StagingError as error:
        for result in results:
            if result.outputs or result.results is not None:
                _enter_unwritable(result, error)
    return results


def _renew(stages: Sequence[Stage], job: WriteJob, staging: Staging, perception: Perception) -> ItemResult:
    """:func:`execute` of a part with rows to renew. What is not an engine's time counts as writing."""
    result = ItemResult()
    take_engine_seconds()
    since = perf_counter()

    def samples(row: StoredRow) -> Iterable[Sample]:
        found = samples_with_texts(stages, row, staging.storage, perception)
        if found is None:
            raise StaleResultsError(f"row {row.row.row_id}: its samples cannot be kept as they are")
        return found.values()

    try:
        result.outputs += WritePart(staging, samples)(job)
    except Exception as error:  # whatever it is: its rows, done one by one, say what happened to each
        detail = f"{type(error).__name__}: {error}"[:MAX_DETAIL_LENGTH]
        result.error = ItemError("failed", WRITE, NOT_RENEWED, detail, retryable=True)
    took, embedding = perf_counter() - since, stages[-2]
    for engine, seconds in take_engine_seconds().items():
        result.engine_seconds[embedding.name, engine] += seconds
    result.seconds[embedding.name] = sum(result.engine_seconds.values())
    result.seconds[WRITE] = max(0.0, took - result.seconds[embedding.name])
    return result


def _execute_item(stages: Sequence[Stage], item: Any, staging: Staging | None, storing: Storing | None) -> ItemResult:
    """:func:`execute` of an item, without a second attempt.

    Raises:
        _StaleRowError: the stored results of a row cannot be used; nothing is left of what was done.
    """
    result = ItemResult()
    take_engine_seconds()  # what was counted before, as while engines loaded, belongs to no item
    recorder = None if storing is None or storing.keep == "none" else Recorder(storing.perception, storing.keep)
    if staging is None or not staging.is_visible():
        if isinstance(item, StoredRow):
            raise _StaleRowError
        _execute(stages, item, result, _Sinks(recorder=recorder))
        result.results = _results(item, result, recorder)
    else:
        try:
            with staging.file(item) as file:
                sinks = _Sinks(file, recorder)
                if isinstance(item, StoredRow):
                    _go_on(stages, item, result, sinks, staging=staging, storing=storing)
                else:
                    _execute(stages, item, result, sinks)
                found = _results(item, result, recorder)
                result.results = file.add_results(found) if isinstance(found, ResultsBlock) else found
        except StagingError as error:
            _enter_unwritable(result, error)
    _delete_temporary(item, result)
    return result


def _enter_unwritable(result: ItemResult, error: StagingError) -> None:
    """Make the result that of an item whose samples could not be staged."""
    lost = ItemError("failed", WRITE, OUTPUT_NOT_WRITABLE, str(error)[:MAX_DETAIL_LENGTH], retryable=True)
    result.outputs, result.clips, result.error, result.results = [], [], lost, None
    result.machine_dependent, result.reason = True, OUTPUT_NOT_WRITABLE


def _results(item: Any, result: ItemResult, recorder: Recorder | None) -> ResultsBlock | StagedResults | None:
    """What is stored of a row, if anything: of one that ended as a whole its outcome says all."""
    if recorder is None or result.error is not None:
        return None
    return recorder.block(item if isinstance(item, Video) else None)


def _go_on(
    stages: Sequence[Stage],
    item: StoredRow,
    result: ItemResult,
    sinks: _Sinks,
    *,
    staging: Staging,
    storing: Storing | None,
) -> None:
    """Go on with a row from samples that there are of it, or else behind the stage that it names, clip by clip.

    Raises:
        _StaleRowError: its results are damaged, or not of its video.
    """
    if storing is None or item.after not in storing.perception.stages:
        raise _StaleRowError
    block = _read_block(item, staging)
    if item.samples is not None and _keep_samples(stages, item, result, sinks, staging, storing.perception):
        return
    try:
        results = decode_results(block, name=item.results.at.file)
    except ShardError as error:
        raise _StaleRowError from error
    _go_on_with_clips(stages, item, results, result, sinks, staging=staging, storing=storing)
    if sinks.recorder is not None:
        sinks.recorder.of_video(results, item.results)


def _go_on_with_clips(
    stages: Sequence[Stage],
    item: StoredRow,
    results: RowResults,
    result: ItemResult,
    sinks: _Sinks,
    *,
    staging: Staging,
    storing: Storing,
) -> None:
    """Run the clips of a row's results through the stages behind that which it names.

    Raises:
        _StaleRowError: the results are not of its video.
    """
    perception = storing.perception
    names = [stage.name for stage in stages]
    later = stages[names.index(item.after) + 1 :]
    decoding = (*storing.before, *stages[: names.index(perception.stages[0]) + 1])
    number = 0
    with RowFrames(item.row, decoding) as frames:
        for entry in results.entries:
            base = cut_back(entry, item.after, perception)
            if sinks.recorder is not None and base is not None:
                sinks.recorder.take(base)
            if isinstance(base, StoredClip) and isinstance(entry, StoredClip):
                known = None if base.lost is not None else _known(entry, item, perception, staging)
                clip = stored_clip(base, number, results, frames, known=known)
                number += 1
                if base.lost is None:
                    _execute(later, clip, result, sinks)
                else:
                    result.clips.append(replace(base.lost, clip_id=clip.clip_id))
                del clip
            elif isinstance(base, ClipOutcome):
                result.clips.append(base)
            if frames.stale:
                raise _StaleRowError
        result.frames += frames.decoded


def _keep_samples(
    stages: Sequence[Stage],
    item: StoredRow,
    result: ItemResult,
    sinks: _Sinks,
    staging: Staging,
    perception: Perception,
) -> bool:
    """Keep the samples that there are of a row, with new captions and their vectors, which counts as time of the stage
    that makes vectors. Returns whether they could be made so; else nothing was done."""
    embedding, since = stages[-2], perf_counter()
    try:
        samples = samples_with_texts(stages, item, staging.storage, perception)
        samples = None if samples is None else {key: _with_preview(one, item, staging) for key, one in samples.items()}
    except Exception:  # as of a text model: a row that goes on from its clips says what happened to each
        samples = None
    engine_seconds = take_engine_seconds()
    if samples is None:
        return False
    result.seconds[embedding.name] += perf_counter() - since
    for engine, seconds in engine_seconds.items():
        result.engine_seconds[embedding.name, engine] += seconds
    for clip in item.clips:
        if clip.clip_id in samples:
            _keep(samples[clip.clip_id], result, sinks.file)
        else:
            result.clips.append(clip)
    if sinks.recorder is not None:
        sinks.recorder.take_all(item.results)
    return True


def _with_preview(sample: Sample, item: StoredRow, staging: Staging) -> Sample:
    """The sample with its thumbnail, where one is stored."""
    if (at := item.previews.get(sample.key)) is None:
        return sample
    return replace(sample, thumbnail_jpeg=bytes(staging.storage.read_range(at.file, at.offset, at.size)))


def _known(entry: StoredClip, item: StoredRow, perception: Perception, staging: Staging) -> Known:
    """What later stages would make of a clip and what there is already."""
    sentences = {
        now: entry.sentences[before]
        for now, captioner in enumerate(perception.captioners)
        for before, known in enumerate(item.captioners)
        if captioner == known and before in entry.sentences
    }
    return Known(
        video_vector=entry.video_vector if item.vectors == perception.vectors else None,
        text_vectors=former_samples(staging.storage, item.texts).sentence_vectors,
        video_mp4=stored_mp4(item, entry.span.start_seconds, entry.span.end_seconds, staging.storage),
        sentences=sentences,
    )


def _read_block(item: StoredRow, staging: Staging) -> bytes:
    """The bytes of what is stored of a row; raises _StaleRowError where they are damaged or gone."""
    at = item.results.at
    try:
        block = bytes(staging.storage.read_range(at.file, at.offset, at.size))
    except (ShardError, OSError) as error:
        raise _StaleRowError from error
    if hashlib.sha256(block).hexdigest() != item.results.sha256:
        raise _StaleRowError
    return block


def _delete_temporary(item: Any, result: ItemResult) -> None:
    """Delete the file of a temporary video, unless it is among the outputs; nothing for what is no such video."""
    if not isinstance(item, Video) or item.keeping != "temporary":
        return
    if not any(isinstance(output, Video) and output.path == item.path for output in result.outputs):
        item.path.unlink(missing_ok=True)


def _execute(stages: Sequence[Stage], item: Any, result: ItemResult, sinks: _Sinks) -> None:
    """Run the item through the stages, and keep samples and what the stages perceive."""
    if not stages:
        if isinstance(item, Sample | Addition):
            _keep(item, result, sinks.file)
        else:
            result.outputs.append(item)
        return
    stage, *later = stages
    for output in _outputs(stage, item, result, sinks):
        if isinstance(output, Rejected):
            error = ItemError("rejected", stage.name, output.reason, output.detail, retryable=False)
            result.clips.append(_lost_clip(error, output.span))
            if sinks.recorder is not None:
                sinks.recorder.lost(result.clips[-1], whole_clip=False)
            continue
        if sinks.recorder is not None:
            sinks.recorder.gave(item, output)
        if isinstance(output, Clip) and not isinstance(item, Clip):
            result.frames += output.frame_count
        if isinstance(output, Video) and isinstance(item, Row):
            result.bytes_read += output.size_bytes
        _execute(later, output, result, sinks)
        if not isinstance(item, Video):  # of a video made from a video, the file may be needed for the next one too
            _delete_temporary(output, result)
        del output  # frees a clip's frames before the next clip is decoded


def complete(result: ItemResult, item: Any, segment: Segment) -> ItemResult:
    """Do for a worker of ``segment``, on another machine, what it could not do since it does not see the dataset: stage
    its samples, or write a part.

    Raises:
        StagingError: samples cannot be written here either.
        ShardError: a sample breaks the schema.
    """
    if result.error is not None and result.error.reason == OUTPUT_NOT_VISIBLE:
        return execute(segment.stages, item)
    samples = any(isinstance(output, Sample | Addition) for output in result.outputs)
    if segment.staging is not None and (samples or isinstance(result.results, ResultsBlock)):
        with segment.staging.file(item) as file:
            result.outputs = [file.add(one) if isinstance(one, Sample | Addition) else one for one in result.outputs]
            if isinstance(result.results, ResultsBlock):
                result.results = file.add_results(result.results)
    return result


def _keep(sample: Sample | Addition, result: ItemResult, file: StagingFile | None) -> None:
    """Enter a sample or an addition to one, written to ``file`` where there is one, and its outcome; it is a failed
    clip if it breaks the schema."""
    if isinstance(sample, Sample):
        start, end = sample.facts["start_seconds"], sample.facts["end_seconds"]
    else:
        start, end = (None, None) if sample.clip is None else (sample.clip.start_seconds, sample.clip.end_seconds)
    outcome = ClipOutcome(status="kept", clip_id=sample.key, start_seconds=start, end_seconds=end)
    since = perf_counter()
    try:
        result.outputs.append(sample if file is None else file.add(sample))
    except ShardError as error:
        detail = f"ShardError: {error}"[:MAX_DETAIL_LENGTH]
        outcome = replace(outcome, status="failed", stage=WRITE, reason="error", detail=detail)
    result.clips.append(outcome)
    result.seconds[WRITE] += perf_counter() - since


def _outputs(stage: Stage, item: Any, result: ItemResult, sinks: _Sinks) -> Iterator[Any]:
    """What a stage yields for an item; its time and its exception are entered in ``result``."""
    steps: Iterator[Any] | None = None
    while True:
        since = perf_counter()
        try:
            if steps is None:
                steps = stage(item)
            output = next(steps)
        except StopIteration:
            return
        except Exception as error:
            _record(error, stage, item, result)
            if sinks.recorder is not None and isinstance(item, Clip):
                written = error.sentences if isinstance(error, NoCaption) else None
                sinks.recorder.lost(result.clips[-1], whole_clip=True, sentences=written)
            return
        finally:
            result.seconds[stage.name] += perf_counter() - since
            for engine, seconds in take_engine_seconds().items():
                result.engine_seconds[stage.name, engine] += seconds
        yield output
        del output


def _record(error: Exception, stage: Stage, item: Any, result: ItemResult) -> None:
    """Enter what a stage raised: as the outcome of the clip that it was given, else as the end of the item."""
    status: Status = "failed"
    reason, detail = "error", f"{type(error).__name__}: {error}"
    if isinstance(error, Reject):
        status = "failed" if isinstance(error, PermanentError) else "rejected"
        reason, detail = error.reason, error.detail
    elif isinstance(error, MemoryError):
        reason = "out_of_memory"
    detail = _without_paths(detail, item)[:MAX_DETAIL_LENGTH]
    retryable = isinstance(error, TransientError | MemoryError | OSError)
    lost = ItemError(status, stage.name, reason, detail, retryable)
    in_doubt = error.machine_dependent if isinstance(error, Reject) else status == "failed"
    if in_doubt and not result.machine_dependent:
        result.machine_dependent, result.reason = True, reason
    if isinstance(item, Clip):
        result.clips.append(_lost_clip(lost, item.span, item.clip_id))
    else:
        result.error = lost


def _lost_clip(error: ItemError, span: Span, clip_id: str | None = None) -> ClipOutcome:
    """The outcome of a clip that ended with an error; one that was not decoded has no id."""
    return ClipOutcome(
        status=error.status,
        clip_id=clip_id,
        start_seconds=span.start_seconds,
        end_seconds=span.end_seconds,
        stage=error.stage,
        reason=error.reason,
        detail=error.detail,
    )


def _without_paths(detail: str, item: Any) -> str:
    """``detail`` with the row's URI instead of local paths, which differ between machines, and of the URI to fetch,
    which may have secrets."""
    video = item.video if isinstance(item, Clip | CutVideo) else item
    if isinstance(video, Video):
        detail = detail.replace(str(video.path), video.row.uri)
    row = row_of(item)
    if row is not None and row.location:
        detail = hide_secrets(detail.replace(row.location, row.uri), row.location)
    return detail


def row_of(item: Any) -> Row | None:
    """The row that an item of any segment was made from; None for what belongs to no single row."""
    if isinstance(item, StoredRow):
        return item.row
    video = item.video if isinstance(item, Clip | CutVideo) else item
    row = video.row if isinstance(video, Video) else video
    return row if isinstance(row, Row) else None
