"""Ray actors: what each was given, and how many of which segment a node gets.

Segments that pass a video to each other are on a node together or not at all, since its file is on that node. The
declared CPUs of one segment's actors never exceed what a node has, and a build starts no other Ray tasks. So every
actor can be scheduled where one segment computes, as in the pipelines of posecap; where several do, ``workers`` must
leave room for each.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from posecap.pipeline import Segment
from posecap.run.execute import ItemResult, execute
from posecap.run.pool import WHOLE_PART, Task
from posecap.run.ray_cluster import Node
from posecap.types import Video

_DOWNLOADS_PER_NODE = 2
"""At least, on each node, of items at once for a segment that needs neither CPUs nor GPUs. A free choice."""
_QUEUED_PER_THREAD = 1
"""Enough that no thread is idle between two tasks; more would be lost with the process, and start over."""

LOADS_AT_MOST = 4
"""Tries of a worker's process to load its engines; a free choice. Engines that raise an error are not tried again."""


class _Worker:
    """Runs in an actor process. Engines are not loaded as it is made: Ray would restart a process that dies of it again
    and again without a word, while a call that the process dies of fails after a number of tries."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        self._loading, self._loaded = threading.Lock(), False

    def load(self) -> None:
        """Returns once the process is up and its engines are loaded."""
        with self._loading:
            if not self._loaded:
                for stage in self._segment.stages:
                    stage.load()
                self._loaded = True

    def work(self, item: Any) -> ItemResult:
        self.load()  # of a restarted process, Ray may run a cancelled task first
        return execute(self._segment.stages, item, staging=self._segment.staging)


@dataclass
class Submitted:
    """A task sent to an actor, and the Ray reference of its result.

    ``since`` is when a thread of the actor started it (``time.monotonic``); None while it is queued behind others.
    """

    ref: Any
    task: Task
    since: float | None = None


@dataclass(eq=False)
class Actor:
    """An actor of a segment and its tasks, oldest first.

    ``submitted`` tasks were sent to the process. It is given none while it is ``paused``, because it restarts (``ping``
    is then ready when it is up) or rests after several deaths in a row (``deaths``): sent earlier, they would be lost
    too. ``in_doubt`` are tasks that were submitted together when the process died; while the actor is
    ``isolating``, each runs alone, so that only the one on which the process dies again is counted as lost.
    ``blamed`` is that one until the process is up again: it may turn out that the whole node is gone.
    ``overdue`` is the reference of the task for which the process was killed. ``until`` (``time.monotonic``) is when
    the rest ends, or a restart that has not succeeded is tried again; ``failed_restarts`` counts these. ``counted`` is
    what the pool has entered as :attr:`free`.
    """

    handle: Any
    node: str
    segment: int
    concurrency: int
    submitted: deque[Submitted] = field(default_factory=deque)
    in_doubt: deque[Task] = field(default_factory=deque)
    isolating: bool = False
    blamed: Task | None = None
    overdue: Any = None
    paused: bool = False
    ping: Any = None
    until: float = 0.0
    deaths: int = 0
    failed_restarts: int = 0
    counted: int = 0

    @property
    def free(self) -> int:
        """Tasks it may have in addition: one running and one queued for each thread, so that none is idle between; a
        single one after a death, until a task ends well, so that it is known on which one the process dies again."""
        if self.paused or self.isolating:
            return 0
        at_once = 1 if self.deaths else self.concurrency * (1 + _QUEUED_PER_THREAD)
        return max(0, at_once - len(self.submitted))

    @property
    def idle(self) -> bool:
        """Whether it has no task, and none that may have ended its process."""
        return not self.submitted and not self.in_doubt and self.blamed is None

    @property
    def running(self) -> dict[Any, float]:
        """References of the rows' tasks that threads have started, each with the time of its start."""
        rows = (sent for sent in self.submitted if sent.task.row != WHOLE_PART)
        return {sent.ref: sent.since for sent in rows if sent.since is not None}

    def start_clocks(self) -> None:
        """Threads start tasks in the order in which they were submitted."""
        for sent in list(self.submitted)[: self.concurrency]:
            sent.since = sent.since or time.monotonic()

    def ready(self) -> Any:
        """A reference that is ready when the process has its engines, or has died :data:`LOADS_AT_MOST` times of
        loading them."""
        return self.handle.load.options(max_task_retries=LOADS_AT_MOST - 1).remote()


def start_actor(node: Node, segment: Segment, number: int) -> Actor:
    """Ask for an actor of a segment, by its number in the pipeline, on a node; it loads its engines on its own time."""
    wanted = segment.resources
    options = ray.remote(_Worker).options(
        num_cpus=wanted.cpus,
        num_gpus=wanted.gpus,
        max_restarts=-1,
        max_concurrency=wanted.concurrency,
        scheduling_strategy=NodeAffinitySchedulingStrategy(node.ray_id, soft=False),
    )
    return Actor(options.remote(segment), node.name, number, wanted.concurrency)


def actors_on(node: Node, segments: Sequence[Segment], *, workers: int | None, busy: Sequence[int]) -> list[int]:
    """How many actors of each segment a node gets.

    Args:
        workers: the most of each computing segment, over all nodes; None for as many as nodes hold.
        busy: how many actors of each segment other nodes have.
    """
    counts = []
    for segment, elsewhere in zip(segments, busy, strict=True):
        wanted = segment.resources
        each = {"GPU": wanted.gpus, "CPU": wanted.cpus}
        fitting = [int(node.resources.get(what, 0) // amount) for what, amount in each.items() if amount]
        count = min(fitting) if fitting else -(-_DOWNLOADS_PER_NODE // wanted.concurrency)
        if workers is not None and fitting:
            count = min(count, workers - elsewhere)
        counts.append(max(0, count))
    for together in _together(segments):
        if not all(counts[number] for number in together):
            for number in together:
                counts[number] = 0
    return counts


def _together(segments: Sequence[Segment]) -> list[list[int]]:
    """Numbers of segments in groups: those of a group pass a video to each other."""
    groups: list[list[int]] = []
    for number in range(len(segments)):
        if groups and issubclass(segments[number - 1].stages[-1].gives, Video):
            groups[-1].append(number)
        else:
            groups.append([number])
    return groups


def what_fits_nowhere(segments: Sequence[Segment], nodes: Iterable[Node]) -> str:
    """A sentence on the first segment that no node has room for, or on the last one."""
    nodes = list(nodes)
    for segment in segments:
        wanted = segment.resources
        if not any(
            n.resources.get("CPU", 0) >= wanted.cpus and n.resources.get("GPU", 0) >= wanted.gpus for n in nodes
        ):
            break
    return f"no node has {wanted.cpus:g} CPUs and {wanted.gpus:g} GPUs for {segment.stages[0].name!r} and what follows"
