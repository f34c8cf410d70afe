"""The pool's decisions on workers that die, nodes that come and go, and tasks that hang, with a Ray that is made up."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray.exceptions import ActorDiedError, ActorUnschedulableError, RayActorError, RaySystemError

from posecap.outcomes import ClipOutcome
from posecap.pipeline import Pipeline, Segment
from posecap.run import ray as ray_pool
from posecap.run.execute import ItemResult
from posecap.run.pool import RENEWED_PART, Finished, Load, NodeChange, NodeLost, Task, WorkerLost
from posecap.run.ray import RayPool, WorkersNotReadyError
from posecap.run.ray_actors import Actor
from posecap.run.ray_cluster import ClusterLostError, Node
from posecap.run.schedule import Schedule, WorkPart
from posecap.stage import Resources
from posecap.types import PartName, Row, Video
from tests.posecap.run import ray_stages

pytestmark = [pytest.mark.ray]


@dataclass(eq=False)
class Ref:
    """What a call to an actor will give: ``answer`` is a value, an error, or None for as long as there is none.

    ``items`` are those of a call to work, whose answer is a list of results, or the result of the only one.
    """

    handle: Handle
    items: list[Any] | None = None
    answer: Any = None

    @property
    def item(self) -> Any:
        """The only one; None of another call."""
        (item,) = self.items or [None]
        return item


@dataclass(eq=False)
class Handle:
    """An actor; its calls are recorded."""

    node: str
    segment: int
    calls: list[Ref] = field(default_factory=list)
    pings: list[Ref] = field(default_factory=list)
    starts: Any = "up"

    @property
    def work(self) -> Handle:
        return self

    @property
    def ping(self) -> Handle:
        return Handle(self.node, -1, calls=self.pings, starts=self)

    def options(self, **options: Any) -> Handle:
        return self

    def remote(self, items: list[Any] | None = None) -> Ref:
        self.calls.append(Ref(self, items, self.starts.starts if isinstance(self.starts, Handle) else None))
        return self.calls[-1]


class MadeUp:
    """In place of ray and of the cluster: ``alive`` are its nodes, ``killed`` the actors that were killed."""

    def __init__(self, *names: str) -> None:
        self.alive = {name: node(name) for name in names}
        self.handles: list[Handle] = []
        self.killed: list[Handle] = []
        self.starts: dict[str, Any] = {}

    def nodes(self) -> dict[str, Node]:
        return self.alive

    def close(self) -> None: ...

    def lost(self) -> ClusterLostError:
        return ClusterLostError("gone")

    def start_actor(self, node: Node, segment: Any, number: int) -> Actor:
        self.handles.append(Handle(node.name, number, starts=self.starts.get(node.name, "up")))
        return Actor(self.handles[-1], node.name, number, segment.resources.concurrency)

    def wait(self, refs: list[Ref], *, num_returns: int, timeout: float) -> tuple[list[Ref], list[Ref]]:
        if not any(ref.answer for ref in refs):
            time.sleep(min(timeout, 0.01))
        ready = [ref for ref in refs if ref.answer is not None][:num_returns]
        return ready, [ref for ref in refs if ref not in ready]

    def get(self, ref: Ref) -> Any:
        if isinstance(ref.answer, Exception):
            raise ref.answer
        return [ref.answer] if isinstance(ref.answer, ItemResult) else ref.answer

    def kill(self, handle: Handle, *, no_restart: bool = True) -> None:
        self.killed.append(handle)
        for ref in handle.calls:
            ref.answer = ref.answer or RayActorError()

    def cancel(self, ref: Ref) -> None: ...

    def worker(self, name: str, segment: int = 1) -> Handle:
        return next(h for h in self.handles if (h.node, h.segment) == (name, segment))


def node(name: str, *, draining: bool = False) -> Node:
    return Node(name * 56, name, {"CPU": 1.0}, draining)


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[RayPool, MadeUp]]:
    """A pool of a download worker and a computing one on each node; looks at the cluster before every event."""

    def started(
        *names: str,
        row_seconds: float = 60.0,
        starts: dict[str, Any] | None = None,
        worker: Resources | None = None,
        made_up: MadeUp | None = None,
    ) -> tuple[RayPool, MadeUp]:
        made_up = made_up or MadeUp(*names)
        made_up.starts.update(starts or {})
        monkeypatch.setattr(ray_pool, "ray", made_up)
        monkeypatch.setattr(ray_pool, "RayCluster", lambda address: made_up)
        monkeypatch.setattr(ray_pool, "start_actor", made_up.start_actor)
        monkeypatch.setattr(ray_pool, "_LOOK_SECONDS", 0.0)
        stages = (ray_stages.Fetch(), ray_stages.Finish())
        segments = Pipeline(stages=stages, worker=worker or Resources()).segments()
        segments += (Segment(stages=(), resources=Resources(cpus=0)),)  # as what writes the parts
        return RayPool(segments, address="head:1", workers=None, row_seconds=row_seconds), made_up

    return started


def task(number: int = 0, node: str | None = None) -> Task:
    return Task(PartName("train", 0), number, (0, 0), 1, f"item {number}", node=node)


def submit(pool: RayPool, made_up: MadeUp, name: str, *numbers: int) -> list[Ref]:
    """Give tasks to the computing worker of a node."""
    for number in numbers:
        assert pool.takes(task(number, name))
        pool.submit(task(number, name))
    return made_up.worker(name).calls[-len(numbers) :]


def events(pool: RayPool, count: int) -> list[Finished | NodeChange]:
    found: list[Finished | NodeChange] = []
    while len(found) < count:
        event = pool.wait()
        found += [event] if event is not None else []
    return found


def test_a_result_is_given_with_its_node(start):
    pool, made_up = start("a", "b")
    assert pool.nodes(0) == pool.nodes(1) == {"a", "b"}
    assert pool.free_slots(1) == 4
    (ref,) = submit(pool, made_up, "b", 7)
    assert (pool.free_slots(1), pool.free_slots(1, "b")) == (3, 1)
    ref.answer = ItemResult()
    assert events(pool, 1) == [Finished(task(7, "b"), "b", ref.answer)]
    assert pool.free_slots(1) == 4


def test_the_load_is_told_by_node_and_segment(start):
    pool, made_up = start("a", "b", worker=Resources(concurrency=2))
    submit(pool, made_up, "b", 1, 2, 3)
    download, write = Load("b", 0, workers=2, slots=2, items=0, busy=0), Load("b", 2, 2, 2, 0, 0)
    assert [load for load in pool.load() if load.node == "b"] == [download, Load("b", 1, 1, 2, 3, 2), write]
    assert {(load.node, load.segment) for load in pool.load()} == {(n, s) for n in "ab" for s in range(3)}


def test_a_row_is_blamed_once_its_worker_is_up_again_and_not_where_the_node_is_gone(start):
    pool, made_up = start("a", "b")
    for name, expected in (("a", WorkerLost("worker_died", "the worker process died")), ("b", NodeLost())):
        (ref,) = submit(pool, made_up, name, 1)
        worker = made_up.worker(name)
        worker.starts, ref.answer = None, RayActorError()
        pool._step(0.01)
        assert not any(pool._events)
        assert pool.free_slots(1, name) == 0
        if name == "a":
            worker.pings[-1].answer = "up"
        else:
            del made_up.alive["b"]
        (*_, done) = events(pool, 1 if name == "a" else 2)
        assert done == Finished(task(1, name), name, expected)
    assert pool.nodes(1) == {"a"}


def test_whatever_a_worker_raises_costs_its_task_alone(start):
    pool, made_up = start("a")
    first, second = submit(pool, made_up, "a", 1, 2)
    first.answer, second.answer = RaySystemError(ValueError("cannot be sent")), ItemResult()
    found = {done.task.row: done.result for done in events(pool, 2)}
    assert found[1] == WorkerLost("worker_error", "the worker raised System error: cannot be sent")
    assert found[2] == second.answer


def test_of_two_tasks_of_a_worker_that_dies_each_runs_alone_next(start):
    pool, made_up = start("a")
    first, second = submit(pool, made_up, "a", 1, 2)
    first.answer = second.answer = RayActorError()
    pool._step(0.01)
    pool._step(0.01)
    worker = made_up.worker("a")
    assert [ref.item for ref in worker.calls[2:]] == ["item 1"]
    assert not pool.takes(task(3))
    worker.calls[2].answer = ItemResult()
    assert events(pool, 1)[0].result == ItemResult()
    assert [ref.item for ref in worker.calls[3:]] == ["item 2"]
    worker.calls[3].answer = ItemResult()
    events(pool, 1)
    assert pool.free_slots(1) == 2


def test_a_node_that_joins_is_used_when_its_workers_are_up(start):
    pool, made_up = start("a")
    made_up.starts["b"] = None
    made_up.alive = {**made_up.alive, "b": node("b")}
    pool._look()
    assert pool.nodes(1) == {"a"}
    for handle in made_up.handles:
        for ping in handle.pings:
            ping.answer = "up"
    assert events(pool, 1) == [NodeChange("b", "used")]
    assert pool.free_slots(1) == 4


def test_a_node_whose_workers_cannot_start_is_left_out_with_the_reason(start):
    broken = ActorDiedError()
    pool, made_up = start("a", "b", starts={"b": broken})
    (change,) = events(pool, 1)
    assert (change.node, change.state) == ("b", "left_out")
    assert change.why.startswith("a worker could not start: ")
    assert pool.nodes(0) == {"a"}
    pool._look()
    assert len(made_up.handles) == 10  # two downloads, a worker and two that write on each, and none again
    with pytest.raises(WorkersNotReadyError, match="a worker could not start: "):
        start("a", starts={"a": broken})


def test_resources_that_no_node_has_are_named(start):
    with pytest.raises(WorkersNotReadyError, match="no node has 1 CPUs and 1 GPUs for 'pack' and what follows"):
        start("a", worker=Resources(gpus=1))


def test_a_worker_that_cannot_start_again_takes_its_node_out(start):
    pool, made_up = start("a", "b")
    (ref,) = submit(pool, made_up, "b", 1)
    made_up.worker("b").starts, ref.answer = ActorDiedError(), RayActorError()
    blamed, change = events(pool, 2)
    assert blamed.result == WorkerLost("worker_died", "the worker process died")
    assert (change.node, change.state) == ("b", "left_out")
    assert pool.nodes(0) == {"a"}


def test_a_draining_node_gets_nothing_more_and_finishes_what_it_has(start):
    pool, made_up = start("a", "b")
    (ref,) = submit(pool, made_up, "b", 1)
    made_up.alive = {**made_up.alive, "b": node("b", draining=True)}
    assert events(pool, 1) == [NodeChange("b", "drained", "the cluster is about to take it away")]
    assert not pool.takes(task(2, "b"))
    pool._look()
    assert not made_up.killed
    ref.answer = ItemResult()
    assert events(pool, 1)[0].result == ref.answer
    pool._look()
    assert {handle.node for handle in made_up.killed} == {"b"}
    assert len(made_up.killed) == 5
    pool._look()
    assert pool.nodes(0) == {"a"}


def test_the_last_node_is_not_drained(start):
    pool, _ = start("a", "b")
    assert pool.drain("b")
    assert not pool.drain("a")
    assert pool.nodes(0) == {"a"}


def test_tasks_of_a_node_that_ray_knows_to_be_gone_are_handed_back_at_once(start):
    pool, made_up = start("a", "b")
    first, _ = submit(pool, made_up, "b", 1, 2)
    first.answer = ActorUnschedulableError("the node is dead")
    change, *handed_back = events(pool, 3)
    assert change == NodeChange("b", "lost", "the cluster has lost it")
    assert [(done.task.row, done.result) for done in handed_back] == [(1, NodeLost()), (2, NodeLost())]
    pool._look()
    assert pool.nodes(0) == {"a"}  # though the cluster still lists it


def test_a_build_waits_for_a_node_and_not_for_ever(start, monkeypatch):
    pool, made_up = start("a")
    made_up.alive = {}
    assert events(pool, 1) == [NodeChange("a", "lost", "the cluster has lost it")]
    monkeypatch.setattr(ray_pool, "_NODES_SECONDS", 0.05)
    with pytest.raises(WorkersNotReadyError, match="no node for every segment of the pipeline"):
        pool.wait()


@pytest.mark.parametrize("slow", [1, RENEWED_PART])
def test_what_takes_too_long_is_stopped_and_its_neighbours_are_handed_back(start, slow):
    pool, made_up = start("a", row_seconds=0.2)
    submit(pool, made_up, "a", slow, 2)
    found = {done.task.row: done.result for done in events(pool, 2)}
    assert found == {slow: WorkerLost("timeout", "took longer than 0.2 s"), 2: None}
    assert made_up.killed == [made_up.worker("a")]


def test_after_a_death_a_worker_has_one_task_at_a_time_until_one_ends_well(start):
    pool, made_up = start("a")
    assert pool.free_slots(1) == 2
    for answer, free in ((RayActorError(), 1), (RaySystemError(ValueError("x")), 1), (ItemResult(), 2)):
        (ref,) = submit(pool, made_up, "a", 1)
        ref.answer = answer
        events(pool, 1)
        assert pool.free_slots(1) == free


QUICK = ItemResult(seconds={"finish": 0.001})


@pytest.fixture
def quick(start, monkeypatch):
    """A pool whose worker has shown that its rows take next to no time, and has two calls of 16 rows each."""
    monkeypatch.setattr("posecap.run.pool._TASKS_PER_CALL", 16)
    pool, made_up = start("a", row_seconds=0.5)
    (ref,) = submit(pool, made_up, "a", 99)
    ref.answer = QUICK
    events(pool, 1)
    submit(pool, made_up, "a", *range(32))
    calls = made_up.worker("a").calls[1:]
    assert [ref.items for ref in calls] == [[f"item {n}" for n in range(16)], [f"item {n}" for n in range(16, 32)]]
    assert not pool.takes(task(32))
    return pool, made_up, calls


def test_quick_rows_are_sent_together_and_slow_ones_alone(quick):
    pool, made_up, (first, second) = quick
    first.answer = [QUICK] * 16
    assert [(done.task.row, done.result) for done in events(pool, 16)] == [(n, QUICK) for n in range(16)]
    assert pool.free_slots(1) == 16
    second.answer = [QUICK] * 15 + [ItemResult(seconds={"finish": 2.0})]
    assert len(events(pool, 16)) == 16
    assert pool.free_slots(1) == 2
    (third,) = submit(pool, made_up, "a", 40)
    third.answer = ItemResult(outputs=["a sample that was not staged"])
    events(pool, 1)
    assert pool.free_slots(1) == 2


def test_a_call_that_is_not_full_is_sent_when_there_is_nothing_else_to_submit(quick):
    pool, made_up, (first, second) = quick
    first.answer = [QUICK] * 16
    events(pool, 16)
    submit(pool, made_up, "a", 40, 41)
    assert len(made_up.worker("a").calls) == 3
    second.answer = [QUICK] * 16
    events(pool, 1)
    assert made_up.worker("a").calls[-1].items == ["item 40", "item 41"]


def test_rows_of_two_parts_are_not_sent_together(quick):
    pool, made_up, (first, _) = quick
    first.answer = [QUICK] * 16
    events(pool, 16)
    pool.submit(task(40, "a"))
    pool.submit(replace(task(0, "a"), part=PartName("train", 1)))
    assert made_up.worker("a").calls[-1].items == ["item 40"]


def test_of_rows_sent_together_only_the_one_that_ends_the_process_alone_is_blamed(quick):
    pool, made_up, (first, second) = quick
    first.answer = [QUICK] * 16
    events(pool, 16)
    worker = made_up.worker("a")
    second.answer = RayActorError()
    found: list[Finished] = []
    while len(found) < 16:
        event = pool.wait()
        found += [event] if isinstance(event, Finished) else []
        for ref in worker.calls[3:]:
            assert len(ref.items) == 1
            ref.answer = ref.answer or (RayActorError() if ref.item == "item 20" else QUICK)
    lost = WorkerLost("worker_died", "the worker process died")
    assert {done.task.row: done.result for done in found} == {n: lost if n == 20 else QUICK for n in range(16, 32)}


def test_rows_sent_together_that_take_too_long_are_tried_one_by_one(quick):
    pool, made_up, _ = quick
    found = events(pool, 16)  # of the second call, which had not begun
    assert {done.task.row for done in found} == set(range(16, 32))
    assert all(done.result is None for done in found)
    assert made_up.killed == [made_up.worker("a")]
    for _ in range(15):
        pool._step(0.01)
        made_up.worker("a").calls[-1].answer = QUICK
        assert events(pool, 1)[0].result == QUICK
    assert events(pool, 1)[0].result == WorkerLost("timeout", "took longer than 0.5 s")


def test_of_rows_sent_together_whose_results_cannot_be_sent_each_runs_alone(quick):
    pool, made_up, (first, second) = quick
    first.answer, second.answer = RaySystemError(ValueError("cannot be sent")), [QUICK] * 16
    found = {done.task.row for done in events(pool, 16)}
    assert found == set(range(16, 32))
    last = made_up.worker("a").calls[-1]
    assert last.items == ["item 0"]
    last.answer = RaySystemError(ValueError("cannot be sent"))
    (done,) = events(pool, 1)
    assert done.result == WorkerLost("worker_error", "the worker raised System error: cannot be sent")


def test_a_worker_that_dies_again_and_again_rests(start, monkeypatch):
    monkeypatch.setattr(ray_pool, "_REST_SECONDS", 0.1)
    pool, made_up = start("a")
    for _ in range(2):
        (ref,) = submit(pool, made_up, "a", 1)
        ref.answer = RayActorError()
        events(pool, 1)
        rested_since = time.monotonic()
        while not pool.takes(task(2)):
            pool.wait()
    assert time.monotonic() - rested_since > 0.09


def test_a_cluster_behind_a_connection_that_breaks_is_lost(start, monkeypatch):
    pool, made_up = start("a")
    submit(pool, made_up, "a", 1)
    monkeypatch.setattr(made_up, "wait", lambda *refs, **settings: (_ for _ in ()).throw(ConnectionError("broken")))
    with pytest.raises(ClusterLostError, match="gone"):
        pool.wait()


class Chaos(MadeUp):
    """Answers calls in any order; until ``faults`` are used up, workers die, raise and nodes come, go and are drained.

    The node ``z`` stays and is well. A call on a lost node is never answered, or with an error that says so.
    """

    faults = 12

    def __init__(self, *names: str, chance: random.Random) -> None:
        super().__init__(*names)
        self.chance = chance

    def wait(self, refs: list[Ref], *, num_returns: int, timeout: float) -> tuple[list[Ref], list[Ref]]:
        if num_returns == 1 and not any(ref.answer for ref in refs):
            self._happen([ref for ref in refs if ref.handle.node in self.alive])
        return super().wait(refs, num_returns=num_returns, timeout=0.0)

    def _happen(self, refs: list[Ref]) -> None:
        kinds = ["die", "raise", "lose", "lose and tell", "add", "drain"] if self.faults else []
        kind = self.chance.choice([*kinds, *["answer"] * 12])
        self.faults -= kind != "answer"
        calls = [ref for ref in refs if ref.items is not None and ref.handle.node != "z"]
        others = sorted(set(self.alive) - {"z"})
        if kind == "add":
            name = f"n{self.faults}"
            self.alive = {**self.alive, name: node(name)}
        elif kind == "drain" and others:
            name = self.chance.choice(others)
            self.alive = {**self.alive, name: node(name, draining=True)}
        elif kind.startswith("lose") and others:
            name = self.chance.choice(others)
            self.alive = {other: found for other, found in self.alive.items() if other != name}
            for ref in refs:
                if ref.handle.node == name and kind == "lose and tell":
                    ref.answer = ActorUnschedulableError("its node is dead")
        elif kind == "die" and calls:
            super().kill(self.chance.choice(calls).handle)
        elif kind == "raise" and calls:
            self.chance.choice(calls).answer = RaySystemError(ValueError("no"))
        elif refs:
            ref = self.chance.choice(refs)
            ref.answer = "up" if ref.items is None else [self._result(item, ref.handle.node) for item in ref.items]

    def _result(self, item: Any, name: str) -> ItemResult:
        if isinstance(item, Row):
            return ItemResult(outputs=[Video(row=item, path=Path(name), source_id="0" * 64, size_bytes=1)])
        if isinstance(item, Video):
            assert str(item.path) == name, "the file is on another node"
            kept = ClipOutcome(status="kept", clip_id=item.row.row_id)
            return ItemResult(clips=[kept], seconds={"finish": self.chance.choice([0.002, 0.008, 0.08])})
        return ItemResult(outputs=[item])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), sizes=st.lists(st.integers(0, 12), max_size=4))
def test_whatever_happens_every_row_ends_once_and_every_part_is_written(start, monkeypatch, seed, sizes):
    monkeypatch.setattr(ray_pool, "_REST_SECONDS", 0.0)
    made_up = Chaos("a", "b", "z", chance=random.Random(seed))
    pool, _ = start(made_up=made_up)
    names = [PartName("train", number) for number in range(len(sizes))]
    parts = [
        WorkPart(name, tuple(Row(row_id=f"{name} {i}", uri=f"{i}.mp4") for i in range(size)))
        for name, size in zip(names, sizes, strict=True)
    ]
    rows: list[str] = []
    schedule = Schedule(
        pool,
        poison_after=99,
        write_job=lambda done, _: str(done.name),
        on_row=lambda row: rows.append(row.outcome.row_id),
    )
    found = {done.name: done for done in schedule.run(parts)}
    assert sorted(rows) == sorted(row.row_id for part in parts for row in part.rows if isinstance(row, Row))
    assert all(row.outcome.status == "kept" for done in found.values() for row in done.rows)
    assert {name: str(done.files) for name, done in found.items()} == {name: str(name) for name in names}
