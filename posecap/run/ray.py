"""Workers as Ray actors, on this machine or on a cluster: the same results as local threads, and a crash ends one item.

One actor loads the engines of one segment, so frames never leave its process; only paths and small arrays are sent.
Actors are placed node by node, and an item with a local file stays on the node that downloaded it. The declared CPUs
of one segment's actors never exceed what a node has, and a build starts no other Ray tasks. So every actor can be
scheduled where one segment computes, as in the pipelines of posecap; where several do, ``workers`` must leave room for
each.
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from posecap.pipeline import Segment
from posecap.run.execute import ItemResult, execute, stage_samples
from posecap.run.schedule import WHOLE_PART, Finished, Task, WorkerLost

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Ray would otherwise start the workers of a driver under `uv run` by `uv run` too.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_OBJECT_STORE_BYTES = 512 * 1024**2
"""Of a Ray that the build starts itself; only paths and small arrays pass through it."""
_DOWNLOADS_PER_NODE = 2
"""At least, on each node, of items at once for a segment that needs neither CPUs nor GPUs."""
_QUEUED_PER_THREAD = 1
_START_SECONDS = 600.0
"""Longest wait until all actors have loaded their engines."""
_CONNECT_SECONDS = 10.0
"""Longest wait for each network address of a cluster's host."""


class WorkersNotReadyError(RuntimeError):
    """The actors could not be started; the message says why."""


class _Worker:
    """Runs in an actor process."""

    def __init__(self, segment: Segment) -> None:
        self._segment = segment
        for stage in segment.stages:
            stage.load()

    def ping(self) -> None:
        """Returns once the process is up and its engines are loaded."""

    def work(self, item: Any) -> ItemResult:
        return execute(self._segment.stages, item, staging=self._segment.staging)


@dataclass
class _Submitted:
    """A task sent to an actor, and the Ray reference of its result.

    ``since`` is when a thread of the actor started it (``time.monotonic``); None while it is queued behind others.
    """

    ref: Any
    task: Task
    since: float | None = None


@dataclass(eq=False)
class _Actor:
    """An actor and its tasks, oldest first.

    ``submitted`` tasks were sent to the process. ``pending`` ones are kept here until a process that died has
    restarted: sent earlier, they would be counted as lost too. ``in_doubt`` ones were submitted together when the
    process died; while the actor is ``isolating``, each runs alone, so that only the one on which the process dies
    again is counted as lost. ``overdue`` is the reference of the task for which the process was killed;
    ``restart_until`` (``time.monotonic``) is when a restart that has not succeeded is tried again.
    """

    handle: Any
    node: str
    concurrency: int
    submitted: deque[_Submitted] = field(default_factory=deque)
    pending: deque[Task] = field(default_factory=deque)
    in_doubt: deque[Task] = field(default_factory=deque)
    isolating: bool = False
    overdue: Any = None
    restarting: bool = False
    restart_until: float = 0.0

    @property
    def load(self) -> int:
        return len(self.submitted) + len(self.pending) + len(self.in_doubt)

    @property
    def capacity(self) -> int:
        """Tasks it may have: one running and one queued for each thread, so that none is idle between two."""
        return self.concurrency * (1 + _QUEUED_PER_THREAD)

    @property
    def paused(self) -> bool:
        """Whether new tasks must be kept in ``pending``."""
        return self.restarting or self.isolating

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
        """A reference that is ready when the process is, however often it must be restarted until then."""
        return self.handle.ping.options(max_task_retries=-1).remote()


class RayPool:
    """Actors for every segment on every node: a :class:`posecap.run.schedule.Pool`.

    Args:
        segments: of the pipeline.
        address: of a running cluster; None starts Ray on this machine for the time of the build.
        workers: actors of each computing segment over all nodes, filled node by node; None takes what the nodes' CPUs
            and GPUs hold. A segment without CPUs and GPUs has one on each node, or as many as make two items at once.
        row_seconds: an item that runs for longer than this, in seconds, in one segment is stopped together with its
            actor, and counts as lost.

    Raises:
        WorkersNotReadyError: no cluster answers at the address, or an actor cannot start (missing weights, package or
            hardware).
    """

    def __init__(
        self, segments: tuple[Segment, ...], *, address: str | None, workers: int | None, row_seconds: float
    ) -> None:
        self.segments = len(segments)
        self._staging = [segment.staging for segment in segments]
        self._row_seconds = row_seconds
        self._since = time.monotonic()
        _connect(address)
        self._actors = [_start_actors(segment, workers) for segment in segments]
        self._by_ref: dict[Any, tuple[_Actor, Task]] = {}
        self._restarting: dict[Any, _Actor] = {}
        self._returned: deque[Finished] = deque()
        self._drained: set[str] = set()
        self._await_ready()
        self.start_seconds = time.monotonic() - self._since

    def nodes(self, segment: int) -> frozenset[str]:
        return frozenset(actor.node for actor in self._usable(segment))

    def free_slots(self, segment: int, node: str | None = None) -> int:
        return sum(max(0, a.capacity - a.load) for a in self._usable(segment) if node in (None, a.node))

    def takes(self, task: Task) -> bool:
        return any(a.load < a.capacity and task.may_run_on(a.node) for a in self._usable(task.segment))

    def drain(self, node: str) -> bool:
        if any(self.nodes(segment) <= {node} for segment in range(self.segments)):
            return False
        self._drained.add(node)
        return True

    def _usable(self, segment: int) -> list[_Actor]:
        """Actors on nodes that have some for every segment: a video stays on the node that downloaded it."""
        nodes = set.intersection(*({actor.node for actor in actors} for actors in self._actors)) - self._drained
        return [actor for actor in self._actors[segment] if actor.node in nodes]

    def submit(self, task: Task) -> None:
        usable = [actor for actor in self._usable(task.segment) if task.may_run_on(actor.node)]
        actor = min(usable, key=lambda a: (a.load >= a.capacity, a.paused, a.load))
        if actor.paused:
            actor.pending.append(task)
        else:
            self._send(actor, task)

    def _send(self, actor: _Actor, task: Task) -> None:
        ref = actor.handle.work.remote(task.item)
        actor.submitted.append(_Submitted(ref, task))
        actor.start_clocks()
        self._by_ref[ref] = (actor, task)

    def _send_next(self, actor: _Actor) -> None:
        """Tasks in doubt one by one, then all that are pending."""
        if actor.isolating and actor.submitted:
            return
        if actor.in_doubt:
            self._send(actor, actor.in_doubt.popleft())
            return
        actor.isolating = False
        while actor.pending:
            self._send(actor, actor.pending.popleft())

    def wait(self) -> Finished:
        while True:
            if self._returned:
                return self._returned.popleft()
            ready, _ = ray.wait([*self._by_ref, *self._restarting], num_returns=1, timeout=self._until_deadline())
            if ready and ready[0] in self._restarting:
                self._restarted(ready[0])
            elif ready:
                done = self._collect(ready[0])
                if done is not None:
                    return done
            else:
                self._stop_overdue()

    def close(self) -> None:
        ray.shutdown()

    def _collect(self, ref: Any) -> Finished | None:
        """The result of a task; None when its process died and it is not known yet on which task."""
        actor, task = self._by_ref.pop(ref)
        try:
            result: ItemResult = ray.get(ref)
        except RayActorError:
            return self._lose(actor)
        actor.submitted = deque(sent for sent in actor.submitted if sent.ref != ref)
        actor.start_clocks()
        self._send_next(actor)
        staging = self._staging[task.segment]
        if staging is not None:
            stage_samples(result, task.item, staging)
        return Finished(task, actor.node, result)

    def _lose(self, actor: _Actor) -> Finished | None:
        """The task on which the process died, when it is known; the others are returned to be submitted again."""
        lost = next((sent for sent in actor.submitted if sent.ref == actor.overdue), None)
        if lost is None and len(actor.submitted) == 1:
            (lost,) = actor.submitted
        for sent in actor.submitted:
            self._by_ref.pop(sent.ref, None)
            # Ray keeps what it had not sent yet for the restarted process, where it would run a second time.
            ray.cancel(sent.ref)
            if lost is None:
                # A queued task may be the one too: results on their way to the driver are lost with the process.
                actor.in_doubt.append(sent.task)
                actor.isolating = True
            elif sent is not lost:
                self._returned.append(Finished(sent.task, actor.node, None))
        reason = WorkerLost("worker_died", "the worker process died")
        if actor.overdue is not None:
            reason = WorkerLost("timeout", f"took longer than {self._row_seconds:g} s")
        actor.submitted.clear()
        actor.overdue = None
        self._await_restart(actor)
        return None if lost is None else Finished(lost.task, actor.node, reason)

    def _await_restart(self, actor: _Actor) -> None:
        """Wait for the process to restart, for a limited time: a cancelled task may have begun in it and never end."""
        actor.restarting = True
        actor.restart_until = time.monotonic() + self._row_seconds + 2 * self.start_seconds
        self._restarting[actor.ready()] = actor

    def _restarted(self, ref: Any) -> None:
        """Send the tasks that were kept to a restarted process; where it cannot start again, return them instead."""
        actor = self._restarting.pop(ref)
        actor.restarting = False
        try:
            ray.get(ref)
        except (RayActorError, ray.exceptions.RayTaskError, ray.exceptions.ActorUnschedulableError) as error:
            for actors in self._actors:
                if actor in actors:
                    actors.remove(actor)
            if not self.nodes(0):
                raise WorkersNotReadyError(f"a worker could not start again: {_cause(error)}") from error
            self._returned.extend(Finished(task, actor.node, None) for task in (*actor.in_doubt, *actor.pending))
            return
        self._send_next(actor)

    def _until_deadline(self) -> float | None:
        running = [since for actor in self._every_actor() for since in actor.running.values()]
        until = [since + self._row_seconds for since in running]
        until += [actor.restart_until for actor in self._restarting.values()]
        return max(0.1, min(until) - time.monotonic()) if until else None

    def _stop_overdue(self) -> None:
        latest = time.monotonic() - self._row_seconds
        for actor in self._every_actor():
            overdue = [ref for ref, since in actor.running.items() if since <= latest]
            if overdue and actor.overdue is None:
                actor.overdue = overdue[0]
                ray.kill(actor.handle, no_restart=False)
        for ref, actor in list(self._restarting.items()):
            if actor.restart_until <= time.monotonic():
                del self._restarting[ref]
                ray.kill(actor.handle, no_restart=False)
                self._await_restart(actor)

    def _every_actor(self) -> list[_Actor]:
        return [actor for actors in self._actors for actor in actors]

    def _await_ready(self) -> None:
        every = self._every_actor()
        try:
            ray.get([actor.ready() for actor in every], timeout=_START_SECONDS)
        except ray.exceptions.GetTimeoutError:
            ray.shutdown()
            raise WorkersNotReadyError(
                f"{len(every)} workers did not start within {_START_SECONDS:g} s: is the cluster busy, "
                "or do the pipeline's segments declare more CPUs and GPUs than it has (give fewer --workers)?"
            ) from None
        except (RayActorError, ray.exceptions.RayTaskError) as error:
            ray.shutdown()
            raise WorkersNotReadyError(f"a worker could not start: {_cause(error)}") from error


def _connect(address: str | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        _check_reachable(address)
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            raise WorkersNotReadyError(f"no Ray cluster at {address}: {_cause(error)}") from error
    else:
        # Without an address, Ray would join whatever cluster was started last on this machine, dead or alive.
        own = {"num_cpus": os.cpu_count() or 1, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        ray.init(address="local", **own, **quiet)


def _check_reachable(address: str) -> None:
    """Open a connection to the host and port of an address, since Ray tries one that does not answer for minutes.

    An address without host and port, as ``auto``, is left to Ray.

    Raises:
        WorkersNotReadyError: nothing answers there, or the port is not a number.
    """
    try:
        server = urlsplit(address if "://" in address else f"ray://{address}")
        host, port = server.hostname, server.port
    except ValueError as error:
        raise WorkersNotReadyError(f"{address!r} is not the address of a Ray cluster: {error}") from error
    if host is None or port is None:
        return
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise WorkersNotReadyError(
            f"no Ray cluster answers at {address} ({error}): is it running, and reachable from here? "
            "`ray status` on its head node says; without --address a build starts Ray on this machine"
        ) from error


def _start_actors(segment: Segment, workers: int | None) -> list[_Actor]:
    """Actors of a segment, node by node, as many as the node's CPUs and GPUs hold."""
    remote = ray.remote(_Worker)
    actors: list[_Actor] = []
    wanted = segment.resources
    for node in sorted((n for n in ray.nodes() if n["Alive"]), key=lambda n: n["NodeID"]):
        on_node = node["Resources"]
        fitting = [
            int(on_node.get(what, 0) // each) for what, each in (("GPU", wanted.gpus), ("CPU", wanted.cpus)) if each
        ]
        count = min(fitting) if fitting else -(-_DOWNLOADS_PER_NODE // wanted.concurrency)
        if workers is not None and (wanted.cpus or wanted.gpus):
            count = min(count, workers - len(actors))
        for _ in range(count):
            handle = remote.options(
                num_cpus=wanted.cpus,
                num_gpus=wanted.gpus,
                max_restarts=-1,
                max_concurrency=wanted.concurrency,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False),
            ).remote(segment)
            actors.append(_Actor(handle, node["NodeID"], wanted.concurrency))
    if not actors:
        raise WorkersNotReadyError(
            f"no node has {wanted.cpus:g} CPUs and {wanted.gpus:g} GPUs for {segment.stages[0].name!r} and what follows"
        )
    return actors


def _cause(error: BaseException) -> str:
    """The last line of a remote traceback: what the engine itself said."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
