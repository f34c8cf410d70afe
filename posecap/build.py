"""Builds a dataset: manifest → plan → parts left to build → workers → committed parts → report and card.

What is left to do follows from the plan and the sidecars on disk alone, so a build that was killed at any moment is
resumed after its last committed part. Rows that were done in parts under way are not done again either, where ledger
and staging files are still there (:mod:`posecap.open_rows`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from posecap import legacy
from posecap.duplicates import read_groups
from posecap.enrichment import (
    Enriched,
    Enrichment,
    EnrichmentError,
    Member,
    is_made_otherwise,
    remove_member,
    remove_outdated,
)
from posecap.finalize import (
    finalize,
    mark_unfinished,
    missing_descriptions,
    read_final_report,
    read_manifest_path,
    write_manifest_path,
)
from posecap.ledger import LEDGER_FILE, Ledger
from posecap.manifest.importers import unfilled
from posecap.manifest.manifest_file import Manifest, read_manifest
from posecap.metrics import BuildMetrics, TextFile
from posecap.open_rows import (
    OpenRows,
    files_to_keep,
    keep_rows,
    keep_staged_rows,
    keep_stored_rows,
    results_entry,
    staged_names,
)
from posecap.outcomes import ClipOutcome, RowOutcome, RowResult, sum_seconds, tally
from posecap.pipeline import Perception, Pipeline, PipelineError, Segment, Storing, load_pipeline
from posecap.plan import PLAN_FILE, Plan, PlanError, PlannedPart, PlannedRow, make_plan, open_plan, part_fingerprint
from posecap.plan_store import adopt_stored_plan, fetch_plan, output_storage, store_plan, work_folder
from posecap.progress import Progress, Shape
from posecap.release.report import Run
from posecap.run.execute import MAX_DETAIL_LENGTH, OUTPUT_NOT_WRITABLE
from posecap.run.local import CrashJournal
from posecap.run.pool import Health, NodeChange, Pool
from posecap.run.schedule import PartResult, Schedule, WorkPart
from posecap.shards import (
    PartFiles,
    ShardError,
    Tombstones,
    commit_part,
    damaged_files,
    is_dataset,
    not_a_dataset,
    read_sidecar,
    read_tombstones,
    reject_removed,
    remove_part,
)
from posecap.shards.extra import MemberName
from posecap.shards.results import ResultsList, read_results_list, row_digest
from posecap.shards.sidecar import each_sidecar, encode_document, outcomes_of, sidecar_hashes
from posecap.stage import Reject, Resources, Stage, check_installed
from posecap.stages.pack import Pack
from posecap.staging import Staging, WriteJob, WritePart, remove_attempts_at_end, remove_unfinished, samples_in_part
from posecap.storage import (
    LocalStorage,
    Location,
    Lock,
    RemoteStorage,
    Storage,
    is_remote,
    open_storage,
)
from posecap.terminal import ALARM, COMPLETE, PARTIAL, count_text
from posecap.types import KeepIntermediates, PartName, Row, StagedSample, StoredRow
from posecap.uris import public_uri
from posecap.visualization.contact_sheet import write_preview

_SHOWN = 8
"""Parts, reasons and files that a message names."""
_WRITING = Resources(cpus=0)
"""Of a worker that writes parts."""


class BuildError(RuntimeError):
    """The build cannot continue; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to build; none of it changes a sample.

    ``address`` and ``row_seconds`` are for Ray alone: threads cannot be stopped. A crash of native code ends a build
    with threads; once it is started again this counts as a death of each worker that was at work. An hour for a
    row and three deaths, the defaults, are our choices: a slow video of some minutes ends well within the hour, and a
    worker that dies for another reason (a machine without memory) rarely does so three times on one row.

    Args:
        runner: ``ray`` actors or ``local`` threads.
        workers: workers of each computing segment of the pipeline, over all nodes. None takes as many as the nodes have
            CPUs and GPUs for; with threads, one for each core.
        address: of a running Ray cluster; None starts Ray on this machine for the time of the build.
        retry: also try rows of earlier runs again, of which no clip was kept: those that are retryable
            (:class:`posecap.outcomes.RowOutcome`; empty tuple), or those rejected, failed or quarantined for one of
            these reasons; None leaves them.
        on_change: ``refuse`` to continue when pipeline or manifest have changed since parts were built, or ``update``,
            which rebuilds exactly the parts that changed and removes those that are no longer planned.
        row_seconds: longest time, in seconds, that one segment may take for one row. Then its worker is stopped and the
            row tried again, ``poison_after`` times in all, after which it failed with the reason ``timeout``.
        poison_after: a row on which a worker dies this many times, over all runs until it has an outcome, is
            quarantined.
        progress: how progress is shown, on stderr.
        keep_intermediates: what is stored to go on from, in place of what the manifest says; None for that.
        metrics_file: where metrics are written in Prometheus' text format (:class:`posecap.metrics.TextFile`); None for
            nowhere. With the runner ``ray`` they go to Ray as well.

    Raises:
        BuildError: a number is out of its range.
    """

    runner: Literal["ray", "local"] = "ray"
    workers: int | None = None
    address: str | None = None
    retry: tuple[str, ...] | None = None
    on_change: Literal["refuse", "update"] = "refuse"
    row_seconds: float = 3600.0
    poison_after: int = 3
    progress: Shape = "auto"
    keep_intermediates: KeepIntermediates | None = None
    metrics_file: Path | None = None

    def __post_init__(self) -> None:
        if (self.workers is not None and self.workers < 1) or self.poison_after < 1 or not self.row_seconds > 0:
            raise BuildError(
                f"workers is {self.workers}, poison_after {self.poison_after} and row_seconds {self.row_seconds:g}; "
                "give at least 1 worker (None for all), poison_after at least 1 and row_seconds above 0"
            )


@dataclass(frozen=True)
class BuildResult:
    """The result of a build.

    ``location`` is the dataset's folder or address; ``report`` is what ``report.json`` holds, of an earlier run where
    there was nothing to do; ``parts_built`` counts the parts that this run wrote, those included of which it tried only
    some rows again.
    """

    location: str
    report: dict[str, Any]
    parts_built: int

    @property
    def root(self) -> Path:
        """The dataset's folder.

        Raises:
            ValueError: it is in an object store.
        """
        if is_remote(self.location):
            raise ValueError(f"{self.location} is no folder; give the address to posecap.open and to posecap.index")
        return Path(self.location)

    @property
    def exit_code(self) -> int:
        """4 when the report has alarms, else 3 when rows or clips failed or rows were quarantined, else 0.

        Of the whole dataset, not only of this run.
        """
        return ALARM if self.report["alarms"] else self.exit_code_without_alarms

    @property
    def exit_code_without_alarms(self) -> int:
        """As :attr:`exit_code`, for somebody who has seen the alarms and finds that they are as they should be."""
        rows, clips = self.report["counts"]["rows"], self.report["counts"]["clips"]
        return PARTIAL if rows["failed"] or rows["quarantined"] or clips["failed"] else COMPLETE


def build(
    manifest_path: Path,
    *,
    output: str | os.PathLike[str] | None = None,
    options: Options | None = None,
    log: Callable[[str], None] = print,
) -> BuildResult:
    """Build the dataset that a manifest describes, or resume building it.

    Args:
        output: folder of the dataset, created where there is none, or the address of an object store, such as
            ``s3://bucket/poses``; None for the manifest's.
        options: None for the defaults.
        log: prints a line for the user. Progress goes to stderr whatever it is (``options.progress``).

    Raises:
        ManifestError, PipelineError: the input is not usable.
        ModuleNotFoundError: an engine's package is not installed; nothing has been written.
        MissingWeightsError: weights that the pipeline needs are neither on this machine nor downloadable.
        WorkersNotReadyError: no Ray worker can start. A thread raises its engine's own error.
        ShardError: ``tombstones.json`` is damaged.
        EnrichmentError: an extra member of the pipeline is there, made otherwise, and ``on_change`` is ``refuse``.
        BuildError: pipeline or manifest have changed since parts were built, and ``on_change`` is ``refuse``; or the
            output holds files of something else, or cannot be written.
        StorageError: an object store cannot be reached or written, or fails for longer than is waited.
        DatasetLockedError: another process is building or changing the dataset.
    """
    options = options or Options()
    manifest = read_manifest(manifest_path)
    manifest = replace(manifest, keep_intermediates=options.keep_intermediates or manifest.keep_intermediates)
    pipeline = pipeline_of(manifest)
    check_installed([*pipeline.stages, *_extra_stages(pipeline)])
    storage = output_storage(output, manifest)
    _prepare_output(storage)
    if lines := unfilled(manifest):
        found = " and ".join(map(repr, lines))
        log(f"note: placeholders are left, {found}: write the dataset's own into {manifest_path}")
    with storage.lock() as lock:
        here = work_folder(storage)
        stored = adopt_stored_plan(storage)
        plan = make_plan(manifest, here / f".{PLAN_FILE}.new", built=stored, near=read_groups(storage))
        fingerprints = part_fingerprints(pipeline, plan)
        change = compare(storage, fingerprints, pipeline)
        if change.needs_consent and options.on_change == "refuse":
            raise BuildError(explain(change, storage))
        if change.needs_consent and any(True for _ in storage.list("index")):
            _check_that_some_row_is_left(plan, pipeline, storage)
        with Ledger(here / LEDGER_FILE) as ledger:
            current = change.built.keys() - {*change.changed}
            if change.needs_consent:
                _keep_rows(ledger, storage, change, stored, pipeline)
            perception = pipeline.perception()
            if perception is not None:
                keep_stored_rows(ledger, storage, perception, built=current)
                keep_staged_rows(ledger, perception, fingerprint=pipeline.fingerprint())
            plan = _adopt(plan, storage, change)
            write_manifest_path(storage, manifest, keep=options.keep_intermediates)
            _fill_ledger(ledger, storage, change)
            todo = [part for part in plan.parts() if part.name not in current]
            retried = [
                part
                for part in plan.parts()
                if options.retry is not None
                and part.name in current
                and any(_is_retried(row, options) for row in _outcomes(storage, part.name))
            ]
            names = frozenset(part.name for part in retried)
            work = _Build(manifest, pipeline, plan, storage, lock, ledger, options, log, names)
            return work.run([*todo, *retried], fingerprints)


def add_member(
    location: Location,
    name: MemberName,
    engine: Any,
    *,
    manifest: Path | None = None,
    existing: Literal["refuse", "replace"] = "refuse",
    options: Options | None = None,
    log: Callable[[str], None] = print,
) -> Enriched:
    """Add a member to the samples of a built dataset (:mod:`posecap.enrichment`), or what is missing of it. Nothing is
    done where all of it is there.

    Args:
        engine: that makes it: a text or video embedder, or a captioner (:mod:`posecap.interfaces`).
        manifest: that the dataset was built from; None for the recorded one. Vectors of captions need none.
        existing: what happens where the dataset has a member of this name that was made otherwise.
        options: None for the defaults. ``retry`` tries samples again that have none, whatever the reason.
        log: as for :func:`build`.

    Raises:
        EnrichmentError: it cannot be added; the message says why.
        ManifestError, PipelineError: the manifest or its pipeline is not usable.
        ModuleNotFoundError, MissingWeightsError, WorkersNotReadyError, StorageError, DatasetLockedError: as
            :func:`build`.
        ShardError: there is no dataset, or it is damaged.
    """
    options = options or Options()
    storage = open_storage(location)
    if not is_dataset(storage):
        raise ShardError(not_a_dataset(storage))
    if isinstance(storage, RemoteStorage) and not storage.is_writable:
        raise BuildError(
            f"{storage.location}: web servers and the Hub cannot be written to; name a folder or an object store"
        )
    found, base = None, None
    if name.kind != "text":
        path = manifest or read_manifest_path(storage)
        if path is None:
            raise EnrichmentError(f"{name} needs videos, and no manifest is known that names them: give --manifest")
        found = read_manifest(path)
        base = pipeline_of(found)
    member = Member.of(name, engine, base)
    check_installed(member.pipeline.stages)
    with storage.lock() as lock:
        plan, path = None, work_folder(storage) / f".{PLAN_FILE}.add"
        try:
            if found is not None:
                plan = make_plan(found, path, built=fetch_plan(storage), near=read_groups(storage))
            if existing == "replace" and is_made_otherwise(storage, member):
                remove_member(storage, name)
            return _enrich(storage, lock, member, plan=plan, options=options, log=log)
        finally:
            path.unlink(missing_ok=True)


def _enrich(
    storage: Storage,
    lock: Lock,
    member: Member,
    *,
    plan: Plan | None,
    options: Options,
    remake: bool = False,
    log: Callable[[str], None],
) -> Enriched:
    """Make what is missing of a member; the report is deleted where there was something, as it does not name it."""
    work = Enrichment(
        storage=storage,
        lock=lock,
        member=member,
        plan=plan,
        start_pool=partial(_start_pool, options=options, journal=None),
        retry=options.retry is not None,
        remake=remake,
        poison_after=options.poison_after,
        shape=options.progress,
        log=log,
    )
    done = work.run()
    if done.parts:
        mark_unfinished(storage)
    return done


def _extra_stages(pipeline: Pipeline) -> list[Stage]:
    """The last stage of each extra member of a pipeline.

    Raises:
        PipelineError: an engine is none that can make its member.
    """
    try:
        members = [Member.of(MemberName.of(name), engine, pipeline) for name, engine in pipeline.extra.items()]
    except EnrichmentError as error:
        raise PipelineError(f"extra: {error}") from None
    return [member.pipeline.stages[-1] for member in members]


@dataclass
class _Build:
    """One run of a build, whose caller holds ``lock``, that of the dataset in ``storage``. ``retried`` are built parts
    of which some rows are tried again.
    """

    manifest: Manifest
    pipeline: Pipeline
    plan: Plan
    storage: Storage
    lock: Lock
    ledger: Ledger
    options: Options
    log: Callable[[str], None]
    retried: frozenset[PartName]
    _digests: dict[PartName, dict[str, str]] = field(default_factory=dict)
    """Of the rows of open parts that are not rejected by the plan, for their stored results, by row id."""
    _labels: dict[PartName, dict[str, str]] = field(default_factory=dict)
    """Labels of the rows of open parts that have one, by row id."""
    _poisoned: frozenset[str] = frozenset()
    """Rows on which so many runs with threads crashed that they are not tried again."""
    _crashed: bool = False
    """Whether the last run did, with threads, or rows are left on which one did."""
    _metrics: BuildMetrics = field(init=False)

    def __post_init__(self) -> None:
        segments = [(segment.stages[0].name, segment.resources) for segment in self.pipeline.segments()]
        self._metrics = BuildMetrics(dataset=self.manifest.name, segments=[*segments, (WritePart.name, _WRITING)])

    def run(self, todo: Sequence[PlannedPart], fingerprints: Mapping[PartName, str]) -> BuildResult:
        """Build the parts of ``todo``, and what describes the dataset if any part or that itself was missing.

        Args:
            fingerprints: of all parts of the plan.
        """
        if not todo:
            self._enrich()
        finished = None if todo else read_final_report(self.storage)
        missing = missing_descriptions(self.storage) if finished is not None else []
        if not todo:
            CrashJournal(work_folder(self.storage)).take()  # of a run that was killed behind the last part
            remove_unfinished(self.storage)
            self.ledger.forget_finished_rows(None)
            self.ledger.forget_stored_rows()
        if missing:
            self.log(f"{self.storage.location}: every part is built; {', '.join(missing)} made again")
        elif finished is not None:
            self.log(f"{self.storage.location}: every part is built; nothing to do")
            return BuildResult(self.storage.location, finished, 0)
        mark_unfinished(self.storage)
        started, since = datetime.now(UTC), monotonic()
        total = sum(part.rows for part in self.plan.parts())
        progress = Progress(
            rows=total,
            rows_before=total - sum(part.rows for part in todo),
            stages=self.pipeline.stages,
            expected_rejections=self.pipeline.expected_rejections,
            metrics=self._metrics,
            shape=self.options.progress,
        )
        start_seconds = self._work(todo, fingerprints, progress) if todo else 0.0
        for name, parts in remove_outdated(self.storage, self.pipeline).items():
            if str(name) not in self.pipeline.extra:
                again = f"`posecap add` with the same model makes {count_text(parts, 'part')} of it again"
                self.log(f"note: samples of {name} have changed: {again}")
        if todo:
            self._enrich()
        stage_seconds, _ = self.ledger.seconds()
        run = Run(
            started=started,
            ended=datetime.now(UTC),
            seconds=monotonic() - since,
            start_seconds=start_seconds,
            runner=self.options.runner,
            workers=self.options.workers,
            parts=progress.parts,
            clips=progress.clips,
            frames=progress.frames,
            stage_seconds=stage_seconds,
            nodes=self.ledger.nodes() if todo else (),
        )
        report = finalize(self.storage, manifest=self.manifest, pipeline=self.pipeline, ledger=self.ledger, run=run)
        return BuildResult(self.storage.location, report, len(todo))

    def _enrich(self) -> None:
        """Make the extra members that the pipeline names: captions before vectors of texts, which cover them."""
        remake = self.options.on_change == "update"
        for name in sorted(map(MemberName.of, self.pipeline.extra)):
            member = Member.of(name, self.pipeline.extra[str(name)], self.pipeline)
            done = _enrich(
                self.storage, self.lock, member, plan=self.plan, options=self.options, remake=remake, log=self.log
            )
            if done.missing:
                counted = ", ".join(f"{reason} {count:,}" for reason, count in done.missing.items())
                self.log(f"note: {sum(done.missing.values()):,} of {done.samples:,} clips have no {name}: {counted}")

    def _work(self, todo: Sequence[PlannedPart], fingerprints: Mapping[PartName, str], progress: Progress) -> float:
        """Build the parts of ``todo``; returns the seconds until the workers were ready."""
        tombstones = read_tombstones(self.storage)
        record = {"pipeline": self.pipeline.configuration(), "lineage": self.pipeline.lineage()}
        journal = self._crash_journal()
        fingerprint = self.pipeline.fingerprint()
        keep = files_to_keep(self.ledger, fingerprint=fingerprint)
        staging = Staging.start(self.storage, fingerprint=fingerprint, keep=keep)
        perception = self.pipeline.perception()
        open_rows = OpenRows(self.ledger, staging, perception=perception)

        def write_job(done: PartResult, renewed: Mapping[int, StoredRow]) -> WriteJob | None:
            """The part to write; None where it has neither samples nor results to store, or where rows are not to be
            renewed: clips of them may have been removed, or the last run crashed and each row is to be noted while it
            is worked on."""
            if renewed and (tombstones or self._crashed):
                return None
            samples = _samples(done.rows, renewed, tombstones)
            written = {"fingerprint": fingerprints[done.name], "lineage": record["lineage"]}
            results = self._results(done, perception, tombstones)
            if not samples and results is None:
                return None
            return WriteJob(part=done.name, samples=samples, record=written, results=results)

        def on_row(row: RowResult) -> None:
            """Count a row that is done; end the build where no sample can be written, as all others would fail too."""
            lost: list[RowOutcome | ClipOutcome] = [row.outcome, *row.outcome.clips]
            for one in lost:
                if one.reason == OUTPUT_NOT_WRITABLE:
                    raise BuildError(f"{one.detail}; make room or correct the output, and start the build again")
            open_rows.done(row)
            progress.row(row)

        file = _metrics_file(self.options.metrics_file, self._metrics)
        try:
            pool = _start_pool(self._segments(staging, perception), self.options, journal)
            counted = self._exported(file)
            with journal.kept() if journal else nullcontext(), closing(pool), progress, counted:
                schedule = Schedule(
                    pool,
                    poison_after=self.options.poison_after,
                    attempts=self.ledger.losses(),
                    on_row=on_row,
                    on_finished=lambda done: self._metrics.finished(done, schedule.queues, pool.load),
                    on_lost=self.ledger.record_loss,
                    on_node=lambda changed: self._on_node(changed, schedule.health),
                    write_job=write_job,
                )
                self.ledger.record_nodes(())  # forgets those of the last run
                for done in schedule.run(self._work_parts(todo, open_rows)):
                    self._commit(done, {"fingerprint": fingerprints[done.name], **record}, tombstones)
                    staging.remove(name for row in done.rows for name in staged_names(row))
                    del self._digests[done.name]
                    labels, outcomes = self._labels.pop(done.name), [row.outcome for row in done.rows]
                    open_rows.committed(outcomes)
                    progress.part(done.name, [(labels[o.row_id], o) for o in outcomes if o.row_id in labels])
                    self.ledger.record_nodes(schedule.health.as_json())
        finally:
            open_rows.end()
        # Not after an error: the next build takes what is staged.
        staging.end(kept=keep)
        remove_attempts_at_end(self.storage, self.lock)
        self.ledger.forget_finished_rows(None)
        self.ledger.forget_stored_rows()
        if open_rows.taken:
            self.log(f"note: {open_rows.taken:,} rows are as earlier runs left them, and were not executed again")
        if open_rows.replayed:
            self.log(f"note: {open_rows.replayed:,} rows went on from what was stored of them")
        return pool.start_seconds

    def _segments(self, staging: Staging, perception: Perception | None) -> tuple[Segment, ...]:
        """What workers run, with one more segment, in which they write parts."""
        *before, last = self.pipeline.segments()
        storing = None
        if perception is not None:
            earlier = tuple(stage for segment in before for stage in segment.stages)
            storing = Storing(perception, earlier, self.manifest.keep_intermediates)
        load: Literal["first", "on_use"] = "on_use" if self.ledger.stored_files() else "first"
        last = replace(last, staging=staging, storing=storing, load=load)
        return (*before, last, Segment((WritePart(staging),), _WRITING))

    def _results(self, done: PartResult, perception: Perception | None, tombstones: Tombstones) -> ResultsList | None:
        """What is stored of a part's rows, but for those of which clips were removed; None where nothing is."""
        if perception is None or self.manifest.keep_intermediates == "none":
            return None
        digests = self._digests[done.name]
        removed = {
            row.outcome.row_id
            for row in done.rows
            if tombstones and any(clip.clip_id in tombstones.keys for clip in row.outcome.clips)
        }
        found = (
            results_entry(row, digests[row.outcome.row_id], perception)
            for row in done.rows
            if row.outcome.row_id in digests
        )
        entries = tuple(entry for entry in found if entry is not None)
        results = ResultsList(
            perception.chains,
            perception.vectors,
            entries,
            texts=perception.texts,
            mp4=perception.mp4,
            captioners=perception.captioners if self.manifest.keep_intermediates == "all" else (),
            samples=perception.samples,
        ).without(tombstones.sources, removed)
        return results if results.entries else None

    @contextmanager
    def _exported(self, file: TextFile | None) -> Iterator[None]:
        """In the block, metrics go to Ray, where workers are Ray's, and into a file."""
        if self.options.runner == "ray":
            from posecap.run.ray_cluster import RayMetrics

            self._metrics.export_to(RayMetrics(self.manifest.name))
        if file is not None:
            self._metrics.export_to(file)
        try:
            yield
        finally:
            self._metrics.end()
            if file is not None:
                file.end()

    def _on_node(self, changed: NodeChange, health: Health) -> None:
        """Tell the user of a node that is no longer used or used again, and record it."""
        self._metrics.node(changed)
        self.log(changed.sentence())
        self.ledger.record_nodes(health.as_json())

    def _crash_journal(self) -> CrashJournal | None:
        """The journal of this run, after what it says of the last one is counted; None for Ray, which isolates rows."""
        if self.options.runner == "ray":
            return None
        journal = CrashJournal(work_folder(self.storage))
        crash = journal.take()
        if crash:
            for row_id in crash.rows:
                self.ledger.record_loss(row_id)
            rows = "while it worked on no row or on a whole part; rows are done one by one now"
            if crash.rows:
                rows = f"while it worked on {_some(crash.rows)}, which it does one by one now"
            self.log(f"note: the last run crashed ({crash.said}) {rows}")
        losses = self.ledger.losses()
        self._crashed = crash is not None or bool(losses)
        self._poisoned = frozenset(row_id for row_id, times in losses.items() if times >= self.options.poison_after)
        return replace(journal, in_doubt=losses.keys())

    def _work_parts(self, todo: Sequence[PlannedPart], open_rows: OpenRows) -> Iterator[WorkPart]:
        """Rows of each part, with the results of those that an earlier run had done; for a retry, also with those of
        rows that are not tried again."""
        for part in todo:
            known = _carried_over(self.storage, part, self.options) if part.name in self.retried else {}
            rows: list[RowResult | Row] = []
            labels = self._labels[part.name] = {}
            digests = self._digests[part.name] = {}
            for planned in self.plan.rows(part):
                if planned.row.label:
                    labels[planned.row.row_id] = planned.row.label
                rejected = rejected_by_plan(planned, self.pipeline)
                if planned.row.row_id in self._poisoned:
                    rejected = _quarantined(planned.row, self.options.poison_after)
                if rejected is None:
                    digests[planned.row.row_id] = row_digest(planned.row)
                rows.append(rejected or known.get(planned.row.row_id) or planned.row)
            yield WorkPart(part.name, tuple(open_rows.begin(rows)))

    def _commit(self, done: PartResult, record: Mapping[str, Any], tombstones: Tombstones) -> None:
        """Commit a part, also one without samples, and enter it in the ledger; ``record`` goes into its sidecar."""
        rows = [_without_removed(row, tombstones) for row in done.rows]
        outcomes = [row.outcome for row in rows]
        files = done.files
        if files is None:
            write_preview(self.storage, done.name, ())  # removes those of the part as it was before
            files = PartFiles({}, {}, 0)
        counts = {"counts": tally(outcomes).as_json(), "rows": [outcome.as_json() for outcome in outcomes]}
        self.lock.check()
        document = commit_part(self.storage, done.name, files, record={**record, **counts})
        sidecar = hashlib.sha256(encode_document(document)).hexdigest()
        seconds = sum_seconds(row.seconds for row in rows)
        frames = sum(row.frames for row in rows)
        self.ledger.record_part(done.name, sidecar, outcomes, seconds=seconds, frames=frames)


def _prepare_output(storage: Storage) -> None:
    """Create the dataset's folder where there is none; see that an object store can be written.

    Raises:
        BuildError: it cannot be created or written, or holds files and none of a dataset. Hidden files do not count.
        StorageError: the object store cannot be reached or written.
    """
    if isinstance(storage, LocalStorage):
        _make_output_folder(storage.root)
        return
    if isinstance(storage, RemoteStorage) and not storage.is_writable:
        raise BuildError(
            f"{storage.location}: web servers and the Hub cannot be written to; name a folder or an object store"
        )
    if not is_dataset(storage):
        others = sorted({file.name.partition("/")[0] for file in storage.list() if not file.name.startswith(".")})
        if others:
            raise BuildError(
                f"{storage.location}: this is no dataset and holds other files ({_some(others)}); give another --output"
            )
    storage.now()  # writes a file and deletes it


def _some(names: Sequence[str]) -> str:
    """The first of several names, for a message."""
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")


def _make_output_folder(root: Path) -> None:
    """:func:`_prepare_output` of a folder."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        others = sorted(path.name for path in root.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise BuildError(
            f"{root}: the dataset's folder cannot be made here ({error.strerror}); name another with --output"
        ) from error
    if not os.access(root, os.W_OK | os.X_OK):
        raise BuildError(f"{root}: this folder cannot be written; name another with --output")
    if others and not is_dataset(root):
        raise BuildError(
            f"{root}: this folder is no dataset and holds other files ({_some(others)}); name a new or an empty folder "
            "with --output"
        )


def pipeline_of(manifest: Manifest) -> Pipeline:
    """The pipeline that a manifest is built with: the one that it names, with its ``filter`` and ``store_video``.

    Raises:
        PipelineError: the pipeline is not usable.
        ModuleNotFoundError: a module of posecap needs a package that is not installed.
    """
    pipeline = load_pipeline(manifest.pipeline).filtered(manifest.filter)
    *before, last = pipeline.stages
    if isinstance(last, Pack):
        pipeline = replace(pipeline, stages=(*before, replace(last, store_video=manifest.store_video)))
    return pipeline


def part_fingerprints(pipeline: Pipeline, plan: Plan) -> dict[PartName, str]:
    """A hash of everything that determines a part: pipeline, package versions, weights and rows."""
    pipeline_fingerprint = pipeline.fingerprint()
    return {part.name: part_fingerprint(pipeline_fingerprint, part) for part in plan.parts()}


def _check_that_some_row_is_left(plan: Plan, pipeline: Pipeline, storage: Storage) -> None:
    """Raise BuildError where the plan rejects every row, as when the column of labels has another name: an update would
    remove every clip that is there."""
    first: RowResult | None = None
    for part in plan.parts():
        for planned in plan.rows(part):
            rejected = rejected_by_plan(planned, pipeline)
            if rejected is None:
                return
            first = first or rejected
    if first is not None:
        raise BuildError(
            f"{storage.location}: nothing was changed, as every row would be rejected, the first one as "
            f"{first.outcome.reason} ({first.outcome.detail}): correct the tables, or name another --output"
        )


def _adopt(plan: Plan, storage: Storage, change: Change) -> Plan:
    """Make the new plan the dataset's plan, and remove parts that it no longer has and uploads of killed builds."""
    if isinstance(storage, RemoteStorage):
        storage.remove_unfinished_uploads()
    for name in change.gone:
        remove_part(storage, name)
        write_preview(storage, name, ())  # removes its previews
    path = store_plan(storage, plan.path)
    return open_plan(path, media_root=plan.media_root, private=plan.private)


def _keep_rows(ledger: Ledger, storage: Storage, change: Change, stored: Path, pipeline: Pipeline) -> None:
    """Keep the rows of parts that are built anew or removed, as far as the pipeline is still the same.

    Args:
        stored: the plan that they were built after.
    """
    try:
        plan = open_plan(stored, media_root="")
    except PlanError:
        return
    replaced = {*change.changed, *change.gone}
    planned = ((part, (found.row for found in plan.rows(part))) for part in plan.parts() if part.name in replaced)
    keep_rows(ledger, storage, planned, fingerprint=pipeline.fingerprint())


def _fill_ledger(ledger: Ledger, storage: Storage, change: Change) -> None:
    """Make the ledger agree with the sidecars: it may be missing, outdated, or have parts that were removed."""
    entered = ledger.parts()
    for name in entered.keys() - {str(part) for part in change.built}:
        ledger.remove_part(name)
    for part, sidecar in sidecar_hashes(storage, sorted(change.built)):
        if entered.get(str(part)) != sidecar:
            ledger.record_part(part, sidecar, _outcomes(storage, part), seconds={}, frames=0)


def _outcomes(storage: Storage, part: PartName) -> list[RowOutcome]:
    return outcomes_of(part, read_sidecar(storage, part).get("rows"))


def _is_retried(outcome: RowOutcome, options: Options) -> bool:
    """Whether a row that was not kept has one of the given reasons or, without any given, is retryable."""
    if options.retry is None or outcome.status == "kept":
        return False
    wanted = {legacy.REASONS.get(reason, reason) for reason in options.retry}
    return outcome.reason in wanted if wanted else outcome.retryable


def _carried_over(storage: Storage, part: PlannedPart, options: Options) -> dict[str, RowResult]:
    """Results of a committed part's rows that are not tried again, by row id."""
    try:
        samples = samples_in_part(storage, part.name)
    except ShardError:
        return {}  # damaged: every row is executed again
    try:
        stored = read_results_list(storage, part.name)
    except ShardError:
        stored = None  # without it, a later update of these rows takes the videos
    results = {} if stored is None else {one.row_id: one.results for one in stored.entries}
    return {
        outcome.row_id: RowResult(outcome, tuple(samples.get(outcome.row_id, ())), results=results.get(outcome.row_id))
        for outcome in _outcomes(storage, part.name)
        if not _is_retried(outcome, options)
    }


def rejected_by_plan(planned: PlannedRow, pipeline: Pipeline) -> RowResult | None:
    """The result of a row that needs no work, since plan and pipeline tell that it is rejected, else None."""
    row, found = planned.row, None
    if planned.problem is not None:
        found = Reject("bad_cell", f"{row.place}: {planned.problem}")
    elif planned.duplicate_of is not None:
        same = "same video, span and label"
        if public_uri(row.location) != row.location:
            same += " (of its URI, what is a secret by its name, as token or key, does not count)"
        found = Reject("duplicate", f"repeats row {planned.duplicate_of}: {same}")
    else:
        try:
            for stage in pipeline.stages:
                stage.check_row(row)
        except Reject as reject:
            found = reject
    if found is None:
        return None
    return RowResult(
        RowOutcome(
            row_id=row.row_id,
            uri=row.uri,
            status="rejected",
            stage="plan",
            reason=found.reason,
            detail=found.detail[:MAX_DETAIL_LENGTH],
        )
    )


def _quarantined(row: Row, times: int) -> RowResult:
    """The result of a row on which this many runs crashed."""
    detail = f"native code crashed while it was worked on, {times} times"
    return RowResult(
        RowOutcome(
            row_id=row.row_id, uri=row.uri, status="quarantined", stage="run", reason="worker_died", detail=detail
        )
    )


def _without_removed(done: RowResult, tombstones: Tombstones) -> RowResult:
    """The result with clips that tombstones cover rejected, so that a rebuild does not bring them back."""
    removed = {
        sample.key: tombstones.reason(sample.key, sample.source_id)
        for sample in _staged([done], Tombstones())
        if tombstones.covers(sample.key, sample.source_id)
    }
    return replace(done, outcome=reject_removed(done.outcome, removed)) if removed else done


def _samples(
    rows: Sequence[RowResult], renewed: Mapping[int, StoredRow], tombstones: Tombstones
) -> tuple[StagedSample | StoredRow, ...]:
    """What is written of rows, in order: those that are renewed themselves, and the samples of the others."""
    if not renewed:
        return _staged(rows, tombstones)
    found = ((renewed[i],) if i in renewed else _staged([row], tombstones) for i, row in enumerate(rows))
    return tuple(chain.from_iterable(found))


def _staged(rows: Iterable[RowResult], tombstones: Tombstones) -> tuple[StagedSample, ...]:
    """The samples of rows, in order, that tombstones do not cover."""
    samples = (sample for row in rows for sample in row.samples if isinstance(sample, StagedSample))
    return tuple(sample for sample in samples if not tombstones.covers(sample.key, sample.source_id))


def _metrics_file(path: Path | None, metrics: BuildMetrics) -> TextFile | None:
    """The file that is asked for, as it is at the beginning; None without a path.

    Raises:
        BuildError: it cannot be written.
    """
    if path is None:
        return None
    try:
        return TextFile(path, metrics)
    except OSError as error:
        raise BuildError(f"{path}: metrics cannot be written here ({error.strerror})") from error


def _start_pool(segments: tuple[Segment, ...], options: Options, journal: CrashJournal | None) -> Pool:
    if options.runner == "local":
        from posecap.run.local import LocalPool, cores

        return LocalPool(segments, workers=options.workers or cores(), journal=journal)
    from posecap.run.ray import RayPool

    return RayPool(segments, address=options.address, workers=options.workers, row_seconds=options.row_seconds)


@dataclass(frozen=True)
class Change:
    """How parts on disk differ from the planned ones.

    ``built`` are fingerprints of the parts on disk that are still planned; ``changed`` are those of them whose
    fingerprint is different now; ``gone`` are parts on disk that are no longer planned; ``reasons`` are sentences for
    the user, one for each difference, without repeats. Parts that are planned and not on disk are in none of them.
    """

    built: Mapping[PartName, str]
    changed: tuple[PartName, ...]
    gone: tuple[PartName, ...]
    reasons: tuple[str, ...]

    @property
    def needs_consent(self) -> bool:
        """Whether continuing would replace or remove built parts."""
        return bool(self.changed or self.gone)


def compare(location: Location, fingerprints: Mapping[PartName, str], pipeline: Pipeline) -> Change:
    """Compare the sidecars on disk with the fingerprints of the plan's parts.

    A part with a damaged sidecar, or with a file that is missing or has another size, counts as not built.
    """
    built: dict[PartName, str] = {}
    changed: list[PartName] = []
    gone: list[PartName] = []
    reasons: dict[str, None] = {}
    storage = open_storage(location)
    sizes = {file.name: file.size_bytes for top in ("data", "index") for file in storage.list(top)}
    for part, written in each_sidecar(storage):
        if isinstance(written, ShardError) or damaged_files(storage, written, sizes=sizes):
            continue
        if part not in fingerprints:
            gone.append(part)
            larger = "a split has fewer rows, or rows_per_part or bytes_per_part is larger"
            reasons[f"some parts are no longer planned: {larger}"] = None
            continue
        built[part] = written["fingerprint"]
        if written["fingerprint"] != fingerprints[part]:
            changed.append(part)
            reasons.update(dict.fromkeys(_why(read_sidecar(storage, part), pipeline)))
    return Change(built, tuple(changed), tuple(gone), tuple(reasons))


def explain(change: Change, location: Location) -> str:
    """A message for the user: what changed, parameter by parameter, and the two ways to continue."""
    shown = list(change.reasons[:_SHOWN])
    if len(change.reasons) > _SHOWN:
        shown.append(f"… and {len(change.reasons) - _SHOWN} more")
    parts = [str(part) for part in (*change.changed, *change.gone)]
    lines = "\n".join(f"  - {reason}" for reason in shown)
    where = open_storage(location).location
    return (
        f"{where} was built with another pipeline or manifest: {len(parts)} of its parts ({_some(parts)}) "
        f"differ.\n{lines}\n"
        "Add --update to rebuild exactly these parts, or name another --output to keep them as they are."
    )


def _why(written: Mapping[str, Any], pipeline: Pipeline) -> Iterable[str]:
    """Differences in configuration and lineage; if there are none, the rows differ."""
    before, now = (
        {"pipeline": {stage["name"]: stage for stage in stages}, **lineage}
        for stages, lineage in (
            (written["pipeline"], written["lineage"]),
            (pipeline.configuration(), pipeline.lineage()),
        )
    )
    found = list(_differences(before, now, ""))
    causes = "added, removed, edited, reordered, or another rows_per_part or bytes_per_part"
    return found or [f"the rows of these parts changed ({causes})"]


def _differences(before: Any, now: Any, path: str) -> Iterator[str]:
    """Sentences on how two JSON values differ; ``path`` is their place, as ``pipeline.split.threshold``."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted(before.keys() | now.keys()):
            inner = f"{path}.{key}" if path else key
            if key not in now:
                yield f"{inner} is gone (was {_short(before[key])})"
            elif key not in before:
                yield f"{inner} is new: {_short(now[key])}"
            else:
                yield from _differences(before[key], now[key], inner)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for i, (one, other) in enumerate(zip(before, now, strict=True)):
            yield from _differences(one, other, f"{path}[{i}]")
    elif before != now:
        yield f"{path}: {_short(before)} → {_short(now)}"


def _short(value: Any) -> str:
    """A value of a configuration, of at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
