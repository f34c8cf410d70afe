"""The Jaccard distance of k-reciprocal neighbourhoods against the published formulation written as plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tmor_train.clustering import jaccard
from tmor_train.clustering.clusters import ClusterConfig, cluster
from tmor_train.clustering.jaccard import labels_jaccard, nearest, neighbourhoods, pairs_within, reciprocal_weights
from tmor_train.clustering.neighbours import normalize

torch.set_num_threads(1)


def labels(embeddings: np.ndarray, *, min_samples: int = 4, k1: int = 30) -> np.ndarray:
    """With the other settings of SpCL."""
    weights = reciprocal_weights(normalize(embeddings), k1=k1, k2=6)
    return labels_jaccard(weights, eps=0.6, min_samples=min_samples).numpy()


def cloud(points: int, seed: int = 0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    centres = 2.0 * rng.standard_normal((6, 8))
    made = centres[rng.integers(0, 6, points)] + rng.standard_normal((points, 8))
    return made * rng.uniform(0.5, 2.0, (points, 1))


def plain_distances(embeddings: NDArray[np.float64], k1: int, k2: int) -> NDArray[np.float64]:
    """Zhong et al. as SpCL writes it, on dense matrices."""
    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    squared = 2.0 - 2.0 * unit @ unit.T
    ranked = squared.copy()
    np.fill_diagonal(ranked, -1.0)
    rank = np.argsort(ranked, axis=1, kind="stable")
    points = len(unit)

    def reciprocal(row: int, count: int) -> set[int]:
        return {int(other) for other in rank[row, :count] if row in rank[other, :count]}

    weights = np.zeros((points, points))
    for row in range(points):
        core = reciprocal(row, k1)
        grown = set(core)
        for candidate in core:
            half = reciprocal(candidate, round(k1 / 2) + 1)
            if len(half & core) > 2 / 3 * len(half):
                grown |= half
        inside = sorted(grown)
        weights[row, inside] = np.exp(-squared[row, inside]) / np.exp(-squared[row, inside]).sum()
    mean = np.stack([weights[rank[row, :k2]].mean(0) for row in range(points)])
    shared = np.minimum(mean[:, None], mean[None]).sum(2)
    distances: NDArray[np.float64] = 1.0 - shared / (2.0 - shared)
    return distances


@pytest.mark.parametrize(("k1", "k2"), [(30, 6), (9, 1), (4, 4), (2, 5)])
def test_pairs_are_those_of_the_plain_formulation(k1: int, k2: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaccard, "ROWS_AT_ONCE", 50)  # several blocks of everything
    monkeypatch.setattr(jaccard, "TERMS_AT_ONCE", 2000)
    embeddings = cloud(160)
    vectors = normalize(embeddings)
    weights = reciprocal_weights(vectors, k1=k1, k2=k2)
    distances = plain_distances(embeddings, k1, k2)
    for eps in (0.3, 0.6, 0.8):
        expected = {(i, j) for i, j in np.argwhere(distances <= eps).tolist() if i < j}
        parts = [np.stack(pair, 1) for pair in pairs_within(weights, eps)]
        assert {(i, j) for i, j in np.concatenate(parts).tolist()} == expected
        assert expected


def test_labels_are_those_of_scikit_learn_on_the_distances() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    embeddings = cloud(300, seed=1)
    distances = plain_distances(embeddings, 30, 6).clip(0.0)
    expected = cluster.DBSCAN(eps=0.6, min_samples=4, metric="precomputed").fit(distances).labels_
    found = labels(embeddings)
    assert found.dtype == np.int64
    assert found.tolist() == expected.tolist()
    assert 2 <= len(set(found.tolist()) - {-1}) < 20


def test_two_pairs_by_hand() -> None:
    """With k1 = 2 and k2 = 1 each pair is a neighbourhood of its own; V of both ends is the same but for the order.

    |x − y|² = 2 − 2 cos 10° for both pairs: V is (1, e) / (1 + e) with e = exp(−0.0304), so s = 2 e / (1 + e) = 0.98481
    and the distance is 1 − s / (2 − s) = 0.02993.
    """
    turned = np.deg2rad([0.0, 10.0, 90.0, 100.0])
    vectors = normalize(np.stack([np.cos(turned), np.sin(turned)], axis=1))
    weights = neighbourhoods(vectors, nearest(vectors, most=2), k1=2)
    assert weights.indices.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    e = np.exp(-(2 - 2 * np.cos(np.deg2rad(10.0))))
    np.testing.assert_allclose(weights.data[:2], [1 / (1 + e), e / (1 + e)], rtol=1e-6)
    s = 2 * e / (1 + e)
    just = 1 - s / (2 - s)
    assert [pair for part in pairs_within(weights, just + 1e-6) for pair in zip(*part, strict=True)] == [(0, 1), (2, 3)]
    assert [pair for part in pairs_within(weights, just - 1e-6) for pair in zip(*part, strict=True)] == []


@pytest.mark.parametrize("points", [1, 2, 3, 5])
def test_fewer_rows_than_neighbours(points: int) -> None:
    found = labels(cloud(points), min_samples=2)
    assert found.shape == (points,)


def test_no_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        labels(cloud(5), k1=0)


def test_the_guarded_clustering_takes_the_metric() -> None:
    embeddings = cloud(300, seed=1)
    found = cluster(embeddings, ClusterConfig(metric="jaccard", largest_share=1.0))
    assert (found.eps, found.tries, found.failure) == (0.6, 0, None)
    assert found.labels_N.tolist() == labels(embeddings).tolist()
    with pytest.raises(ValueError, match="near_cells"):
        cluster(embeddings, ClusterConfig(metric="jaccard", search="near_cells"))
