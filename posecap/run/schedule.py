"""Rows of planned parts through the workers of a pool, and back together into parts.

The same for every runner: a pool only knows how to work on one item. Rows are handed out in plan order,
later segments first; a part is given back, rows in plan order, as soon as its last row is done. How many
parts are open at once follows from how many items the workers can hold, so memory does not grow with the plan.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from posecap.run.execute import ItemError, ItemResult
from posecap.status.outcome import ClipOutcome, RowOutcome
from posecap.types import PartName, Row, Sample


@dataclass(frozen=True)
class RowResult:
    """A row's fate, its samples, and what it cost."""

    outcome: RowOutcome
    samples: tuple[Sample, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    frames: int = 0


@dataclass(frozen=True)
class WorkPart:
    """A planned part on its way to the workers: rows to walk, and rows whose fate is already known."""

    name: PartName
    rows: tuple[Row | RowResult, ...]


@dataclass(frozen=True)
class PartResult:
    """Every row of a part, in plan order."""

    name: PartName
    rows: tuple[RowResult, ...]


@dataclass(frozen=True)
class Task:
    """One item for one worker. ``order`` sorts a row's pieces."""

    part: PartName
    row: int
    order: tuple[int, ...]
    segment: int
    item: Any


@dataclass(frozen=True)
class WorkerLost:
    """The worker died or was stopped while it held the task; ``reason`` is a snake_case word."""

    reason: str
    detail: str


class Pool(Protocol):
    """Workers for every segment of a pipeline, ready; ``start_seconds`` is how long that took."""

    segments: int
    start_seconds: float

    def free_slots(self, segment: int) -> int:
        """How many more items the segment's workers take now, a short queue included."""
        ...

    def submit(self, task: Task) -> None: ...

    def wait(self) -> tuple[Task, ItemResult | WorkerLost | None]:
        """Block until a task is done. None: it was handed back untouched and must be submitted again."""
        ...

    def close(self) -> None: ...


@dataclass
class _OpenRow:
    row: Row
    waiting: int = 1
    pieces: dict[tuple[int, ...], ItemResult] = field(default_factory=dict)


@dataclass
class _OpenPart:
    part: WorkPart
    done: dict[int, RowResult]
    rows: dict[int, _OpenRow] = field(default_factory=dict)


class Schedule:
    """Runs work parts on a pool.

    Args:
        pool: the workers.
        poison_after: a row that takes its worker down so many times is quarantined.
        attempts: how often each row (by id) has taken its worker down in earlier runs.
        on_row: told of every row as it finishes.
        on_lost: told of every row id whose worker was lost, before it is tried again.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        poison_after: int = 3,
        attempts: Mapping[str, int] | None = None,
        on_row: Callable[[RowResult], None] = lambda row: None,
        on_lost: Callable[[str], None] = lambda row_id: None,
    ) -> None:
        self._pool = pool
        self._poison_after = poison_after
        self._attempts = dict(attempts or {})
        self._on_row, self._on_lost = on_row, on_lost
        self._queues: list[deque[Task]] = [deque() for _ in range(pool.segments)]
        self._open: dict[PartName, _OpenPart] = {}
        self._in_flight = 0

    def run(self, parts: Iterable[WorkPart]) -> Iterator[PartResult]:
        """Work through ``parts``; gives each back when it is complete, in order of completion."""
        coming = iter(parts)
        more = True
        while True:
            while more and len(self._queues[0]) < max(1, self._pool.free_slots(0)):
                part = next(coming, None)
                more = part is not None
                if part is not None:
                    self._admit(part)
                    yield from self._complete(part.name)
            self._hand_out()
            if self._in_flight == 0:
                if not more and not any(self._queues):
                    return
                continue
            task, result = self._pool.wait()
            self._in_flight -= 1
            self._take_back(task, result)
            yield from self._complete(task.part)

    def _admit(self, part: WorkPart) -> None:
        known = {i: row for i, row in enumerate(part.rows) if isinstance(row, RowResult)}
        opened = _OpenPart(part, done=known)
        self._open[part.name] = opened
        for i, row in enumerate(part.rows):
            if isinstance(row, RowResult):
                self._on_row(row)
                continue
            opened.rows[i] = _OpenRow(row)
            self._queues[0].append(Task(part.name, i, (0,), 0, row))

    def _hand_out(self) -> None:
        """Later segments first, and none is fed while the next one's queue is long."""
        for segment in reversed(range(self._pool.segments)):
            queue = self._queues[segment]
            last = segment == self._pool.segments - 1
            while queue and self._pool.free_slots(segment) > 0:
                if not last and len(self._queues[segment + 1]) > max(1, self._pool.free_slots(segment + 1)):
                    break
                self._pool.submit(queue.popleft())
                self._in_flight += 1

    def _take_back(self, task: Task, result: ItemResult | WorkerLost | None) -> None:
        opened = self._open[task.part]
        row = opened.rows[task.row]
        if result is None:
            self._queues[task.segment].appendleft(task)
            return
        if isinstance(result, WorkerLost):
            times = self._attempts[row.row.row_id] = self._attempts.get(row.row.row_id, 0) + 1
            self._on_lost(row.row.row_id)
            if times < self._poison_after:
                self._queues[task.segment].appendleft(task)
                return
            status = "failed" if result.reason == "timeout" else "quarantined"
            detail = f"{result.detail}, {times} times"
            result = ItemResult(error=ItemError(status, "run", result.reason, detail, retryable=False))
        row.pieces[task.order] = result
        row.waiting -= 1
        if task.segment + 1 < self._pool.segments:
            for i, item in enumerate(result.outputs):
                self._queues[task.segment + 1].append(
                    Task(task.part, task.row, (*task.order, i), task.segment + 1, item)
                )
                row.waiting += 1
        if row.waiting == 0:
            done = _conclude(row)
            opened.done[task.row] = done
            del opened.rows[task.row]
            self._on_row(done)

    def _complete(self, name: PartName) -> Iterator[PartResult]:
        opened = self._open.get(name)
        if opened is not None and not opened.rows:
            del self._open[name]
            yield PartResult(name, tuple(opened.done[i] for i in range(len(opened.part.rows))))


def _conclude(opened: _OpenRow) -> RowResult:
    """One fate for a row from its pieces: kept if any clip is, else failed if anything did, else refused."""
    pieces = [opened.pieces[order] for order in sorted(opened.pieces)]
    clips = [clip for piece in pieces for clip in piece.clips]
    samples = [item for piece in pieces for item in piece.outputs if isinstance(item, Sample)]
    errors = [piece.error for piece in pieces if piece.error is not None]
    outcome = _outcome(opened.row, clips, errors)
    seconds = summed(piece.seconds for piece in pieces)
    return RowResult(outcome, tuple(samples), seconds, sum(piece.frames for piece in pieces))


def summed(spent: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Worker seconds by stage, added up."""
    total: dict[str, float] = {}
    for each in spent:
        for stage, seconds in each.items():
            total[stage] = total.get(stage, 0.0) + seconds
    return total


def _outcome(row: Row, clips: list[ClipOutcome], errors: list[ItemError]) -> RowOutcome:
    def fate(status: Any, stage: str = "", reason: str = "", detail: str = "", retryable: bool = False) -> RowOutcome:
        return RowOutcome(
            row_id=row.row_id,
            uri=row.uri,
            status=status,
            stage=stage,
            reason=reason,
            detail=detail,
            retryable=retryable,
            clips=tuple(clips),
        )

    if clips:
        # ItemError after the first clips (a file that breaks off) is one more stretch with a fate of its own.
        clips += [
            ClipOutcome(
                status="failed" if t.status != "refused" else "refused", stage=t.stage, reason=t.reason, detail=t.detail
            )
            for t in errors
        ]
    if any(clip.status == "kept" for clip in clips):
        return fate("kept")
    for error in sorted(errors, key=lambda t: t.status == "refused"):
        return fate(error.status, error.stage, error.reason, error.detail, error.retryable)
    for clip in sorted(clips, key=lambda c: c.status != "failed"):
        return fate(clip.status, clip.stage, clip.reason, clip.detail)
    return fate("refused", "decode", "no_clips", "the video gave no clip")
