"""Agreement of two partitions of the same points, as scikit-learn's functions of the same names give it.

Written here because scikit-learn is not among what training installs.
"""

from __future__ import annotations

from math import comb, log

import numpy as np


def adjusted_rand_score(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """1 for the same partition, about 0 for independent ones (Hubert and Arabie, 1985, equation 5)."""
    cells, one_sizes, other_sizes = _contingency(one_N, other_N)
    together, pairs = _pairs(cells), comb(len(one_N), 2)
    by_one, by_other = _pairs(one_sizes), _pairs(other_sizes)
    # In whole numbers, so that nothing is lost at millions of points: everything times twice the number of pairs.
    above = 2 * (together * pairs - by_one * by_other)
    below = (by_one + by_other) * pairs - 2 * by_one * by_other
    return above / below if below else 1.0


def normalized_mutual_info_score(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """Mutual information over the mean of both entropies: 1 for the same partition, 0 for independent ones."""
    cells, one_sizes, other_sizes = _contingency(one_N, other_N)
    one_entropy, other_entropy = _entropy(one_sizes), _entropy(other_sizes)
    if not one_entropy and not other_entropy:
        return 1.0
    mutual = one_entropy + other_entropy - _entropy(cells)
    return min(1.0, max(0.0, 2.0 * mutual / (one_entropy + other_entropy)))


def noise_as_singletons(labels_N: np.ndarray) -> np.ndarray:
    """Labels with a class of its own for each noise point (−1)."""
    noise_N = labels_N < 0
    alone_N = labels_N.copy()
    alone_N[noise_N] = labels_N.max(initial=-1) + 1 + np.arange(noise_N.sum())
    return alone_N


def _contingency(one_N: np.ndarray, other_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes of the cells that are not empty, of the classes of one and of those of the other."""
    if one_N.shape != other_N.shape or one_N.ndim != 1:
        raise ValueError(f"labels of shapes {one_N.shape} and {other_N.shape} cannot be compared point by point")
    _, one_codes, one_sizes = np.unique(one_N, return_inverse=True, return_counts=True)
    _, other_codes, other_sizes = np.unique(other_N, return_inverse=True, return_counts=True)
    cells = np.unique(one_codes * max(1, len(other_sizes)) + other_codes, return_counts=True)[1]
    return cells, one_sizes, other_sizes


def _pairs(sizes: np.ndarray) -> int:
    return int((sizes * (sizes - 1) // 2).sum())


def _entropy(sizes: np.ndarray) -> float:
    total = int(sizes.sum())
    return log(total) - float((sizes * np.log(sizes)).sum()) / total if len(sizes) > 1 else 0.0
