"""The Ray runner: crashes, hangs and missing weights cost what they should and no more."""

import building
import pytest
import ray_stages
from ray import cloudpickle

from posecap.pipeline import Pipeline
from posecap.run.ray import RayPool, WorkersNotReady
from posecap.run.schedule import Schedule, WorkPart
from posecap.types import PartName, Row

# Workers are processes of their own and cannot import from the tests' folder.
cloudpickle.register_pickle_by_value(ray_stages)

pytestmark = pytest.mark.filterwarnings("ignore")


def run(tmp_path, labels, *, last=ray_stages.Finish, row_seconds=60.0, **options):
    sample = building.sample()
    pipeline = Pipeline(stages=(ray_stages.Fetch(folder=str(tmp_path)), last(samples=(sample,))))
    rows = tuple(Row(row_id=f"r{i}", uri=f"{i}.mp4", label=label) for i, label in enumerate(labels))
    pool = RayPool(pipeline.segments(), address=None, workers=2, row_seconds=row_seconds)
    try:
        (done,) = Schedule(pool, **options).run([WorkPart(PartName("train", 0), rows)])
    finally:
        pool.close()
    return [(row.outcome.status, row.outcome.reason) for row in done.rows]


def test_a_crashing_row_is_quarantined_a_hanging_one_fails_and_the_others_are_kept(tmp_path):
    lost: list[str] = []
    labels = ["fine", "dies", "fine", "sleeps", "dies once", "fine"]
    fates = run(tmp_path, labels, row_seconds=4.0, poison_after=2, on_lost=lost.append)
    assert fates == [
        ("kept", ""),
        ("quarantined", "worker_died"),
        ("kept", ""),
        ("failed", "timeout"),
        ("kept", ""),
        ("kept", ""),
    ]
    assert sorted(lost) == ["r1", "r1", "r3", "r3", "r4"]


def test_workers_that_cannot_start_say_why(tmp_path):
    with pytest.raises(WorkersNotReady, match="weights are missing: fetch them"):
        run(tmp_path, ["fine"], last=ray_stages.Unready)
