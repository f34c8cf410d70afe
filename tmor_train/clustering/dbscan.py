"""DBSCAN (Ester et al., KDD 1996) on cosine distance: exact, or on part of the pairs, those of near cells or of a graph
that faiss finds in an inverted file; memory linear in the points.

It is one pass over pairs of neighbours (edges) that arrive in any order, each pair once. An edge joins two clusters if
both its ends are core points. A point is core from its min_samples-th neighbour on and stays so. Edges between two
points that are already core are therefore merged at once and not stored; others are stored until the end. A stored edge
has an end with fewer than min_samples neighbours so far, so at most N · min_samples edges are stored, however dense the
clusters are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import numpy as np
import torch

from tmor_train.clustering.neighbours import (
    Neighbours,
    UnitVectors,
    block_size_for,
    choose_prefilter,
    chunks,
    near_cell_blocks,
    normalize,
    parallel_map,
    single_threaded_ops,
    spherical_kmeans,
    triangle_blocks,
)

Rows = TypeVar("Rows", np.ndarray, torch.Tensor)
P = ParamSpec("P")

# Cells of the exact search, which only put near rows next to each other: one for ROWS_PER_CELL rows, but at most
# MOST_CELLS, since more cost more and gain nothing. Our choice: of some hundred rows a block of 1536 has several cells.
MOST_CELLS = 256
ROWS_PER_CELL = 256


def on_rows(labels_of: Callable[Concatenate[UnitVectors, P], torch.Tensor]) -> Callable[Concatenate[Rows, P], Rows]:
    """Makes a function of `UnitVectors` one of N×D embeddings: a NumPy array gives labels as an array, a tensor gives
    them as a tensor on its device."""

    @wraps(labels_of)
    def labels_as_given(embeddings: Rows, /, *args: P.args, **named: P.kwargs) -> Rows:
        labels_N = labels_of(normalize(embeddings), *args, **named)
        return labels_N.to(embeddings.device) if isinstance(embeddings, torch.Tensor) else labels_N.cpu().numpy()

    return labels_as_given


def check_settings(eps: float, min_samples: int) -> None:
    """Raises ValueError for an eps or min_samples that no clustering can have."""
    if not eps > 0:
        raise ValueError(
            f"eps is {eps}; it is a distance above 0 (of cosines: 0 same direction, 1 right angle, 2 opposite)"
        )
    if min_samples < 1:
        raise ValueError(f"min_samples is {min_samples}; it is at least 1, for it counts the point itself")


def labels_exact(vectors: UnitVectors, *, eps: float, min_samples: int, block_size: int | None = None) -> torch.Tensor:
    """Exact DBSCAN (Ester et al., KDD 1996) of N×D embeddings on cosine distance; labels int64 (N,), −1 for noise.

    Two points are neighbours if their distance, in float64 from the numbers as given, is at most eps. A point counts
    towards its own min_samples. Clusters are numbered by their first core point; a border point goes to the lowest
    numbered cluster it touches. This is scikit-learn's result (metric="cosine", algorithm="brute"), which however
    measures float32 embeddings in float32, where pairs closer to eps than about 1e-6 may fall on either side.

    The computation runs on the embeddings' device. Neither device, number of threads nor `block_size`, the rows that
    are compared at a time, changes a label. Beside the embeddings this holds their unit vectors (float32 on a CPU,
    float16 on a GPU), both once more in another order, at most N · min_samples edges and a block of distances for each
    thread. Raises ValueError for NaN, infinite or zero embeddings, eps ≤ 0 and min_samples < 1.
    """
    check_settings(eps, min_samples)
    device, points = vectors.norms_N.device, len(vectors.norms_N)
    block_size = block_size or block_size_for(device)
    names_N = torch.arange(points, device=device)
    with single_threaded_ops(device) as workers:
        if points > 2 * block_size:  # of fewer blocks hardly any could be skipped, however rows are ordered
            names_N = spherical_kmeans(vectors, cells=min(MOST_CELLS, 1 + points // ROWS_PER_CELL)).order_N
            vectors = vectors.select(names_N)
        blocks = list(triangle_blocks(points, block_size))
        prefilter = choose_prefilter(vectors, eps, blocks)
        neighbours = Neighbours(vectors, eps, block_size=block_size, prefilter=prefilter)
        return _labels_from_blocks(neighbours, blocks, names_N, min_samples=min_samples, workers=workers)


def labels_near_cells(
    vectors: UnitVectors, *, eps: float, min_samples: int, rows_per_cell: int = 1024, probes: int = 32, seed: int = 0
) -> torch.Tensor:
    """DBSCAN on part of the neighbours, for sizes at which comparing all pairs takes too long.

    Embeddings are cut into cells of about `rows_per_cell` around centres that are learned on a sample drawn by `seed`.
    Only pairs in the same cell, or in two cells of which one is among the other's `probes` nearest, are compared. Pairs
    found are exact; missed pairs can turn core points into border points or noise and split clusters, never join any.
    Labels may depend on the device, as the cells do. Otherwise like `labels_exact`. The defaults are those of
    `ClusterConfig`; ``benchmarks/clustering.py`` measures how far labels agree with the exact ones.
    """
    check_settings(eps, min_samples)
    device, points = vectors.norms_N.device, len(vectors.norms_N)
    block_size = block_size_for(device)
    with single_threaded_ops(device) as workers:
        cells = spherical_kmeans(vectors, cells=1 + points // rows_per_cell, seed=seed)
        neighbours = Neighbours(vectors.select(cells.order_N), eps, block_size=block_size)
        blocks = near_cell_blocks(cells, probes=probes, block_size=block_size)
        return _labels_from_blocks(neighbours, blocks, cells.order_N, min_samples=min_samples, workers=workers)


dbscan, dbscan_near_cells = on_rows(labels_exact), on_rows(labels_near_cells)


def _labels_from_blocks(
    neighbours: Neighbours,
    blocks: Iterable[tuple[slice, slice]],
    names_N: torch.Tensor,
    *,
    min_samples: int,
    workers: int,
) -> torch.Tensor:
    """Labels from the neighbours within each pair of blocks. The two are equal or disjoint, and no pair of rows is in
    two of them, since it would count twice. Row i is point names_N[i] of the caller, whose order labels have."""
    rows_N = torch.arange(len(names_N), device=names_N.device)

    def pairs_in(block: tuple[slice, slice]) -> tuple[torch.Tensor, torch.Tensor]:
        left, right = block
        left_P, right_P = neighbours.between(rows_N[left], rows_N[right])
        if left != right:
            return left_P, right_P
        upper_P = left_P < right_P
        return left_P[upper_P], right_P[upper_P]

    clustering = IncrementalDBSCAN(len(names_N), min_samples=min_samples, device=names_N.device)
    unsettled = (block for block in blocks if not clustering.settled(*block))
    for left_P, right_P in parallel_map(pairs_in, unsettled, workers=workers):
        clustering.add(left_P, right_P)
    return torch.empty_like(names_N).scatter_(0, names_N, clustering.labels(names_N))


class IncrementalDBSCAN:
    """Neighbour counts, core points and joined sets of N points from the pairs added so far."""

    def __init__(self, points: int, *, min_samples: int, device: torch.device) -> None:
        self._min_samples = min_samples
        self._counts_N = torch.ones(points, dtype=torch.int64, device=device)  # a point is its own neighbour
        self._core_N = self._counts_N >= min_samples
        self._sets = UnionFind(points, device)
        self._kept: list[torch.Tensor] = []  # edges (2, P) that the end decides

    def add(self, left_P: torch.Tensor, right_P: torch.Tensor) -> None:
        """Adds pairs of different points that are neighbours; none may have been added before, in either order."""
        if not len(left_P):
            return
        points = len(self._counts_N)
        self._counts_N += torch.bincount(left_P, minlength=points)
        self._counts_N += torch.bincount(right_P, minlength=points)
        torch.ge(self._counts_N, self._min_samples, out=self._core_N)
        dense_P = self._core_N[left_P] & self._core_N[right_P]
        self._sets.union(left_P[dense_P], right_P[dense_P])
        if not bool(dense_P.all()):
            self._kept.append(torch.stack([left_P[~dense_P], right_P[~dense_P]]))

    def settled(self, left: slice, right: slice) -> bool:
        """Whether pairs between two slices of points can no longer change labels: all are core points of one
        cluster."""
        if not bool(self._core_N[left].all()) or not bool(self._core_N[right].all()):
            return False
        ends_P = torch.cat([torch.arange(end.start, end.stop, device=self._core_N.device) for end in (left, right)])
        roots_P = self._sets.find(ends_P)
        return bool((roots_P == roots_P[0]).all())

    def labels(self, names_N: torch.Tensor) -> torch.Tensor:
        """Cluster of each point, −1 for noise.

        names_N, int64, are the points' indices for the caller, a permutation of 0 to N − 1. Labels are in the order of
        the points, not of names_N. Clusters are numbered from 0 in the order of their core points of lowest index (by
        names_N). A border point gets the lowest numbered cluster of which a core point is its neighbour.
        """
        kept_2P = torch.cat([*self._kept, names_N.new_empty(2, 0)], dim=1)
        core_2P = self._core_N[kept_2P]
        self._sets.union(*kept_2P[:, core_2P.all(0)])
        core_C = torch.nonzero(self._core_N).flatten()
        roots_C = self._sets.find(core_C)
        first_N = torch.full_like(names_N, len(names_N)).scatter_reduce(0, roots_C, names_N[core_C], "amin")
        labels_N = torch.full_like(names_N, -1)
        labels_N[core_C] = torch.unique(first_N[roots_C], return_inverse=True)[1]
        core_end = torch.where(core_2P[0], kept_2P[0], kept_2P[1])
        border_end = torch.where(core_2P[0], kept_2P[1], kept_2P[0])
        one = core_2P[0] ^ core_2P[1]
        none = len(names_N)  # above every label
        border_N = torch.full_like(names_N, none).scatter_reduce(0, border_end[one], labels_N[core_end[one]], "amin")
        return torch.where(border_N < none, border_N, labels_N)


class UnionFind:
    """Disjoint sets of points, on whole tensors and on any device; the smallest member represents a set.

    SciPy's connected_components is no substitute: edges arrive block by block and `settled` asks for sets in between,
    so that it would have to begin anew for each block; and on a GPU all edges would have to be copied to the CPU.
    """

    def __init__(self, points: int, device: torch.device) -> None:
        self._parent_N = torch.arange(points, device=device)

    def find(self, points_P: torch.Tensor) -> torch.Tensor:
        """Smallest member of each point's set; compresses the paths for the next call."""
        parent_P = self._parent_N[points_P]
        while True:
            above_P = self._parent_N[parent_P]
            if torch.equal(above_P, parent_P):
                break
            parent_P = above_P
        self._parent_N[points_P] = parent_P
        return parent_P

    def union(self, left_P: torch.Tensor, right_P: torch.Tensor) -> None:
        """Joins the sets of each pair.

        Each round makes the smallest root that an edge leads to the parent of each larger root, so that at least half
        of the roots with an edge to another set disappear or get a smaller parent; edges within a set are left out.
        """
        while len(left_P):
            left_P, right_P = self.find(left_P), self.find(right_P)
            apart_P = left_P != right_P
            left_P, right_P = left_P[apart_P], right_P[apart_P]
            lower_P, higher_P = torch.minimum(left_P, right_P), torch.maximum(left_P, right_P)
            self._parent_N.scatter_reduce_(0, higher_P, lower_P, "amin")
            left_P, right_P = lower_P, higher_P


PAIRS_AT_ONCE = 2**16
"""Pairs whose distances are computed in one operation, which bounds memory: 256 MiB of 256 dimensions in float64."""
_ROWS_PER_CENTROID = 64  # rows that each list's centre is learned from; more take longer for hardly better centres


class FaissMissingError(ValueError):
    """faiss is not installed; the message says how to get it."""


def check_nearest(nearest: int, min_samples: int) -> None:
    """Raises ValueError where so few rows are looked for around each that hardly any could be core."""
    if nearest < min_samples:
        raise ValueError(f"nearest is {nearest}, below min_samples, which is {min_samples}: hardly any point is core")


def labels_faiss(
    vectors: UnitVectors, *, eps: float, min_samples: int, nearest: int = 32, probes: int = 32, seed: int = 0
) -> torch.Tensor:
    """DBSCAN that takes as neighbours only rows of which one is among the `nearest` that faiss finds for the other.

    A point keeps its edges to the rows nearest to it, so clusters fall apart only where their density is carried by
    farther ones; how far labels agree with the exact ones is measured in ``benchmarks/clustering.py``.

    On the CPU, with faiss's own threads; the defaults are those of `ClusterConfig`. Distances of the pairs
    that faiss finds are decided in float64. Otherwise like `labels_exact`.

    Args:
        vectors: N embeddings, on any device.
        nearest: neighbours that are searched for each row; at least min_samples, since with fewer a point would be core
            only by those that find it from their side.
        probes: how many of the 4 · √N lists (the fewest that faiss advises) of the inverted file are searched for each
            row.
        seed: of the sample from which the lists' centres are learned.

    Returns:
        Labels int64 (N,) on the CPU, −1 for noise.

    Raises:
        FaissMissingError: faiss is not installed.
        ValueError: nearest is below min_samples, or as in `labels_exact`.
    """
    check_settings(eps, min_samples)
    check_nearest(nearest, min_samples)
    points = len(vectors.norms_N)
    density = IncrementalDBSCAN(points, min_samples=min_samples, device=torch.device("cpu"))
    left_P, right_P = _candidates(vectors, eps + vectors.margin, nearest=nearest, probes=probes, seed=seed)
    for some in chunks(len(left_P), PAIRS_AT_ONCE):
        near = vectors.distances(left_P[some], right_P[some]).cpu() <= eps
        density.add(left_P[some][near], right_P[some][near])
    return density.labels(torch.arange(points))


dbscan_faiss = on_rows(labels_faiss)


def _candidates(
    vectors: UnitVectors, reach: float, *, nearest: int, probes: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Row numbers of the P pairs, left < right, each once, whose cosine distance by faiss is at most `reach`: (P,)
    int64 each; FaissMissingError without faiss."""
    try:
        import faiss
    except ImportError as error:
        raise FaissMissingError(
            'faiss is not installed: pip install "faiss-cpu", or set search to near_cells'
        ) from error
    unit_ND = vectors.unit_ND.float().cpu().numpy()
    points, width = unit_ND.shape
    lists = max(1, min(round(4 * points**0.5), points))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(width), width, lists, faiss.METRIC_INNER_PRODUCT)
    # At least one row for each centre: faiss would print a warning below 39.
    index.cp.seed, index.cp.max_points_per_centroid, index.cp.min_points_per_centroid = seed, _ROWS_PER_CENTROID, 1
    index.train(unit_ND)
    index.add(unit_ND)
    index.nprobe = min(probes, lists)
    cosine_NK, neighbour_NK = index.search(unit_ND, min(nearest + 1, points))  # each row is its own nearest neighbour
    row_P, other_P = np.repeat(np.arange(points), neighbour_NK.shape[1]), neighbour_NK.ravel()
    close = (1 - cosine_NK.ravel() <= reach) & (other_P >= 0) & (other_P != row_P)
    ends_2P = np.sort(np.stack([row_P[close], other_P[close]]), axis=0)
    left_P, right_P = np.divmod(np.unique(ends_2P[0] * points + ends_2P[1]), points)
    return torch.from_numpy(left_P), torch.from_numpy(right_P)
