"""DBSCAN on the Jaccard distance of k-reciprocal neighbourhoods (Zhong et al., CVPR 2017, §3), which SpCL clusters by.

Each row i has its k1 nearest rows by angle, itself first; R(i) are those that have i among theirs. R(i) grows by the
like sets of half the size R½(c) of its members c of which more than two thirds lie in R(i) already. V_i holds
softmax(−|x_i − x_j|²) over the grown set, averaged over the k2 nearest rows (local query expansion). With
s = Σ_j min(V_ij, V_i'j) the distance of rows i and i' is 1 − s / (2 − s). Rows with nothing in common are 1 apart, so
V is kept sparse and only pairs that share a column are ever looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from tmor_train.clustering.dbscan import IncrementalDBSCAN
from tmor_train.clustering.neighbours import SCORES_AT_ONCE, UnitVectors, chunks, nearest_rows

Numbers = NDArray[np.int64]
Sparse: TypeAlias = Any  # scipy.sparse.csr_matrix (N, N)

ROWS_AT_ONCE = 512
"""Rows whose neighbourhoods are computed at once; like the next two a bound on memory, our choice."""
TERMS_AT_ONCE = 2**22
"""About so many terms min(V_ij, V_i'j) are added at once."""
PAIRS_AT_ONCE = 2**16
"""Pairs whose cosine distances are computed in one operation."""
_MOST_ROWS = 64  # in a run: each has a sum for every row, 8 bytes a sum
# Below every s that is not 0: a weight is part of a softmax of values from -4 to 0 over a neighbourhood, divided by k2.
_LEAST_SHARED = 2.0**-40


def reciprocal_weights(vectors: UnitVectors, *, k1: int = 30, k2: int = 6) -> Sparse:
    """V, from which all distances follow: (N, N) float32, the columns of each row in ascending order.

    As in SpCL's code, k1 and k2 count the row itself; the half set has round(k1 / 2) rows besides it. Finding the k1
    nearest rows multiplies every pair of rows once; everything else, and memory, is linear in N (about k1 · k2 entries
    a row).

    Raises:
        ValueError: k1 or k2 below 1.
    """
    if k1 < 1 or k2 < 1:
        raise ValueError(f"k1 and k2 are at least 1 (a row counts as its own neighbour), not {k1} and {k2}")
    nearest_NK = nearest(vectors, most=max(k1, k2, round(k1 / 2) + 1))
    return averaged(neighbourhoods(vectors, nearest_NK, k1=k1), nearest_NK[:, :k2])


def labels_jaccard(weights: Sparse, *, eps: float, min_samples: int) -> torch.Tensor:
    """Labels int64 (N,) on the CPU, −1 for noise, of DBSCAN on the Jaccard distance of the rows of V.

    Labels are numbered, and border points assigned, as in `labels_exact`. Pairs without a common neighbour, 1 apart,
    are never in reach, whatever eps is. eps and min_samples are not checked."""
    points = weights.shape[0]
    density = IncrementalDBSCAN(points, min_samples=min_samples, device=torch.device("cpu"))
    for left_P, right_P in pairs_within(weights, eps):
        density.add(torch.from_numpy(left_P), torch.from_numpy(right_P))
    return density.labels(torch.arange(points))


def nearest(vectors: UnitVectors, *, most: int) -> Numbers:
    """Numbers of the nearest rows of each row by angle, itself first: (N, most), or (N, N) where there are fewer
    rows."""
    points, device = len(vectors.norms_N), vectors.norms_N.device
    found = []
    for some in chunks(points, max(1, SCORES_AT_ONCE // max(1, points))):
        own_B = torch.arange(some.start, some.stop, device=device)
        near_BM, _ = nearest_rows(vectors, own_B, most=min(most, points) - 1)
        found.append(torch.cat([own_B[:, None], near_BM], dim=1).cpu())
    ranked: Numbers = torch.cat(found).numpy()
    return ranked


def neighbourhoods(vectors: UnitVectors, nearest_NK: Numbers, *, k1: int) -> Sparse:
    """V before it is averaged: a row's weights over its grown set of reciprocal neighbours, (N, N) float32, rows that
    sum to 1.

    Args:
        nearest_NK: of :func:`nearest`, at least k1 and round(k1 / 2) + 1 columns.
    """
    points, device = len(nearest_NK), vectors.norms_N.device
    full, half = _reciprocal(nearest_NK[:, :k1]), _reciprocal(nearest_NK[:, : round(k1 / 2) + 1])
    size_N, half_T = np.diff(half.indptr), half.T.tocsr()
    rows, columns = [], []
    for some in chunks(points, ROWS_AT_ONCE):
        own = full[some]
        grows = own.multiply(own @ half_T).tocsr()  # how many members of R½(c) lie in R(i)
        grows.data = (3 * grows.data > 2 * size_N[grows.indices]).astype(np.int32)
        row_P, column_P = (own + grows @ half).nonzero()
        order_P = np.lexsort((column_P, row_P))
        rows.append(some.start + row_P[order_P].astype(np.int64))
        columns.append(column_P[order_P].astype(np.int64))
    row_P, column_P = np.concatenate(rows), np.concatenate(columns)
    far_P = [
        vectors.distances(*(torch.from_numpy(ends[run]).to(device) for ends in (row_P, column_P)))
        for run in chunks(len(row_P), PAIRS_AT_ONCE)
    ]
    weight_P = np.exp(-2.0 * torch.cat(far_P).cpu().numpy())  # |x − y|² of unit vectors is twice the cosine distance
    weight_P /= np.bincount(row_P, weight_P, points)[row_P]
    return csr_matrix((weight_P.astype(np.float32), (row_P, column_P)), shape=(points, points))


def averaged(weights: Sparse, nearest_NK: Numbers) -> Sparse:
    """For each row of V the mean of the rows ``nearest_NK`` lists for it: (N, N) float32."""
    mean = _graph(nearest_NK).astype(np.float64) @ weights
    mean.sort_indices()
    mean.data = (mean.data / nearest_NK.shape[1]).astype(np.float32)
    return mean


def pairs_within(weights: Sparse, eps: float) -> Iterator[tuple[Numbers, Numbers]]:
    """Row numbers of pairs, left < right, whose Jaccard distance is at most eps, some rows at a time.

    With eps of 1 or more, all pairs would be within eps. Only those that share a column are looked at, so such an eps
    counts as just below 1.
    """
    points, columns = weights.shape[0], weights.T.tocsr()
    # 1 − s / (2 − s) ≤ eps, solved for s.
    least = max(2.0 * (1.0 - eps) / (2.0 - eps), _LEAST_SHARED) if eps < 2.0 else _LEAST_SHARED
    shared = np.zeros(0)
    for some in _row_runs((weights != 0) @ np.diff(columns.indptr), TERMS_AT_ONCE):
        if len(shared) < (some.stop - some.start) * points:
            shared = np.zeros((some.stop - some.start) * points)
        own = weights[some]
        across = columns[own.indices]  # for each entry of these rows the column that it is in
        count_P = np.diff(across.indptr)
        row_T = np.repeat(np.repeat(np.arange(own.shape[0]), np.diff(own.indptr)), count_P)
        later_T = across.indices > row_T + some.start
        key_T = row_T[later_T] * points + across.indices[later_T]
        both_T = np.minimum(np.repeat(own.data, count_P), across.data)[later_T]
        np.add.at(shared, key_T, both_T.astype(np.float64))
        near = np.unique(key_T[shared[key_T] >= least])
        shared[key_T] = 0.0  # only what was touched, so that the work stays linear
        yield some.start + near // points, near % points


def _graph(nearest_NK: Numbers) -> Sparse:
    """1 at each row's nearest rows, in their order."""
    points, several = nearest_NK.shape
    bounds_N = np.arange(0, nearest_NK.size + 1, several)
    return csr_matrix((np.ones(nearest_NK.size, np.int32), nearest_NK.ravel(), bounds_N), shape=(points, points))


def _reciprocal(nearest_NK: Numbers) -> Sparse:
    """1 at those of each row's nearest rows that have the row among their own nearest."""
    graph = _graph(nearest_NK)
    return graph.multiply(graph.T).tocsr()


def _row_runs(terms_N: Numbers, most: int) -> Iterator[slice]:
    """All rows in runs of at most ``_MOST_ROWS`` rows and ``most`` terms; a row with more terms is a run of its own."""
    start, total = 0, 0
    for row, terms in enumerate(terms_N.tolist()):
        if row > start and (total + terms > most or row - start == _MOST_ROWS):
            yield slice(start, row)
            start, total = row, 0
        total += terms
    if start < len(terms_N):
        yield slice(start, len(terms_N))
