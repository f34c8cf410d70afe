"""The clustering of an epoch: guards, averaged eps, classes for the loss, figures, agreement of two partitions."""

from __future__ import annotations

import json
from itertools import combinations
from math import log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmor_train.clustering.clusters import (
    ClusterConfig,
    ClusterState,
    adjusted_rand_score,
    cluster,
    noise_as_singletons,
    normalized_mutual_info_score,
)

PAIRS_OF_LABELS = st.integers(2, 25).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(-1, 4), min_size=size, max_size=size)] * 2)
)


def bundles(*sizes: int, spread: float = 0.02, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """So many points around each of several axes, float32, and their axis."""
    rng = np.random.default_rng(seed)
    truth = np.repeat(np.arange(len(sizes)), sizes)
    return (np.eye(8)[truth] + spread * rng.standard_normal((len(truth), 8))).astype(np.float32), truth


def test_auto_eps_finds_the_bundles_and_reports_them() -> None:
    embeddings, truth = bundles(40, 30, 20, 10)
    found = cluster(embeddings, ClusterConfig(quantile=0.99))
    figures = found.metrics(known_N=truth)
    assert (found.clusters, found.tries, found.fell_back) == (4, 0, False)
    assert found.noise_share == pytest.approx((found.labels_N < 0).mean())
    assert found.largest_share == pytest.approx(0.4, abs=0.03)
    assert found.mean_size == pytest.approx((found.labels_N >= 0).sum() / 4)
    assert figures["ari_labels"] > 0.95
    assert figures["ari_previous"] is None
    assert json.loads(json.dumps(figures)) == figures


def test_one_dominating_cluster_shrinks_eps_by_a_tenth_until_it_falls_apart() -> None:
    embeddings, truth = bundles(30, 30, 30)
    found = cluster(embeddings, ClusterConfig(eps=1.3))
    assert found.tries == 4  # the axes are 1 apart, less some noise: 1.3, 1.17, 1.05, 0.95, 0.85
    assert found.eps == pytest.approx(1.3 * 0.9**4)
    assert found.labels_N.tolist() == truth.tolist()


def test_only_noise_grows_eps_by_a_tenth() -> None:
    embeddings, _ = bundles(30, 30, 30)
    found = cluster(embeddings, ClusterConfig(eps=0.0006, noise_share=0.2))
    assert found.tries > 0
    assert found.eps == pytest.approx(0.0006 * 1.1**found.tries)
    assert found.noise_share <= 0.2


def test_between_too_small_and_too_large_eps_is_halved_on_a_logarithmic_scale() -> None:
    # Two arcs with a point each degree and a gap of 1.02° between them, and four points on their own.
    degrees = np.concatenate([np.arange(8.0), np.arange(8.02, 16.0), [60.0, 90.0, 120.0, 150.0]])
    embeddings = np.stack([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))], axis=1)
    reach = 1.0 - np.cos(np.deg2rad(np.array([0.98, 1.0, 1.02])))
    found = cluster(embeddings, ClusterConfig(eps=float(reach[0]), min_samples=2, noise_share=0.5))
    assert found.tries == 2  # too small, a tenth more is too large, then between both
    assert found.eps == pytest.approx(reach[0] * 1.1**0.5)
    assert reach[1] < found.eps < reach[2]
    assert found.labels_N.tolist() == [0] * 8 + [1] * 8 + [-1] * 4


def test_one_direction_only_ends_at_instance_level() -> None:
    embeddings = np.ones((20, 4), np.float32)
    found = cluster(embeddings, ClusterConfig())
    assert found.fell_back
    assert found.failure == "one_cluster_dominates"
    assert found.tries == 10
    assert found.labels_N.tolist() == [-1] * 20
    assert found.metrics()["fell_back"] == 1


def test_points_too_far_apart_end_at_instance_level() -> None:
    found = cluster(np.eye(30), ClusterConfig(eps=0.1))
    assert (found.failure, found.tries, found.clusters) == ("nearly_all_noise", 10, 0)
    assert cluster(np.eye(2), ClusterConfig(eps=1.9, largest_share=1.0)).failure == "nearly_all_noise"


def test_one_cluster_of_all_points_comes_apart_however_much_one_may_have() -> None:
    embeddings, _ = bundles(40, 30, 20)
    found = cluster(embeddings, ClusterConfig(eps=1.9, largest_share=1.0, tries=60))
    assert (found.failure, found.clusters) == (None, 3)
    assert found.eps < 1.9


def test_one_small_cluster_is_too_few() -> None:
    embeddings = np.concatenate([bundles(6)[0], np.eye(8)[1:]])
    found = cluster(embeddings, ClusterConfig(eps=0.05, tries=0))
    assert (found.clusters, found.failure) == (1, "too_few_clusters")


def test_eps_is_averaged_over_epochs_and_compared_with_the_epoch_before() -> None:
    embeddings, _ = bundles(40, 30, 20, 10)
    config = ClusterConfig(quantile=0.99)
    first = cluster(embeddings, config)
    wider = bundles(40, 30, 20, 10, spread=0.04)[0]
    alone, after = cluster(wider, config), cluster(wider, config, first.state)
    assert after.eps == pytest.approx(0.5 * first.eps + 0.5 * alone.eps)
    assert after.eps != pytest.approx(alone.eps, rel=0.01)
    assert first.metrics(before=first.state)["ari_previous"] == 1.0
    assert first.metrics(before=first.state)["nmi_previous"] == pytest.approx(1.0)
    assert 0.5 < after.metrics(before=first.state)["ari_previous"] < 1.0


def test_known_labels_of_minus_one_are_left_out() -> None:
    embeddings, truth = bundles(40, 30, 20)
    found = cluster(embeddings, ClusterConfig(eps=0.1))
    wrong_but_unknown = truth.copy()
    assert found.metrics(known_N=wrong_but_unknown)["ari_labels"] == 1.0
    wrong_but_unknown[:20] = 2
    assert found.metrics(known_N=wrong_but_unknown)["ari_labels"] < 0.8
    wrong_but_unknown[:20] = -1
    assert found.metrics(known_N=wrong_but_unknown)["ari_labels"] == 1.0
    assert found.metrics(known_N=np.full(90, -1))["ari_labels"] is None


def test_noise_points_are_classes_of_their_own() -> None:
    labels = np.array([1, -1, 0, -1, 1])
    assert noise_as_singletons(labels).tolist() == [1, 2, 0, 3, 1]
    assert noise_as_singletons(np.full(3, -1)).tolist() == [0, 1, 2]
    assert labels.tolist() == [1, -1, 0, -1, 1]


def test_the_search_of_near_cells_can_be_asked_for() -> None:
    embeddings, truth = bundles(40, 30, 20)
    found = cluster(embeddings, ClusterConfig(eps=0.1, search="near_cells", rows_per_cell=30, probes=5))
    assert found.labels_N.tolist() == truth.tolist()


def test_a_state_can_be_made_from_what_a_checkpoint_holds() -> None:
    embeddings, _ = bundles(40, 30, 20)
    kept = cluster(embeddings, ClusterConfig(quantile=0.99)).state
    again = ClusterState(eps=kept.eps, labels_N=kept.labels_N.copy())
    one, other = (cluster(embeddings, ClusterConfig(quantile=0.99), state) for state in (kept, again))
    assert one.eps == other.eps
    assert one.labels_N.tolist() == other.labels_N.tolist()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"eps": 0.0}, "eps is 0.0"),
        ({"eps": -1.0}, "eps is -1.0"),
        ({"min_samples": 0}, "min_samples is 0"),
        ({"rows_per_cell": 0}, "rows_per_cell is 0; it is at least 1"),
        ({"quantile": 85}, "quantile is 85; it is from 0 to 1"),
        ({"eps_momentum": float("nan")}, "eps_momentum is nan; it is from 0 to 1"),
        ({"tries": -1}, "tries is -1; it is at least 0"),
        ({"search": "faiss", "nearest": 3}, "nearest is 3, below min_samples, which is 4"),
        ({"metric": "jaccard", "search": "faiss"}, "no search 'faiss'; set search to auto or exact"),
    ],
)
def test_settings_that_nothing_can_be_clustered_with_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ClusterConfig(**wrong)


def test_no_embeddings_are_refused() -> None:
    with pytest.raises(ValueError, match="no embeddings"):
        cluster(np.zeros((0, 4), np.float32), ClusterConfig(eps=0.1))


def test_values_worked_out_by_hand() -> None:
    one, other = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 0, 1, 1, 2, 2])
    # Pairs together in both: {0,1} and {4,5}, 2; in one: 6; in the other: 3; of 15. Expected 6·3/15 = 1.2.
    assert adjusted_rand_score(one, other) == pytest.approx((2 - 1.2) / (4.5 - 1.2))
    entropy, others_entropy = log(2), log(3)
    joint = -(2 * (1 / 3) * log(1 / 3) + 2 * (1 / 6) * log(1 / 6))
    mutual = entropy + others_entropy - joint
    assert normalized_mutual_info_score(one, other) == pytest.approx(2 * mutual / (entropy + others_entropy))


@settings(max_examples=100, deadline=None)
@given(PAIRS_OF_LABELS)
def test_rand_index_counts_pairs(pair: tuple[list[int], list[int]]) -> None:
    one, other = pair
    together = [(one[i] == one[j], other[i] == other[j]) for i, j in combinations(range(len(one)), 2)]
    both = sum(a and b for a, b in together)
    ours, theirs = sum(a for a, _ in together), sum(b for _, b in together)
    expected = ours * theirs / len(together)
    most = (ours + theirs) / 2
    wanted = 1.0 if most == expected else (both - expected) / (most - expected)
    assert adjusted_rand_score(np.array(one), np.array(other)) == pytest.approx(wanted, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(PAIRS_OF_LABELS)
def test_both_agree_with_scikit_learn(pair: tuple[list[int], list[int]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    one, other = (np.array(labels) for labels in pair)
    assert adjusted_rand_score(one, other) == pytest.approx(metrics.adjusted_rand_score(one, other), abs=1e-9)
    wanted = metrics.normalized_mutual_info_score(one, other)
    assert normalized_mutual_info_score(one, other) == pytest.approx(wanted, abs=1e-9)


def test_same_partition_under_other_names_is_one_and_all_in_one_class_is_told_apart() -> None:
    one = np.array([0, 0, 1, 2])
    for measure in (adjusted_rand_score, normalized_mutual_info_score):
        assert measure(one, np.array([7, 7, -1, 3])) == pytest.approx(1.0)
        assert measure(np.zeros(4), np.zeros(4)) == 1.0
        assert measure(np.zeros(4), one) == 0.0
        with pytest.raises(ValueError, match=r"shapes \(4,\) and \(3,\)"):
            measure(one, one[:3])


def test_nothing_is_lost_at_a_million_points() -> None:
    one = np.arange(1_000_000) % 3
    other = one.copy()
    other[0] = 1
    assert 0.999995 < adjusted_rand_score(one, other) < 1.0
    assert adjusted_rand_score(one, one) == 1.0
