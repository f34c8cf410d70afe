"""DBSCAN on faiss's graph: exact where the graph is whole, close to exact where it is not."""

import sys

import numpy as np
import pytest

from tmor_train.clustering.clusters import ClusterConfig, adjusted_rand_score, cluster
from tmor_train.clustering.dbscan import dbscan
from tmor_train.clustering.faiss_graph import FaissMissingError, dbscan_faiss


def cloud(points: int, *, clusters: int, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dimensions))
    made = centres[rng.integers(0, clusters, points)] + 0.3 * rng.standard_normal((points, dimensions))
    far = rng.random(points) < 0.1
    made[far] = rng.standard_normal((far.sum(), dimensions))
    return made.astype(np.float32)


@pytest.mark.parametrize("eps", [0.05, 0.1, 0.2])
def test_a_whole_graph_gives_the_exact_labels(eps: float) -> None:
    pytest.importorskip("faiss")
    embeddings = cloud(300, clusters=6)
    expected = dbscan(embeddings, eps=eps, min_samples=4)
    assert len(set(expected.tolist())) > 2
    found = dbscan_faiss(embeddings, eps=eps, min_samples=4, nearest=300, probes=300)
    assert found.tolist() == expected.tolist()


def test_few_neighbours_and_probes_come_close() -> None:
    pytest.importorskip("faiss")
    embeddings = cloud(4000, clusters=20)
    expected = dbscan(embeddings, eps=0.1, min_samples=4)
    found = dbscan_faiss(embeddings, eps=0.1, min_samples=4)
    assert adjusted_rand_score(found, expected) > 0.98
    assert ((found < 0) == (expected < 0)).mean() > 0.98


def test_the_loop_can_ask_for_it() -> None:
    pytest.importorskip("faiss")
    embeddings = cloud(400, clusters=6)
    found = cluster(embeddings, ClusterConfig(search="faiss", eps=0.1, nearest=400, probes=400))
    assert found.labels_N.tolist() == dbscan(embeddings, eps=0.1, min_samples=4).tolist()


def test_fewer_neighbours_than_a_core_point_needs_are_refused() -> None:
    with pytest.raises(ValueError, match="nearest is 3, below min_samples"):
        dbscan_faiss(cloud(20, clusters=2), eps=0.1, min_samples=4, nearest=3)


def test_without_faiss_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FaissMissingError, match=r"pip install .*faiss-cpu"):
        dbscan_faiss(cloud(20, clusters=2), eps=0.1, min_samples=4)


def test_jaccard_distances_are_not_searched_so() -> None:
    with pytest.raises(ValueError, match="no search 'faiss'"):
        cluster(cloud(20, clusters=2), ClusterConfig(metric="jaccard", search="faiss"))
