"""DBSCAN on the Jaccard distance of k-reciprocal neighbourhoods (Zhong et al., CVPR 2017, §3), which SpCL clusters by.

Each row i has its k1 nearest rows by angle, itself first; R(i) are those that have i among theirs. R(i) grows by the
like sets of half the size R½(c) of its members c of which more than two thirds lie in R(i) already. V_i holds
softmax(−|x_i − x_j|²) over the grown set, averaged over the k2 nearest rows (local query expansion). With
s = Σ_j min(V_ij, V_i'j) the distance of rows i and i' is 1 − s / (2 − s). Rows with nothing in common are 1 apart, so
V is kept sparse and only pairs that share a column are ever looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from tmor_train.clustering.blockwise import UnitVectors, chunks, normalize
from tmor_train.clustering.dbscan import IncrementalDBSCAN, Rows, as_given, check_settings
from tmor_train.clustering.neighbours import SCORES_AT_ONCE, SPARE

Numbers = NDArray[np.int64]
Reals = NDArray[np.float64]

ROWS_AT_ONCE = 512
TERMS_AT_ONCE = 2**22


@dataclass(frozen=True, slots=True)
class Sparse:
    """Rows of a sparse N×N matrix: row i has values_P[bounds_N[i]:bounds_N[i + 1]] in ascending columns_P."""

    bounds_N: Numbers
    columns_P: Numbers
    values_P: NDArray[np.float32]

    def places(self, rows_R: Numbers) -> tuple[Numbers, Numbers]:
        """For every entry of these rows: which of rows_R it is of, and where it lies."""
        count_R = self.bounds_N[rows_R + 1] - self.bounds_N[rows_R]
        row_P = np.repeat(np.arange(len(rows_R)), count_R)
        within_P = np.arange(len(row_P)) - np.repeat(np.cumsum(count_R) - count_R, count_R)
        return row_P, self.bounds_N[rows_R][row_P] + within_P

    def transposed(self) -> Sparse:
        points = len(self.bounds_N) - 1
        order_P = np.argsort(self.columns_P, kind="stable")
        rows_P = np.repeat(np.arange(points), np.diff(self.bounds_N))
        return Sparse(_bounds(self.columns_P, points), rows_P[order_P], self.values_P[order_P])


def dbscan_jaccard(embeddings: Rows, *, eps: float = 0.6, min_samples: int = 4, k1: int = 30, k2: int = 6) -> Rows:
    """DBSCAN on the Jaccard distance of k-reciprocal neighbourhoods (Zhong et al., CVPR 2017), as SpCL clusters.

    The defaults are those of SpCL and ClusterContrast. `k1` rows make a neighbourhood, the row itself among them, and
    the neighbourhoods of the `k2` nearest rows are averaged. The nearest rows are exact: all pairs are multiplied once.
    Memory is linear in N. Pairs without a common neighbour, 1 apart, are never in reach, whatever eps is. Otherwise
    like `dbscan`.
    """
    check_settings(eps, min_samples)
    weights = reciprocal_weights(normalize(embeddings), k1=k1, k2=k2)
    return as_given(embeddings, labels_jaccard(weights, eps=eps, min_samples=min_samples))


def reciprocal_weights(vectors: UnitVectors, *, k1: int = 30, k2: int = 6) -> Sparse:
    """V, from which all distances follow.

    As in SpCL's code k1 and k2 count the row itself, and half of k1 does not. Every pair of rows is multiplied once,
    for the k1 nearest; all else, and memory, is linear in N (about k1 · k2 entries a row).

    Raises:
        ValueError: k1 or k2 below 1.
    """
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 are at least 1 (a row counts as its own neighbour), not {k1} and {k2}")
    nearest_NK = nearest(vectors, most=max(k1, k2, round(k1 / 2) + 1))
    return averaged(neighbourhoods(vectors, nearest_NK, k1=k1), nearest_NK[:, :k2])


def labels_jaccard(weights: Sparse, *, eps: float, min_samples: int) -> torch.Tensor:
    """Labels int64 (N,) on the CPU, −1 for noise, of DBSCAN on the Jaccard distance of the rows of V."""
    points = len(weights.bounds_N) - 1
    density = IncrementalDBSCAN(points, min_samples=min_samples, device=torch.device("cpu"))
    for left_P, right_P in pairs_within(weights, eps):
        density.add(torch.from_numpy(left_P), torch.from_numpy(right_P))
    return density.labels(torch.arange(points))


def nearest(vectors: UnitVectors, *, most: int) -> Numbers:
    """The nearest rows of each row by angle in float64, itself first; (N, most), or (N, N) where fewer are there."""
    points, unit_ND = len(vectors.norms_N), vectors.unit_ND
    others = min(most, points) - 1
    measured = min(others + SPARE, points - 1)
    found = []
    for some in chunks(points, max(1, SCORES_AT_ONCE // max(1, points))):
        own_B = torch.arange(some.start, some.stop, device=unit_ND.device)
        scores_BN = unit_ND[some] @ unit_ND.T
        scores_BN[own_B - some.start, own_B] = -float("inf")
        near_BM = scores_BN.topk(measured, dim=1).indices.sort(dim=1).values
        far_BM = vectors.distances(own_B.repeat_interleave(measured), near_BM.flatten()).view(near_BM.shape)
        order_BM = far_BM.argsort(dim=1, stable=True)[:, :others]
        found.append(torch.cat([own_B[:, None], near_BM.gather(1, order_BM)], dim=1).cpu())
    ranked: Numbers = torch.cat(found).numpy() if found else np.zeros((0, 1), np.int64)
    return ranked


def neighbourhoods(vectors: UnitVectors, nearest_NK: Numbers, *, k1: int) -> Sparse:
    """V before it is averaged: a row's weights over its grown reciprocal neighbours."""
    points = len(nearest_NK)
    full_NK, half_NK = nearest_NK[:, :k1], nearest_NK[:, : round(k1 / 2) + 1]
    keep_NK, keep_half_NK = _reciprocal(full_NK), _reciprocal(half_NK)
    half_NK = np.where(keep_half_NK, half_NK, -1)
    size_N = keep_half_NK.sum(1)
    keys = []
    for some in chunks(points, ROWS_AT_ONCE):
        member_BK = np.where(keep_NK[some], full_NK[some], -2)
        candidate_BKH = half_NK[full_NK[some]]
        inside_BK = (candidate_BKH[..., None] == member_BK[:, None, None, :]).any(-1).sum(-1)
        grows_BK = keep_NK[some] & (3 * inside_BK > 2 * size_N[full_NK[some]])
        added_BKH = np.where(grows_BK[..., None], candidate_BKH, -1)
        column_BL = np.concatenate([member_BK, added_BKH.reshape(len(member_BK), -1)], axis=1)
        key_BL = np.arange(some.start, some.stop)[:, None] * points + column_BL
        keys.append(np.unique(key_BL[column_BL >= 0]))
    row_P, column_P = np.divmod(np.concatenate([*keys, np.zeros(0, np.int64)]), max(1, points))
    far_P = [
        vectors.distances(*(torch.from_numpy(ends[run]).to(vectors.norms_N.device) for ends in (row_P, column_P)))
        for run in chunks(len(row_P), TERMS_AT_ONCE // 64)
    ]
    # |x − y|² of unit vectors is twice the cosine distance.
    weight_P = np.exp(-2.0 * (torch.cat(far_P).cpu().numpy() if far_P else np.zeros(0)))
    weight_P /= np.bincount(row_P, weight_P, points)[row_P]
    return Sparse(_bounds(row_P, points), column_P, weight_P.astype(np.float32))


def averaged(weights: Sparse, nearest_NK: Numbers) -> Sparse:
    """The mean of the rows that are nearest to each row."""
    points, several = nearest_NK.shape
    rows, columns, values = [], [], []
    for some in chunks(points, ROWS_AT_ONCE):
        row_P, place_P = weights.places(nearest_NK[some].reshape(-1))
        key_P = row_P // several * points + weights.columns_P[place_P]
        key_Q, at_P = np.unique(key_P, return_inverse=True)
        rows.append(some.start + key_Q // points)
        columns.append(key_Q % points)
        values.append((np.bincount(at_P, weights.values_P[place_P]) / several).astype(np.float32))
    if not rows:
        return weights
    return Sparse(_bounds(np.concatenate(rows), points), np.concatenate(columns), np.concatenate(values))


def pairs_within(weights: Sparse, eps: float) -> Iterator[tuple[Numbers, Numbers]]:
    """Pairs (left < right) of rows whose Jaccard distance is at most eps.

    Beyond 1 everything is in reach, which no clustering wants; such an eps counts as just below 1.
    """
    points, columns = len(weights.bounds_N) - 1, weights.transposed()
    # 1 − s / (2 − s) ≤ eps, solved for s.
    least = max(2.0 * (1.0 - eps) / (2.0 - eps), 2.0**-40) if eps < 2.0 else 2.0**-40
    height_P = np.diff(columns.bounds_N)[weights.columns_P]
    terms_N = np.add.reduceat(np.append(height_P, 0), weights.bounds_N[:-1]) if points else np.zeros(0, np.int64)
    shared = np.zeros(0)
    for some in _of_about(terms_N, TERMS_AT_ONCE):
        if len(shared) < (some.stop - some.start) * points:
            shared = np.zeros((some.stop - some.start) * points)
        row_P, place_P = weights.places(np.arange(some.start, some.stop))
        entry_T, across_T = columns.places(weights.columns_P[place_P])
        row_T, other_T = row_P[entry_T], columns.columns_P[across_T]
        later_T = other_T > row_T + some.start
        key_T = row_T[later_T] * points + other_T[later_T]
        both_T = np.minimum(weights.values_P[place_P][entry_T[later_T]], columns.values_P[across_T[later_T]])
        np.add.at(shared, key_T, both_T.astype(np.float64))
        near = np.unique(key_T[shared[key_T] >= least])
        shared[key_T] = 0.0  # only what was touched, so that the work stays linear
        yield some.start + near // points, near % points


def _reciprocal(nearest_NK: Numbers) -> NDArray[np.bool_]:
    """Which of the nearest rows of each row have that row among their own nearest."""
    keep = [
        (nearest_NK[nearest_NK[some]] == np.arange(some.start, some.stop)[:, None, None]).any(2)
        for some in chunks(len(nearest_NK), 8 * ROWS_AT_ONCE)
    ]
    return np.concatenate([*keep, np.zeros((0, nearest_NK.shape[1]), np.bool_)])


def _bounds(rows_P: Numbers, points: int) -> Numbers:
    return np.append(0, np.cumsum(np.bincount(rows_P, minlength=points)))


def _of_about(terms_N: Numbers, most: int) -> Iterator[slice]:
    """Runs of at most 64 rows with about so many terms in all, at least one row each."""
    start, total = 0, 0
    for row, terms in enumerate(terms_N.tolist()):
        if row > start and (total + terms > most or row - start == 64):
            yield slice(start, row)
            start, total = row, 0
        total += terms
    if start < len(terms_N):
        yield slice(start, len(terms_N))
