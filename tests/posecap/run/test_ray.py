"""The Ray runner: crashes, hangs, missing weights and sick nodes cost what they should and no more."""

import pytest
from ray import cloudpickle
from ray.cluster_utils import Cluster

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
NODE = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


def run(tmp_path, cluster, labels, *, last=ray_stages.Finish, row_seconds=60.0, worker=ONE, workers=2, **options):
    sample = building.sample()
    pipeline = Pipeline(stages=(ray_stages.Fetch(folder=str(tmp_path)), last(samples=(sample,))), worker=worker)
    rows = tuple(Row(row_id=f"r{i}", uri=f"{i}.mp4", label=label) for i, label in enumerate(labels))
    pool = RayPool(pipeline.segments(), address=cluster.address, workers=workers, row_seconds=row_seconds)
    try:
        (done,) = Schedule(pool, **options).run([WorkPart(PartName("train", 0), rows)])
    finally:
        pool.close()
    return [(row.outcome.status, row.outcome.reason) for row in done.rows]


def only_the_guilty(lost, *, twice, once):
    """``once`` is blamed if it died alone; in company it was a suspect, and innocent when it was tried again."""
    return set(lost) - {once} == set(twice) and all(lost.count(r) == 2 for r in twice) and lost.count(once) <= 1


def test_a_crashing_row_is_quarantined_a_hanging_one_fails_and_the_others_are_kept(tmp_path, ray_cluster):
    lost: list[str] = []
    labels = ["fine", "dies", "fine", "sleeps", "dies once", "fine"]
    outcomes = run(tmp_path, ray_cluster, labels, row_seconds=4.0, poison_after=2, on_lost=lost.append)
    assert outcomes == [
        ("kept", ""),
        ("quarantined", "worker_died"),
        ("kept", ""),
        ("failed", "timeout"),
        ("kept", ""),
        ("kept", ""),
    ]
    assert only_the_guilty(lost, twice=("r1", "r3"), once="r4")


def test_threads_of_a_worker_process_items_together(tmp_path, ray_cluster):
    labels = ["meets 1 2", "meets 0 2", "meets 0 1"]
    assert run(tmp_path, ray_cluster, labels, worker=Resources(cpus=1, concurrency=3), workers=1) == [("kept", "")] * 3


def test_of_items_under_way_together_only_the_guilty_one_is_blamed(tmp_path, ray_cluster):
    lost: list[str] = []
    labels = ["fine", "dies", "fine", "sleeps", "fine", "dies once"]
    one = {"worker": Resources(cpus=1, concurrency=3), "workers": 1}
    outcomes = run(tmp_path, ray_cluster, labels, **one, row_seconds=5.0, poison_after=2, on_lost=lost.append)
    kept = ("kept", "")
    assert outcomes == [kept, ("quarantined", "worker_died"), kept, ("failed", "timeout"), kept, kept]
    assert only_the_guilty(lost, twice=("r1", "r3"), once="r5")


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (ray_stages.Unready, "weights are missing: fetch them"),
        (ray_stages.DiesLoading, "its process died each of the 4 times that it loaded its engines"),
    ],
)
def test_workers_that_cannot_start_say_why(tmp_path, ray_cluster, last, why):
    with pytest.raises(WorkersNotReadyError, match=why):
        run(tmp_path, ray_cluster, ["fine"], last=last)


@pytest.fixture
def cluster():
    """A head and one node, with one CPU each."""
    started = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        started.add_node(**NODE)
        yield started
    finally:
        for node in [*started.worker_nodes, started.head_node]:
            node.kill_all_processes(check_alive=False, allow_graceful=False)


def test_a_build_goes_on_while_nodes_are_sick_killed_and_added(tmp_path, cluster, monkeypatch):
    """One node fails on every row, is drained and killed; a worker is interrupted; another node joins and gets work."""
    monkeypatch.setattr("posecap.run.pool._TASKS_PER_CALL", 4)  # or the quick first rows would let it take the others
    (sick,) = cluster.worker_nodes
    lost, changes = [], []
    (tmp_path / f"{sick.node_id}.sick").touch()
    labels = ["fine"] * 20 + ["interrupted once"] + ["slow"] * 40
    sample = building.sample()
    pipeline = Pipeline(stages=(ray_stages.Fetch(folder=str(tmp_path)), ray_stages.Finish(samples=(sample,))))
    rows = tuple(Row(row_id=f"r{i}", uri=f"{i}.mp4", label=label) for i, label in enumerate(labels))

    def on_node(changed):
        changes.append((changed.node.partition("/")[2], changed.state))
        if changed.state == "drained":
            cluster.remove_node(sick, allow_graceful=False)
            added.append(cluster.add_node(**NODE))

    added = []
    pool = RayPool(pipeline.segments(), address=cluster.address, workers=None, row_seconds=60.0)
    try:
        schedule = Schedule(pool, on_lost=lost.append, on_node=on_node)
        (done,) = schedule.run([WorkPart(PartName("train", 0), rows)])
    finally:
        pool.close()
    assert [row.outcome.status for row in done.rows] == ["kept"] * len(labels)
    assert lost == ["r20"]
    assert [change for change in changes if change[1] != "lost"] == [
        (sick.node_id[:8], "drained"),
        (added[0].node_id[:8], "used"),
    ]
    records = {node.partition("/")[2]: record for node, record in schedule.health.records.items()}
    assert records[sick.node_id[:8]].state == "drained"
    assert records[added[0].node_id[:8]].ended["kept", ""] > 0
