"""Distributes the rows of planned parts over the workers of a pool and assembles the results into parts.

It is the same for every runner; a pool only runs single items. Rows are submitted in plan order, items of later
segments first. A part is returned, rows in plan order, as soon as its last row is done. Only as many parts are open as
the workers need to be busy, so memory does not grow with the plan.

Where there are several nodes, a failure on one of them is not believed at once: the row is tried from its first stage
on another node before its outcome is given, and a node whose failures the others overrule is drained
(:mod:`posecap.run.pool`). Rows of a node that is gone start over elsewhere.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from posecap.outcomes import ClipOutcome, RowOutcome, RowResult, Status, sum_seconds
from posecap.run.execute import ItemError, ItemResult
from posecap.run.pool import RENEWED_PART, WHOLE_PART, Finished, Health, NodeChange, NodeLost, Pool, Task, WorkerLost
from posecap.shards import PartFiles
from posecap.types import PartName, Row, Sample, StagedResults, StagedSample, StoredRow, Video

_NODES_TO_BELIEVE = 2
"""Nodes on which a row must have failed for the same reason before that is believed, where there are as many. Nodes on
which everything fails at the time do not count."""
_NODES_TO_ASK = 3
"""Nodes on which a row is tried at most, whether they count or not: where every row fails everywhere, none does."""
_NODES_TO_ASK_WHILE_SOME_ARE_WELL = 6
"""The same while a node is left on which rows end well: three nodes may be sick at once, each in its own way."""
_LOOK_AHEAD = 256
"""Tasks at the head of a queue among which one is looked for that a free worker may run. These numbers are our choices:
each further node costs a row that is really broken another try."""


@dataclass(frozen=True)
class WorkPart:
    """A planned part to build: rows to execute, those of which results are stored, and results of rows that are already
    known."""

    name: PartName
    rows: tuple[Row | StoredRow | RowResult, ...]


@dataclass(frozen=True)
class PartResult:
    """Every row of a part, in plan order, and the files that were written for it, which wait for being committed; None
    where nothing was to be written."""

    name: PartName
    rows: tuple[RowResult, ...]
    files: PartFiles | None = None


class PartNotWrittenError(RuntimeError):
    """A part whose rows are done cannot be written; the message says why."""


@dataclass
class _OpenRow:
    """A row under way.

    Args:
        attempt: how often it has started over.
        waiting: its items without a result in this attempt.
        pieces: the node and the result of each item so far, by order.
        doubted: node → the reason for which the row ended there, not believed yet.
        verdicts: the node and the row's result of each attempt that is not believed yet.
        lost_on: nodes on which a worker died on it.
    """

    row: Row
    attempt: int = 0
    waiting: int = 1
    pieces: dict[tuple[int, ...], tuple[str, ItemResult]] = field(default_factory=dict)
    doubted: dict[str, str] = field(default_factory=dict)
    verdicts: list[tuple[str, RowResult]] = field(default_factory=list)
    lost_on: set[str] = field(default_factory=set)


@dataclass
class _OpenPart:
    """A part's rows by position: those that are done, those that are under way, and those whose samples are taken from
    the part that is replaced once all others are done."""

    done: dict[int, RowResult] = field(default_factory=dict)
    rows: dict[int, _OpenRow] = field(default_factory=dict)
    renewed: dict[int, StoredRow] = field(default_factory=dict)


@dataclass
class _UnwrittenPart:
    """A part whose rows are done, or renewed as its files are written; ``tried`` are nodes that failed to write them,
    ``failures`` how often that happened."""

    done: PartResult
    opened: _OpenPart
    tried: frozenset[str] = frozenset()
    failures: int = 0


class Schedule:
    """Runs work parts on a pool.

    Args:
        pool: the workers.
        poison_after: a row whose worker dies this many times (3 is our choice) is quarantined, or has failed if the
            worker was stopped the last time because it took too long.
        attempts: how often a worker has died on each row (by id) in earlier runs; these count too.
        on_row: called with the result of every row as it finishes.
        on_finished: called with every task that a worker is done with, whatever becomes of its row.
        on_lost: called with the id of every row whose worker died, before the row is tried again.
        on_node: called when a node joins, is drained or is gone.
        write_job: given every row of a part, the item that the pool's last segment, which is none of the pipeline's,
            turns into :class:`posecap.shards.PartFiles`; None where there is nothing to write. Without it there is no
            such segment. Where rows have samples that need new texts alone, it is also given these by position: then
            the pipeline's last segment gets the item and makes the texts as it writes. With None for an answer, or if
            that fails, whatever the reason, these rows are done one by one.

    ``health`` is what is known of the nodes.
    """

    def __init__(
        self,
        pool: Pool,
        *,
        poison_after: int = 3,
        attempts: Mapping[str, int] | None = None,
        on_row: Callable[[RowResult], None] = lambda row: None,
        on_finished: Callable[[Finished], None] = lambda done: None,
        on_lost: Callable[[str], None] = lambda row_id: None,
        on_node: Callable[[NodeChange], None] = lambda changed: None,
        write_job: Callable[[PartResult, Mapping[int, StoredRow]], Any] | None = None,
    ) -> None:
        self._pool = pool
        self._poison_after = poison_after
        self._attempts = dict(attempts or {})
        self._on_row, self._on_finished, self._on_lost, self._on_node = on_row, on_finished, on_lost, on_node
        self._write_job = write_job
        self._last_segment = pool.segments - (1 if write_job is None else 2)  # the last one of the pipeline
        self._queues: list[deque[Task]] = [deque() for _ in range(pool.segments)]
        self._in_flight = 0  # tasks that the pool has
        # A part is open until its rows are done, then unwritten where it has files, then written until it is yielded.
        self._open: dict[PartName, _OpenPart] = {}
        self._unwritten: dict[PartName, _UnwrittenPart] = {}
        self._written: deque[PartResult] = deque()
        self._stored_waiting = 0  # of the pipeline's last segment, tasks that begin there (_begins_last)
        self.health = Health()

    def run(self, parts: Iterable[WorkPart]) -> Iterator[PartResult]:
        """Build ``parts``; yields each when it is complete, in order of completion.

        Raises:
            PartNotWrittenError: a part's files cannot be written on any node.
        """
        remaining = iter(parts)
        more = True
        while True:
            while more and self._wants_part():
                part = next(remaining, None)
                more = part is not None
                if part is not None:
                    self._admit(part)
                    yield from self._complete()
            self._submit()
            yield from self._complete()
            if not more and not self._open and not self._unwritten:
                return
            if not self._in_flight and not any(self._queues):  # of the parts so far every row was known
                continue
            event = self._pool.wait()
            if event is None:
                continue
            if isinstance(event, NodeChange):
                self._change(event)
                continue
            self._in_flight -= 1
            self._receive(event)
            self._on_finished(event)
            yield from self._complete()

    def _wants_part(self) -> bool:
        """Whether workers may soon have nothing to begin with. Rows of which results are stored begin in the last
        segment, so that a part of theirs leaves the first one's queue empty."""
        if len(self._queues[0]) >= max(1, self._pool.free_slots(0)):
            return False
        return self._stored_waiting < max(1, self._pool.free_slots(self._last_segment))

    def queues(self) -> list[int]:
        """How many tasks wait for a worker of each segment."""
        return [len(queue) for queue in self._queues]

    def _admit(self, part: WorkPart) -> None:
        opened = self._open[part.name] = _OpenPart()
        for i, row in enumerate(part.rows):
            if isinstance(row, RowResult):
                opened.done[i] = row
                self._on_row(row)
            elif isinstance(row, StoredRow) and row.samples is not None and self._write_job is not None:
                opened.renewed[i] = row
            elif isinstance(row, StoredRow):
                self._go_on(part.name, i, row)
            else:
                opened.rows[i] = _OpenRow(row)
                self._queues[0].append(Task(part.name, i, (0,), 0, row))

    def _go_on(self, part: PartName, position: int, row: StoredRow) -> None:
        """Queue a row that goes on from stored results."""
        self._open[part].rows[position] = _OpenRow(row.row)
        self._enqueue_last(Task(part, position, (0,), self._last_segment, row))

    def _enqueue_last(self, task: Task) -> None:
        """Queue a task that begins in the pipeline's last segment."""
        self._queues[self._last_segment].append(task)
        self._stored_waiting += 1

    def _begins_last(self, task: Task) -> bool:
        """Whether the task begins in the pipeline's last segment: a row with stored results, or a part to renew."""
        return isinstance(task.item, StoredRow) or task.row == RENEWED_PART

    def _submit(self) -> None:
        """Later segments first; a segment gets no items while enough wait for the next one, on a node or in all."""
        for segment in reversed(range(self._pool.segments)):
            queue, passed_over = self._queues[segment], list[Task]()
            if not queue:  # as the first ones' are while rows go on from what is stored of them
                continue
            following = self._queues[segment + 1] if segment + 1 < self._pool.segments else ()
            waiting = Counter(task.node for task in following)
            if waiting[None] and waiting[None] > max(1, self._pool.free_slots(segment + 1)):
                continue
            full = frozenset(
                node
                for node, count in waiting.items()
                if node is not None and count > max(1, self._pool.free_slots(segment + 1, node))
            )
            while queue and len(passed_over) < _LOOK_AHEAD and self._pool.free_slots(segment) > 0:
                first = queue.popleft()
                task = self._placed(first, full)
                if task is not None and not self._pool.takes(task):
                    passed_over.append(task)
                    continue
                self._stored_waiting -= self._begins_last(first)
                if task is not None:
                    self._pool.submit(task)
                    self._in_flight += 1
            queue.extendleft(reversed(passed_over))

    def _placed(self, task: Task, full: frozenset[str]) -> Task | None:
        """The task with the nodes that it should avoid now; None where there is no longer anything to run."""
        nodes = self._pool.nodes(task.segment)
        if task.writes:
            avoid = self._unwritten[task.part].tried | self.health.mostly_in_doubt()
            return replace(task, avoid=avoid if nodes - avoid else frozenset())
        row = self._row_of(task)
        if row is None:
            return None
        if task.node is not None and task.node not in nodes:
            self._return(task, row, task.node)
            return None
        if task.segment == 0 and row.verdicts and nodes and not self._asks_another(row, nodes):
            self._decide(task, row, self._best(row), "confirmed")
            return None
        return replace(task, avoid=full | self._to_avoid(nodes, row))

    def _to_avoid(self, nodes: frozenset[str], row: _OpenRow) -> frozenset[str]:
        """Nodes that should not run the row's next task; never all of ``nodes``."""
        if not row.doubted:
            avoid = self.health.held()
            return avoid if nodes - avoid else frozenset()
        tried = frozenset(row.doubted)
        avoid = tried | self.health.mostly_in_doubt()
        answered = frozenset(node for node, _ in row.verdicts)
        return next((some for some in (avoid, tried, answered) if nodes - some), frozenset())

    def _row_of(self, task: Task) -> _OpenRow | None:
        """The row of a task; None for a task of an attempt that was given up."""
        opened = self._open.get(task.part)
        row = opened.rows.get(task.row) if opened is not None else None
        return row if row is not None and row.attempt == task.attempt else None

    def _receive(self, done: Finished) -> None:
        """Take in what became of a task; of an attempt that was given up nothing counts."""
        task, result = done.task, done.result
        if task.writes:
            self._receive_files(done)
            return
        row = self._row_of(task)
        if row is None:
            return
        if result is None:
            self._put_back(task, row)
        elif isinstance(result, NodeLost):
            self._return(task, row, done.node)
        elif isinstance(result, WorkerLost):
            self._lose(task, row, done.node, result)
        else:
            self._enter(task, row, done.node, result)

    def _enter(self, task: Task, row: _OpenRow, node: str, result: ItemResult) -> None:
        """Keep an item's result, and queue what it gave for the next segment."""
        row.pieces[task.order] = (node, result)
        row.waiting -= 1
        if task.segment < self._last_segment:
            row.waiting += len(result.outputs)
            self._queues[task.segment + 1] += (
                replace(
                    task,
                    order=(*task.order, i),
                    segment=task.segment + 1,
                    item=item,
                    node=node if isinstance(item, Video) else None,  # the next segment must run where the file is
                )
                for i, item in enumerate(result.outputs)
            )
        if row.waiting == 0:
            self._end(task, row)

    def _end(self, task: Task, row: _OpenRow) -> None:
        """Every item of the row has a result: give the row's, or ask another node."""
        node, _ = row.pieces[task.order]
        result = _conclude(row.row, [row.pieces[order][1] for order in sorted(row.pieces)], node)
        doubtful = {node: piece.reason for node, piece in row.pieces.values() if piece.machine_dependent}
        for node in doubtful or {node for node, _ in row.pieces.values()}:
            outcome = result.outcome
            if node in doubtful:
                # Of a kept row a clip failed there.
                status = "failed" if outcome.status == "kept" else outcome.status
                self._doubt(row, node, status, doubtful[node])
            else:
                self.health.ended(node, outcome.status, outcome.reason, decided="yes")
        if not doubtful:
            self._decide(task, row, result, "overruled")
            return
        row.verdicts += ((node, result) for node in doubtful)
        if self._asks_another(row, self._pool.nodes(task.segment)):
            self._restart(task, row)
        else:
            self._decide(task, row, self._best(row), "confirmed")

    def _lose(self, task: Task, row: _OpenRow, node: str, lost: WorkerLost) -> None:
        """A worker died on the row: try it again, on another node where there is one, or end it."""
        row_id = row.row.row_id
        times = self._attempts[row_id] = self._attempts.get(row_id, 0) + 1
        self._on_lost(row_id)
        self._doubt(row, node, "lost", lost.reason)
        row.lost_on.add(node)
        others = self._pool.nodes(task.segment) - row.doubted.keys()
        if times >= self._poison_after and (not others or self._is_certain(row.lost_on)):
            status: Status = "failed" if lost.reason == "timeout" else "quarantined"
            error = ItemError(status, "run", lost.reason, f"{lost.detail}, {times} times", retryable=False)
            earlier = [piece for _, piece in row.pieces.values()]
            self._decide(task, row, _conclude(row.row, [*earlier, ItemResult(error=error)], node), "confirmed")
        elif others:
            self._restart(task, row)
        else:
            self._put_back(task, row)

    def _put_back(self, task: Task, row: _OpenRow) -> None:
        """Run a task again before others of its segment. A row with a downloaded video starts over: the worker that is
        gone may have been done with it, alone or in a call with others, and then the file is deleted."""
        if isinstance(task.item, Video):
            self._restart(task, row)
            return
        self._queues[task.segment].appendleft(task)
        self._stored_waiting += isinstance(task.item, StoredRow)

    def _doubt(self, row: _OpenRow, node: str, outcome: str, reason: str) -> None:
        """Enter that the row ended on a node for a reason that may be the node's."""
        if node in row.doubted:
            self.health.records[node].ended[outcome, reason] += 1
        else:
            self.health.ended(node, outcome, reason, decided="not yet")
        row.doubted[node] = reason

    def _asks_another(self, row: _OpenRow, nodes: frozenset[str]) -> bool:
        """Whether there is a node left to ask, and no reason yet for which the row failed on enough of the others.

        What a node said that was drained or lost since does not count.
        """
        by_reason: defaultdict[str, set[str]] = defaultdict(set)
        for node, _ in row.verdicts:  # a worker that died said nothing of the row
            by_reason[row.doubted[node]].add(node)
        left = nodes - row.doubted.keys()
        if not left and self._attempts.get(row.row.row_id, 0) < self._poison_after:
            left = nodes & row.lost_on - {node for node, _ in row.verdicts}
        at_most = _NODES_TO_ASK_WHILE_SOME_ARE_WELL if left - self.health.unreliable() else _NODES_TO_ASK
        if not left or len(nodes & row.doubted.keys()) >= at_most:
            return False
        return not any(self._is_certain(agreeing) for agreeing in by_reason.values())

    def _is_certain(self, agreeing: Collection[str]) -> bool:
        """Whether so many nodes say the same of a row that it is believed."""
        nodes = self._pool.nodes(0) & frozenset(agreeing)
        return len(nodes - self.health.unreliable()) >= _NODES_TO_BELIEVE or len(nodes) >= _NODES_TO_ASK

    def _best(self, row: _OpenRow) -> RowResult:
        """Of results that are not certain, the one with the most clips kept; then that of nodes on which not everything
        fails, of most nodes, of nodes that are not mostly in doubt, and a failure rather than a rejection."""
        agreeing = Counter(row.doubted.values())
        in_doubt, unreliable = self.health.mostly_in_doubt(), self.health.unreliable()
        nodes = self._pool.nodes(0)

        def rank(verdict: tuple[str, RowResult]) -> tuple[int, bool, int, bool, bool]:
            node, result = verdict
            kept = sum(clip.status == "kept" for clip in result.outcome.clips)
            of_node = node in nodes - unreliable, agreeing[row.doubted[node]], node in nodes - in_doubt
            return kept, *of_node, result.outcome.status == "failed"

        return max(row.verdicts, key=rank)[1]

    def _return(self, task: Task, row: _OpenRow, node: str) -> None:
        """The node is gone: the row starts over."""
        self.health.returned(node)
        self._restart(task, row)

    def _restart(self, task: Task, row: _OpenRow) -> None:
        """From the first segment, before rows that were not tried yet; results of this attempt no longer count."""
        row.attempt += 1
        row.waiting = 1
        row.pieces.clear()
        self._queues[0].appendleft(Task(task.part, task.row, (0,), 0, row.row, row.attempt))

    def _decide(self, task: Task, row: _OpenRow, result: RowResult, verdict: Literal["confirmed", "overruled"]) -> None:
        """The row is done. ``verdict`` is on what was doubted before, on other nodes than the one that had it last."""
        opened = self._open[task.part]
        del opened.rows[task.row]
        opened.done[task.row] = result
        self._on_row(result)
        here = {node for node, _ in row.pieces.values()}
        self.health.decide({node: why for node, why in row.doubted.items() if node in here}, "confirmed")
        self.health.decide({node: why for node, why in row.doubted.items() if node not in here}, verdict)
        nodes = self._pool.nodes(0)
        for node in row.doubted:
            why = self.health.sick(node, nodes) if node in nodes else None
            if why is not None and self._pool.drain(node):
                self._change(NodeChange(node, "drained", why))

    def _change(self, changed: NodeChange) -> None:
        self.health.change(changed)
        self._on_node(changed)

    def _complete(self) -> Iterator[PartResult]:
        """Parts that are finished: written, or without files. Of others whose rows are done, writing begins."""
        for name in [name for name, opened in self._open.items() if not opened.rows]:
            opened = self._open[name]
            rows = {**opened.done, **{i: _renewed(row) for i, row in opened.renewed.items()}}
            done = PartResult(name, tuple(rows[i] for i in sorted(rows)))
            job = self._write_job(done, opened.renewed) if self._write_job else None
            if job is None and opened.renewed:
                self._reopen(name, opened)
                continue
            del self._open[name]
            if job is None:
                yield done
                continue
            self._unwritten[name] = _UnwrittenPart(done, opened)
            if opened.renewed:
                self._enqueue_last(Task(name, RENEWED_PART, (), self._last_segment, job))
            else:
                self._queues[-1].append(Task(name, WHOLE_PART, (), self._pool.segments - 1, job))
        while self._written:
            yield self._written.popleft()

    def _reopen(self, name: PartName, opened: _OpenPart) -> None:
        """Do the rows of a part one by one that were to be renewed."""
        self._open[name] = opened
        for position, row in opened.renewed.items():
            self._go_on(name, position, row)
        opened.renewed = {}

    def _enter_renewed(self, part: _UnwrittenPart, done: Finished, result: ItemResult) -> PartResult:
        """The part with its rows that were renewed as it was written; the first of them counts the seconds of all."""
        rows, seconds = list(part.done.rows), result.seconds
        for i in part.opened.renewed:
            rows[i] = replace(rows[i], node=done.node, seconds=seconds)
            seconds = {}
            self._on_row(rows[i])
        return replace(part.done, rows=tuple(rows))

    def _receive_files(self, done: Finished) -> None:
        """Written files, or the reason to write them again: on another node where there is one that has not failed."""
        task, result, part = done.task, done.result, self._unwritten[done.task.part]
        if isinstance(result, ItemResult) and result.error is None:
            (files,) = result.outputs
            self._written.append(replace(self._enter_renewed(part, done, result), files=files))
            del self._unwritten[task.part]
            return
        if part.opened.renewed:
            del self._unwritten[task.part]
            self._reopen(task.part, part.opened)
            return
        if isinstance(result, ItemResult | WorkerLost):
            why, enough = ("its worker died", self._poison_after)
            if isinstance(result, ItemResult) and result.error is not None:
                why, enough = result.error.detail, 1
            part.tried |= {done.node}
            part.failures += 1
            if part.failures >= enough and not self._pool.nodes(task.segment) - part.tried:
                raise PartNotWrittenError(f"part {task.part} cannot be written: {why}; start the build again")
        self._queues[task.segment].appendleft(task)


def _renewed(row: StoredRow) -> RowResult:
    """A row as it is once the texts of its samples are made anew."""
    return _conclude(row.row, [ItemResult(clips=list(row.clips), results=row.results)], "")


def _conclude(row: Row, pieces: list[ItemResult], node: str) -> RowResult:
    """The row's result from those of its items, in their order; ``node`` is the one that gave the last."""
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
    stored = [piece.results for piece in pieces if isinstance(piece.results, StagedResults)]
    return RowResult(
        outcome=_outcome(row, clips, errors),
        samples=tuple(item for piece in pieces for item in piece.outputs if isinstance(item, Sample | StagedSample)),
        seconds=sum_seconds(piece.seconds for piece in pieces),
        frames=sum(piece.frames for piece in pieces),
        bytes_read=sum(piece.bytes_read for piece in pieces),
        node=node,
        results=stored[0] if len(stored) == 1 else None,
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
    else:  # "decode", the stage of posecap that turns a video into clips
        first = ItemError("rejected", "decode", "no_clips", "the video gave no clip", retryable=False)
    return replace(outcome, **vars(first))
