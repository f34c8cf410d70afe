"""Scheduling, against a pool that works at once and misbehaves on demand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecap.outcomes import ClipOutcome, RowOutcome, RowResult, tally
from posecap.run.execute import ItemError, ItemResult
from posecap.run.pool import RENEWED_PART, WHOLE_PART, Finished, NodeChange, NodeLost, Task, WorkerLost
from posecap.run.schedule import PartNotWrittenError, PartResult, Schedule, WorkPart
from posecap.shards import PartFiles
from posecap.types import FileRange, PartName, Row, StagedResults, StoredRow, Video
from tests import building


class Pool:
    """Two segments, ``size`` places each; tasks finish in the order that ``pick`` chooses."""

    segments = 2

    def __init__(self, *, size: int = 2, pick: Any = lambda n: 0, lose: dict[str, int] | None = None) -> None:
        self.size, self.pick, self.lose = size, pick, dict(lose or {})
        self.held: list[Task] = []
        self.most_held = 0
        self.submitted: list[Task] = []

    def nodes(self, segment: int) -> frozenset[str]:
        return frozenset(("here",))

    def takes(self, task: Task) -> bool:
        return self.free_slots(task.segment) > 0

    def drain(self, node: str) -> bool:
        raise AssertionError("the only node is never drained")

    def free_slots(self, segment: int, node: str | None = None) -> int:
        return self.size - sum(task.segment == segment for task in self.held)

    def submit(self, task: Task) -> None:
        assert self.free_slots(task.segment) > 0
        self.held.append(task)
        self.submitted.append(task)
        self.most_held = max(self.most_held, len(self.held))

    def wait(self) -> Finished:
        task = self.held.pop(self.pick(len(self.held)))
        return Finished(task, "here", self.result(task))

    def result(self, task: Task) -> ItemResult | WorkerLost:
        row: Row = task.item
        if task.segment == 0:
            return ItemResult(outputs=[row])
        if self.lose.get(row.row_id, 0) > 0:
            self.lose[row.row_id] -= 1
            return WorkerLost("worker_died", "the worker process died")
        if row.label == "rejected":
            return ItemResult(error=ItemError("rejected", "split", "too_short", "", False))
        if row.label == "failed":
            return ItemResult(error=ItemError("failed", "download", "http_503", "", True))
        sample = building.sample(key=row.row_id.ljust(24, "0"))
        return ItemResult(outputs=[sample], clips=[ClipOutcome(status="kept", clip_id=sample.key)], frames=7)

    def close(self) -> None: ...


def part(number: int, *labels: str) -> WorkPart:
    rows = tuple(Row(row_id=f"{number}-{i}", uri=f"{i}.mp4", label=label) for i, label in enumerate(labels))
    return WorkPart(PartName("train", number), rows)


def run(pool: Pool, parts: list[WorkPart], **options: Any) -> dict[PartName, PartResult]:
    done = list(Schedule(pool, **options).run(parts))
    assert len({d.name for d in done}) == len(done)
    return {d.name: d for d in done}


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.lists(st.sampled_from(["ok", "rejected", "failed"]), max_size=5), max_size=6),
    size=st.integers(1, 4),
    picks=st.randoms(use_true_random=False),
)
def test_every_row_comes_back_once_in_plan_order_whatever_finishes_first(labels, size, picks):
    parts = [part(n, *some) for n, some in enumerate(labels)]
    done = run(Pool(size=size, pick=lambda n: picks.randrange(n)), parts)
    assert done.keys() == {p.name for p in parts}
    for p in parts:
        assert [row.outcome.row_id for row in done[p.name].rows] == [row.row_id for row in p.rows]
        wanted = ["kept" if row.label == "ok" else row.label for row in p.rows]
        assert [row.outcome.status for row in done[p.name].rows] == wanted
    counts = tally(row.outcome for d in done.values() for row in d.rows).as_json()["rows"]
    assert counts["planned"] == sum(counts[s] for s in ("kept", "rejected", "failed", "quarantined"))


def test_parts_are_admitted_only_as_workers_have_room():
    pool = Pool(size=2)
    schedule = Schedule(pool)
    asked = 0

    def parts():
        nonlocal asked
        for n in range(50):
            asked += 1
            yield part(n, "ok", "ok")

    working = schedule.run(parts())
    next(working)
    assert asked <= 5
    assert len(list(working)) == 49
    assert pool.most_held <= 4


def stored(row: Row) -> StoredRow:
    """A row of which results are stored."""
    return StoredRow(row=row, results=StagedResults(FileRange("results", 0, 1), "ab", "cd"), after="pose")


class StoredPool(Pool):
    def result(self, task: Task) -> ItemResult | WorkerLost:
        item = task.item
        return super().result(replace(task, item=item.row) if isinstance(item, StoredRow) else task)


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.lists(st.lists(st.booleans(), max_size=5), max_size=6),
    size=st.integers(1, 4),
    picks=st.randoms(use_true_random=False),
)
def test_stored_rows_begin_in_the_last_segment_and_all_come_back_in_plan_order(kinds, size, picks):
    rows = [part(n, *["ok"] * len(some)) for n, some in enumerate(kinds)]
    parts = [
        WorkPart(p.name, tuple(stored(row) if known else row for row, known in zip(p.rows, some, strict=True)))
        for p, some in zip(rows, kinds, strict=True)
    ]
    pool = StoredPool(size=size, pick=lambda n: picks.randrange(n))
    done = run(pool, parts)
    for p in rows:
        assert [row.outcome.row_id for row in done[p.name].rows] == [row.row_id for row in p.rows]
        assert {row.outcome.status for row in done[p.name].rows} <= {"kept"}
    segments = Counter((isinstance(task.item, StoredRow), task.segment) for task in pool.submitted)
    count = sum(known for some in kinds for known in some)
    others = sum(map(len, kinds)) - count
    assert segments == Counter({(True, 1): count, (False, 0): others, (False, 1): others})


def test_a_stored_row_whose_worker_dies_is_tried_again_and_may_be_quarantined():
    p = part(0, "ok", "ok")
    pool = StoredPool(lose={"0-0": 1, "0-1": 9})
    (done,) = run(pool, [WorkPart(p.name, tuple(map(stored, p.rows)))]).values()
    assert [row.outcome.status for row in done.rows] == ["kept", "quarantined"]


def test_parts_of_stored_rows_are_admitted_only_as_workers_have_room():
    asked = []

    def parts():
        for n in range(50):
            asked.append(n)
            p = part(n, "ok", "ok")
            yield WorkPart(p.name, tuple(map(stored, p.rows)))

    working = Schedule(StoredPool(size=2)).run(parts())
    next(working)
    assert len(asked) <= 5
    assert len(list(working)) == 49


def test_a_lost_worker_costs_a_second_try():
    lost: list[str] = []
    schedule = Schedule(Pool(lose={"0-0": 1}), on_lost=lost.append)
    (done,) = schedule.run([part(0, "ok", "ok")])
    assert [row.outcome.status for row in done.rows] == ["kept", "kept"]
    assert lost == ["0-0"]
    record = schedule.health.records["here"]
    assert record.ended == {("kept", ""): 2, ("lost", "worker_died"): 1}
    assert not record.overruled  # no other node had a say


def test_a_poisonous_row_is_quarantined_and_its_neighbours_go_on():
    lost: list[str] = []
    done = run(Pool(lose={"0-1": 99}), [part(0, "ok", "ok", "ok")], on_lost=lost.append)
    rows = done[PartName("train", 0)].rows
    assert [row.outcome.status for row in rows] == ["kept", "quarantined", "kept"]
    assert rows[1].outcome.reason == "worker_died"
    assert lost == ["0-1"] * 3


def test_attempts_of_earlier_runs_count():
    lost: list[str] = []
    run(Pool(lose={"0-0": 99}), [part(0, "ok")], attempts={"0-0": 2}, on_lost=lost.append)
    assert lost == ["0-0"]


def test_rows_with_a_known_fate_are_not_worked_on():
    known = RowResult(RowOutcome(row_id="0-0", uri="x", status="rejected", reason="duplicate"))
    pool = Pool()
    both = WorkPart(PartName("train", 0), (known, Row(row_id="0-1", uri="y", label="ok")))
    seen: list[str] = []
    done = run(pool, [both], on_row=lambda row: seen.append(row.outcome.row_id))
    assert done[both.name].rows[0] is known
    assert {task.item.row_id for task in pool.submitted} == {"0-1"}
    assert seen == ["0-0", "0-1"]


def test_a_part_of_known_rows_and_an_empty_part_are_complete_at_once():
    known = RowResult(RowOutcome(row_id="0-0", uri="x", status="rejected", reason="duplicate"))
    done = run(Pool(), [WorkPart(PartName("train", 0), (known,)), WorkPart(PartName("train", 1), ())])
    assert [len(d.rows) for d in done.values()] == [1, 0]


def test_what_is_handed_back_is_worked_on_again():
    class HandsBack(Pool):
        handed = False

        def wait(self):
            if not self.handed and self.held[0].segment == 1:
                self.handed = True
                return Finished(self.held.pop(0), "here", None)
            return super().wait()

    done = run(HandsBack(), [part(0, "ok", "ok")])
    assert [row.outcome.status for row in done[PartName("train", 0)].rows] == ["kept", "kept"]


@pytest.mark.parametrize(
    ("clips", "status"), [(["rejected", "failed"], "failed"), (["rejected"], "rejected"), (["failed", "kept"], "kept")]
)
def test_a_rows_fate_follows_from_its_clips(clips, status):
    class Gives(Pool):
        segments = 1

        def wait(self):
            task = self.held.pop()
            return Finished(task, "here", ItemResult(clips=[ClipOutcome(status=s, reason=s) for s in clips]))

    done = run(Gives(), [part(0, "ok")])
    assert done[PartName("train", 0)].rows[0].outcome.status == status


class Cluster:
    """Nodes with two places for each of two segments; the second segment must run on the node of the first.

    ``faults`` says what a node does to an item in a segment: fail, reject it for a reason of the machine, or lose its
    worker. ``events`` are called before the result with that number is given.
    """

    segments, start_seconds, size = 2, 0.0, 2

    def __init__(
        self,
        *nodes: str,
        faults: dict[tuple[str, int], str] | None = None,
        events: dict[int, Any] | None = None,
        pick: Any = lambda n: 0,
    ) -> None:
        self.used = set(nodes)
        self.faults, self.events, self.pick = dict(faults or {}), dict(events or {}), pick
        self.held: list[tuple[str, Task]] = []
        self.news: list[Finished | NodeChange] = []
        self.ran: list[tuple[str, Task]] = []
        self.drained: set[str] = set()

    def nodes(self, segment: int) -> frozenset[str]:
        return frozenset(self.used)

    def free_slots(self, segment: int, node: str | None = None) -> int:
        return sum(
            self.size - sum(n == own and task.segment == segment for n, task in self.held)
            for own in self.used
            if node in (None, own)
        )

    def _usable(self, task: Task) -> list[str]:
        return [n for n in sorted(self.used) if task.may_run_on(n) and self.free_slots(task.segment, n) > 0]

    def takes(self, task: Task) -> bool:
        return bool(self._usable(task))

    def submit(self, task: Task) -> None:
        node = max(self._usable(task), key=lambda n: self.free_slots(task.segment, n))
        self.held.append((node, task))

    def drain(self, node: str) -> bool:
        if self.used == {node}:
            return False
        self.used.discard(node)
        self.drained.add(node)
        return True

    def kill(self, node: str) -> None:
        self.used.discard(node)
        self.news += [
            NodeChange(node, "lost", "gone"),
            *(Finished(t, n, NodeLost()) for n, t in self.held if n == node),
        ]
        self.held = [(n, task) for n, task in self.held if n != node]

    def add(self, node: str) -> None:
        self.used.add(node)
        self.news.append(NodeChange(node, "used"))

    def wait(self) -> Finished | NodeChange:
        self.events.pop(len(self.ran), lambda pool: None)(self)
        if self.news:
            return self.news.pop(0)
        node, task = self.held.pop(self.pick(len(self.held)))
        self.ran.append((node, task))
        return Finished(task, node, self.result(node, task))

    def result(self, node: str, task: Task) -> ItemResult | WorkerLost:
        row: Row = task.item.row if isinstance(task.item, Video) else task.item
        fault = self.faults.get((node, task.segment)) or (row.label if task.segment == 1 else None)
        if fault == "lost":
            return WorkerLost("worker_died", "the worker process died")
        if fault in ("failed", "not_found", "rejected"):
            doubtful = fault != "rejected"
            error = ItemError("failed" if fault == "failed" else "rejected", "any", fault, "", False)
            return ItemResult(error=error, machine_dependent=doubtful, reason=fault if doubtful else "")
        if task.segment == 0:
            video = Video(row=row, path=Path(node), source_id="0" * 64, size_bytes=1)
            return ItemResult(outputs=[video])
        assert str(task.item.path) == node, "the file is on another node"
        sample = building.sample(key=row.row_id.ljust(24, "0"))
        return ItemResult(outputs=[sample], clips=[ClipOutcome(status="kept", clip_id=sample.key)])

    def close(self) -> None: ...


def build_on(pool: Cluster, *labels: str, **options: Any) -> tuple[list[tuple[str, str]], Schedule]:
    schedule = Schedule(pool, **options)
    half = len(labels) // 2
    parts = [part(0, *labels[:half]), part(1, *labels[half:])]
    done = {d.name: d for d in schedule.run(parts)}
    rows = [row for p in parts for row in done[p.name].rows]
    assert [row.outcome.row_id for row in rows] == [row.row_id for p in parts for row in p.rows if isinstance(row, Row)]
    return [(row.outcome.status, row.outcome.reason) for row in rows], schedule


KEPT = ("kept", "")


@pytest.mark.parametrize("fault", ["failed", "not_found", "lost"])
@pytest.mark.parametrize("segment", [0, 1])
def test_rows_of_a_sick_node_are_kept_elsewhere_and_the_node_is_drained_and_named(fault, segment):
    pool = Cluster("a", "b", "c", faults={("b", segment): fault})
    changes: list[NodeChange] = []
    outcomes, schedule = build_on(pool, *["ok"] * 200, on_node=changes.append)
    assert outcomes == [KEPT] * 200
    assert pool.drained == {"b"}
    assert [(change.node, change.state) for change in changes] == [("b", "drained")]
    assert "of its last" in changes[0].why
    record = schedule.health.records["b"]
    assert record.state == "drained"
    assert sum(record.overruled.values()) == sum(record.ended.values()) <= 20


@pytest.mark.parametrize(("well", "at_most"), [(16, 2), (0, 3)])
def test_what_fails_everywhere_is_believed_after_two_nodes_and_no_node_is_blamed(well, at_most):
    # Where half of the rows fail, two nodes that have several of them under way at once may not be believed; three are.
    pool = Cluster("a", "b", "c")
    labels = ["failed", "ok", "rejected", "not_found", *["ok"] * well]
    outcomes, schedule = build_on(pool, *labels * 10)
    assert (
        outcomes
        == [("failed", "failed"), KEPT, ("rejected", "rejected"), ("rejected", "not_found"), *[KEPT] * well] * 10
    )
    assert not pool.drained
    tries = Counter(task.item.row.row_id for _, task in pool.ran if task.segment == 1)
    assert {tries[f"0-{i}"] for i, label in enumerate(labels * 5) if label in ("ok", "rejected")} == {1}
    assert {tries[f"0-{i}"] for i, label in enumerate(labels * 5) if label in ("failed", "not_found")} <= {2, at_most}
    assert all(not record.overruled for record in schedule.health.records.values())


@pytest.mark.parametrize("nodes", ["ab", "abc"])
def test_what_well_nodes_say_of_a_row_is_recorded_and_not_what_a_sick_one_said_first(nodes):
    labels = ["ok"] * 20 + ["ok", "not_found"] * 20
    outcomes, _ = build_on(Cluster(*nodes, faults={("a", 1): "failed"}), *labels)
    assert outcomes == [KEPT] * 20 + [KEPT, ("rejected", "not_found")] * 20


@pytest.mark.parametrize("faults", [{("a", 0): "not_found", ("b", 1): "failed"}, {("a", 0): "lost", ("b", 0): "lost"}])
def test_of_two_sick_nodes_of_three_the_well_one_is_asked_in_the_end(faults):
    pool = Cluster("a", "b", "c", faults=faults)
    assert build_on(pool, *["ok"] * 100)[0] == [KEPT] * 100
    assert pool.drained == {"a", "b"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("fault", ["failed", "not_found", "lost"])
def test_two_nodes_of_four_that_become_sick_of_the_same_at_once_prove_nothing(fault, seed):
    chance = random.Random(seed)
    sicken = {60: lambda pool: pool.faults.update({("a", 1): fault, ("b", 1): fault})}
    pool = Cluster("a", "b", "c", "d", events=sicken, pick=lambda n: chance.randrange(n))
    earlier = {f"{number}-{i}": 2 for number in (0, 1) for i in range(60)}  # each worker's death could be the last
    assert build_on(pool, *["ok"] * 120, attempts=earlier)[0] == [KEPT] * 120


@pytest.mark.slow
@pytest.mark.parametrize(("second", "slots"), [(40, 2), (45, 8), (60, 8)])
def test_two_nodes_that_cannot_fetch_do_not_confirm_each_other_while_earlier_rows_end_well_there(second, slots):
    # A row's first segment is over long before its second ends well, and of the next rows many are under way at once.
    for seed in range(2):
        chance = random.Random(seed)
        no_mount = {
            second: lambda pool: pool.faults.update({("b", 0): "not_found"}),
            40: lambda pool: pool.faults.update({(node, 0): "not_found" for node in ("ab" if second == 40 else "a")}),
        }
        pool = Cluster("a", "b", "c", "d", "e", events=no_mount, pick=lambda n, chance=chance: chance.randrange(n))
        pool.size = slots
        assert build_on(pool, *["ok"] * 200)[0] == [KEPT] * 200, seed


def test_three_nodes_of_five_that_become_sick_in_three_ways_at_once_prove_nothing():
    faults = {("a", 1): "not_found", ("b", 1): "failed", ("c", 1): "lost"}
    for seed in range(2):
        chance = random.Random(seed)
        sicken = {60: lambda pool: pool.faults.update(faults)}
        pool = Cluster("a", "b", "c", "d", "e", events=sicken, pick=lambda n, chance=chance: chance.randrange(n))
        assert build_on(pool, *["ok"] * 120)[0] == [KEPT] * 120, seed


def test_a_poisonous_row_needs_two_nodes_to_be_quarantined():
    lost: list[str] = []
    pool = Cluster("a", "b")
    outcomes, schedule = build_on(pool, "ok", "lost", "ok", "ok", attempts={"0-1": 2}, on_lost=lost.append)
    assert outcomes == [KEPT, ("quarantined", "worker_died"), KEPT, KEPT]
    assert {node for node, task in pool.ran if task.segment == 1 and task.item.row.row_id == "0-1"} == {"a", "b"}
    assert lost == ["0-1"] * 2
    assert not any(record.overruled for record in schedule.health.records.values())


def test_a_row_that_a_sick_node_fails_is_tried_again_where_a_worker_died_on_it():
    class DiesOnce(Cluster):
        """The first worker of the well node that runs a row dies."""

        def result(self, node, task):
            if node == "well" and task.segment == 1 and not lost:
                return WorkerLost("worker_died", "the worker process died")
            return super().result(node, task)

    lost: list[str] = []
    outcomes, _ = build_on(DiesOnce("sick", "well", faults={("sick", 1): "failed"}), *["ok"] * 8, on_lost=lost.append)
    assert outcomes == [KEPT] * 8
    assert len(lost) == 1


@pytest.mark.parametrize("lost", [None, WorkerLost("worker_died", "the worker process died")])
def test_a_video_that_a_lost_worker_may_have_deleted_is_fetched_again(lost):
    class DeletesAndDies(Cluster):
        """The worker has deleted the row's video, as it does when it is done with a row, before it dies."""

        def result(self, node, task):
            if task.segment == 0 or task.item.row.row_id != "0-1":
                return super().result(node, task)
            first, ran[:] = not ran, [*ran, task.attempt]
            return lost if first else super().result(node, task)

    ran: list[int] = []
    assert build_on(DeletesAndDies("only"), *["ok"] * 4)[0] == [KEPT] * 4
    assert ran == [0, 1]


def test_two_nodes_on_which_workers_died_do_not_confirm_what_a_sick_one_says():
    class DieOnce(Cluster):
        """On two nodes the first worker that runs the row dies."""

        def result(self, node, task):
            row_id = task.item.row.row_id if task.segment == 1 else ""
            if row_id == "0-2" and node != "well" and node not in lost_on:
                lost_on.append(node)
                if len(lost_on) <= 2:
                    return WorkerLost("worker_died", "the worker process died")
                self.faults[node, 1] = "failed"
            return super().result(node, task)

    for seed in range(40):
        chance, lost_on = random.Random(seed), list[str]()
        pool = DieOnce("a", "b", "c", "well", pick=lambda n, chance=chance: chance.randrange(n))
        assert build_on(pool, *["ok"] * 24)[0] == [KEPT] * 24, seed


def test_rows_of_a_node_that_is_killed_start_over_elsewhere_without_blame():
    lost: list[str] = []
    pool = Cluster("a", "b", events={5: lambda pool: pool.kill("a")})
    outcomes, schedule = build_on(pool, *["ok"] * 20, on_lost=lost.append)
    assert outcomes == [KEPT] * 20
    assert lost == []
    assert schedule.health.records["a"].state == "lost"
    assert schedule.health.records["a"].returned > 0


def test_a_build_waits_for_a_node_when_the_last_one_is_gone():
    pool = Cluster("a", events={5: lambda pool: (pool.kill("a"), pool.add("b"))})
    assert build_on(pool, *["ok"] * 10)[0] == [KEPT] * 10
    assert {node for node, _ in pool.ran} == {"a", "b"}


def test_a_node_that_joins_gets_work():
    pool = Cluster("a", events={5: lambda pool: pool.add("b")})
    assert build_on(pool, *["ok"] * 20)[0] == [KEPT] * 20
    assert sum(node == "b" for node, _ in pool.ran) > 10


def test_a_failure_on_the_only_node_is_believed_at_once():
    pool = Cluster("a", faults={("a", 1): "failed"})
    outcomes, _ = build_on(pool, *["ok"] * 10)
    assert outcomes == [("failed", "failed")] * 10
    assert len(pool.ran) == 20


@settings(max_examples=150, deadline=None)
@given(
    labels=st.lists(st.sampled_from(["ok", "ok", "ok", "rejected", "failed", "not_found", "lost"]), max_size=30),
    faults=st.dictionaries(
        st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 1)), st.sampled_from(["failed", "not_found", "lost"])
    ),
    events=st.dictionaries(
        st.integers(0, 60), st.tuples(st.sampled_from(["kill", "add", "drain"]), st.sampled_from("abde")), max_size=6
    ),
    picks=st.randoms(use_true_random=False),
)
def test_whatever_happens_to_other_nodes_every_row_ends_once_and_the_well_ones_are_kept(labels, faults, events, picks):
    def event(what, node):
        return lambda pool: getattr(pool, what)(node)

    # Two nodes stay and are well, so that nothing is believed because of the others.
    pool = Cluster(
        *"abcf",
        faults=faults,
        events={number: event(*found) for number, found in events.items()},
        pick=lambda n: picks.randrange(n),
    )
    rows: list[str] = []
    outcomes, _ = build_on(pool, *labels, on_row=lambda row: rows.append(row.outcome.row_id))
    assert len(rows) == len(set(rows)) == len(labels)
    for label, (status, _reason) in zip(labels, outcomes, strict=True):
        if label == "ok" and len({node for node, _ in faults}) < 2:  # two may agree before either is known to be sick
            assert status == "kept"
        if status == "kept":
            assert label == "ok"


class WritingPool(Pool):
    """The second segment writes parts, on nodes in turn; ``trouble`` are results in place of its first ones."""

    def __init__(self, *trouble: ItemResult | WorkerLost | NodeLost | None, nodes: str = "a", **options: Any) -> None:
        super().__init__(**options)
        self.trouble, self.names = list(trouble), nodes
        self.jobs: list[tuple[str, Any]] = []

    def nodes(self, segment: int) -> frozenset[str]:
        return frozenset(self.names)

    def wait(self) -> Finished:
        task = self.held.pop(self.pick(len(self.held)))
        node = next(node for node in self.names if task.may_run_on(node))
        return Finished(task, node, self.row(task) if task.row != WHOLE_PART else self.written(task, node))

    def row(self, task: Task) -> ItemResult:
        assert task.segment == 0
        sample = building.sample(key=task.item.row_id.ljust(24, "0"))
        return ItemResult(outputs=[sample], clips=[ClipOutcome(status="kept", clip_id=sample.key)])

    def written(self, task: Task, node: str) -> ItemResult | WorkerLost | NodeLost | None:
        assert task.segment == 1
        self.jobs.append((node, task.item))
        return self.trouble.pop(0) if self.trouble else ItemResult(outputs=[PartFiles({}, {}, task.item)])


def samples_of(done: PartResult, renewed: Mapping[int, StoredRow]) -> int | None:
    return sum(len(row.samples) for row in done.rows) or None


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 4), max_size=5), picks=st.randoms(use_true_random=False))
def test_parts_are_written_once_their_rows_are_done(sizes, picks):
    pool = WritingPool(pick=lambda n: picks.randrange(n))
    done = run(pool, [part(n, *["ok"] * size) for n, size in enumerate(sizes)], write_job=samples_of)
    written = [found.files and found.files.samples for _, found in sorted(done.items())]
    assert written == [size or None for size in sizes]
    assert sorted(job for _, job in pool.jobs) == sorted(size for size in sizes if size)


DIED = WorkerLost("worker_died", "")
BROKEN = ItemResult(error=ItemError("failed", "write", "error", "OSError: no space", True))


def test_a_part_whose_writer_dies_is_written_again_and_no_row_is_blamed():
    lost: list[str] = []
    pool = WritingPool(DIED, None, NodeLost(), DIED)
    done = run(pool, [part(0, "ok", "ok")], write_job=samples_of, on_lost=lost.append)
    assert done[PartName("train", 0)].files == PartFiles({}, {}, 2)
    assert (pool.jobs, lost) == ([("a", 2)] * 5, [])


def test_a_part_that_one_node_cannot_write_is_written_by_another():
    pool = WritingPool(BROKEN, DIED, nodes="abc")
    assert run(pool, [part(0, "ok")], write_job=samples_of)[PartName("train", 0)].files is not None
    assert [node for node, _ in pool.jobs] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("trouble", "nodes", "why"),
    [
        ((BROKEN,), "a", "OSError: no space"),
        ((BROKEN,) * 2, "ab", "OSError: no space"),
        ((DIED,) * 3, "a", "its worker died"),
        ((DIED,) * 3, "ab", "its worker died"),
    ],
)
def test_a_part_that_cannot_be_written_ends_the_build(trouble, nodes, why):
    with pytest.raises(PartNotWrittenError, match=f"part train/00000 cannot be written: {why}"):
        run(WritingPool(*trouble, nodes=nodes), [part(0, "ok")], write_job=samples_of)


class RenewingPool(WritingPool):
    """The first segment also writes parts with rows to renew; ``renewals`` are results in place of its first ones."""

    def __init__(self, *renewals: ItemResult | WorkerLost | NodeLost | None, **options: Any) -> None:
        super().__init__(**options)
        self.renewals = list(renewals)
        self.begun: list[str] = []

    def wait(self) -> Finished:
        renewals = [i for i, task in enumerate(self.held) if task.row == RENEWED_PART]
        if not renewals:
            return super().wait()
        task = self.held.pop(renewals[0])
        written = ItemResult(outputs=[PartFiles({}, {}, len(task.item))], seconds={"embed": 1.0})
        return Finished(task, "a", self.renewals.pop(0) if self.renewals else written)

    def row(self, task: Task) -> ItemResult:
        item = task.item.row if isinstance(task.item, StoredRow) else task.item
        self.begun.append(item.row_id)
        return super().row(replace(task, item=item))


def with_samples(row: Row) -> StoredRow:
    """A row with one sample of which the texts alone are to be made."""
    clip = ClipOutcome(status="kept", clip_id=row.row_id.ljust(24, "0"))
    return replace(stored(row), samples=("columns", "ab"), clips=(clip,))


def keys_of(done: PartResult, renewed: Mapping[int, StoredRow]) -> list[str] | None:
    """The keys of a part's samples, in order."""
    return [clip.clip_id or "" for row in done.rows for clip in row.outcome.clips] or None


KINDS = ["whole", "stored", "with samples", "known"]


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.lists(st.sampled_from(KINDS), max_size=5), max_size=5),
    fails=st.lists(st.sampled_from([BROKEN, DIED, NodeLost(), None]), max_size=3),
    picks=st.randoms(use_true_random=False),
)
def test_rows_of_which_texts_alone_change_are_renewed_once_the_others_of_their_part_are_done(kinds, fails, picks):
    parts = []
    for number, some in enumerate(kinds):
        rows: list[Any] = []
        for row, kind in zip(part(number, *["ok"] * len(some)).rows, some, strict=True):
            known = RowResult(RowOutcome(row_id=row.row_id, uri=row.uri, status="rejected"))
            rows.append({"whole": row, "stored": stored(row), "with samples": with_samples(row), "known": known}[kind])
        parts.append(WorkPart(PartName("train", number), tuple(rows)))
    ended: list[str] = []
    pool = RenewingPool(*fails, pick=lambda n: picks.randrange(n))
    done = run(pool, parts, write_job=keys_of, on_row=lambda row: ended.append(row.outcome.row_id))
    for p, some in zip(parts, kinds, strict=True):
        found = done[p.name]
        ids = [f"{p.name.number}-{i}" for i in range(len(some))]
        assert [row.outcome.row_id for row in found.rows] == ids
        assert [row.outcome.status == "kept" for row in found.rows] == [kind != "known" for kind in some]
        assert (found.files is None) == (set(some) <= {"known"})
    assert len(ended) == len(set(ended)) == sum(map(len, kinds))
    renewals = sum("with samples" in some for some in kinds)
    if len(fails) == 0:
        assert len(pool.begun) == sum(kind in ("whole", "stored") for some in kinds for kind in some)
    assert len(pool.renewals) == max(0, len(fails) - renewals), "a part is renewed once at most"


def test_a_part_that_cannot_be_renewed_is_written_from_its_rows_done_one_by_one():
    p = part(0, "ok", "ok", "ok")
    rows = (with_samples(p.rows[0]), p.rows[1], with_samples(p.rows[2]))
    pool = RenewingPool(BROKEN)
    (done,) = run(pool, [WorkPart(p.name, rows)], write_job=keys_of).values()
    assert pool.begun == ["0-1", "0-0", "0-2"]
    assert [len(row.samples) for row in done.rows] == [1, 1, 1]
    assert [row.node for row in done.rows] == ["a"] * 3


def test_the_first_renewed_row_has_the_seconds_of_all_and_nothing_is_renewed_that_is_not_to_be():
    p = part(0, "ok", "ok")
    rows = [WorkPart(p.name, tuple(map(with_samples, p.rows)))]
    (done,) = run(RenewingPool(), rows, write_job=keys_of).values()
    assert [(row.node, row.seconds) for row in done.rows] == [("a", {"embed": 1.0}), ("a", {})]
    pool = RenewingPool()
    run(pool, rows, write_job=lambda done, renewed: None if renewed else "all")
    assert (pool.begun, pool.jobs) == (["0-0", "0-1"], [("a", "all")])


def test_every_finished_task_is_told_and_the_row_names_its_node():
    finished: list[Finished] = []
    pool = Pool(lose={"0-0": 1})
    done = run(pool, [part(0, "ok", "rejected")], on_finished=finished.append)
    assert len(finished) == len(pool.submitted) == 5, "two segments for each of two rows, and one task again"
    assert sum(isinstance(one.result, WorkerLost) for one in finished) == 1
    assert {row.node for row in done[PartName("train", 0)].rows} == {"here"}


def test_tasks_that_wait_are_counted_by_segment():
    schedule = Schedule(Pool(size=1))
    steps = schedule.run([part(0, "ok", "ok", "ok", "ok")])
    assert schedule.queues() == [0, 0]
    next(steps)
    assert schedule.queues() == [0, 0]
    schedule = Schedule(Pool(size=1), on_finished=lambda done: waiting.append(schedule.queues()))
    waiting: list[list[int]] = []
    list(schedule.run([part(0, "ok", "ok", "ok", "ok")]))
    assert max(first for first, _ in waiting) == 3
    assert waiting[-1] == [0, 0]
