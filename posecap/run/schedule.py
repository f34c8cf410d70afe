"""Distributes the rows of planned parts over the workers of a pool and assembles the results into parts.

It is the same for every runner; a pool only runs single items. Rows are submitted in plan order, items of later
segments first. A part is returned, rows in plan order, as soon as its last row is done. Only as many parts are open as
the workers need to be busy, so memory does not grow with the plan.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from queue import SimpleQueue
from typing import Any, Protocol

from posecap.outcomes import ClipOutcome, RowOutcome, RowResult, Status, sum_seconds
from posecap.pipeline import Segment
from posecap.run.execute import ItemError, ItemResult, execute
from posecap.stage import Stage
from posecap.types import PartName, Row, Sample

_DOWNLOAD_THREADS = 4
_CLOSE_SECONDS = 10.0
"""Longest wait for threads when a pool is closed."""


@dataclass(frozen=True)
class WorkPart:
    """A planned part to build: rows to execute, and results of rows that are already known."""

    name: PartName
    rows: tuple[Row | RowResult, ...]


@dataclass(frozen=True)
class PartResult:
    """Every row of a part, in plan order."""

    name: PartName
    rows: tuple[RowResult, ...]


@dataclass(frozen=True)
class Task:
    """One item for one worker.

    Args:
        row: position of its row in the part.
        order: sorts the items of one row: 0, then the number of the item among the outputs of each earlier segment.
        segment: number of the pipeline's segment that is to run, from 0.
    """

    part: PartName
    row: int
    order: tuple[int, ...]
    segment: int
    item: Any


@dataclass(frozen=True)
class WorkerLost:
    """The worker died or was stopped while it ran the task; ``reason`` is a snake_case word."""

    reason: str
    detail: str


class Pool(Protocol):
    """Started workers for every segment of a pipeline.

    ``segments`` is the number of segments, ``start_seconds`` how long the workers took to start.
    """

    segments: int
    start_seconds: float

    def free_slots(self, segment: int) -> int:
        """How many more items the segment's workers accept now, a short queue included."""
        ...

    def submit(self, task: Task) -> None:
        """Give a task to a worker of its segment; never blocks, also where no slot is free."""
        ...

    def wait(self) -> tuple[Task, ItemResult | WorkerLost | None]:
        """Block until a submitted task is done, and return it with its result; forever if none was submitted.

        The result None means that the task was not run and must be submitted again.
        """
        ...

    def close(self) -> None:
        """End the workers, whether tasks are left or not."""
        ...


@dataclass
class _OpenRow:
    """A row under way: ``waiting`` counts its items without a result; ``pieces`` are the results so far, by order."""

    row: Row
    waiting: int = 1
    pieces: dict[tuple[int, ...], ItemResult] = field(default_factory=dict)


@dataclass
class _OpenPart:
    """A part's rows by position: those that are done, and those that are not."""

    done: dict[int, RowResult]
    rows: dict[int, _OpenRow]


class Schedule:
    """Runs work parts on a pool.

    Args:
        pool: the workers.
        poison_after: a row whose worker dies this many times is quarantined, or has failed if the worker was stopped
            the last time because it took too long.
        attempts: how often a worker has died on each row (by id) in earlier runs; these count too.
        on_row: called with the result of every row as it finishes.
        on_lost: called with the id of every row whose worker died, before the row is tried again.
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
        """Build ``parts``; yields each when it is complete, in order of completion."""
        remaining = iter(parts)
        more = True
        while True:
            while more and len(self._queues[0]) < max(1, self._pool.free_slots(0)):
                part = next(remaining, None)
                more = part is not None
                if part is not None:
                    self._admit(part)
                    yield from self._complete(part.name)
            self._submit()
            if self._in_flight == 0:
                if not more and not any(self._queues):
                    return
                continue
            task, result = self._pool.wait()
            self._in_flight -= 1
            self._receive(task, result)
            yield from self._complete(task.part)

    def _admit(self, part: WorkPart) -> None:
        opened = self._open[part.name] = _OpenPart({}, {})
        for i, row in enumerate(part.rows):
            if isinstance(row, RowResult):
                opened.done[i] = row
                self._on_row(row)
            else:
                opened.rows[i] = _OpenRow(row)
                self._queues[0].append(Task(part.name, i, (0,), 0, row))

    def _submit(self) -> None:
        """Later segments first; a segment gets no items while the queue of the next one is full."""
        for segment in reversed(range(self._pool.segments)):
            queue = self._queues[segment]
            last = segment == self._pool.segments - 1
            while queue and self._pool.free_slots(segment) > 0:
                if not last and len(self._queues[segment + 1]) > max(1, self._pool.free_slots(segment + 1)):
                    break
                self._pool.submit(queue.popleft())
                self._in_flight += 1

    def _receive(self, task: Task, result: ItemResult | WorkerLost | None) -> None:
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
            status: Status = "failed" if result.reason == "timeout" else "quarantined"
            detail = f"{result.detail}, {times} times"
            result = ItemResult(error=ItemError(status, "run", result.reason, detail, retryable=False))
        row.pieces[task.order] = result
        row.waiting -= 1
        if task.segment + 1 < self._pool.segments:
            row.waiting += len(result.outputs)
            self._queues[task.segment + 1] += (
                replace(task, order=(*task.order, i), segment=task.segment + 1, item=item)
                for i, item in enumerate(result.outputs)
            )
        if row.waiting == 0:
            opened.done[task.row] = _conclude(opened.rows.pop(task.row))
            self._on_row(opened.done[task.row])

    def _complete(self, name: PartName) -> Iterator[PartResult]:
        opened = self._open.get(name)
        if opened is not None and not opened.rows:
            del self._open[name]
            yield PartResult(name, tuple(opened.done[i] for i in sorted(opened.done)))


def _conclude(opened: _OpenRow) -> RowResult:
    pieces = [opened.pieces[order] for order in sorted(opened.pieces)]
    clips = [clip for piece in pieces for clip in piece.clips]
    errors = [piece.error for piece in pieces if piece.error is not None]
    if clips:
        # An error after the first clips (a file that breaks off) is the outcome of one more span of the video.
        clips += [
            ClipOutcome(
                status="rejected" if error.status == "rejected" else "failed",
                stage=error.stage,
                reason=error.reason,
                detail=error.detail,
            )
            for error in errors
        ]
    return RowResult(
        outcome=_outcome(opened.row, clips, errors),
        samples=tuple(item for piece in pieces for item in piece.outputs if isinstance(item, Sample)),
        seconds=sum_seconds(piece.seconds for piece in pieces),
        frames=sum(piece.frames for piece in pieces),
    )


def _outcome(row: Row, clips: list[ClipOutcome], errors: list[ItemError]) -> RowOutcome:
    """Kept if any clip is, else the first failure, else the first rejection; errors of the whole item come first."""
    outcome = RowOutcome(row_id=row.row_id, uri=row.uri, status="kept", clips=tuple(clips))
    if any(clip.status == "kept" for clip in clips):
        return outcome
    if errors:
        first = min(errors, key=lambda error: error.status == "rejected")
    elif clips:
        clip = min(clips, key=lambda clip: clip.status != "failed")
        first = ItemError(clip.status, clip.stage, clip.reason, clip.detail, retryable=False)
    else:
        first = ItemError("rejected", "decode", "no_clips", "the video gave no clip", retryable=False)
    return replace(outcome, **vars(first))


class LocalPool:
    """Workers as threads of this process, a :class:`Pool`: for debugging, tests and single machines.

    There are ``workers`` for every computing segment, whatever its resources, and four for every one that needs neither
    CPUs nor GPUs (``cpus=0``), as downloading. Every worker has its own engines, shared by as many threads as its
    concurrency; engines release the GIL while they compute.
    Threads do not isolate crashes: a stage that crashes ends the build, which the next build resumes; Ray survives it.
    """

    def __init__(self, segments: tuple[Segment, ...], *, workers: int) -> None:
        self.segments = len(segments)
        # Each thread loads its engines while others already work, so there is no start to wait for.
        self.start_seconds = 0.0
        self._submitted = [0] * self.segments
        self._tasks: list[SimpleQueue[Task | None]] = [SimpleQueue() for _ in segments]
        self._done: SimpleQueue[tuple[Task, ItemResult] | BaseException] = SimpleQueue()
        self._threads: list[list[threading.Thread]] = [[] for _ in segments]
        for number, segment in enumerate(segments):
            for i in range(workers if segment.resources.cpus or segment.resources.gpus else _DOWNLOAD_THREADS):
                worker = _Worker(segment.stages)
                for thread_number in range(segment.resources.concurrency):
                    name = f"posecap-{number}-{i}-{thread_number}"
                    thread = threading.Thread(target=self._work, args=(number, worker), name=name, daemon=True)
                    thread.start()
                    self._threads[number].append(thread)

    def free_slots(self, segment: int) -> int:
        """One item waits behind the busy threads, so that none is idle between two items."""
        return len(self._threads[segment]) + 1 - self._submitted[segment]

    def submit(self, task: Task) -> None:
        self._submitted[task.segment] += 1
        self._tasks[task.segment].put(task)

    def wait(self) -> tuple[Task, ItemResult | WorkerLost | None]:
        """Raises the error that kept a worker from starting (missing weights, a missing package)."""
        done = self._done.get()
        if isinstance(done, BaseException):
            raise done
        self._submitted[done[0].segment] -= 1
        return done

    def close(self) -> None:
        """Stop the threads, waiting for those that compute or still load engines, but not for long.

        A process that ends while one of its threads is inside a C++ library is often aborted there, and its exit code
        would be that of a crash. Threads that take longer end with the process.
        """
        for tasks, threads in zip(self._tasks, self._threads, strict=True):
            for _ in threads:
                tasks.put(None)
        until = time.monotonic() + _CLOSE_SECONDS
        for thread in chain.from_iterable(self._threads):
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, segment: int, worker: _Worker) -> None:
        try:
            stages = worker.loaded_stages()
            while (task := self._tasks[segment].get()) is not None:
                self._done.put((task, execute(stages, task.item)))
        except BaseException as error:
            self._done.put(error)


class _Worker:
    """Stages with engines of their own, loaded by the first thread that needs them."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self._stages = stages
        self._loaded: tuple[Stage, ...] | None = None
        self._lock = threading.Lock()

    def loaded_stages(self) -> tuple[Stage, ...]:
        with self._lock:
            if self._loaded is None:
                own = copy.deepcopy(self._stages)
                for stage in own:
                    stage.load()
                self._loaded = own
            return self._loaded


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
