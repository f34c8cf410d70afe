"""One build: manifest → plan → what is left to do → workers → committed parts → report and card.

Nothing here is remembered between runs but what lies on disk. What is left to do follows from the plan and the
sidecars alone, so a build that was killed at any moment goes on where its last committed part ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from posecap.diff import Change, compare, explain
from posecap.finalize import finalize, mark_unfinished, read_final_report, write_manifest_path
from posecap.hashing import digest, file_sha256
from posecap.manifest.manifest_file import Manifest, read_manifest
from posecap.pipeline import Pipeline, load_pipeline
from posecap.planning.plan import make_plan
from posecap.planning.plan_file import PLAN_FILE, Plan, PlannedPart, open_plan
from posecap.progress import Progress
from posecap.release.report import Run
from posecap.run.schedule import PartResult, Pool, RowResult, Schedule, WorkPart
from posecap.shards import (
    ShardError,
    Tombstones,
    read_part,
    read_sidecar,
    read_tombstones,
    reject_removed,
    remove_part,
    write_part,
)
from posecap.shards.paths import sidecar_path
from posecap.stages.pack import Pack
from posecap.status.ledger import Ledger, lock_dataset
from posecap.status.outcome import RowOutcome, sum_seconds, tally
from posecap.types import PartName, Row, Sample
from posecap.visualization.contact_sheet import write_preview

LEDGER_FILE = "ledger.sqlite"


class BuildError(RuntimeError):
    """The build cannot go on; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to build, which shapes no sample.

    Args:
        runner: ``ray`` actors or ``local`` threads.
        workers: computing workers; None takes what the machine or cluster has.
        address: of a running Ray cluster.
        retry: also try rows of earlier runs again: those that failed and are retryable (empty tuple), or those
            rejected or failed for one of these reasons; None leaves them.
        on_change: ``refuse`` to go on when pipeline or manifest no longer fit what is built, or ``update``,
            which rebuilds exactly the parts that changed.
        row_seconds: longest time one row may hold a Ray worker.
        poison_after: a row that takes its worker down so many times is quarantined.
    """

    runner: Literal["ray", "local"] = "ray"
    workers: int | None = None
    address: str | None = None
    retry: tuple[str, ...] | None = None
    on_change: Literal["refuse", "update"] = "refuse"
    row_seconds: float = 3600.0
    poison_after: int = 3


@dataclass(frozen=True)
class BuildResult:
    """What a build left: ``report`` as written to ``report.json``, and how many parts this run built."""

    root: Path
    report: dict[str, Any]
    parts_built: int

    @property
    def exit_code(self) -> int:
        """0 when every row has a final fate, 3 when some failed or were quarantined."""
        rows, clips = self.report["counts"]["rows"], self.report["counts"]["clips"]
        return 3 if rows["failed"] or rows["quarantined"] or clips["failed"] else 0


def build(
    manifest_path: Path,
    *,
    output: Path | None = None,
    options: Options | None = None,
    say: Callable[[str], None] = print,
) -> BuildResult:
    """Build the dataset that a manifest describes, or finish building it.

    Raises:
        ManifestError, PipelineError: the input is not usable.
        BuildError: pipeline or manifest changed since parts were built, and ``on_change`` is ``refuse``.
        DatasetLockedError: another build holds the directory.
    """
    options = options or Options()
    manifest = read_manifest(manifest_path)
    pipeline = _with_store_video(load_pipeline(manifest.pipeline), manifest)
    root = output.absolute() if output else manifest.output
    root.mkdir(parents=True, exist_ok=True)
    with lock_dataset(root):
        plan = make_plan(manifest, root / f".{PLAN_FILE}.new")
        fingerprints = _fingerprints(pipeline, plan)
        change = compare(root, plan, fingerprints, pipeline)
        if change.needs_consent and options.on_change == "refuse":
            raise BuildError(explain(change, root))
        plan = _adopt(plan, root, change)
        write_manifest_path(root, manifest)
        with Ledger(root / LEDGER_FILE) as ledger:
            _fill_ledger(ledger, root, change)
            retried = _to_retry(plan, root, change, options)
            work = _Build(
                manifest, pipeline, plan, root, ledger, options, say, frozenset(part.name for part in retried)
            )
            return work.run([*_to_build(plan, change), *retried], fingerprints)


@dataclass
class _Build:
    manifest: Manifest
    pipeline: Pipeline
    plan: Plan
    root: Path
    ledger: Ledger
    options: Options
    say: Callable[[str], None]
    retried: frozenset[PartName]

    def run(self, todo: Sequence[PlannedPart], fingerprints: Mapping[PartName, str]) -> BuildResult:
        finished = None if todo else read_final_report(self.root)
        if finished is not None:
            self.say(f"{self.root}: every part is built; nothing to do")
            return BuildResult(self.root, finished, 0)
        mark_unfinished(self.root)
        started, since = datetime.now(UTC), monotonic()
        progress = self._progress(todo)
        start_seconds = self._work(todo, fingerprints, progress) if todo else 0.0
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
        )
        report = finalize(self.root, manifest=self.manifest, pipeline=self.pipeline, ledger=self.ledger, run=run)
        return BuildResult(self.root, report, len(todo))

    def _progress(self, todo: Sequence[PlannedPart]) -> Progress:
        total = sum(part.rows for part in self.plan.parts())
        return Progress(
            rows=total,
            rows_before=total - sum(part.rows for part in todo),
            stages=self.pipeline.stages,
            expected_rejections=self.pipeline.expected_rejections,
        )

    def _work(self, todo: Sequence[PlannedPart], fingerprints: Mapping[PartName, str], progress: Progress) -> float:
        """Build the parts of ``todo``; gives the seconds until the workers were ready."""
        tombstones = read_tombstones(self.root)
        record = {"pipeline": self.pipeline.configuration(), "lineage": self.pipeline.lineage()}
        pool = _start_pool(self.pipeline, self.options)
        with closing(pool), progress:
            schedule = Schedule(
                pool,
                poison_after=self.options.poison_after,
                attempts=self.ledger.losses(),
                on_row=progress.row,
                on_lost=self.ledger.record_loss,
            )
            for done in schedule.run(self._work_parts(todo)):
                self._commit(done, {"fingerprint": fingerprints[done.name], **record}, tombstones)
                progress.part(done.name)
        return pool.start_seconds

    def _work_parts(self, todo: Sequence[PlannedPart]) -> Iterator[WorkPart]:
        """Rows of each part; for a retry, the fates and samples that stand are carried over."""
        for part in todo:
            standing = _standing(self.root, part, self.options) if part.name in self.retried else {}
            rows: list[Row | RowResult] = []
            for planned in self.plan.rows(part):
                if planned.duplicate_of is not None:
                    rows.append(_duplicate(planned.row, planned.duplicate_of))
                else:
                    rows.append(standing.get(planned.row.row_id, planned.row))
            yield WorkPart(part.name, tuple(rows))

    def _commit(self, done: PartResult, record: Mapping[str, Any], tombstones: Tombstones) -> None:
        rows = [_without_removed(row, tombstones) for row in done.rows]
        outcomes = [row.outcome for row in rows]
        samples = [sample for row in rows for sample in row.samples]
        write_preview(self.root, done.name, samples)
        fates = {"counts": tally(outcomes).as_json(), "rows": [outcome.as_json() for outcome in outcomes]}
        write_part(self.root, done.name, samples, record={**record, **fates})
        seconds = sum_seconds(row.seconds for row in rows)
        frames = sum(row.frames for row in rows)
        sidecar = file_sha256(self.root / sidecar_path(done.name))
        self.ledger.record_part(done.name, sidecar, outcomes, seconds=seconds, frames=frames)


def _with_store_video(pipeline: Pipeline, manifest: Manifest) -> Pipeline:
    """The manifest decides whether video is stored; the pipeline brings the encoder."""
    *before, last = pipeline.stages
    if isinstance(last, Pack):
        last = replace(last, store_video=manifest.store_video)
    return replace(pipeline, stages=(*before, last))


def _fingerprints(pipeline: Pipeline, plan: Plan) -> dict[PartName, str]:
    """What each part is made from: pipeline, versions, weights, and its rows."""
    made_by = pipeline.fingerprint()
    return {
        part.name: digest({"pipeline": made_by, "part": str(part.name), "rows": part.rows_digest})
        for part in plan.parts()
    }


def _adopt(plan: Plan, root: Path, change: Change) -> Plan:
    """Make the new plan the dataset's plan, and take back parts that it no longer has."""
    for name in change.gone:
        remove_part(root, name)
        write_preview(root, name, ())
    plan.path.replace(root / PLAN_FILE)
    return open_plan(root / PLAN_FILE, media_root=plan.media_root)


def _fill_ledger(ledger: Ledger, root: Path, change: Change) -> None:
    """Bring the ledger to what the sidecars say: it may be lost, older, or ahead of a part that was taken back."""
    entered = ledger.parts()
    for name in entered.keys() - {str(part) for part in change.built}:
        ledger.remove_part(name)
    for part in change.built:
        sidecar = file_sha256(root / sidecar_path(part))
        if entered.get(str(part)) != sidecar:
            ledger.record_part(part, sidecar, _outcomes(root, part), seconds={}, frames=0)


def _to_build(plan: Plan, change: Change) -> list[PlannedPart]:
    stale = set(change.changed)
    return [part for part in plan.parts() if part.name not in change.built or part.name in stale]


def _to_retry(plan: Plan, root: Path, change: Change, options: Options) -> list[PlannedPart]:
    """Sound parts that hold rows to try again."""
    if options.retry is None:
        return []
    stale = set(change.changed)
    sound = [part for part in plan.parts() if part.name in change.built and part.name not in stale]
    return [part for part in sound if any(_is_retried(fate, options) for fate in _outcomes(root, part.name))]


def _outcomes(root: Path, part: PartName) -> list[RowOutcome]:
    return [RowOutcome.from_json(row) for row in read_sidecar(root, part)["rows"]]


def _is_retried(outcome: RowOutcome, options: Options) -> bool:
    """Asked for by its reason, whatever its fate; or failed for a reason that may pass by itself."""
    if options.retry is None or outcome.status == "kept":
        return False
    return outcome.reason in options.retry if options.retry else outcome.retryable


def _standing(root: Path, part: PlannedPart, options: Options) -> dict[str, RowResult]:
    """Rows of a committed part whose fate is not tried again, with their samples."""
    samples: dict[str, list[Sample]] = {}
    try:
        for sample in read_part(root, part.name):
            samples.setdefault(sample.facts["row_id"], []).append(sample)
    except ShardError:
        return {}  # damaged: every row is walked again
    return {
        outcome.row_id: RowResult(outcome, tuple(samples.get(outcome.row_id, ())))
        for outcome in _outcomes(root, part.name)
        if not _is_retried(outcome, options)
    }


def _duplicate(row: Row, first: str) -> RowResult:
    return RowResult(
        RowOutcome(
            row_id=row.row_id,
            uri=row.uri,
            status="rejected",
            stage="plan",
            reason="duplicate",
            detail=f"repeats row {first}: same video, span and label",
        )
    )


def _without_removed(done: RowResult, tombstones: Tombstones) -> RowResult:
    """Clips that were removed on request stay removed, however often the dataset is rebuilt."""
    gone = {
        s.key: tombstones.reason(s.key, s.facts["source_id"])
        for s in done.samples
        if tombstones.covers(s.key, s.facts["source_id"])
    }
    if not gone:
        return done
    outcome = reject_removed(done.outcome, gone)
    return replace(done, outcome=outcome, samples=tuple(s for s in done.samples if s.key not in gone))


def _start_pool(pipeline: Pipeline, options: Options) -> Pool:
    segments = pipeline.segments()
    if options.runner == "local":
        from posecap.run.local import LocalPool, cores

        return LocalPool(segments, workers=options.workers or cores())
    from posecap.run.ray import RayPool

    return RayPool(segments, address=options.address, workers=options.workers, row_seconds=options.row_seconds)
