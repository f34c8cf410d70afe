"""Rows that are done in parts under way: counted for ``posecap status``, and kept for the next build if this one dies.

Their outcomes are known to the driver alone until their part is committed, so it enters counts and rows in the ledger,
at most once a second. A row that was kept or rejected is entered with where its samples lie in staging, by a hash of
all that determines them beside the bytes of the video (:meth:`posecap.staging.Staging.digest`). The next build takes a
row with the same hash as it is, once its samples have been read back and are those that were written; of their
thumbnails, which are in no part, only that they are there. A row that failed is tried again.

Where a row has another hash, since the pipeline or what the table says of it has changed, the build goes on from its
stored results, as far as the stages that made them are the same (:mod:`posecap.shards.results`). Before parts are
replaced, :func:`keep_stored_rows` enters where the results of their rows lie, and :func:`keep_staged_rows` where those
of rows lie that a build with another pipeline had done when it was stopped.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, astuple
from pathlib import Path, PurePosixPath
from time import monotonic, time
from typing import Any

from posecap.ledger import Ledger, reading
from posecap.outcomes import ClipOutcome, RowOutcome, RowResult, Tally
from posecap.pipeline import Perception
from posecap.plan import PlannedPart, part_fingerprint
from posecap.shards import ShardError, read_sidecar
from posecap.shards.paths import RESULTS_FOLDER, results_part
from posecap.shards.results import ResultsEntry, row_digest
from posecap.shards.sidecar import outcomes_of
from posecap.staging import FOLDER, KeptSamples, Staging, holds, holds_results, keep_part, keep_results, keep_samples
from posecap.storage import Location, open_storage
from posecap.types import FileRange, PartName, Row, StagedResults, StagedSample, StoredRow

_LASTING = ("kept", "rejected")
"""Statuses of rows that are not tried again."""
_ENTRY_SECONDS = 1.0
"""Shortest time between two entries. Our choice: a build that is stopped loses the state of one second."""


class OpenRows:
    """The rows of one run.

    Args:
        ledger: the build's, in which rows are entered.
        staging: where the run leaves samples, and whose fingerprint is the pipeline's.
        perception: what the pipeline stores of a row; None goes on from nothing.
        clock: monotonic seconds.

    ``taken`` counts the rows that earlier runs had done, ``replayed`` those of which stored results are used.
    """

    def __init__(
        self,
        ledger: Ledger,
        staging: Staging,
        *,
        perception: Perception | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._ledger, self._staging, self._clock = ledger, staging, clock
        self._perception = perception
        self._made_with: dict[str, Any] = {}
        """What the last file's stored results were made with, by the JSON of it in the ledger."""
        self._tally = Tally()
        self._entered = -math.inf
        self._digests: dict[str, str] = {}
        """Of the rows that are executed, by their id, until their part is committed."""
        self._row_digests: dict[str, str] = {}
        """Of the same rows, those by which their stored results are found."""
        self._fresh: dict[str, RowResult] = {}
        """Rows that are done and not in the ledger yet, by digest."""
        self.taken = 0
        self.replayed = 0
        ledger.record_open_rows(None)
        if perception is not None:
            made_with: dict[str, Any] = {"chains": dict(perception.chains), "vectors": perception.vectors}
            made_with["captioners"] = perception.captioners
            ledger.record_pipeline(staging.fingerprint, json.dumps(made_with))

    def begin(self, rows: Sequence[RowResult | Row]) -> list[RowResult | StoredRow | Row]:
        """Each row as far as earlier builds have done it: its result; the row as it goes on from stored results; or the
        row itself, which is to be done from the beginning. Results come back as they are.

        To be asked of every row that would be executed, as else :meth:`done` does not keep it for the next build.
        """
        waiting = [row for row in rows if isinstance(row, Row)]
        digests = [self._staging.digest(row) for row in waiting]
        of_results = [row_digest(row) for row in waiting]
        # Of a thousand rows at once: each query lets another thread in, which may hold Python's lock for milliseconds.
        finished = self._ledger.finished_rows_of(digests)
        stored = {} if self._perception is None else self._ledger.stored_rows_of(of_results)
        begun: dict[str, RowResult | StoredRow | Row] = {}
        for row, digest, of_result in zip(waiting, digests, of_results, strict=True):
            self._digests[row.row_id], self._row_digests[row.row_id] = digest, of_result
            known = self._known(row, finished.get(digest))
            begun[row.row_id] = known or self._stored(row, stored.get(of_result)) or row
        return [begun[row.row_id] if isinstance(row, Row) else row for row in rows]

    def _known(self, row: Row, written: str | None) -> RowResult | None:
        """What an earlier run made of a row, if that can be used: with the seconds and frames of that run, and no node.
        None where it is to be executed."""
        found = None if written is None else _result(written)
        if found is None or found.outcome.row_id != row.row_id:
            return None
        if not holds(self._staging.storage, [sample for sample in found.samples if isinstance(sample, StagedSample)]):
            return None
        if found.results is not None and not holds_results(self._staging.storage, found.results):
            return None
        self.taken += 1
        return found

    def _stored(self, row: Row, found: tuple[str, str, str] | None) -> StoredRow | RowResult | None:
        """A row that can go on from stored results, or the result of one that a stage rejected as a whole which is
        still the same; None for a row that is to be done from the beginning."""
        if found is None or self._perception is None:
            return None
        file, made_with, record = found
        written = json.loads(record)
        if made_with not in self._made_with:
            self._made_with = {made_with: json.loads(made_with)}  # rows of one file follow one another
        of_file = self._made_with[made_with]
        if "ended" in written:
            stage, reason, detail = written["ended"]
            chain = self._perception.chains.get(stage)
            if chain is None or of_file["chains"].get(stage) != chain:
                return None
            self.replayed += 1
            outcome = RowOutcome(
                row_id=row.row_id, uri=row.uri, status="rejected", stage=stage, reason=reason, detail=detail
            )
            return RowResult(outcome)
        after = self._perception.deepest(of_file["chains"])
        if after is None:
            return None
        self.replayed += 1
        offset, size = written["at"]
        # Names of the columns file and its SHA-256, as keep_stored_rows entered them.
        texts, samples = of_file.get("texts"), of_file.get("samples")
        # Another row of the same footage may have been named otherwise, and its clips with it.
        clips = written.get("clips") if samples is not None and written.get("row_id") == row.row_id else None
        if self._perception.row_fields and not any(clip["status"] == "kept" for clip in clips or ()):
            clips = None  # no sample tells whether the row is as it was in these fields
        return StoredRow(
            row=row,
            results=StagedResults(FileRange(file, offset, size), written["sha256"], written["source_id"]),
            after=after,
            vectors=of_file["vectors"],
            texts=None if texts is None else (texts[0], texts[1]),
            mp4s=tuple((start, end, FileRange(*at)) for start, end, at in written.get("mp4s", ())),
            captioners=tuple(of_file.get("captioners", ())),
            samples=None if clips is None else (samples[0], samples[1]),
            clips=tuple(ClipOutcome(**clip) for clip in clips or ()),
            previews={key: FileRange(*at) for key, at in written.get("previews", {}).items()},
        )

    def done(self, row: RowResult) -> None:
        """Enter a row that is done."""
        self._tally.add(row.outcome)
        digest = self._digests.get(row.outcome.row_id)
        if digest is not None and row.outcome.status in _LASTING:
            self._fresh[digest] = row
        if self._clock() - self._entered >= _ENTRY_SECONDS:
            self._enter()

    def committed(self, outcomes: Iterable[RowOutcome]) -> None:
        """Count the rows of a committed part no longer, and forget them."""
        digests = []
        for outcome in outcomes:
            self._tally.remove(outcome)
            digest = self._digests.pop(outcome.row_id, None)
            self._row_digests.pop(outcome.row_id, None)
            if digest is not None and self._fresh.pop(digest, None) is None:  # it may be in the ledger
                digests.append(digest)
        self._enter_counts()
        self._ledger.forget_finished_rows(digests)

    def end(self) -> None:
        """Enter what is left, and that nothing is under way."""
        self._enter()
        self._ledger.record_open_rows(None)

    def _enter(self) -> None:
        """Enter what is known now, and from then on count the time to the next entry."""
        self._entered = self._clock()
        records = {digest: _record(row, self._row_digests[row.outcome.row_id]) for digest, row in self._fresh.items()}
        entered = {digest: record for digest, record in records.items() if record is not None}
        self._ledger.record_finished_rows(self._staging.fingerprint, entered)
        self._fresh.clear()
        self._enter_counts()

    def _enter_counts(self) -> None:
        """Enter how many rows of open parts ended how."""
        self._ledger.record_open_rows({"entered": time(), **self._tally.as_json()})


def keep_rows(
    ledger: Ledger, location: Location, planned: Iterable[tuple[PlannedPart, Iterable[Row]]], *, fingerprint: str
) -> None:
    """Enter the rows of committed parts that are about to be replaced or removed, as those of an earlier run, so that
    they are not executed again where they are planned in other parts of their split, or among other rows. What the
    plan rejects by itself is asked of each plan anew.

    Args:
        planned: parts, with their rows, as they were planned when they were built. One that was built with another
            pipeline or from other rows, or that is damaged, is passed over.
        fingerprint: of the pipeline.
    """
    staging = Staging(open_storage(location), "", fingerprint)
    for part, rows in planned:
        try:
            sidecar = read_sidecar(location, part.name)
            if sidecar.get("fingerprint") != part_fingerprint(fingerprint, part):
                continue
            outcomes = {outcome.row_id: outcome for outcome in outcomes_of(part.name, sidecar.get("rows"))}
            samples = keep_part(location, part.name, sidecar["fingerprint"])
        except ShardError:
            continue
        kept = keep_results(location, part.name)
        stored = {} if kept is None else {one.row_id: one.results for one in kept.entries}
        records = {}
        for row in rows:
            outcome = outcomes.get(row.row_id)
            if outcome is not None and outcome.status in _LASTING and outcome.stage != "plan":
                found = RowResult(outcome, tuple(samples.get(row.row_id, ())), results=stored.get(row.row_id))
                records[staging.digest(row)] = _record(found, row_digest(row))
        ledger.record_finished_rows(fingerprint, {digest: record for digest, record in records.items() if record})


def keep_stored_rows(
    ledger: Ledger, location: Location, perception: Perception, *, built: Collection[PartName]
) -> None:
    """Enter where the stored results of rows lie, of all parts that are not built as they are planned now, under names
    under which they outlast these parts. Files that cannot be read, and results of which the pipeline can use nothing,
    are passed over.

    Args:
        built: parts that stay as they are.
    """
    storage = open_storage(location)
    for part in [results_part(file.name) for file in storage.list(RESULTS_FOLDER)]:
        if part is None or part in built or (kept := keep_results(storage, part)) is None:
            continue
        usable = perception.deepest(kept.chains) is not None
        texts = usable and kept.texts == perception.texts != ""
        mp4s = usable and kept.mp4 == perception.mp4 != ""
        same = usable and kept.samples == perception.samples != ""
        samples = keep_samples(storage, part, texts=texts, mp4s=mp4s, samples=same)
        records = {}
        for entry in kept.entries:
            if entry.results is not None and usable:
                at = entry.results.at
                stored = {
                    "at": [at.offset, at.size],
                    "sha256": entry.results.sha256,
                    "source_id": entry.results.source_id,
                    **_stored_samples(entry.row_id, samples, perception),
                }
                records[entry.digest] = json.dumps(stored)
            elif entry.ended is not None:
                records[entry.digest] = json.dumps({"ended": entry.ended})
        if records:
            made_with: dict[str, Any] = {"chains": dict(kept.chains), "vectors": kept.vectors}
            made_with |= {"captioners": kept.captioners, "files": sorted(samples.files)}
            if texts:
                made_with["texts"] = samples.columns
            if same:
                made_with["samples"] = samples.columns
            ledger.record_stored_rows([(kept.file, json.dumps(made_with), records)])


def _stored_samples(row_id: str, samples: KeptSamples, perception: Perception) -> dict[str, Any]:
    """What the record of a row's stored results says of its samples; of them themselves nothing where a clip ended
    otherwise than in a stage before those that make captions and vectors."""
    stored: dict[str, Any] = {}
    if videos := samples.mp4s.get(row_id):
        stored["mp4s"] = [(start, end, astuple(found)) for start, end, found in videos]
    clips = samples.outcomes[row_id].clips if row_id in samples.outcomes else ()
    lost = [clip for clip in clips if clip.status != "kept"]
    if clips and all(clip.status == "rejected" and clip.stage in perception.shaping for clip in lost):
        stored |= {"row_id": row_id, "clips": [dict(vars(clip)) for clip in clips]}
        pictures = {clip.clip_id: samples.previews.get(clip.clip_id or "") for clip in clips}
        stored["previews"] = {key: astuple(at) for key, at in pictures.items() if at is not None}
    return stored


def keep_staged_rows(ledger: Ledger, perception: Perception, *, fingerprint: str) -> None:
    """Enter where the results of rows lie in staging that a build with another pipeline had done when it was stopped,
    as far as this pipeline can use them, and no others that it can use more of are known.

    Rows that were rejected as a whole have none, and are done again.

    Args:
        fingerprint: of the pipeline, whose own rows are taken as they are.
    """
    stages = perception.stages

    def depth(made_with: str) -> int:
        after = perception.deepest(json.loads(made_with)["chains"])
        return -1 if after is None else stages.index(after)

    found = []
    for record, made_with in ledger.rows_of_other_pipelines(fingerprint):
        row, usable = _result(record), depth(made_with)
        digest = json.loads(record).get("row") if row is not None else None
        if row is None or row.results is None or digest is None or usable < 0:
            continue
        known = ledger.stored_rows_of([digest]).get(digest)
        if known is None or depth(known[1]) < usable:
            at = row.results.at
            stored = {"at": [at.offset, at.size], "sha256": row.results.sha256, "source_id": row.results.source_id}
            found.append((at.file, made_with, {digest: json.dumps(stored)}))
    ledger.record_stored_rows(found)


def results_entry(row: RowResult, digest: str, perception: Perception) -> ResultsEntry | None:
    """The line of a row that is done in the list of its part's stored results; None where nothing of it is stored."""
    outcome = row.outcome
    if row.results is not None:
        return ResultsEntry(row_id=outcome.row_id, digest=digest, results=row.results)
    if outcome.status == "rejected" and not outcome.clips and outcome.stage in perception.chains:
        ended = (outcome.stage, outcome.reason, outcome.detail)
        return ResultsEntry(row_id=outcome.row_id, digest=digest, results=None, ended=ended)
    return None


def files_to_keep(ledger: Ledger, *, fingerprint: str) -> frozenset[str]:
    """Names of the staging files of rows that a build with a pipeline of this fingerprint may take as they are, and of
    stored results. Rows of other pipelines are forgotten.
    """
    ledger.forget_finished_rows(None, but_of=fingerprint)
    return staged_files(ledger)


def staged_by(path: Path) -> frozenset[str]:
    """:func:`staged_files` of the ledger at ``path``; none where there is no ledger."""
    if not path.is_file():
        return frozenset()
    with reading(path) as ledger:
        return staged_files(ledger)


def staged_files(ledger: Ledger) -> frozenset[str]:
    """Names of the staging files in which rows lie that the ledger knows, and stored results."""
    found = (_result(record) for record in ledger.finished_rows())
    names = {name for row in found if row is not None for name in staged_names(row)}
    for file, made_with in ledger.stored_files().items():
        names |= {file, *json.loads(made_with).get("files", ())}
    return frozenset(names)


def staged_names(row: RowResult) -> Iterator[str]:
    """Names of the staging files in which a row's samples and results lie, some of them more than once."""
    for sample in row.samples:
        if isinstance(sample, StagedSample):
            yield from files_of(sample)
    if row.results is not None:
        yield row.results.at.file


def files_of(sample: StagedSample) -> set[str]:
    """Names of the files in which a sample lies."""
    return {piece.file for piece in (sample.pose, sample.video, sample.thumbnail) if piece is not None}


def _record(row: RowResult, digest: str) -> str | None:
    """The row as JSON; None where its samples are not in staging: a part's files may be replaced by the next commit,
    and a row that was renewed has its samples in such files alone.

    Args:
        digest: :func:`posecap.shards.results.row_digest`.
    """
    samples = [sample for sample in row.samples if isinstance(sample, StagedSample)]
    kept = sum(clip.status == "kept" for clip in row.outcome.clips)
    if len(samples) < max(len(row.samples), kept) or not all(map(_is_staged, staged_names(row))):
        return None
    written = {
        "outcome": row.outcome.as_json(),
        "samples": [asdict(sample) for sample in samples],
        "seconds": dict(row.seconds),
        "frames": row.frames,
        "row": digest,
    }
    if row.results is not None:
        written["results"] = asdict(row.results)
    return json.dumps(written, separators=(",", ":"))


def _result(written: str) -> RowResult | None:
    """What :func:`_record` wrote; None where it is anything else, or names files outside staging."""
    try:
        record = json.loads(written)
        samples = tuple(_sample(sample) for sample in record["samples"])
        outcome = RowOutcome.from_json(record["outcome"])
        seconds = {str(stage): float(took) for stage, took in record["seconds"].items()}
        stored = record.get("results")
        results = None if stored is None else StagedResults(**{**stored, "at": FileRange(**stored["at"])})
        result = RowResult(outcome, samples, seconds, int(record["frames"]), results=results)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
    return result if all(map(_is_staged, staged_names(result))) else None


def _sample(written: dict[str, Any]) -> StagedSample:
    """A sample of :func:`_record`; KeyError or TypeError where it is anything else."""
    pieces = {name: written[name] for name in ("pose", "video", "thumbnail")}
    ranges = {name: None if piece is None else FileRange(**piece) for name, piece in pieces.items()}
    return StagedSample(**{**written, **ranges})


def _is_staged(name: str) -> bool:
    """Whether a name is that of a file in the folder of staging."""
    return name.startswith(f"{FOLDER}/") and ".." not in PurePosixPath(name).parts
