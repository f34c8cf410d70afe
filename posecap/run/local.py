"""Workers as threads of this process, and a journal by which the next run knows the rows that crashed it.

Threads do not isolate a crash of native code, which ends the whole process, and the next run would meet the same row
again. So each thread notes the row that it works on, and Python's :mod:`faulthandler` notes that the process was ended
by a signal such as SIGSEGV: the next run counts it against the rows under way, and works on each of them alone. A
process that is killed from outside (SIGKILL, also by the kernel for want of memory, SIGTERM) or loses its power leaves
rows under way and no such note, and nothing is counted.
"""

from __future__ import annotations

import copy
import faulthandler
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from posecap.pipeline import Segment
from posecap.run.execute import ItemResult, execute_each, row_of
from posecap.run.pool import CALL_SECONDS, CallSize, Finished, Load, Task
from posecap.stage import Stage

THIS_MACHINE = "this machine"
"""The name of the one node of a pool that is no cluster."""
_DOWNLOAD_THREADS = 4
"""At least, of a segment that needs neither CPUs nor GPUs: it waits for servers. Our choice."""
_CLOSE_SECONDS = 10.0
"""Longest wait for threads when a pool is closed. Our choice: they end after their row, and cannot be stopped."""


class LocalPool:
    """Workers as threads of this process, a :class:`posecap.run.pool.Pool`: for debugging, tests and single machines.

    There are ``workers`` for every computing segment, whatever its resources. One that needs neither CPUs nor GPUs
    (``cpus=0``), as downloading, has one worker, or as many as make four threads. Every worker has its own engines,
    shared by as many threads as its concurrency; engines release the GIL while they compute.
    Threads do not isolate crashes: a stage that crashes ends the build, which the next build resumes; Ray survives it.
    Rows of a part that take next to no time are taken several at once, so that their samples share a staging file.

    Args:
        journal: notes which rows are worked on; None notes nothing.
    """

    def __init__(self, segments: tuple[Segment, ...], *, workers: int, journal: CrashJournal | None = None) -> None:
        self._journal = journal
        self.segments = len(segments)
        # Each thread loads its engines while others already work, so there is no start to wait for.
        self.start_seconds = 0.0
        # By segment: tasks given and not done, number of workers, tasks that wait, how many of them a thread takes at
        # once, and threads.
        self._submitted = [0] * self.segments
        self._workers: list[int] = []
        self._tasks: list[deque[Task]] = [deque() for _ in segments]
        self._sizes = [CallSize() for _ in segments]
        # Of each segment, held while its tasks are given and taken.
        self._changed = [threading.Condition() for _ in segments]
        self._closed = False
        self._threads: list[list[threading.Thread]] = [[] for _ in segments]
        self._done: SimpleQueue[tuple[Task, ItemResult] | BaseException] = SimpleQueue()
        for number, segment in enumerate(segments):
            wanted = segment.resources
            count = workers if wanted.cpus or wanted.gpus else -(-_DOWNLOAD_THREADS // wanted.concurrency)
            self._workers.append(count)
            for i in range(count):
                worker = _Worker(segment)
                for thread_number in range(wanted.concurrency):
                    name = f"posecap-{number}-{i}-{thread_number}"
                    thread = threading.Thread(target=self._work, args=(number, worker), name=name, daemon=True)
                    thread.start()
                    self._threads[number].append(thread)

    def nodes(self, segment: int) -> frozenset[str]:
        return frozenset((THIS_MACHINE,))

    def free_slots(self, segment: int, node: str | None = None) -> int:
        """What one thread takes waits behind the busy ones, so that none is idle between two calls."""
        return (len(self._threads[segment]) + 1) * self._sizes[segment].tasks - self._submitted[segment]

    def takes(self, task: Task) -> bool:
        return self.free_slots(task.segment) > 0

    def submit(self, task: Task) -> None:
        self._submitted[task.segment] += 1
        changed = self._changed[task.segment]
        with changed:
            self._tasks[task.segment].append(task)
            changed.notify()

    def wait(self) -> Finished:
        """
        Raises:
            Exception: what kept a worker from starting, such as missing weights or a missing package.
        """
        done = self._done.get()
        if isinstance(done, BaseException):
            raise done
        task, result = done
        self._submitted[task.segment] -= 1
        return Finished(task, THIS_MACHINE, result)

    def drain(self, node: str) -> bool:
        return False

    def load(self) -> list[Load]:
        return [
            Load(THIS_MACHINE, number, workers, len(threads), items, min(items, len(threads)))
            for number, (workers, threads, items) in enumerate(
                zip(self._workers, self._threads, self._submitted, strict=True)
            )
        ]

    def close(self) -> None:
        """Stop the threads, waiting for those that compute or still load engines, but not for long.

        A process that ends while one of its threads is inside a C++ library is often aborted there, and its exit code
        would be that of a crash. Threads that take longer end with the process.
        """
        self._closed = True
        for changed in self._changed:
            with changed:
                changed.notify_all()
        until = time.monotonic() + _CLOSE_SECONDS
        for thread in chain.from_iterable(self._threads):
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, segment: int, worker: _Worker) -> None:
        """What a thread does until it is told to end; an error is handed to :meth:`wait`."""
        try:
            stages = worker.loaded_stages()
            while tasks := self._take(segment):
                items = [task.item for task in tasks]
                results = execute_each(
                    stages,
                    items,
                    staging=worker.staging,
                    storing=worker.storing,
                    around=self._noted,
                    seconds=CALL_SECONDS,
                )
                self._give_back(segment, tasks[len(results) :])
                self._sizes[segment].measure(tasks[0], results)
                for done in zip(tasks, results, strict=False):
                    self._done.put(done)
        except BaseException as error:
            self._done.put(error)

    def _take(self, segment: int) -> list[Task]:
        """The next tasks for a thread, of one part; none at the end. Waits for the first."""
        waiting = self._tasks[segment]
        changed = self._changed[segment]
        with changed:
            changed.wait_for(lambda: waiting or self._closed)
            if self._closed:
                return []
            tasks = [waiting.popleft()]
            while waiting and len(tasks) < self._sizes[segment].tasks and waiting[0].part == tasks[0].part:
                tasks.append(waiting.popleft())
            return tasks

    def _give_back(self, segment: int, tasks: Sequence[Task]) -> None:
        """Let tasks that were taken and not begun, as one before them took long, wait again, before the others: what
        the process has done is recorded as a call ends, and a kill must not lose much of it.
        """
        changed = self._changed[segment]
        if tasks:
            with changed:
                self._tasks[segment].extendleft(reversed(tasks))
                changed.notify_all()

    def _noted(self, item: Any) -> AbstractContextManager[None]:
        """For a block in which an item is worked on, a note of its row."""
        row = row_of(item)
        return self._journal.working_on(row.row_id) if self._journal and row else nullcontext()


class _Worker:
    """Stages with engines of their own, loaded by the first thread that needs them."""

    def __init__(self, segment: Segment) -> None:
        self.staging, self.storing, self._load = segment.staging, segment.storing, segment.load
        self._stages = segment.stages
        self._loaded: tuple[Stage, ...] | None = None
        self._lock = threading.Lock()

    def loaded_stages(self) -> tuple[Stage, ...]:
        """The stages, ready to run; raises what loading an engine raises, again for each thread."""
        with self._lock:
            if self._loaded is None:
                own, self.storing = copy.deepcopy((self._stages, self.storing))
                for stage in own if self._load == "first" else ():
                    stage.load()
                self._loaded = own
            return self._loaded


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_ROWS_FILE, _CRASH_FILE = ".rows-under-way", ".crash"
"""The threads' notes, each in a slot of the file, and what faulthandler writes."""
_SLOT_BYTES = 1024
"""Of a thread's note: the 256 characters that an id of a row may have, in UTF-8 at most."""
_LONGEST_NOTE_BYTES = 1 << 20
"""As much is read of what a crash left: the notes of a thousand threads."""


@dataclass(frozen=True)
class Crash:
    """How an earlier run ended: the rows that were under way, and what was said, such as ``Segmentation fault``."""

    rows: tuple[str, ...]
    said: str


@dataclass
class CrashJournal:
    """The notes of the threads of one process.

    Args:
        folder: in which the notes lie, on a local disk; the caller holds the dataset's lock.
        in_doubt: ids of rows that were under way when an earlier run crashed: while one is worked on, no other row is.
    """

    folder: Path
    in_doubt: Collection[str] = ()
    _rows: int = -1  # descriptor of the open file of rows; -1 outside of kept()
    _slots: dict[int, int] = field(default_factory=dict)  # thread → number of its note in the file
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _gate: _Gate = field(default_factory=lambda: _Gate())

    def take(self) -> Crash | None:
        """What the last run left if it crashed in native code, else None; it is forgotten with this call."""
        said, rows = "", list[str]()
        try:
            with (self.folder / _CRASH_FILE).open("rb") as file:
                said = file.read(_LONGEST_NOTE_BYTES).decode(errors="replace")
            content = (self.folder / _ROWS_FILE).read_bytes()[:_LONGEST_NOTE_BYTES]
            slots = (content[at : at + _SLOT_BYTES] for at in range(0, len(content), _SLOT_BYTES))
            rows = [slot.rstrip(b"\0").decode(errors="replace") for slot in slots if slot.strip(b"\0")]
        except FileNotFoundError:
            pass
        self._remove()
        return (
            Crash(tuple(dict.fromkeys(rows)), said.partition("\n")[0].removeprefix("Fatal Python error: "))
            if said
            else None
        )

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the journal in the block, whose end removes it, unless the process ends before."""
        was_enabled = faulthandler.is_enabled()
        self._rows = os.open(self.folder / _ROWS_FILE, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o644)
        try:
            with (self.folder / _CRASH_FILE).open("wb") as crash:
                faulthandler.enable(file=crash)
                try:
                    yield
                finally:
                    faulthandler.disable()
                    # Where it wrote before cannot be asked for; the standard is stderr.
                    if was_enabled and sys.__stderr__ is not None:
                        faulthandler.enable(file=sys.__stderr__)
        finally:
            with self._writing:
                os.close(self._rows)
                self._rows = -1
            self._remove()

    @contextmanager
    def working_on(self, row_id: str | None) -> Iterator[None]:
        """Note that this thread works on a row in the block, alone if the row is in doubt. None is noted as nothing."""
        if row_id is None:
            yield
            return
        with self._gate.passed(alone=row_id in self.in_doubt):
            self._note(row_id)
            try:
                yield
            finally:
                self._note("")

    def _note(self, row_id: str) -> None:
        """Write to the page cache, which outlives the process; a thread that outlives the journal notes nothing."""
        with self._writing:
            if self._rows < 0:
                return
            slot = self._slots.setdefault(threading.get_ident(), len(self._slots))
            os.pwrite(self._rows, row_id.encode()[:_SLOT_BYTES].ljust(_SLOT_BYTES, b"\0"), slot * _SLOT_BYTES)

    def _remove(self) -> None:
        for name in (_CRASH_FILE, _ROWS_FILE):
            (self.folder / name).unlink(missing_ok=True)


class _Gate:
    """Lets any number of threads through together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = False

    @contextmanager
    def passed(self, *, alone: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            if alone:
                self._alone = True
                self._changed.wait_for(lambda: self._together == 0)
            else:
                self._together += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._alone = False
                else:
                    self._together -= 1
                self._changed.notify_all()
