"""DBSCAN on an approximate graph of nearest rows, which faiss finds in an inverted file; for sizes beyond all pairs.

Two rows count as neighbours if they lie within eps and one is among the `nearest` rows that the search finds for the
other. A point keeps its edges to the rows nearest to it, so clusters fall apart only where their density is carried by
farther ones; how far labels agree with the exact ones is measured in ``benchmarks/clustering.py``.
"""

from __future__ import annotations

import numpy as np
import torch

from tmor_train.clustering.blockwise import UnitVectors, chunks
from tmor_train.clustering.dbscan import IncrementalDBSCAN, check_settings, on_rows

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

    On the CPU, with faiss's own threads; the defaults are those of `clusters.ClusterConfig`. Distances of the pairs
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
    int64 each."""
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
