"""The Ray runner: crashes, hangs and missing weights cost what they should and no more."""

import socket
import time

import pytest
import ray
from ray import cloudpickle

from posecap.pipeline import Pipeline
from posecap.run.ray import RayPool, WorkersNotReadyError
from posecap.run.schedule import Schedule, WorkPart
from posecap.stage import Resources
from posecap.types import PartName, Row
from tests import building
from tests.posecap.run import ray_stages

# Workers are processes of their own and cannot import from the tests' folder.
cloudpickle.register_pickle_by_value(ray_stages)

ONE = Resources()
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


def run(tmp_path, labels, *, last=ray_stages.Finish, row_seconds=60.0, worker=ONE, workers=2, **options):
    sample = building.sample()
    pipeline = Pipeline(stages=(ray_stages.Fetch(folder=str(tmp_path)), last(samples=(sample,))), worker=worker)
    rows = tuple(Row(row_id=f"r{i}", uri=f"{i}.mp4", label=label) for i, label in enumerate(labels))
    pool = RayPool(pipeline.segments(), address=None, workers=workers, row_seconds=row_seconds)
    try:
        (done,) = Schedule(pool, **options).run([WorkPart(PartName("train", 0), rows)])
    finally:
        pool.close()
    return [(row.outcome.status, row.outcome.reason) for row in done.rows]


def only_the_guilty(lost, *, twice, once):
    """``once`` is blamed if it died alone; in company it was a suspect, and innocent when it was tried again."""
    return set(lost) - {once} == set(twice) and all(lost.count(r) == 2 for r in twice) and lost.count(once) <= 1


def test_a_crashing_row_is_quarantined_a_hanging_one_fails_and_the_others_are_kept(tmp_path):
    lost: list[str] = []
    labels = ["fine", "dies", "fine", "sleeps", "dies once", "fine"]
    outcomes = run(tmp_path, labels, row_seconds=4.0, poison_after=2, on_lost=lost.append)
    assert outcomes == [
        ("kept", ""),
        ("quarantined", "worker_died"),
        ("kept", ""),
        ("failed", "timeout"),
        ("kept", ""),
        ("kept", ""),
    ]
    assert only_the_guilty(lost, twice=("r1", "r3"), once="r4")


def test_threads_of_a_worker_process_items_together(tmp_path):
    labels = ["meets 1 2", "meets 0 2", "meets 0 1"]
    assert run(tmp_path, labels, worker=Resources(cpus=1, concurrency=3), workers=1) == [("kept", "")] * 3


def test_of_items_under_way_together_only_the_guilty_one_is_blamed(tmp_path):
    lost: list[str] = []
    labels = ["fine", "dies", "fine", "sleeps", "fine", "dies once"]
    worker = Resources(cpus=1, concurrency=3)
    outcomes = run(tmp_path, labels, worker=worker, workers=1, row_seconds=5.0, poison_after=2, on_lost=lost.append)
    kept = ("kept", "")
    assert outcomes == [kept, ("quarantined", "worker_died"), kept, ("failed", "timeout"), kept, kept]
    assert only_the_guilty(lost, twice=("r1", "r3"), once="r5")


def test_workers_that_cannot_start_say_why(tmp_path):
    with pytest.raises(WorkersNotReadyError, match="weights are missing: fetch them"):
        run(tmp_path, ["fine"], last=ray_stages.Unready)


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_does_not_answer_is_named_at_once(scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening
        address = f"{scheme}127.0.0.1:{unused.getsockname()[1]}"
        since = time.monotonic()
        with pytest.raises(WorkersNotReadyError, match=f"no Ray cluster answers at {address} .*refused"):
            RayPool((), address=address, workers=1, row_seconds=60.0)
    assert time.monotonic() - since < 5


def test_an_address_with_a_wrong_port_is_refused():
    with pytest.raises(WorkersNotReadyError, match="'head:6379x' is not the address of a Ray cluster"):
        RayPool((), address="head:6379x", workers=1, row_seconds=60.0)


def test_without_any_cluster_auto_is_refused(monkeypatch):
    def init(**settings):
        raise ConnectionError("Could not find any running Ray instance.\nnone is running")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(WorkersNotReadyError, match="no Ray cluster at auto: none is running"):
        RayPool((), address="auto", workers=1, row_seconds=60.0)
