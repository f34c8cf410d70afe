"""Clusters of motion embeddings: DBSCAN on cosine distance, exact, with memory that stays linear in their number.

`cluster` is what the training loop calls after each epoch; `dbscan`, `dbscan_near_cells`, `dbscan_faiss`,
`dbscan_jaccard` and `auto_eps` are its parts.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch

from tmor_train.clustering.agreement import adjusted_rand_index, normalized_mutual_information
from tmor_train.clustering.auto_eps import eps_of
from tmor_train.clustering.dbscan import labels_of_all_pairs, labels_of_near_cells, refuse_settings
from tmor_train.clustering.directions import directions_of
from tmor_train.clustering.faiss_graph import NoFaiss, labels_of_faiss_graph
from tmor_train.clustering.guarded import ClusterConfig, Clustering, ClusterState, classes_of, cluster
from tmor_train.clustering.jaccard import labels_by_jaccard, reciprocal_weights

__all__ = [
    "ClusterConfig",
    "ClusterState",
    "Clustering",
    "NoFaiss",
    "adjusted_rand_index",
    "auto_eps",
    "classes_of",
    "cluster",
    "dbscan",
    "dbscan_faiss",
    "dbscan_jaccard",
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


def dbscan_faiss(
    embeddings: Rows, *, eps: float, min_samples: int, nearest: int = 32, probes: int = 32, seed: int = 0
) -> Rows:
    """DBSCAN that takes as neighbours only rows of which one is among the `nearest` that faiss finds for the other.

    On the CPU, with faiss's own threads. Otherwise like `dbscan`.

    Raises ValueError as `dbscan` does, and NoFaiss (a ValueError) where faiss is not installed.
    """
    refuse_settings(eps, min_samples)
    labels_N = labels_of_faiss_graph(
        directions_of(embeddings), eps=eps, min_samples=min_samples, nearest=nearest, probes=probes, seed=seed
    )
    return _as_given(embeddings, labels_N)


def dbscan_jaccard(embeddings: Rows, *, eps: float = 0.6, min_samples: int = 4, k1: int = 30, k2: int = 6) -> Rows:
    """DBSCAN on the Jaccard distance of k-reciprocal neighbourhoods (Zhong et al., CVPR 2017), as SpCL clusters.

    The defaults are those of SpCL and ClusterContrast. `k1` rows make a neighbourhood, the row itself among them, and
    the neighbourhoods of the `k2` nearest rows are averaged. The nearest rows are exact: all pairs are multiplied once.
    Memory is linear in N. Pairs without a common neighbour, 1 apart, are never in reach, whatever eps is. Otherwise
    like `dbscan`.
    """
    refuse_settings(eps, min_samples)
    weights = reciprocal_weights(directions_of(embeddings), k1=k1, k2=k2)
    return _as_given(embeddings, labels_by_jaccard(weights, eps=eps, min_samples=min_samples))


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


def _as_given(embeddings: Rows, labels_N: torch.Tensor) -> Rows:
    if isinstance(embeddings, torch.Tensor):
        return labels_N.to(embeddings.device)
    return labels_N.cpu().numpy()
