"""Workers as threads of this process: for debugging, tests and single machines."""

from __future__ import annotations

import copy
import os
import threading
import time
from contextlib import nullcontext
from itertools import chain
from queue import SimpleQueue

from posecap.pipeline import Segment
from posecap.run.crash_journal import CrashJournal
from posecap.run.execute import ItemResult, execute, row_of
from posecap.run.pool import Finished, Load, Task
from posecap.stage import Stage

THIS_MACHINE = "this machine"
"""The name of the one node of a pool that is no cluster."""
_DOWNLOAD_THREADS = 4
"""At least, of a segment that needs neither CPUs nor GPUs. A free choice."""
_CLOSE_SECONDS = 10.0
"""Longest wait for threads when a pool is closed."""


class LocalPool:
    """Workers as threads of this process, a :class:`posecap.run.pool.Pool`: for debugging, tests and single machines.

    There are ``workers`` for every computing segment, whatever its resources. One that needs neither CPUs nor GPUs
    (``cpus=0``), as downloading, has one worker, or as many as make four threads. Every worker has its own engines,
    shared by as many threads as its concurrency; engines release the GIL while they compute.
    Threads do not isolate crashes: a stage that crashes ends the build, which the next build resumes; Ray survives it.

    Args:
        journal: notes which rows are worked on; None for nobody.
    """

    def __init__(self, segments: tuple[Segment, ...], *, workers: int, journal: CrashJournal | None = None) -> None:
        self._journal = journal
        self.segments = len(segments)
        # Each thread loads its engines while others already work, so there is no start to wait for.
        self.start_seconds = 0.0
        self._submitted = [0] * self.segments
        self._workers: list[int] = []
        self._tasks: list[SimpleQueue[Task | None]] = [SimpleQueue() for _ in segments]
        self._done: SimpleQueue[tuple[Task, ItemResult] | BaseException] = SimpleQueue()
        self._threads: list[list[threading.Thread]] = [[] for _ in segments]
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
        """One item waits behind the busy threads, so that none is idle between two items."""
        return len(self._threads[segment]) + 1 - self._submitted[segment]

    def takes(self, task: Task) -> bool:
        return self.free_slots(task.segment) > 0

    def submit(self, task: Task) -> None:
        self._submitted[task.segment] += 1
        self._tasks[task.segment].put(task)

    def wait(self) -> Finished:
        """Raises the error that kept a worker from starting (missing weights, a missing package)."""
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
                row = row_of(task.item)
                with self._journal.working_on(row.row_id) if self._journal and row else nullcontext():
                    result = execute(stages, task.item, staging=worker.staging)
                self._done.put((task, result))
        except BaseException as error:
            self._done.put(error)


class _Worker:
    """Stages with engines of their own, loaded by the first thread that needs them."""

    def __init__(self, segment: Segment) -> None:
        self.staging = segment.staging
        self._stages = segment.stages
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
