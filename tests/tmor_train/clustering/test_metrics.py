"""Adjusted Rand index and normalized mutual information: by hand, by counting pairs, beside scikit-learn if there."""

from __future__ import annotations

from itertools import combinations
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tmor_train.clustering.metrics import adjusted_rand_score, normalized_mutual_info_score

PAIRS_OF_LABELS = st.integers(2, 25).flatmap(
    lambda size: st.tuples(*[st.lists(st.integers(-1, 4), min_size=size, max_size=size)] * 2)
)


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
