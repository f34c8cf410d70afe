"""DBSCAN against one written plainly, where it could go wrong, and against scikit-learn where that is installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tmor_train.clustering import dbscan as dbscan_module
from tmor_train.clustering.clusters import ClusterConfig, adjusted_rand_score, cluster
from tmor_train.clustering.dbscan import FaissMissingError, dbscan, dbscan_faiss, dbscan_near_cells, labels_exact
from tmor_train.clustering.neighbours import adaptive_eps, normalize


def plain_dbscan(embeddings: np.ndarray, *, eps: float, min_samples: int) -> np.ndarray:
    """The textbook: grow each cluster from its first core point, one neighbourhood after another."""
    unit = embeddings.astype(np.float64)
    unit = unit / np.sqrt((unit**2).sum(1, keepdims=True))
    near = [np.flatnonzero(np.clip(1.0 - (unit * row).sum(1), 0.0, 2.0) <= eps) for row in unit]
    labels, clusters = np.full(len(unit), -1), 0
    for first in range(len(unit)):
        if labels[first] != -1 or len(near[first]) < min_samples:
            continue
        to_grow = [first]
        while to_grow:
            point = to_grow.pop()
            if labels[point] == -1:
                labels[point] = clusters
                to_grow.extend(near[point] if len(near[point]) >= min_samples else [])
        clusters += 1
    return labels


def cloud(points: int, *, dimensions: int = 16, clusters: int = 8, spread: float = 0.15, seed: int = 0) -> np.ndarray:
    """Gaussian clusters on the sphere and a tenth of outliers, float32."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dimensions))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    made = centres[rng.integers(0, clusters, points)] + spread * rng.standard_normal((points, dimensions))
    far = rng.random(points) < 0.1
    made[far] = rng.standard_normal((far.sum(), dimensions))
    return (made * rng.uniform(0.1, 10.0, (points, 1))).astype(np.float32)


def circle(*degrees: float) -> np.ndarray:
    turned = np.deg2rad(np.array(degrees))
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


@pytest.mark.parametrize("eps", [0.02, 0.1, 0.2, 0.35, 0.6])
@pytest.mark.parametrize("min_samples", [1, 2, 4, 15])
def test_agrees_with_the_textbook(eps: float, min_samples: int) -> None:
    embeddings = cloud(400)
    expected = plain_dbscan(embeddings, eps=eps, min_samples=min_samples)
    assert dbscan(embeddings, eps=eps, min_samples=min_samples).tolist() == expected.tolist()


@pytest.mark.parametrize("block_size", [7, 50, 64, 1000])
@pytest.mark.parametrize("precision", ["single", "half"])
@pytest.mark.parametrize("eps", [0.1, 0.3])
def test_neither_blocks_nor_precision_change_a_label(block_size: int, precision: str, eps: float) -> None:
    embeddings = cloud(500, seed=1)
    expected = plain_dbscan(embeddings, eps=eps, min_samples=4)
    assert expected.max() > 1
    assert (expected == -1).any()
    vectors = normalize(embeddings, precision=precision)
    assert labels_exact(vectors, eps=eps, min_samples=4, block_size=block_size).tolist() == expected.tolist()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_change_neither_labels_nor_torch(threads: int) -> None:
    before = torch.get_num_threads()
    embeddings = cloud(600, seed=2)
    torch.set_num_threads(threads)
    try:
        found = labels_exact(normalize(embeddings), eps=0.2, min_samples=4, block_size=64)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found.tolist() == plain_dbscan(embeddings, eps=0.2, min_samples=4).tolist()


def test_a_prefilter_by_leading_dimensions_loses_no_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    choose = dbscan_module.choose_prefilter
    monkeypatch.setattr(dbscan_module, "choose_prefilter", lambda *given: chosen.append(choose(*given)) or chosen[-1])
    rng = np.random.default_rng(3)
    flat = cloud(900, dimensions=4, clusters=12, spread=0.05, seed=3)
    embeddings = (flat @ rng.standard_normal((4, 64)) + 0.00005 * rng.standard_normal((900, 64))).astype(np.float32)
    found = labels_exact(normalize(embeddings), eps=0.02, min_samples=4, block_size=16)
    assert chosen[0] is not None
    expected = plain_dbscan(embeddings, eps=0.02, min_samples=4)
    assert expected.max() > 5
    assert found.tolist() == expected.tolist()


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(*[st.integers(-3, 3)] * 3).filter(any), min_size=1, max_size=40),
    eps=st.floats(0.001, 2.0),
    min_samples=st.integers(1, 8),
    block_size=st.integers(1, 50),
)
def test_small_integers_with_all_their_ties(
    rows: list[tuple[int, ...]], eps: float, min_samples: int, block_size: int
) -> None:
    embeddings = np.array(rows, dtype=np.float64)
    expected = plain_dbscan(embeddings, eps=eps, min_samples=min_samples)
    found = labels_exact(normalize(embeddings), eps=eps, min_samples=min_samples, block_size=block_size)
    assert found.tolist() == expected.tolist()


def test_a_pair_exactly_at_eps_is_within_reach() -> None:
    axes = np.eye(3)
    assert dbscan(axes, eps=1.0, min_samples=2).tolist() == [0, 0, 0]
    assert dbscan(axes, eps=np.nextafter(1.0, 0.0), min_samples=2).tolist() == [-1, -1, -1]
    right = np.array([[3.0, 4.0], [1.0, 0.0]])  # cosine 3/5
    assert dbscan(right, eps=0.4, min_samples=2).tolist() == [0, 0]
    assert dbscan(right, eps=0.4 - 1e-12, min_samples=2).tolist() == [-1, -1]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_differences_far_below_single_precision_decide(kind: type) -> None:
    rng = np.random.default_rng(4)
    embeddings = rng.standard_normal((2, 256)).astype(kind)
    wide = embeddings.astype(np.float64)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    distance = 1.0 - float(wide[0] @ wide[1])
    for precision in ("single", "half"):
        vectors = normalize(embeddings, precision=precision)
        for eps, together in ((distance - 1e-13, False), (distance + 1e-13, True)):
            labels = labels_exact(vectors, eps=eps, min_samples=2)
            assert labels.tolist() == ([0, 0] if together else [-1, -1])


def test_the_quick_product_keeps_its_error_below_the_margin() -> None:
    embeddings = cloud(300, dimensions=256, seed=5)
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for precision in ("single", "half"):
        vectors = normalize(embeddings, precision=precision)
        product = (vectors.unit_ND @ vectors.unit_ND.T).double().numpy()
        assert 0 < np.abs(product - unit @ unit.T).max() < vectors.margin


def test_clusters_are_numbered_by_first_core_point_and_border_points_join_the_lowest() -> None:
    high, low = (40.0, 41.0, 42.0, 43.0), (20.0, 19.0, 18.0, 17.0)
    eps = 1.0 - float(np.cos(np.deg2rad(10.2)))
    for order in ((30.0, *high, *low, 180.0), (30.0, *low, *high, 180.0)):  # 30° reaches 40° and 20°, and is no core
        labels = dbscan(circle(*order), eps=eps, min_samples=4)
        assert labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1, -1]
    between = (*high, 30.0, *low, 0.0, 30.5)  # with one more in the middle, 30° becomes a core point and joins both
    assert dbscan(circle(*between), eps=eps, min_samples=4).tolist() == [0] * 9 + [-1, 0]


def test_a_chain_is_one_cluster_however_it_is_cut() -> None:
    degrees = np.arange(0.0, 180.0, 0.5)
    shuffled = np.random.default_rng(6).permutation(degrees)
    eps = 1.0 - float(np.cos(np.deg2rad(0.6)))
    labels = labels_exact(normalize(circle(*shuffled)), eps=eps, min_samples=2, block_size=16)
    assert set(labels.tolist()) == {0}


def test_identical_points_are_one_cluster_or_noise_if_too_few() -> None:
    same = np.full((50, 7), 0.3, dtype=np.float32)
    assert dbscan(same, eps=1e-9, min_samples=50).tolist() == [0] * 50
    assert dbscan(same, eps=1e-9, min_samples=51).tolist() == [-1] * 50
    assert dbscan(same[:3], eps=0.5, min_samples=4).tolist() == [-1] * 3


def test_opposite_points_are_two_apart() -> None:
    ends = np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0]])
    assert dbscan(ends, eps=2.0, min_samples=2).tolist() == [0, 0]
    assert dbscan(ends, eps=1.999, min_samples=2).tolist() == [-1, -1]


def test_length_does_not_matter() -> None:
    embeddings = cloud(200, seed=7).astype(np.float64)
    scaled = embeddings * np.geomspace(1e-100, 1e100, 200)[:, None]
    assert dbscan(scaled, eps=0.2, min_samples=4).tolist() == dbscan(embeddings, eps=0.2, min_samples=4).tolist()


def test_labels_are_of_the_embeddings_kind() -> None:
    embeddings = cloud(50)
    array, tensor = dbscan(embeddings, eps=0.2, min_samples=4), dbscan(torch.tensor(embeddings), eps=0.2, min_samples=4)
    assert isinstance(array, np.ndarray)
    assert array.dtype == np.int64
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.int64
    assert array.tolist() == tensor.tolist()
    assert dbscan(embeddings[:0], eps=0.2, min_samples=4).shape == (0,)


def test_embeddings_are_left_as_they_were() -> None:
    embeddings = cloud(50)
    copy = embeddings.copy()
    dbscan(embeddings, eps=0.2, min_samples=4)
    assert (embeddings == copy).all()


@pytest.mark.parametrize(
    ("row", "value", "message"),
    [
        (3, np.nan, "1 of 50 embeddings are not finite .*row 3"),
        (0, np.inf, "not finite .*row 0"),
        (7, 0.0, "1 of 50 embeddings are zero .*row 7"),
    ],
)
def test_rows_without_a_direction_are_refused_by_number(row: int, value: float, message: str) -> None:
    embeddings = cloud(50)
    embeddings[row] = value
    for function in (dbscan, dbscan_near_cells):
        with pytest.raises(ValueError, match=message):
            function(embeddings, eps=0.2, min_samples=4)


def test_wrong_settings_are_refused() -> None:
    for eps in (0.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match="eps is"):
            dbscan(cloud(10), eps=eps, min_samples=4)
    with pytest.raises(ValueError, match="min_samples is 0"):
        dbscan(cloud(10), eps=0.1, min_samples=0)
    with pytest.raises(ValueError, match=r"shape \(10,\)"):
        dbscan(np.ones(10), eps=0.1, min_samples=4)


def test_near_cells_with_every_cell_is_exact_and_with_few_never_joins_clusters() -> None:
    embeddings = cloud(600, seed=8)
    exact = dbscan(embeddings, eps=0.15, min_samples=4)
    every = dbscan_near_cells(embeddings, eps=0.15, min_samples=4, rows_per_cell=20, probes=1000)
    assert every.tolist() == exact.tolist()
    some = dbscan_near_cells(embeddings, eps=0.15, min_samples=4, rows_per_cell=5, probes=1)
    assert (exact[some >= 0] >= 0).all()
    assert 0 < (some >= 0).sum() < (exact >= 0).sum()
    again = dbscan_near_cells(embeddings, eps=0.15, min_samples=4, rows_per_cell=5, probes=1)
    assert again.tolist() == some.tolist()


def test_adaptive_eps_is_the_quantile_of_the_neighbour_distance() -> None:
    embeddings = cloud(300, seed=9)
    vectors = normalize(embeddings)
    unit = embeddings.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    ordered = np.sort(1.0 - unit @ unit.T, axis=1)  # column 0: the point itself
    expected = np.quantile(ordered[:, 4], 0.85)
    assert adaptive_eps(vectors, min_samples=4) == pytest.approx(expected, abs=1e-12)
    assert adaptive_eps(vectors, min_samples=4, quantile=0.5) == pytest.approx(np.median(ordered[:, 4]), abs=1e-12)
    assert adaptive_eps(vectors, min_samples=4, sample=100) == pytest.approx(expected, rel=0.3)
    farthest = (1.0 - unit[:3] @ unit[:3].T).max(1)
    assert adaptive_eps(normalize(embeddings[:3]), min_samples=10) == pytest.approx(np.quantile(farthest, 0.85))


def test_adaptive_eps_of_identical_points_is_small_but_not_zero() -> None:
    assert 0 < adaptive_eps(normalize(np.ones((20, 3))), min_samples=4) < 1e-6
    with pytest.raises(ValueError, match="1 embeddings have no neighbours"):
        adaptive_eps(normalize(np.ones((1, 3))), min_samples=4)


@pytest.mark.parametrize("eps", [0.3, 0.4, 0.45, 0.6])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_agrees_with_scikit_learn(eps: float, kind: type) -> None:
    cluster = pytest.importorskip("sklearn.cluster", reason="scikit-learn is not installed")
    embeddings = cloud(2500, dimensions=128, clusters=60, spread=0.07, seed=10).astype(kind)
    theirs = cluster.DBSCAN(eps=eps, min_samples=4, metric="cosine", algorithm="brute").fit(embeddings).labels_
    assert dbscan(embeddings, eps=eps, min_samples=4).tolist() == theirs.tolist()


def near_cloud(points: int, *, clusters: int, dimensions: int = 16, seed: int = 0) -> np.ndarray:
    """Clusters without scaling, float32: few neighbours of a row are far from it."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((clusters, dimensions))
    made = centres[rng.integers(0, clusters, points)] + 0.3 * rng.standard_normal((points, dimensions))
    far = rng.random(points) < 0.1
    made[far] = rng.standard_normal((far.sum(), dimensions))
    return made.astype(np.float32)


@pytest.mark.parametrize("eps", [0.05, 0.1, 0.2])
def test_a_whole_graph_gives_the_exact_labels(eps: float) -> None:
    pytest.importorskip("faiss")
    embeddings = near_cloud(300, clusters=6)
    expected = dbscan(embeddings, eps=eps, min_samples=4)
    assert len(set(expected.tolist())) > 2
    found = dbscan_faiss(embeddings, eps=eps, min_samples=4, nearest=300, probes=300)
    assert found.tolist() == expected.tolist()


def test_few_neighbours_and_probes_come_close() -> None:
    pytest.importorskip("faiss")
    embeddings = near_cloud(4000, clusters=20)
    expected = dbscan(embeddings, eps=0.1, min_samples=4)
    found = dbscan_faiss(embeddings, eps=0.1, min_samples=4)
    assert adjusted_rand_score(found, expected) > 0.98
    assert ((found < 0) == (expected < 0)).mean() > 0.98


def test_the_loop_can_ask_for_it() -> None:
    pytest.importorskip("faiss")
    embeddings = near_cloud(400, clusters=6)
    found = cluster(embeddings, ClusterConfig(search="faiss", eps=0.1, nearest=400, probes=400))
    assert found.labels_N.tolist() == dbscan(embeddings, eps=0.1, min_samples=4).tolist()


def test_fewer_neighbours_than_a_core_point_needs_are_refused() -> None:
    with pytest.raises(ValueError, match="nearest is 3, below min_samples"):
        dbscan_faiss(near_cloud(20, clusters=2), eps=0.1, min_samples=4, nearest=3)


def test_without_faiss_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(FaissMissingError, match=r"pip install .*faiss-cpu"):
        dbscan_faiss(near_cloud(20, clusters=2), eps=0.1, min_samples=4)


def test_jaccard_distances_are_not_searched_so() -> None:
    with pytest.raises(ValueError, match="no search 'faiss'"):
        cluster(near_cloud(20, clusters=2), ClusterConfig(metric="jaccard", search="faiss"))
