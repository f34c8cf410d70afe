"""Workers as threads."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import pytest

from posecap.pipeline import Pipeline, PipelineError
from posecap.run.local import THIS_MACHINE, CrashJournal, LocalPool
from posecap.run.pool import Load, Task
from posecap.run.schedule import Schedule, WorkPart
from posecap.stage import Engine, Resources, Stage
from posecap.staging import Staging
from posecap.types import PartName, Row, Sample
from tests import building

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


@pytest.mark.parametrize(("concurrency", "workers"), [(1, 4), (3, 2), (8, 1)])
def test_a_segment_that_waits_for_the_network_has_few_workers_with_many_threads(concurrency: int, workers: int) -> None:
    global MEETING
    together = concurrency * workers
    MEETING = threading.Barrier(together)
    LOADED.clear()
    pool = LocalPool(
        Pipeline(stages=(Meet(),), worker=Resources(cpus=0, concurrency=concurrency)).segments(), workers=1
    )
    table = tuple(Row(row_id=f"{i:064x}", uri=f"{i}.mp4") for i in range(together))
    (done,) = Schedule(pool).run([WorkPart(PartName("train", 0), table)])
    pool.close()
    assert [row.outcome.status for row in done.rows] == ["kept"] * together
    assert len(LOADED) == workers


def test_the_load_counts_workers_threads_and_items() -> None:
    LOADED.clear()
    global MEETING
    MEETING = threading.Barrier(7)
    pool = LocalPool(Pipeline(stages=(Meet(),), worker=Resources(concurrency=3)).segments(), workers=2)
    for number in range(7):
        pool.submit(Task(PartName("train", 0), number, (0,), 0, Row(row_id=f"{number:064x}", uri="a.mp4")))
    assert pool.load() == [Load(THIS_MACHINE, 0, workers=2, slots=6, items=7, busy=6)]
    MEETING.abort()
    for _ in range(7):
        pool.wait()
    assert pool.load() == [Load(THIS_MACHINE, 0, workers=2, slots=6, items=0, busy=0)]
    pool.close()


@dataclass(frozen=True)
class Quick(Stage):
    """Gives a sample at once."""

    name: ClassVar[str] = "quick"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Sample

    def __call__(self, item: Row) -> Iterator[Sample]:
        yield building.sample(key=item.row_id)


def test_a_thread_takes_quick_rows_of_one_part_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("pool", "local"):
        monkeypatch.setattr(f"posecap.run.{module}.CALL_SECONDS", 1e9)  # whatever the time, the row is quick
    staging = Staging.start(tmp_path, fingerprint="f" * 64)
    (segment,) = Pipeline(stages=(Quick(),)).segments()
    pool = LocalPool((replace(segment, staging=staging),), workers=1)

    def task(number: int, part: int = 0) -> Task:
        return Task(PartName("train", part), number, (0,), 0, Row(row_id=f"{number:024x}", uri="a.mp4"))

    assert pool.free_slots(0) == 2
    pool.submit(task(0))
    pool.wait()
    # Measured before the result was given, so that it is known now that the row was quick.
    assert pool.free_slots(0) > 2
    with pool._changed[0]:  # so that the thread finds all of them
        waiting = [*(task(number) for number in range(1, 4)), task(4, part=1)]
        for one in waiting:
            pool.submit(one)
    files = [pool.wait().result.outputs[0].pose.file for _ in waiting]  # type: ignore[union-attr]
    pool.close()
    assert files[0] == files[1] == files[2] != files[3]


def test_rows_behind_one_that_takes_long_wait_for_another_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what is done is recorded, and a kill loses little of it."""
    monkeypatch.setattr("posecap.run.pool.CALL_SECONDS", 1e9)
    monkeypatch.setattr("posecap.run.local.CALL_SECONDS", -1.0)  # every row takes longer
    staging = Staging.start(tmp_path, fingerprint="f" * 64)
    (segment,) = Pipeline(stages=(Quick(),)).segments()
    pool = LocalPool((replace(segment, staging=staging),), workers=1)
    part = PartName("train", 0)
    tasks = [Task(part, number, (0,), 0, Row(row_id=f"{number:024x}", uri="a.mp4")) for number in range(5)]
    pool.submit(tasks[0])
    pool.wait()
    with pool._changed[0]:
        for one in tasks[1:]:
            pool.submit(one)
    ended = [pool.wait() for _ in tasks[1:]]
    pool.close()
    assert [done.task.row for done in ended] == [1, 2, 3, 4]  # type: ignore[union-attr]
    files = {done.result.outputs[0].pose.file for done in ended}  # type: ignore[union-attr]
    assert len(files) == 4


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


PROGRAM = """
import ctypes, os, signal, sys, threading
from pathlib import Path
from posecap.run.local import CrashJournal

journal, ready = CrashJournal(Path(sys.argv[1])), threading.Barrier(2)

def work():
    with journal.working_on("b"):
        ready.wait()
        threading.Event().wait()

with journal.kept():
    threading.Thread(target=work, daemon=True).start()
    with journal.working_on("done"):
        pass
    with journal.working_on("a"):
        ready.wait()
        match sys.argv[2]:
            case "crash":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "error":
                raise ValueError
"""


@pytest.mark.parametrize(("end", "rows"), [("crash", {"a", "b"}), ("kill", None), ("error", None)])
def test_rows_under_way_are_known_after_a_crash_and_only_then(tmp_path: Path, end: str, rows: set[str] | None) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), end], check=False, capture_output=True)
    assert done.returncode
    journal = CrashJournal(tmp_path)
    crash = journal.take()
    if rows is None:
        assert crash is None
    else:
        assert crash is not None
        assert (set(crash.rows), crash.said) == (rows, "Segmentation fault")
    assert journal.take() is None
    assert list(tmp_path.iterdir()) == []


def test_a_row_in_doubt_is_worked_on_alone(tmp_path: Path) -> None:
    journal, together, most = CrashJournal(tmp_path, in_doubt={"doubt"}), [0], {"doubt": 0, "other": 0}
    lock = threading.Lock()

    def work(row_id: str) -> None:
        with journal.working_on(row_id):
            with lock:
                together[0] += 1
                most[row_id] = max(most[row_id], together[0])
            time.sleep(0.02)
            with lock:
                together[0] -= 1

    with journal.kept():
        rows = ["other", "other", "doubt", "other", "doubt", "other"]
        threads = [threading.Thread(target=work, args=(row,)) for row in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most["doubt"] == 1
    assert most["other"] > 1
    assert list(tmp_path.iterdir()) == []
    with journal.working_on(None), journal.working_on("late"):
        pass
