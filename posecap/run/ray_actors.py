"""Ray actors: what each was given, and how many of which segment a node gets.

Segments that pass a video to each other are on a node together or not at all, since its file is on that node. The
declared CPUs of one segment's actors never exceed what a node has, and a build starts no other Ray tasks. So every
actor can be scheduled where one segment computes, as in the pipelines of posecap; where several do, ``workers`` must
leave room for each.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from posecap.pipeline import Segment
from posecap.run.execute import ItemResult, execute_each
from posecap.run.pool import WHOLE_PART, CallSize, Task
from posecap.run.ray_cluster import Node
from posecap.types import Video

_DOWNLOADS_PER_NODE = 2
"""At least, on each node, of items at once for a segment that needs neither CPUs nor GPUs. Our choice: one is then
fetched while another waits for its host."""
_QUEUED_PER_THREAD = 1
"""Enough that no thread is idle between two calls; more would be lost with the process, and start over."""
_LOADS_AT_MOST = 4
"""Processes of an actor that may die one after the other while they load its engines. Our choice: a node short of
memory may kill one or two by chance. Engines that raise an error are not loaded again."""


class _Worker:
    """Runs in an actor process."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        session = ray._private.worker.global_worker.node.get_session_dir_path()  # Ray's folder on this node
        with _counted(Path(session, f"posecap-loads-{ray.get_runtime_context().get_actor_id()}")):
            for stage in segment.stages if segment.load == "first" else ():
                stage.load()

    def ping(self) -> None:
        """Returns once the process is up and its engines are loaded."""

    def work(self, items: Sequence[Any]) -> list[ItemResult]:
        """The results of items, one after another."""
        segment = self._segment
        return execute_each(segment.stages, items, staging=segment.staging, storing=segment.storing)


@contextmanager
def _counted(tries: Path) -> Iterator[None]:
    """For a block of which the process may die: ``tries`` has a byte for each process that has entered it and not left.

    Ray restarts an actor whose process dies as it is made again and again, and says nothing.

    Raises:
        RuntimeError: :data:`_LOADS_AT_MOST` processes have died in the block.
    """
    died = 0
    with suppress(OSError):  # a full disk is no reason not to start
        died = tries.stat().st_size if tries.exists() else 0
        with tries.open("ab") as file:
            file.write(b".")
    try:
        if died >= _LOADS_AT_MOST:
            raise RuntimeError(f"its process died each of the {died} times that it loaded its engines")
        yield
    finally:
        tries.unlink(missing_ok=True)


@dataclass
class Submitted:
    """A call with one task or several, sent to an actor, and the Ray reference of its results.

    ``since`` is when a thread of the actor started it (``time.monotonic``); None while it is queued behind others.
    """

    ref: Any
    tasks: Sequence[Task]
    since: float | None = None


@dataclass(eq=False)
class Actor:
    """An actor of a segment, by Ray's handle of it, and its tasks, oldest first.

    ``submitted`` calls were sent to the process, tasks in ``unsent``, which are of one part, are for the next one; how
    many a call has, ``size`` says. The process is given none while it is ``paused``, because it restarts (``ping`` is
    then ready when it is up) or rests after several deaths in a row (``deaths``): sent earlier, they would be lost too.
    ``in_doubt`` are tasks that were submitted together when the process died, or in one call with a task that ended it;
    while the actor is ``isolating``, each runs alone, so that only the one on which the process dies again is counted
    as lost. ``blamed`` is that one until the process is up again: it may turn out that the whole node is gone.
    ``overdue`` is the reference of the call for which the process was killed. ``until`` (``time.monotonic``) is when
    the rest ends, or a restart that has not succeeded is tried again; ``failed_restarts`` counts these. ``counted`` is
    what the pool has entered as :attr:`free`.
    """

    handle: Any
    node: str
    segment: int
    concurrency: int
    submitted: deque[Submitted] = field(default_factory=deque)
    unsent: list[Task] = field(default_factory=list)
    size: CallSize = field(default_factory=CallSize)
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
        """Tasks it may have in addition: for each thread one running call and one queued, so that none is idle between;
        a single task after a death, until one ends well, so that it is known on which one the process dies again."""
        if self.paused or self.isolating:
            return 0
        calls = 1 if self.deaths else self.concurrency * (1 + _QUEUED_PER_THREAD)
        return max(0, calls * self.tasks_per_call - self.items)

    @property
    def items(self) -> int:
        """Tasks that it was given and is not done with."""
        return sum(len(sent.tasks) for sent in self.submitted) + len(self.unsent)

    @property
    def tasks_per_call(self) -> int:
        """How many tasks its next call may have."""
        return 1 if self.deaths else self.size.tasks

    @property
    def idle(self) -> bool:
        """Whether it has no task, and none that may have ended its process."""
        return not self.submitted and not self.unsent and not self.in_doubt and self.blamed is None

    @property
    def running(self) -> dict[Any, float]:
        """References of the calls that threads have started, each with the time of its start. What only writes a part
        has no limit and is left out: an output may be slow."""
        rows = (sent for sent in self.submitted if sent.tasks[0].row != WHOLE_PART)
        return {sent.ref: sent.since for sent in rows if sent.since is not None}

    def start_clocks(self) -> None:
        """Threads start calls in the order in which they were submitted."""
        for sent in list(self.submitted)[: self.concurrency]:
            sent.since = sent.since or time.monotonic()

    def ready(self) -> Any:
        """A reference that is ready when the process is, however often it must be restarted until then."""
        return self.handle.ping.options(max_task_retries=-1).remote()


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
