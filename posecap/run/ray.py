"""Workers as Ray actors, on this machine or on a cluster: the same results, and a crash costs one item.

One actor holds the engines of one segment, so frames never leave its process; only paths and small arrays
travel. Actors are placed node by node and an item with a local file stays on the node that fetched it. The
sum of declared CPUs never exceeds what a node has: nothing else of the build runs as a Ray task, so nothing starves.
"""

from __future__ import annotations

import os
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from posecap.pipeline import Segment
from posecap.run.schedule import Lost, Task
from posecap.run.walk import Walked, walk
from posecap.stage import Stage
from posecap.types import Video

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_OBJECT_STORE_BYTES = 512 * 1024**2
_FETCHERS_PER_NODE = 2
_QUEUE_PER_ACTOR = 2
_START_SECONDS = 600.0


class WorkersNotReady(RuntimeError):
    """The actors could not be started; the message says why."""


class _Worker:
    """Runs in an actor process."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self._stages = stages
        for stage in stages:
            stage.warm_up()

    def where(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def work(self, item: Any) -> Walked:
        return walk(self._stages, item)


@dataclass(eq=False)
class _Actor:
    """``parked`` tasks wait here until a process that was lost is back: sent earlier, they would count as lost too."""

    handle: Any
    node: str
    held: deque[tuple[Any, Task]] = field(default_factory=deque)
    parked: deque[Task] = field(default_factory=deque)
    since: float = 0.0
    stopped: bool = False
    waking: bool = False

    @property
    def load(self) -> int:
        return len(self.held) + len(self.parked)

    def ready(self) -> Any:
        """A reference that is there when the process is, however often it must be started until then."""
        return self.handle.where.options(max_task_retries=-1).remote()


class RayPool:
    """Actors for every segment on every node.

    Args:
        segments: of the pipeline.
        address: of a running cluster; None starts Ray on this machine for the time of the build.
        workers: computing actors in all; None takes what the nodes' CPUs or GPUs hold.
        row_seconds: an item that holds its actor for longer is stopped with it, and counts as lost.

    Raises:
        WorkersNotReady: an actor cannot start (missing weights, package or hardware).
    """

    def __init__(
        self, segments: tuple[Segment, ...], *, address: str | None, workers: int | None, row_seconds: float
    ) -> None:
        self.segments = len(segments)
        self._row_seconds = row_seconds
        self._since = time.monotonic()
        _connect(address)
        self._actors = [_place(segment, workers) for segment in segments]
        self._by_ref: dict[Any, tuple[_Actor, Task]] = {}
        self._waking: dict[Any, _Actor] = {}
        self._handed_back: deque[tuple[Task, Lost | None]] = deque()
        self._await_ready()
        self.start_seconds = time.monotonic() - self._since

    def room(self, segment: int) -> int:
        return sum(_QUEUE_PER_ACTOR - actor.load for actor in self._actors[segment])

    def submit(self, task: Task) -> None:
        near = [a for a in self._actors[task.segment] if self._reaches(a, task)]
        if not near:
            raise WorkersNotReady("a node of the cluster is gone: start the build again to go on without it")
        actor = min(near, key=lambda a: (a.load >= _QUEUE_PER_ACTOR, a.waking, a.load))
        if actor.waking:
            actor.parked.append(task)
        else:
            self._send(actor, task)

    def _send(self, actor: _Actor, task: Task) -> None:
        if not actor.held:
            actor.since = time.monotonic()
        item = task.item.video if isinstance(task.item, _Placed) else task.item
        ref = actor.handle.work.remote(item)
        actor.held.append((ref, task))
        self._by_ref[ref] = (actor, task)

    def wait(self) -> tuple[Task, Walked | Lost | None]:
        while True:
            if self._handed_back:
                return self._handed_back.popleft()
            ready, _ = ray.wait([*self._by_ref, *self._waking], num_returns=1, timeout=self._until_deadline())
            if ready and ready[0] in self._waking:
                self._awake(ready[0])
            elif ready:
                return self._collect(ready[0])
            else:
                self._stop_overdue()

    def close(self) -> None:
        ray.shutdown()

    def _collect(self, ref: Any) -> tuple[Task, Walked | Lost | None]:
        actor, task = self._by_ref.pop(ref)
        try:
            walked: Walked = ray.get(ref)
        except RayActorError:
            return self._lose(actor)
        actor.held = deque((r, t) for r, t in actor.held if r != ref)
        actor.since = time.monotonic()
        # The next segment must find the file, so the item remembers its node.
        walked.gone_on = [_Placed(x, actor.node) if isinstance(x, Video) else x for x in walked.gone_on]
        return task, walked

    def _lose(self, actor: _Actor) -> tuple[Task, Lost | None]:
        """The oldest item the actor held took it down; those behind it are handed back untouched."""
        _, guilty = actor.held[0]
        for other, task in actor.held:
            self._by_ref.pop(other, None)
            if task is not guilty:
                self._handed_back.append((task, None))
        lost = (
            Lost("timeout", f"took longer than {self._row_seconds:g} s")
            if actor.stopped
            else Lost("worker_died", "the worker process died")
        )
        actor.held.clear()
        actor.stopped = False
        actor.waking = True
        self._waking[actor.ready()] = actor
        return guilty, lost

    def _awake(self, ref: Any) -> None:
        """The process is back and takes what was kept for it; one that cannot come back leaves it to the others."""
        actor = self._waking.pop(ref)
        actor.waking = False
        try:
            ray.get(ref)
        except (RayActorError, ray.exceptions.RayTaskError, ray.exceptions.ActorUnschedulableError) as error:
            for actors in self._actors:
                if actor in actors:
                    actors.remove(actor)
            if not all(self._actors):
                raise WorkersNotReady(f"a worker could not start again: {_cause(error)}") from error
            self._handed_back.extend((task, None) for task in actor.parked)
            return
        while actor.parked:
            self._send(actor, actor.parked.popleft())

    def _until_deadline(self) -> float | None:
        busy = [actor.since for actors in self._actors for actor in actors if actor.held]
        return max(0.1, min(busy) + self._row_seconds - time.monotonic()) if busy else None

    def _stop_overdue(self) -> None:
        for actors in self._actors:
            for actor in actors:
                if actor.held and not actor.stopped and time.monotonic() - actor.since >= self._row_seconds:
                    actor.stopped = True
                    ray.kill(actor.handle, no_restart=False)

    def _reaches(self, actor: _Actor, task: Task) -> bool:
        return not isinstance(task.item, _Placed) or task.item.node == actor.node

    def _await_ready(self) -> None:
        every = [actor for actors in self._actors for actor in actors]
        try:
            ray.get([actor.ready() for actor in every], timeout=_START_SECONDS)
        except ray.exceptions.GetTimeoutError:
            ray.shutdown()
            raise WorkersNotReady(
                f"{len(every)} workers did not start within {_START_SECONDS:g} s: is the cluster busy, "
                "or does no node have the CPUs and GPUs that the pipeline declares?"
            ) from None
        except (RayActorError, ray.exceptions.RayTaskError) as error:
            ray.shutdown()
            raise WorkersNotReady(f"a worker could not start: {_cause(error)}") from error


@dataclass(frozen=True)
class _Placed:
    """A video and the node whose disk holds it."""

    video: Video
    node: str


def _connect(address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        ray.init(address=address, **quiet)
    else:
        ray.init(
            num_cpus=os.cpu_count() or 1, include_dashboard=False, object_store_memory=_OBJECT_STORE_BYTES, **quiet
        )


def _place(segment: Segment, workers: int | None) -> list[_Actor]:
    """Actors of a segment, node by node, as many as the node's CPUs and GPUs hold."""
    remote = ray.remote(_Worker)
    placed: list[_Actor] = []
    wanted = segment.resources
    for node in sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: n["NodeID"]):
        has = node["Resources"]
        if wanted.gpus:
            count = int(has.get("GPU", 0) // wanted.gpus)
        elif wanted.cpus:
            count = int(has.get("CPU", 0) // wanted.cpus)
        else:
            count = _FETCHERS_PER_NODE
        if workers is not None and (wanted.cpus or wanted.gpus):
            count = min(count, workers - len(placed))
        for _ in range(count):
            handle = remote.options(
                num_cpus=wanted.cpus,
                num_gpus=wanted.gpus,
                max_restarts=-1,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(segment.stages)
            placed.append(_Actor(handle, node["NodeID"]))
    if not placed:
        raise WorkersNotReady(
            f"no node has {wanted.cpus:g} CPUs and {wanted.gpus:g} GPUs for {segment.stages[0].name!r} and what follows"
        )
    return placed


def _cause(error: BaseException) -> str:
    """The last line of a remote traceback: what the engine itself said."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
