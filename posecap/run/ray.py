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
from posecap.run.execute import ItemResult, execute
from posecap.run.schedule import Task, WorkerLost
from posecap.stage import Stage
from posecap.types import Video

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_OBJECT_STORE_BYTES = 512 * 1024**2
_FETCHERS_PER_NODE = 2
_WAITING_PER_LANE = 1
_START_SECONDS = 600.0


class WorkersNotReadyError(RuntimeError):
    """The actors could not be started; the message says why."""


class _Worker:
    """Runs in an actor process."""

    def __init__(self, stages: tuple[Stage, ...]) -> None:
        self._stages = stages
        for stage in stages:
            stage.warm_up()

    def where(self) -> str:
        return str(ray.get_runtime_context().get_node_id())

    def work(self, item: Any) -> ItemResult:
        return execute(self._stages, item)


@dataclass
class _Held:
    """A task in an actor's hands; ``since`` is when it got a lane, None while it waits behind others."""

    ref: Any
    task: Task
    since: float | None = None


@dataclass(eq=False)
class _Actor:
    """An actor and the tasks it has, oldest first.

    ``pending`` tasks wait here until a process that was lost is back: sent earlier, they would count as lost too.
    ``in_doubt`` were in its hands together when the process died. While the actor is ``isolating`` each is tried
    alone, so that only the one that takes the process down again is blamed.
    """

    handle: Any
    node: str
    lanes: int
    held: deque[_Held] = field(default_factory=deque)
    pending: deque[Task] = field(default_factory=deque)
    in_doubt: deque[Task] = field(default_factory=deque)
    isolating: bool = False
    overdue: Any = None
    restarting: bool = False

    @property
    def load(self) -> int:
        return len(self.held) + len(self.pending) + len(self.in_doubt)

    @property
    def capacity(self) -> int:
        """Tasks it may have: those under way, and as many behind them so that no lane goes hungry."""
        return self.lanes * (1 + _WAITING_PER_LANE)

    @property
    def paused(self) -> bool:
        """Whether new tasks must wait."""
        return self.restarting or self.isolating

    @property
    def running(self) -> list[_Held]:
        return [held for held in self.held if held.since is not None]

    def start_clocks(self) -> None:
        """Lanes take tasks in the order they were sent."""
        for held in list(self.held)[: self.lanes]:
            held.since = held.since or time.monotonic()

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
        WorkersNotReadyError: an actor cannot start (missing weights, package or hardware).
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
        self._handed_back: deque[tuple[Task, WorkerLost | None]] = deque()
        self._await_ready()
        self.start_seconds = time.monotonic() - self._since

    def free_slots(self, segment: int) -> int:
        return sum(max(0, actor.capacity - actor.load) for actor in self._actors[segment])

    def submit(self, task: Task) -> None:
        near = [a for a in self._actors[task.segment] if self._reaches(a, task)]
        if not near:
            raise WorkersNotReadyError("a node of the cluster is gone: start the build again to go on without it")
        actor = min(near, key=lambda a: (a.load >= a.capacity, a.paused, a.load))
        if actor.paused:
            actor.pending.append(task)
        else:
            self._send(actor, task)

    def _send(self, actor: _Actor, task: Task) -> None:
        item = task.item.video if isinstance(task.item, _Placed) else task.item
        ref = actor.handle.work.remote(item)
        actor.held.append(_Held(ref, task))
        actor.start_clocks()
        self._by_ref[ref] = (actor, task)

    def _send_next(self, actor: _Actor) -> None:
        """Suspects one by one, then all that has been waiting."""
        if actor.isolating and actor.held:
            return
        if actor.in_doubt:
            self._send(actor, actor.in_doubt.popleft())
            return
        actor.isolating = False
        while actor.pending:
            self._send(actor, actor.pending.popleft())

    def wait(self) -> tuple[Task, ItemResult | WorkerLost | None]:
        while True:
            if self._handed_back:
                return self._handed_back.popleft()
            ready, _ = ray.wait([*self._by_ref, *self._waking], num_returns=1, timeout=self._until_deadline())
            if ready and ready[0] in self._waking:
                self._restarted(ready[0])
            elif ready:
                done = self._collect(ready[0])
                if done is not None:
                    return done
            else:
                self._stop_overdue()

    def close(self) -> None:
        ray.shutdown()

    def _collect(self, ref: Any) -> tuple[Task, ItemResult | WorkerLost | None] | None:
        """What came of a task; None when its process died and nobody is to blame for it yet."""
        actor, task = self._by_ref.pop(ref)
        try:
            result: ItemResult = ray.get(ref)
        except RayActorError:
            return self._lose(actor)
        actor.held = deque(held for held in actor.held if held.ref != ref)
        actor.start_clocks()
        self._send_next(actor)
        # The next segment must find the file, so the item remembers its node.
        result.outputs = [_Placed(x, actor.node) if isinstance(x, Video) else x for x in result.outputs]
        return task, result

    def _lose(self, actor: _Actor) -> tuple[Task, WorkerLost] | None:
        """The item that took the process down, when it is known; the others are handed back untouched."""
        blamed = next((held for held in actor.held if held.ref == actor.overdue), None)
        if blamed is None and len(actor.held) == 1:
            (blamed,) = actor.held
        for held in actor.held:
            self._by_ref.pop(held.ref, None)
            if held is blamed:
                continue
            if blamed is None:
                # Even one behind the others may be it: a result that was on its way is lost with the process.
                actor.in_doubt.append(held.task)
                actor.isolating = True
            else:
                self._handed_back.append((held.task, None))
        late = WorkerLost("timeout", f"took longer than {self._row_seconds:g} s")
        lost = late if actor.overdue is not None else WorkerLost("worker_died", "the worker process died")
        actor.held.clear()
        actor.overdue = None
        actor.restarting = True
        self._waking[actor.ready()] = actor
        return None if blamed is None else (blamed.task, lost)

    def _restarted(self, ref: Any) -> None:
        """The process is back and takes what was kept for it; one that cannot come back leaves it to the others."""
        actor = self._waking.pop(ref)
        actor.restarting = False
        try:
            ray.get(ref)
        except (RayActorError, ray.exceptions.RayTaskError, ray.exceptions.ActorUnschedulableError) as error:
            for actors in self._actors:
                if actor in actors:
                    actors.remove(actor)
            if not all(self._actors):
                raise WorkersNotReadyError(f"a worker could not start again: {_cause(error)}") from error
            self._handed_back.extend((task, None) for task in (*actor.in_doubt, *actor.pending))
            return
        self._send_next(actor)

    def _until_deadline(self) -> float | None:
        began = [held.since for actors in self._actors for a in actors for held in a.running if held.since]
        return max(0.1, min(began) + self._row_seconds - time.monotonic()) if began else None

    def _stop_overdue(self) -> None:
        for actors in self._actors:
            for actor in actors:
                if actor.overdue is not None:
                    continue
                for held in actor.running:
                    if held.since is not None and time.monotonic() - held.since >= self._row_seconds:
                        actor.overdue = held.ref
                        ray.kill(actor.handle, no_restart=False)
                        break

    def _reaches(self, actor: _Actor, task: Task) -> bool:
        return not isinstance(task.item, _Placed) or task.item.node == actor.node

    def _await_ready(self) -> None:
        every = [actor for actors in self._actors for actor in actors]
        try:
            ray.get([actor.ready() for actor in every], timeout=_START_SECONDS)
        except ray.exceptions.GetTimeoutError:
            ray.shutdown()
            raise WorkersNotReadyError(
                f"{len(every)} workers did not start within {_START_SECONDS:g} s: is the cluster busy, "
                "or does no node have the CPUs and GPUs that the pipeline declares?"
            ) from None
        except (RayActorError, ray.exceptions.RayTaskError) as error:
            ray.shutdown()
            raise WorkersNotReadyError(f"a worker could not start: {_cause(error)}") from error


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
        fitting = [int(has.get(what, 0) // each) for what, each in (("GPU", wanted.gpus), ("CPU", wanted.cpus)) if each]
        count = min(fitting) if fitting else _FETCHERS_PER_NODE
        if workers is not None and (wanted.cpus or wanted.gpus):
            count = min(count, workers - len(placed))
        for _ in range(count):
            handle = remote.options(
                num_cpus=wanted.cpus,
                num_gpus=wanted.gpus,
                max_restarts=-1,
                max_concurrency=wanted.lanes,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(segment.stages)
            placed.append(_Actor(handle, node["NodeID"], wanted.lanes))
    if not placed:
        raise WorkersNotReadyError(
            f"no node has {wanted.cpus:g} CPUs and {wanted.gpus:g} GPUs for {segment.stages[0].name!r} and what follows"
        )
    return placed


def _cause(error: BaseException) -> str:
    """The last line of a remote traceback: what the engine itself said."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
