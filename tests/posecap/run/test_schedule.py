"""Scheduling, against a pool that works at once and misbehaves on demand, and workers as threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecap.outcomes import ClipOutcome, RowOutcome, RowResult, tally
from posecap.pipeline import Pipeline, PipelineError
from posecap.run.execute import ItemError, ItemResult
from posecap.run.schedule import LocalPool, PartResult, Schedule, Task, WorkerLost, WorkPart
from posecap.stage import Engine, Resources, Stage
from posecap.types import PartName, Row, Sample
from tests import building


class Pool:
    """Two segments, ``size`` places each; tasks finish in the order that ``pick`` chooses."""

    segments = 2

    def __init__(self, *, size: int = 2, pick: Any = lambda n: 0, lose: dict[str, int] | None = None) -> None:
        self.size, self.pick, self.lose = size, pick, dict(lose or {})
        self.held: list[Task] = []
        self.most_held = 0
        self.submitted: list[Task] = []

    def free_slots(self, segment: int) -> int:
        return self.size - sum(task.segment == segment for task in self.held)

    def submit(self, task: Task) -> None:
        assert self.free_slots(task.segment) > 0
        self.held.append(task)
        self.submitted.append(task)
        self.most_held = max(self.most_held, len(self.held))

    def wait(self) -> tuple[Task, ItemResult | WorkerLost | None]:
        task = self.held.pop(self.pick(len(self.held)))
        row: Row = task.item
        if task.segment == 0:
            return task, ItemResult(outputs=[row])
        if self.lose.get(row.row_id, 0) > 0:
            self.lose[row.row_id] -= 1
            return task, WorkerLost("worker_died", "the worker process died")
        if row.label == "rejected":
            return task, ItemResult(error=ItemError("rejected", "split", "too_short", "", False))
        if row.label == "failed":
            return task, ItemResult(error=ItemError("failed", "download", "http_503", "", True))
        sample = building.sample(key=row.row_id.ljust(24, "0"))
        return task, ItemResult(outputs=[sample], clips=[ClipOutcome(status="kept", clip_id=sample.key)], frames=7)

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


def test_a_lost_worker_costs_a_second_try():
    lost: list[str] = []
    done = run(Pool(lose={"0-0": 1}), [part(0, "ok", "ok")], on_lost=lost.append)
    assert [row.outcome.status for row in done[PartName("train", 0)].rows] == ["kept", "kept"]
    assert lost == ["0-0"]


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
                return self.held.pop(0), None
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
            return task, ItemResult(clips=[ClipOutcome(status=s, reason=s) for s in clips])

    done = run(Gives(), [part(0, "ok")])
    assert done[PartName("train", 0)].rows[0].outcome.status == status


MEETING: threading.Barrier
LOADED: list[int] = []
ENDED: list[int] = []


@dataclass(frozen=True)
class Model(Engine):
    name: ClassVar[str] = "model"
    thread_safe: ClassVar[Any] = True

    @cached_property
    def loaded(self) -> int:
        LOADED.append(id(self))
        return id(self)

    def load(self) -> None:
        _ = self.loaded


@dataclass(frozen=True)
class Meet(Stage):
    """Gives a sample when as many rows are under way at once as the meeting expects."""

    name: ClassVar[str] = "meet"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Sample

    model: Model = Model()

    def __call__(self, item: Row) -> Iterator[Sample]:
        MEETING.wait(10)
        yield building.sample(key=item.row_id)


def run_threads(resources: Resources, workers: int, rows: int) -> list[str]:
    global MEETING
    MEETING = threading.Barrier(workers * resources.concurrency)
    LOADED.clear()
    pipeline = Pipeline(stages=(Meet(),), worker=resources)
    pool = LocalPool(pipeline.segments(), workers=workers)
    table = tuple(Row(row_id=f"{i:064x}", uri=f"{i}.mp4") for i in range(rows))
    (done,) = Schedule(pool).run([WorkPart(PartName("train", 0), table)])
    pool.close()
    return [row.outcome.status for row in done.rows]


@pytest.mark.parametrize(("concurrency", "workers"), [(1, 2), (3, 1), (2, 2)])
def test_each_worker_loads_once_and_has_as_many_items_progress_as_threads(concurrency: int, workers: int) -> None:
    together = concurrency * workers
    assert run_threads(Resources(concurrency=concurrency), workers, together) == ["kept"] * together
    assert len(set(LOADED)) == len(LOADED) == workers


def test_engines_that_cannot_be_shared_keep_a_pipeline_to_one_thread() -> None:
    class Alone(Model):
        thread_safe: ClassVar[Any] = False

    Pipeline(stages=(Meet(model=Alone()),))
    with pytest.raises(PipelineError, match="model cannot be: use concurrency=1"):
        Pipeline(stages=(Meet(model=Alone()),), worker=Resources(concurrency=2))


def test_no_worker_without_a_thread() -> None:
    with pytest.raises(ValueError, match="concurrency >= 1"):
        Resources(concurrency=0)


@dataclass(frozen=True)
class LoadsSlowly(Meet):
    """The engine of one worker is ready at once, that of the other much later."""

    def load(self) -> None:
        LOADED.append(threading.get_ident())
        if len(LOADED) > 1:
            time.sleep(0.3)
            ENDED.append(threading.get_ident())

    def __call__(self, item: Row) -> Iterator[Sample]:
        yield building.sample(key=item.row_id)


def test_closing_waits_for_workers_that_still_load_their_engines() -> None:
    LOADED.clear()
    pool = LocalPool(Pipeline(stages=(LoadsSlowly(),)).segments(), workers=2)
    Schedule(pool).run([WorkPart(PartName("train", 0), (Row(row_id="0" * 64, uri="0.mp4"),))])
    pool.close()
    assert len(ENDED) == 1
