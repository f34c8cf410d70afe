"""How many actors of which segment a node gets."""

from dataclasses import replace
from pathlib import Path

import pytest

from posecap.pipeline import Pipeline, Segment
from posecap.run.ray_actors import _counted, actors_on, what_fits_nowhere
from posecap.run.ray_cluster import Node
from posecap.stage import Resources
from tests.posecap.run import ray_stages

pytestmark = [pytest.mark.ray]


def node(**resources: float) -> Node:
    return Node("1" * 56, "host/1", resources, draining=False)


def segments(worker: Resources) -> tuple[Segment, ...]:
    return Pipeline(stages=(ray_stages.Fetch(), ray_stages.Finish()), worker=worker).segments()


@pytest.mark.parametrize(
    ("worker", "resources", "workers", "busy", "counts"),
    [
        (Resources(), {"CPU": 4}, None, [0, 0], [2, 4]),
        (Resources(cpus=3), {"CPU": 4}, None, [0, 0], [2, 1]),
        (Resources(gpus=0.5), {"CPU": 8, "GPU": 2}, None, [0, 0], [2, 4]),
        (Resources(), {"CPU": 4}, 3, [2, 1], [2, 2]),
        # No downloads where the videos could not be worked on.
        (Resources(gpus=1), {"CPU": 8}, None, [0, 0], [0, 0]),
        (Resources(), {}, None, [0, 0], [0, 0]),
        (Resources(), {"CPU": 4}, 3, [2, 3], [0, 0]),
    ],
)
def test_a_node_gets_what_its_resources_hold_for_all_segments_that_pass_videos(
    worker: Resources, resources: dict[str, float], workers: int | None, busy: list[int], counts: list[int]
) -> None:
    assert actors_on(node(**resources), segments(worker), workers=workers, busy=busy) == counts


@pytest.mark.parametrize(("concurrency", "actors"), [(1, 2), (2, 1), (32, 1)])
def test_one_actor_of_a_node_downloads_many_rows_at_once(concurrency: int, actors: int) -> None:
    """So limits per host hold for the node."""
    waiting, computing = segments(Resources())
    waiting = replace(waiting, resources=Resources(cpus=0, concurrency=concurrency))
    assert actors_on(node(CPU=4), (waiting, computing), workers=None, busy=[0, 0]) == [actors, 4]


def test_what_fits_nowhere_is_named() -> None:
    said = what_fits_nowhere(segments(Resources(gpus=1)), [node(CPU=4), node(CPU=8)])
    assert said == "no node has 1 CPUs and 1 GPUs for 'pack' and what follows"


def test_what_a_process_dies_of_is_not_tried_for_ever(tmp_path: Path) -> None:
    tries = tmp_path / "tries"
    for content in (b"", b"..."):
        tries.write_bytes(content)
        with _counted(tries):
            assert tries.read_bytes() == content + b"."
        assert not tries.exists()
    tries.write_bytes(b"....")
    with pytest.raises(RuntimeError, match="died each of the 4 times that it loaded its engines"), _counted(tries):
        raise AssertionError("not tried again")
    assert not tries.exists()
