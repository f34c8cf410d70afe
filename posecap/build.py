"""One build: manifest → plan → what is left to do → workers → committed parts → report and card.

Nothing here is remembered between runs but what lies on disk. What is left to do follows from the plan and the
sidecars alone, so a build that was killed at any moment goes on where its last committed part ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from posecap.changes import Change, compare, explain
from posecap.finish import finish
from posecap.identity import digest
from posecap.lease import lease
from posecap.ledger import Ledger
from posecap.manifest import Manifest, read_manifest
from posecap.outcome import ClipOutcome, RowOutcome, tally
from posecap.pipeline import Pipeline, load_pipeline
from posecap.plan import Plan, PlannedPart, make_plan
from posecap.preview import write_preview
from posecap.progress import Progress
from posecap.run.schedule import PartDone, Pool, RowDone, Schedule, WorkPart
from posecap.shards import Tombstones, committed, read_part, read_sidecar, read_tombstones, write_part
from posecap.stages.pack import Pack
from posecap.types import Row, Sample

PLAN_FILE = "plan.parquet"
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
        retry: also retry rows that failed in earlier runs: all retryable ones (empty tuple), or those with one
            of these reasons; None leaves them.
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
class Built:
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
    manifest_path: Path, *, output: Path | None = None, options: Options | None = None, say: Callable[[str], None] = print
) -> Built:
    """Build the dataset that a manifest describes, or finish building it.

    Raises:
        ManifestError, PipelineError: the input is not usable.
        BuildError: pipeline or manifest changed since parts were built, and ``on_change`` is ``refuse``.
        DirectoryBusy: another build holds the directory.
    """
    options = options or Options()
    manifest = read_manifest(manifest_path)
    pipeline = _with_store_video(load_pipeline(manifest.pipeline), manifest)
    root = output.absolute() if output else manifest.output
    root.mkdir(parents=True, exist_ok=True)
    with lease(root):
        plan = make_plan(manifest, root / f".{PLAN_FILE}.new")
        fingerprints = {part.name: _fingerprint(pipeline, part) for part in plan.parts()}
        change = compare(root, plan, fingerprints, pipeline)
        if change.needs_consent and options.on_change == "refuse":
            raise BuildError(explain(change, root))
        plan = _adopt(plan, root, change)
        with Ledger(root / LEDGER_FILE) as ledger:
            _fill_ledger(ledger, root, change)
            todo = _todo(plan, root, ledger, change, options)
            build_ = _Build(manifest, pipeline, plan, root, ledger, options, say)
            return build_.run(todo, fingerprints)


@dataclass
class _Build:
    manifest: Manifest
    pipeline: Pipeline
    plan: Plan
    root: Path
    ledger: Ledger
    options: Options
    say: Callable[[str], None]

    def run(self, todo: Sequence[PlannedPart], fingerprints: dict[Any, str]) -> Built:
        started, since = datetime.now(UTC), monotonic()
        start_seconds = 0.0
        if todo:
            start_seconds = self._work(todo, fingerprints)
        elif (self.root / "report.json").is_file():
            self.say(f"{self.root}: every part is built; nothing to do")
        report = finish(
            self.root,
            manifest=self.manifest,
            pipeline=self.pipeline,
            ledger=self.ledger,
            run={
                "started": started,
                "ended": datetime.now(UTC),
                "seconds": monotonic() - since,
                "start_seconds": start_seconds,
                "runner": self.options.runner,
                "workers": self.options.workers,
                "parts": len(todo),
            },
        )
        return Built(self.root, report, len(todo))

    def _work(self, todo: Sequence[PlannedPart], fingerprints: dict[Any, str]) -> float:
        """Build the parts of ``todo``; gives the seconds until the workers were ready."""
        tombstones = read_tombstones(self.root)
        pool, start_seconds = _start_pool(self.pipeline, self.options)
        total = sum(part.rows for part in self.plan.parts())
        with (
            closing(pool),
            Progress(
                rows=total,
                rows_before=total - sum(part.rows for part in todo),
                expected_refusals=self.pipeline.expected_refusals,
                stages=[stage.name for stage in self.pipeline.stages],
            ) as progress,
        ):
            schedule = Schedule(
                pool,
                poison_after=self.options.poison_after,
                attempts=self.ledger.losses(),
                on_row=progress.row,
                on_lost=self.ledger.record_loss,
            )
            for done in schedule.run(self._work_parts(todo)):
                self._commit(done, fingerprints[done.name], tombstones)
                progress.part(done.name)
        return start_seconds

    def _work_parts(self, todo: Sequence[PlannedPart]) -> Iterator[WorkPart]:
        """Rows of each part; for a retry, the fates and samples that stand are carried over."""
        for part in todo:
            standing = _standing(self.root, part, self.options) if committed(self.root, part.name) else {}
            rows: list[Row | RowDone] = []
            for planned in self.plan.rows(part):
                if planned.duplicate_of is not None:
                    rows.append(_duplicate(planned.row, planned.duplicate_of))
                else:
                    rows.append(standing.get(planned.row.row_id, planned.row))
            yield WorkPart(part.name, tuple(rows))

    def _commit(self, done: PartDone, fingerprint: str, tombstones: Tombstones) -> None:
        rows = [_without_forgotten(row, tombstones) for row in done.rows]
        outcomes = [row.outcome for row in rows]
        samples = [sample for row in rows for sample in row.samples]
        write_preview(self.root, done.name, samples)
        write_part(
            self.root,
            done.name,
            samples,
            record={
                "fingerprint": fingerprint,
                "pipeline": self.pipeline.configuration(),
                "lineage": self.pipeline.lineage(),
                "counts": tally(outcomes).as_json(),
                "rows": [outcome.as_json() for outcome in outcomes],
            },
        )
        seconds: dict[str, float] = {}
        for row in rows:
            for stage, spent in row.seconds.items():
                seconds[stage] = seconds.get(stage, 0.0) + spent
        frames = sum(row.frames for row in rows)
        self.ledger.record_part(done.name, fingerprint, outcomes, seconds=seconds, frames=frames)


def _with_store_video(pipeline: Pipeline, manifest: Manifest) -> Pipeline:
    """The manifest decides whether video is stored; the pipeline brings the encoder."""
    *before, last = pipeline.stages
    if isinstance(last, Pack):
        last = replace(last, store_video=manifest.store_video)
    return replace(pipeline, stages=(*before, last))


def _fingerprint(pipeline: Pipeline, part: PlannedPart) -> str:
    return digest({"pipeline": pipeline.fingerprint(), "part": str(part.name), "rows": part.rows_digest})


def _adopt(plan: Plan, root: Path, change: Change) -> Plan:
    """Make the new plan the dataset's plan, and take back parts that it no longer has."""
    from posecap.plan import open_plan
    from posecap.shards import remove_part

    for name in change.gone:
        remove_part(root, name)
    plan.path.replace(root / PLAN_FILE)
    return open_plan(root / PLAN_FILE)


def _fill_ledger(ledger: Ledger, root: Path, change: Change) -> None:
    """Bring the ledger to what the sidecars say: it may be lost, older, or ahead of a part that was taken back."""
    entered = ledger.parts()
    for name in entered.keys() - {str(part) for part in change.built}:
        ledger.forget_part(name)
    for part in change.built:
        fingerprint = change.built[part]
        if entered.get(str(part)) != fingerprint:
            written = read_sidecar(root, part)
            outcomes = [RowOutcome.from_json(row) for row in written["rows"]]
            ledger.record_part(part, fingerprint, outcomes, seconds={}, frames=0)


def _todo(plan: Plan, root: Path, ledger: Ledger, change: Change, options: Options) -> list[PlannedPart]:
    stale = set(change.changed)
    todo = [part for part in plan.parts() if part.name not in change.built or part.name in stale]
    if options.retry is None:
        return todo
    known = {part.name for part in todo}
    for part in plan.parts():
        if part.name in known:
            continue
        outcomes = [RowOutcome.from_json(row) for row in read_sidecar(root, part.name)["rows"]]
        if any(_is_retried(outcome, options) for outcome in outcomes):
            todo.append(part)
    return todo


def _is_retried(outcome: RowOutcome, options: Options) -> bool:
    if options.retry is None or outcome.status not in ("failed", "quarantined"):
        return False
    return outcome.reason in options.retry if options.retry else outcome.retryable


def _standing(root: Path, part: PlannedPart, options: Options) -> dict[str, RowDone]:
    """Rows of a committed part whose fate is not tried again, with their samples."""
    outcomes = [RowOutcome.from_json(row) for row in read_sidecar(root, part.name)["rows"]]
    samples: dict[str, list[Sample]] = {}
    for sample in read_part(root, part.name):
        samples.setdefault(sample.facts["row_id"], []).append(sample)
    return {
        outcome.row_id: RowDone(outcome, tuple(samples.get(outcome.row_id, ())))
        for outcome in outcomes
        if not _is_retried(outcome, options)
    }


def _duplicate(row: Row, first: str) -> RowDone:
    return RowDone(
        RowOutcome(
            row_id=row.row_id,
            uri=row.uri,
            status="refused",
            stage="plan",
            reason="duplicate",
            detail=f"repeats row {first}: same video, span and label",
        )
    )


def _without_forgotten(done: RowDone, tombstones: Tombstones) -> RowDone:
    """Clips that were removed on request stay removed, however often the dataset is rebuilt."""
    gone = {s.key for s in done.samples if tombstones.covers(s.key, s.facts["source_id"])}
    if not gone:
        return done
    clips = tuple(
        ClipOutcome(status="refused", clip_id=c.clip_id, start_seconds=c.start_seconds, end_seconds=c.end_seconds, stage="forget", reason="forgotten")
        if c.clip_id in gone
        else c
        for c in done.outcome.clips
    )
    outcome = replace(done.outcome, clips=clips)
    if not any(clip.status == "kept" for clip in clips):
        outcome = replace(outcome, status="refused", stage="forget", reason="forgotten")
    return replace(done, outcome=outcome, samples=tuple(s for s in done.samples if s.key not in gone))


def _start_pool(pipeline: Pipeline, options: Options) -> tuple[Pool, float]:
    since = monotonic()
    segments = pipeline.segments()
    pool: Pool
    if options.runner == "local":
        from posecap.run.local import LocalPool, cores

        pool = LocalPool(segments, workers=options.workers or cores())
    else:
        from posecap.run.ray import RayPool

        pool = RayPool(segments, address=options.address, workers=options.workers, row_seconds=options.row_seconds)
    return pool, monotonic() - since
