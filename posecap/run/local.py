"""Workers as threads of this process: for debugging, tests and single machines.

The heavy engines release the GIL while they compute, so two threads use two cores. Every worker has its own engines,
shared by its lanes, one thread each. Threads do not isolate crashes: a stage that crashes ends the build, which the
next build resumes; the Ray runner survives it.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from queue import SimpleQueue

from posecap.pipeline import Segment
from posecap.run.execute import ItemResult, execute
from posecap.run.schedule import Task, WorkerLost
from posecap.stage import Stage

_DOWNLOAD_THREADS = 4
_CLOSE_SECONDS = 10.0


class LocalPool:
    """``workers`` for every computing segment, each with its lanes; four for every downloading one (``cpus=0``)."""

    def __init__(self, segments: tuple[Segment, ...], *, workers: int) -> None:
        self.segments = len(segments)
        # Each thread loads its engines while others already work, so there is no start to wait for.
        self.start_seconds = 0.0
        count = [workers if s.resources.cpus or s.resources.gpus else _DOWNLOAD_THREADS for s in segments]
        self._threads = [n * s.resources.concurrency for n, s in zip(count, segments, strict=True)]
        self._held = [0] * self.segments
        self._tasks: list[SimpleQueue[Task | None]] = [SimpleQueue() for _ in segments]
        self._done: SimpleQueue[tuple[Task, ItemResult] | BaseException] = SimpleQueue()
        self._started: list[threading.Thread] = []
        for segment, workers_of_segment in enumerate(count):
            for i in range(workers_of_segment):
                worker = _Worker(segments[segment].stages)
                for lane in range(segments[segment].resources.concurrency):
                    name = f"posecap-{segment}-{i}-{lane}"
                    thread = threading.Thread(target=self._work, args=(segment, worker), name=name, daemon=True)
                    thread.start()
                    self._started.append(thread)

    def free_slots(self, segment: int) -> int:
        """One item waits behind the busy threads, so that none is idle between two items."""
        return self._threads[segment] + 1 - self._held[segment]

    def submit(self, task: Task) -> None:
        self._held[task.segment] += 1
        self._tasks[task.segment].put(task)

    def wait(self) -> tuple[Task, ItemResult | WorkerLost | None]:
        """Raises the error that kept a worker from starting (missing weights, a missing package)."""
        done = self._done.get()
        if isinstance(done, BaseException):
            raise done
        self._held[done[0].segment] -= 1
        return done

    def close(self) -> None:
        """Stop the threads, waiting for those that compute or still load engines, but not for long.

        A process that ends while one of its threads is inside a C++ library is often aborted there, and its exit code
        would be that of a crash. Threads that take longer end with the process.
        """
        for tasks, count in zip(self._tasks, self._threads, strict=True):
            for _ in range(count):
                tasks.put(None)
        until = time.monotonic() + _CLOSE_SECONDS
        for thread in self._started:
            thread.join(max(0.0, until - time.monotonic()))

    def _work(self, segment: int, worker: _Worker) -> None:
        try:
            stages = worker.loaded_stages()
            while (task := self._tasks[segment].get()) is not None:
                self._done.put((task, execute(stages, task.item)))
        except BaseException as error:
            self._done.put(error)


class _Worker:
    """Stages with engines of their own, loaded by the first lane that needs them."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self._stages = stages
        self._loaded = False
        self._lock = threading.Lock()

    def loaded_stages(self) -> tuple[Stage, ...]:
        with self._lock:
            if not self._loaded:
                self._stages = copy.deepcopy(self._stages)
                for stage in self._stages:
                    stage.load()
                self._loaded = True
        return self._stages


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
