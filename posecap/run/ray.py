"""Workers as Ray actors, on this machine or on a cluster: the same results as local threads, and a crash ends one item.

One actor loads the engines of one segment, so frames never leave its process; only paths and small arrays are sent.
Actors are placed node by node, on those that are there at the start and on those that join later
(:mod:`posecap.run.ray_actors`). An item with a local file stays on the node that has it. Rows that take next to no time
are sent several at once, since a call costs the driver as much as the rest of a row; if the process dies of one of them
or takes too long, each is tried again alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import ray
from ray.exceptions import (
    ActorUnschedulableError,
    LocalRayletDiedError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayError,
)

from posecap.pipeline import Segment
from posecap.run.execute import ItemResult, complete
from posecap.run.pool import CallSize, Finished, Load, NodeChange, NodeLost, NodeState, Task, WorkerLost
from posecap.run.ray_actors import Actor, Submitted, actors_on, start_actor, what_fits_nowhere
from posecap.run.ray_cluster import ClusterLostError, Node, RayCluster, WorkersNotReadyError, cause

__all__ = ["ClusterLostError", "RayPool", "WorkersNotReadyError"]

_START_SECONDS = 600.0
"""Longest wait until all actors of a node have loaded their engines. This and the numbers below are our
choices: a node that is slow is waited for, and one that is broken holds up a build by ten minutes."""
_OTHERS_SECONDS = 30.0
"""Longest wait at the start for other nodes once one is ready."""
_NODES_SECONDS = 600.0
"""Longest wait for a new node when the cluster has lost the last one."""
_LOOK_SECONDS = 1.0
"""Time between two looks at the cluster's nodes while no task ends."""
_RESTARTS_AT_MOST = 3
"""A worker that does not come up again in so many tries is given up where other nodes can do its work."""
_RESTART_SECONDS = 60.0
"""Shortest time that one of these tries is given."""
_REST_SECONDS = 30.0
"""Longest rest of a worker that died several times in a row."""


@dataclass(eq=False)
class _NodeActors:
    """The actors of one node, by segment. They were asked for at ``since`` (``time.monotonic``); ``starting`` are
    references of those that are not ready yet."""

    actors: list[list[Actor]]
    starting: set[Any]
    since: float
    state: Literal["starting", "used", "drained"] = "starting"

    def every(self) -> Iterator[Actor]:
        return chain.from_iterable(self.actors)


class RayPool:
    """Actors for every segment on every node: a :class:`posecap.run.pool.Pool`.

    Args:
        segments: of the pipeline.
        address: of a running cluster; None starts Ray on this machine for the time of the build.
        workers: actors of each computing segment over all nodes, filled node by node; None takes what the nodes' CPUs
            and GPUs hold. A segment without CPUs and GPUs has one on each node, or as many as make two items at once.
        row_seconds: an item that runs for longer than this, in seconds, in one segment is stopped together with its
            actor, and counts as lost.

    Raises:
        WorkersNotReadyError: no cluster answers at the address, or no node's actors can start (missing weights, package
            or hardware). :meth:`wait` raises it when no node is left.
        ClusterLostError: the cluster does not answer any more.
    """

    def __init__(
        self, segments: tuple[Segment, ...], *, address: str | None, workers: int | None, row_seconds: float
    ) -> None:
        self.segments = len(segments)
        self._segments, self._workers, self._row_seconds = segments, workers, row_seconds
        self._since = time.monotonic()
        self._cluster = RayCluster(address)
        # By name: nodes with actors, and why those are left out whose actors cannot start. Those that are gone or were
        # drained get no actors again.
        self._nodes: dict[str, _NodeActors] = {}
        self._left_out: dict[str, str] = {}
        self._gone: set[str] = set()
        # By segment: the nodes that may get tasks, with their free slots.
        self._free: list[dict[str, int]] = [{} for _ in segments]
        self._nodes_of: list[frozenset[str]] = [frozenset()] * len(segments)
        # By Ray reference: actors that work on a call, and those that start or restart.
        self._by_ref: dict[Any, Actor] = {}
        self._pings: dict[Any, Actor] = {}
        self._paused: set[Actor] = set()
        self._waiting: set[Actor] = set()  # with tasks in Actor.unsent
        self._events: deque[Finished | NodeChange | None] = deque()  # what wait() gives next
        # Times (time.monotonic): of the next look at nodes, and when every segment last had a node.
        self._look_at = self._since
        self._complete_at = self._since
        self.start_seconds = 0.0
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.monotonic() - self._since

    def nodes(self, segment: int) -> frozenset[str]:
        return self._nodes_of[segment]

    def free_slots(self, segment: int, node: str | None = None) -> int:
        free = self._free[segment]
        return sum(free.values()) if node is None else free.get(node, 0)

    def takes(self, task: Task) -> bool:
        return any(free and task.may_run_on(node) for node, free in self._free[task.segment].items())

    def submit(self, task: Task) -> None:
        """On the node with most slots free, to the actor with fewest tasks; at once where its call is full or has tasks
        of another part, else by the next :meth:`wait`."""
        free = self._free[task.segment]
        node = max((node for node in free if task.may_run_on(node)), key=lambda node: free[node])
        actor = max(self._nodes[node].actors[task.segment], key=lambda actor: actor.free)
        if actor.unsent and actor.unsent[0].part != task.part:
            self._send_unsent(actor)
        actor.unsent.append(task)
        self._waiting.add(actor)
        if len(actor.unsent) >= actor.tasks_per_call:
            self._send_unsent(actor)
        else:
            self._count(actor)

    def wait(self) -> Finished | NodeChange | None:
        while True:
            self._look()
            for actor in list(self._waiting):
                self._send_unsent(actor)
            if self._events:
                return self._events.popleft()
            try:
                self._step(_LOOK_SECONDS)
            except ConnectionError as error:  # of a cluster that is reached by ray://
                raise self._cluster.lost() from error

    def drain(self, node: str) -> bool:
        if any(nodes <= {node} for nodes in self._nodes_of):
            return False
        self._nodes[node].state = "drained"
        self._refresh()
        return True

    def load(self) -> list[Load]:
        found = []
        for name, node in self._nodes.items():
            for number, actors in enumerate(node.actors):
                slots = sum(actor.concurrency for actor in actors)
                items = sum(actor.items for actor in actors)
                busy = sum(min(len(actor.submitted), actor.concurrency) for actor in actors)
                found.append(Load(name, number, len(actors), slots, items, busy))
        return found

    def close(self) -> None:
        self._cluster.close()

    # Nodes that come and go

    def _start(self) -> None:
        """Wait for the actors of the nodes that are there; not for long once those of one node are ready."""
        self._follow_nodes()
        until, first = self._since + _START_SECONDS, True
        while any(node.state == "starting" for node in self._nodes.values()) and time.monotonic() < until:
            if all(self._nodes_of) and first:
                until, first = min(until, time.monotonic() + _OTHERS_SECONDS), False
            self._step(_LOOK_SECONDS)
            self._follow_nodes()
        if not all(self._nodes_of):
            starting = [actor for node in self._nodes.values() if node.state == "starting" for actor in node.every()]
            if self._left_out:
                raise WorkersNotReadyError(next(iter(self._left_out.values())))
            if starting:
                raise WorkersNotReadyError(self._do_not_start(len(starting)))
            raise WorkersNotReadyError(what_fits_nowhere(self._segments, self._cluster.nodes().values()))
        self._events = deque(event for event in self._events if getattr(event, "state", "") != "used")

    def _look(self) -> None:
        """What time brings: nodes that come and go, tasks that take too long, workers that do not restart."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._follow_nodes()
        self._stop_overdue()
        if not self._events:
            self._require_nodes()

    def _follow_nodes(self) -> None:
        alive = self._cluster.nodes()
        for name in [name for name in self._nodes if name not in alive]:
            self._leave(name, "lost", "the cluster has lost it")
        for name, node in alive.items():
            if name in self._nodes:
                self._look_after(name, node)
            elif name not in self._left_out and name not in self._gone and not node.draining:
                self._place(node)

    def _look_after(self, name: str, node: Node) -> None:
        """Leave out a node whose actors do not start, release a drained one that is idle, drain one that will go."""
        actors = self._nodes[name]
        if actors.state == "starting" and time.monotonic() > actors.since + _START_SECONDS:
            self._leave(name, "left_out", self._do_not_start(len(list(actors.every()))))
        elif actors.state == "drained" and all(actor.idle for actor in actors.every()):
            self._release(name)
        elif actors.state == "used" and node.draining:
            actors.state = "drained"
            self._refresh()
            self._events.append(NodeChange(name, "drained", "the cluster is about to take it away"))

    def _place(self, node: Node) -> None:
        """Start a node's actors; they get tasks when all are ready."""
        others = [other for other in self._nodes.values() if other.state != "drained"]
        busy = [sum(len(other.actors[number]) for other in others) for number in range(self.segments)]
        counts = actors_on(node, self._segments, workers=self._workers, busy=busy)
        if not any(counts):
            return
        actors = [
            [start_actor(node, segment, number) for _ in range(count)]
            for number, (segment, count) in enumerate(zip(self._segments, counts, strict=True))
        ]
        every = list(chain.from_iterable(actors))
        self._nodes[node.name] = _NodeActors(actors, {self._ping(actor) for actor in every}, time.monotonic())

    def _started(self, ref: Any, actor: Actor) -> None:
        """An actor is up, or cannot start; with the last one of a node the node is used."""
        node = self._nodes[actor.node]
        try:
            ray.get(ref)
        except ActorUnschedulableError:
            self._node_is_gone(actor.node)
            return
        except RayError as error:
            self._leave(actor.node, "left_out", f"a worker could not start: {cause(error)}")
            return
        node.starting.discard(ref)
        if not node.starting:
            node.state = "used"
            self._refresh()
            self._events.append(NodeChange(actor.node, "used"))

    def _leave(self, name: str, state: NodeState, why: str) -> None:
        """Go on without a node: what it was given is handed back, to start over elsewhere."""
        node = self._nodes.pop(name)
        if state == "left_out":
            self._left_out[name] = why
        if state == "left_out" or node.state != "starting":
            self._events.append(NodeChange(name, state, why))
        for actor in node.every():
            self._events.extend(Finished(task, name, NodeLost()) for task in self._forget(actor))
            if state == "left_out":
                ray.kill(actor.handle)
        for ref in node.starting:
            self._pings.pop(ref, None)
        self._refresh()

    def _node_is_gone(self, name: str) -> None:
        """Its actors can be placed nowhere; the cluster itself says so some seconds later."""
        self._gone.add(name)
        self._leave(name, "lost", "the cluster has lost it")

    def _release(self, name: str) -> None:
        """End the actors of a drained node, so that whoever manages the cluster can take the node away."""
        self._gone.add(name)
        for actor in self._nodes.pop(name).every():
            self._forget(actor)
            ray.kill(actor.handle)
        self._refresh()

    def _refresh(self) -> None:
        """Find the nodes that may get tasks of each segment, and count their free slots."""
        self._free = [{} for _ in self._segments]
        for name, node in self._nodes.items():
            for number, actors in enumerate(node.actors):
                if node.state == "used" and actors:
                    self._free[number][name] = 0
        self._nodes_of = [frozenset(free) for free in self._free]
        for actor in self._every_actor():
            actor.counted = 0
            self._count(actor)

    def _count(self, actor: Actor) -> None:
        """Enter how many more tasks an actor takes, where that may have changed."""
        of_nodes = self._free[actor.segment]
        if actor.node in of_nodes:
            of_nodes[actor.node] += actor.free - actor.counted
            actor.counted = actor.free

    def _require_nodes(self) -> None:
        """
        Raises:
            WorkersNotReadyError: a segment has no worker, and none will come.
        """
        if all(self._nodes_of) or any(node.state == "starting" for node in self._nodes.values()):
            self._complete_at = time.monotonic()
            return
        alive = self._cluster.nodes().keys()
        if alive and alive <= self._left_out.keys():
            raise WorkersNotReadyError(list(self._left_out.values())[-1])
        if time.monotonic() > self._complete_at + _NODES_SECONDS:
            raise WorkersNotReadyError(
                f"the cluster has had no node for every segment of the pipeline for {_NODES_SECONDS:g} s: finished "
                "parts are kept; give the same command again once it has"
            )

    def _do_not_start(self, count: int) -> str:
        return (
            f"{count} workers did not start within {_START_SECONDS:g} s: is the cluster busy, or do the pipeline's "
            "segments declare more CPUs and GPUs than it has (give fewer --workers)?"
        )

    # Tasks

    def _step(self, seconds: float) -> None:
        """Take in the results that are there and the actors that are up; wait for the first, but not for long."""
        refs = [*self._by_ref, *self._pings]
        if not refs:
            time.sleep(seconds)
            return
        ready = ray.wait(refs, num_returns=1, timeout=seconds)[0]
        if ready and len(refs) > 1:
            ready = ray.wait(refs, num_returns=len(refs), timeout=0)[0]
        for ref in ready:
            if ref in self._by_ref:
                self._collect(ref)
            elif ref in self._pings:
                actor = self._pings.pop(ref)
                if actor.ping is not None and actor.ping == ref:
                    self._restarted(actor)
                else:
                    self._started(ref, actor)

    def _send(self, actor: Actor, tasks: Sequence[Task]) -> None:
        ref = actor.handle.work.remote([task.item for task in tasks])
        actor.submitted.append(Submitted(ref, tasks))
        actor.start_clocks()
        self._by_ref[ref] = actor
        self._count(actor)

    def _send_unsent(self, actor: Actor) -> None:
        self._waiting.discard(actor)
        tasks, actor.unsent = actor.unsent, []
        if actor.paused or actor.isolating:
            self._events.extend(Finished(task, actor.node, None) for task in tasks)
        elif tasks:
            self._send(actor, tasks)

    def _send_next(self, actor: Actor) -> None:
        """Tasks in doubt one by one; after the last the actor takes others again."""
        if actor.paused or (actor.isolating and actor.submitted):
            return
        if actor.in_doubt:
            self._send(actor, [actor.in_doubt.popleft()])
        else:
            actor.isolating = False
        self._count(actor)

    def _collect(self, ref: Any) -> None:
        """Enter the results of a call, or what became of its worker."""
        actor = self._by_ref.pop(ref)
        tasks = next(sent.tasks for sent in actor.submitted if sent.ref == ref)
        segment = self._segments[actor.segment]
        results: Sequence[ItemResult | WorkerLost | NodeLost] | None
        try:
            made = ray.get(ref)
            actor.size.measure(tasks[0], made)
            results = [complete(result, task.item, segment) for task, result in zip(tasks, made, strict=True)]
            actor.deaths = 0
        except RayActorError:
            self._lose(actor)
            return
        except ActorUnschedulableError:
            self._node_is_gone(actor.node)
            return
        except (NodeDiedError, LocalRayletDiedError, ObjectLostError):
            results = [NodeLost()] * len(tasks)
        except RayError as error:  # such as a KeyboardInterrupt in the worker, or a result that cannot be sent
            one = WorkerLost("worker_error", f"the worker raised {cause(error)}")
            results = [one] if len(tasks) == 1 else None
        actor.submitted = deque(sent for sent in actor.submitted if sent.ref != ref)
        actor.start_clocks()
        if results is None:
            self._doubt(actor, tasks)
        self._send_next(actor)
        done = zip(tasks, results or (), strict=results is not None)
        self._events.extend(Finished(task, actor.node, result) for task, result in done)

    def _doubt(self, actor: Actor, tasks: Sequence[Task]) -> None:
        """One of these tasks ended the process or took too long: each is run alone next."""
        actor.in_doubt.extend(tasks)
        actor.isolating = True
        actor.size = CallSize()

    def _lose(self, actor: Actor) -> None:
        """The process died: the task that ended it counts as lost where it is known, the others are run again."""
        overdue, actor.overdue = actor.overdue, None
        guilty = next((sent for sent in actor.submitted if sent.ref == overdue), None)
        if overdue is None and len(actor.submitted) == 1:
            (guilty,) = actor.submitted
        for sent in actor.submitted:
            self._by_ref.pop(sent.ref, None)
            # Ray keeps what it had not sent yet for the restarted process, where it would run a second time.
            ray.cancel(sent.ref)
            if sent is guilty and len(sent.tasks) == 1:
                continue
            if sent is guilty or (overdue is None and guilty is None):
                # A queued task may be the one too: results on their way to the driver are lost with the process.
                self._doubt(actor, sent.tasks)
            else:
                self._events.extend(Finished(task, actor.node, None) for task in sent.tasks)
        if guilty is not None and len(guilty.tasks) == 1:
            (lost,) = guilty.tasks
            if overdue is None:
                actor.blamed = lost
            else:
                reason = WorkerLost("timeout", f"took longer than {self._row_seconds:g} s")
                self._events.append(Finished(lost, actor.node, reason))
        actor.submitted.clear()
        actor.deaths += 1
        self._await_restart(actor)

    def _ping(self, actor: Actor) -> Any:
        """A reference that is ready when the actor's process is up, and is waited for with the others."""
        ref = actor.ready()
        self._pings[ref] = actor
        return ref

    def _await_restart(self, actor: Actor) -> None:
        """Wait for the process to restart, for a limited time: a cancelled task may have begun in it and never end."""
        seconds = self._row_seconds + 2 * self.start_seconds
        if len(self._nodes_of[actor.segment]) > 1:
            seconds = min(seconds, max(_RESTART_SECONDS, 3 * self.start_seconds))
        actor.paused, actor.ping, actor.until = True, self._ping(actor), time.monotonic() + seconds
        self._paused.add(actor)
        self._count(actor)

    def _restarted(self, actor: Actor) -> None:
        """The process is up again, or never will be."""
        ref, actor.ping = actor.ping, None
        try:
            ray.get(ref)
        except ActorUnschedulableError:
            self._node_is_gone(actor.node)
            return
        except RayError as error:
            self._give_up(actor, f"a worker could not start again: {cause(error)}")
            return
        actor.failed_restarts = 0
        self._blame(actor)
        actor.until = time.monotonic() + min(2.0 ** (actor.deaths - 2), _REST_SECONDS) * (actor.deaths > 1)
        if actor.deaths <= 1:
            self._resume(actor)

    def _resume(self, actor: Actor) -> None:
        """Give an actor tasks again."""
        actor.paused = False
        self._paused.discard(actor)
        self._send_next(actor)
        self._events.append(None)

    def _blame(self, actor: Actor) -> None:
        """Hand back as lost the task on which the process died: its node is still there."""
        if actor.blamed is not None:
            reason = WorkerLost("worker_died", "the worker process died")
            self._events.append(Finished(actor.blamed, actor.node, reason))
            actor.blamed = None

    def _forget(self, actor: Actor) -> list[Task]:
        """Take away everything that an actor was given."""
        tasks = [*(task for sent in actor.submitted for task in sent.tasks), *actor.unsent, *actor.in_doubt]
        tasks += [actor.blamed] if actor.blamed is not None else []
        for sent in actor.submitted:
            self._by_ref.pop(sent.ref, None)
        self._pings.pop(actor.ping, None)
        self._paused.discard(actor)
        actor.submitted.clear()
        actor.unsent.clear()
        actor.in_doubt.clear()
        actor.isolating, actor.blamed = False, None
        return tasks

    def _give_up(self, actor: Actor, why: str) -> None:
        """Go on without an actor, and without its node where that was the last one of its segment."""
        self._blame(actor)
        self._events.extend(Finished(task, actor.node, None) for task in self._forget(actor))
        ray.kill(actor.handle)
        of_segment = self._nodes[actor.node].actors[actor.segment]
        of_segment.remove(actor)
        self._refresh()
        if not of_segment:
            self._leave(actor.node, "left_out", why)

    def _stop_overdue(self) -> None:
        """Kill processes whose call takes too long; end rests and restarts whose time is over."""
        now = time.monotonic()
        for actor in self._every_actor():
            overdue = [ref for ref, since in actor.running.items() if since <= now - self._row_seconds]
            if overdue and actor.overdue is None:
                actor.overdue = overdue[0]
                ray.kill(actor.handle, no_restart=False)
        for actor in [actor for actor in self._paused if actor.until <= now]:
            if actor.ping is None:
                self._resume(actor)
            else:
                self._restart_again(actor)

    def _restart_again(self, actor: Actor) -> None:
        """A restart takes too long: its tasks are handed back meanwhile."""
        self._blame(actor)
        node, tasks = actor.node, self._forget(actor)
        self._events.extend(Finished(task, node, None) for task in tasks)
        actor.failed_restarts += 1
        if actor.failed_restarts >= _RESTARTS_AT_MOST and self._nodes_of[actor.segment] - {node}:
            self._give_up(actor, "a worker did not come up again")
        else:
            ray.kill(actor.handle, no_restart=False)
            self._await_restart(actor)

    def _every_actor(self) -> Iterator[Actor]:
        return chain.from_iterable(node.every() for node in self._nodes.values())
