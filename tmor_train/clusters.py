"""Clusters of motion embeddings: DBSCAN on cosine distance, exact, with memory that stays linear in their number.

`cluster` is what the training loop calls after each epoch; `dbscan`, `dbscan_near_cells` and `auto_eps` are its parts.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from tmor_train.clustering.agreement import adjusted_rand_index, normalized_mutual_information
from tmor_train.clustering.auto_eps import eps_of
from tmor_train.clustering.dbscan import labels_of_all_pairs, labels_of_near_cells
from tmor_train.clustering.directions import directions_of
from tmor_train.clustering.guarded import ClusterConfig, Clustering, ClusterState, classes_of, cluster

__all__ = [
    "ClusterConfig",
    "ClusterState",
    "Clustering",
    "adjusted_rand_index",
    "auto_eps",
    "classes_of",
    "cluster",
    "dbscan",
    "dbscan_near_cells",
    "normalized_mutual_information",
]

Rows = TypeVar("Rows", np.ndarray, torch.Tensor)


def dbscan(embeddings: Rows, *, eps: float, min_samples: int) -> Rows:
    """Exact DBSCAN (Ester et al., KDD 1996) of N×D embeddings on cosine distance; labels int64 (N,), −1 for noise.

    A pair is within reach if its distance, in float64 from the numbers as given, is at most eps. A point counts towards
    its own min_samples. Clusters are numbered by their first core point; a border point goes to the lowest numbered
    cluster it touches. This is scikit-learn's result (metric="cosine", algorithm="brute"), which however measures
    float32 embeddings in float32, where pairs closer to eps than about 1e-6 may fall on either side.

    Labels come as the embeddings do: an array, or a tensor on their device, which does the work. Neither device nor
    number of threads changes a label. Beside the embeddings this holds their unit vectors (float32 on a CPU, float16 on
    a GPU), both once more in another order, at most N · min_samples edges and a block of distances for each thread.
    Raises ValueError for NaN, infinite or zero embeddings, eps ≤ 0 and min_samples < 1.
    """
    refuse_settings(eps, min_samples)
    return _as_given(embeddings, labels_of_all_pairs(directions_of(embeddings), eps=eps, min_samples=min_samples))


def dbscan_near_cells(
    embeddings: Rows, *, eps: float, min_samples: int, rows_per_cell: int = 1024, probes: int = 32, seed: int = 0
) -> Rows:
    """DBSCAN on part of the neighbours, for sizes at which comparing all pairs takes too long.

    Embeddings are cut into cells of about `rows_per_cell` around learned centres. Only pairs in the same cell, or in
    two cells of which one is among the other's `probes` nearest, are compared. Pairs found are exact; missed pairs can
    turn core points into border points or noise and split clusters, never join any. Otherwise like `dbscan`.
    """
    refuse_settings(eps, min_samples)
    labels_N = labels_of_near_cells(
        directions_of(embeddings),
        eps=eps,
        min_samples=min_samples,
        rows_per_cell=rows_per_cell,
        probes=probes,
        seed=seed,
    )
    return _as_given(embeddings, labels_N)


def auto_eps(
    embeddings: np.ndarray | torch.Tensor,
    *,
    min_samples: int,
    quantile: float = 0.85,
    sample: int = 5000,
    seed: int = 0,
) -> float:
    """An eps for `dbscan`: quantile of the cosine distance to the min_samples-th nearest other embedding.

    Measured for `sample` embeddings, drawn by `seed`, against all. Averaging over epochs is up to `cluster`.
    """
    return eps_of(directions_of(embeddings), min_samples=min_samples, quantile=quantile, sample=sample, seed=seed)


def refuse_settings(eps: float, min_samples: int) -> None:
    """Raises ValueError for an eps or min_samples that no clustering can have."""
    if not eps > 0:
        raise ValueError(f"eps is {eps}; it is a cosine distance above 0 (0 same direction, 1 right angle, 2 opposite)")
    if min_samples < 1:
        raise ValueError(f"min_samples is {min_samples}; it is at least 1, for it counts the point itself")


def _as_given(embeddings: Rows, labels_N: torch.Tensor) -> Rows:
    if isinstance(embeddings, torch.Tensor):
        return labels_N.to(embeddings.device)
    return labels_N.cpu().numpy()
