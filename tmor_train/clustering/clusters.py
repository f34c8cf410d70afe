"""Clusters the embeddings of an epoch by DBSCAN with a radius taken from the data, and tries other radii where the
result is one dominating cluster or nearly all noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import comb, inf, log
from typing import Literal

import numpy as np
import torch

from tmor_train.clustering.dbscan import check_nearest, check_settings, labels_exact, labels_faiss, labels_near_cells
from tmor_train.clustering.neighbours import UnitVectors, adaptive_eps, normalize

Metric = Literal["cosine", "jaccard"]
Failure = Literal["too_few_clusters", "one_cluster_dominates", "nearly_all_noise"]
"""Why a clustering is of no use; the limits are those of :class:`ClusterConfig`."""
# Fields of Clustering that are logged.
_LOGGED = ("clusters", "noise_share", "largest_share", "mean_size", "eps", "tries")
Labels = np.ndarray[tuple[int], np.dtype[np.int64]]

SHRINK, GROW = 0.9, 1.1
"""Factors of eps from one try to the next; our choices: small steps, as DBSCAN may turn from noise into one cluster
within a few."""

FARTHEST = {"cosine": 2.0, "jaccard": 1.0}
"""Largest distance of each metric."""

EPS_OF_JACCARD = 0.6
"""As in SpCL and ClusterContrast."""
EXACT_ON_CPU = 150_000
"""Rows up to which all pairs are compared on a CPU, which takes minutes; ten times as many would take hours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig:
    """How to cluster. Settings of a metric, eps or search that is not chosen are not used.

    `eps` is the radius of DBSCAN, a distance (`metric` "cosine": 0 to 2, "jaccard": 0 to 1), or "auto". With cosine
    distances, "auto" is the `quantile` (0 to 1) over `sample` random rows of the distance to the `min_samples`-th
    nearest other row; from the second clustering on, `eps_momentum` (0 to 1) is the weight of the eps that the one
    before ended with, and the new one has the rest. With Jaccard distances (of neighbourhoods of `k1` rows, averaged
    over `k2`, the row itself among both) "auto" is 0.6, as in SpCL and ClusterContrast. `min_samples` neighbours within
    eps make a core point, which counts itself as one of them.

    `search` is how neighbours are found. "auto" is "exact" for Jaccard distances, on a GPU, and up to 150,000 rows on a
    CPU, else "near_cells", which compares each cell of about `rows_per_cell` rows with its `probes` nearest cells;
    "faiss", on the CPU, uses a graph of the `nearest` rows that faiss finds in `probes` of its lists. `seed` is that of
    the sampled rows and of the cells or lists.

    Where one cluster has more than `largest_share` of all points, more than `noise_share` of them are noise, or there
    are fewer than two clusters, clustering is repeated with another eps, a fixed one too, at most `tries` times after
    the first.

    ``min_samples``, ``k1`` and ``k2`` are SpCL's; the other numbers are our choices, of which no measurement is
    kept.

    Raises:
        ValueError: a number is out of its range, or Jaccard distances are to be searched by cells or faiss.
    """

    metric: Metric = "cosine"
    eps: float | Literal["auto"] = "auto"
    min_samples: int = 4
    k1: int = 30
    k2: int = 6
    quantile: float = 0.85
    sample: int = 5000
    eps_momentum: float = 0.5
    search: Literal["auto", "exact", "near_cells", "faiss"] = "auto"
    probes: int = 32
    nearest: int = 32
    rows_per_cell: int = 1024
    largest_share: float = 0.5
    noise_share: float = 0.95
    tries: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        check_settings(1.0 if self.eps == "auto" else self.eps, self.min_samples)
        for name in ("k1", "k2", "sample", "probes", "nearest", "rows_per_cell"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is at least 1")
        for name in ("quantile", "eps_momentum"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it is from 0 to 1")
        for name in ("largest_share", "noise_share", "tries"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it is at least 0")
        if self.search == "faiss":
            check_nearest(self.nearest, self.min_samples)
        if self.metric == "jaccard" and self.search not in ("auto", "exact"):
            raise ValueError(f"the Jaccard distance has no search {self.search!r}; set search to auto or exact")


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What the next clustering needs of this one: the eps of its labels, and the labels, int64 (N,), −1 for noise.

    After one that failed, eps is the one that it began with and all labels are −1. Both are None before the first
    clustering.
    """

    eps: float | None = None
    labels_N: Labels | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clustering:
    """The result of a clustering: labels int64 (N,) from 0, −1 for noise, the eps they were made with, and metrics.

    `clusters` is their number. `noise_share` and `largest_share` (of the largest cluster) are shares of all points;
    `mean_size` is the mean number of points of a cluster, noise not counted; `tries` is the number of repetitions, 0
    where the first eps served. Where the last try failed too, `failure` says how, all labels are −1 and `fell_back` is
    True: in this epoch each clip is a cluster of its own. `eps` and the metrics are then those of the last try. `state`
    is for the next clustering."""

    labels_N: Labels
    eps: float
    clusters: int
    noise_share: float
    largest_share: float
    mean_size: float
    tries: int = 0
    failure: Failure | None = None
    state: ClusterState

    @property
    def fell_back(self) -> bool:
        """Whether this epoch goes on without clusters."""
        return self.failure is not None

    def metrics(self, *, known_N: Labels | None = None, before: ClusterState | None = None) -> dict[str, float | None]:
        """Numbers to log, as JSON values.

        Agreement (ARI and NMI) is with known labels (−1: unknown, left out) and with the labels of the previous
        clustering; None where there are none. A noise point counts as a class of its own, on both sides.

        Args:
            known_N: int64 classes of the same N points.
            before: the state that :func:`cluster` was given, not that of this result.
        """
        earlier_N = before.labels_N if before else None
        return {
            **{name: getattr(self, name) for name in _LOGGED},
            "fell_back": int(self.fell_back),
            **_agreement("labels", self.labels_N, known_N),
            **_agreement("previous", self.labels_N, None if earlier_N is None else noise_as_singletons(earlier_N)),
        }


def cluster(
    embeddings: np.ndarray | torch.Tensor, config: ClusterConfig, state: ClusterState | None = None
) -> Clustering:
    """Clusters N×D embeddings, N at least 1 (2 where eps is "auto"), repeatedly if a result is unusable.

    After a failure eps shrinks by a tenth (one cluster dominates, or the only one has most of the points) or grows by a
    tenth up to the largest distance (otherwise); once one eps that is too small and one that is too large are known,
    the next is their geometric mean.

    Args:
        embeddings: of any length but 0; only their directions count.
        state: `Clustering.state` of the previous clustering; None for the first. Only its eps is used.

    Raises:
        ValueError: embeddings are too few, zero or not finite.
        FaissMissingError: `search` is "faiss", which is not installed.
    """
    vectors = normalize(embeddings)
    if not len(vectors.norms_N):
        raise ValueError("there are no embeddings to cluster")
    labels_at = _clusterer(vectors, config)
    first = _first_eps(vectors, config, state or ClusterState())
    eps, too_small, too_large = first, 0.0, inf
    for tries in range(config.tries + 1):
        found = _summarized(labels_at(eps=eps).cpu().numpy(), eps=eps, tries=tries)
        failure = _failure(found, config)
        if failure is None:
            return found
        # Where `largest_share` lets one cluster have all points, there are too few clusters because eps is too large.
        if failure == "one_cluster_dominates" or (failure == "too_few_clusters" and found.largest_share > 0.5):
            too_large, eps = eps, SHRINK * eps
        else:
            too_small, eps = eps, min(GROW * eps, FARTHEST[config.metric])
        if too_small > 0 and too_large < inf:
            eps = (too_small * too_large) ** 0.5
    alone_N = np.full_like(found.labels_N, -1)
    return replace(found, labels_N=alone_N, failure=failure, state=ClusterState(first, alone_N))


def _first_eps(vectors: UnitVectors, config: ClusterConfig, state: ClusterState) -> float:
    """The eps of the first try, as :class:`ClusterConfig` says."""
    if config.eps != "auto":
        return config.eps
    if config.metric == "jaccard":
        return EPS_OF_JACCARD
    now = adaptive_eps(
        vectors,
        min_samples=config.min_samples,
        quantile=config.quantile,
        sample=config.sample,
        seed=config.seed,
    )
    if state.eps is None:
        return now
    return config.eps_momentum * state.eps + (1.0 - config.eps_momentum) * now


def _clusterer(vectors: UnitVectors, config: ClusterConfig) -> Callable[..., torch.Tensor]:
    """A function of ``eps`` that returns labels; what does not depend on eps is computed once, here."""
    large = vectors.norms_N.device.type == "cpu" and len(vectors.norms_N) > EXACT_ON_CPU
    if config.metric == "jaccard":
        from tmor_train.clustering.jaccard import labels_jaccard, reciprocal_weights  # needs scipy

        labels_of = partial(labels_jaccard, reciprocal_weights(vectors, k1=config.k1, k2=config.k2))
    elif config.search == "faiss":
        labels_of = partial(labels_faiss, vectors, nearest=config.nearest, probes=config.probes, seed=config.seed)
    elif config.search == "near_cells" or (config.search == "auto" and large):
        labels_of = partial(
            labels_near_cells, vectors, rows_per_cell=config.rows_per_cell, probes=config.probes, seed=config.seed
        )
    else:
        labels_of = partial(labels_exact, vectors)
    return partial(labels_of, min_samples=config.min_samples)


def _summarized(labels_N: Labels, *, eps: float, tries: int) -> Clustering:
    """Labels (N,) with their metrics."""
    sizes_K = np.bincount(labels_N[labels_N >= 0])
    return Clustering(
        labels_N=labels_N,
        eps=eps,
        clusters=len(sizes_K),
        noise_share=float((labels_N < 0).mean()),
        largest_share=float(sizes_K.max(initial=0) / len(labels_N)),
        mean_size=float(sizes_K.mean()) if len(sizes_K) else 0.0,
        tries=tries,
        state=ClusterState(eps, labels_N),
    )


def _failure(found: Clustering, config: ClusterConfig) -> Failure | None:
    """Why a result is unusable; None where it is not."""
    if found.largest_share > config.largest_share:
        return "one_cluster_dominates"
    if found.noise_share > config.noise_share:
        return "nearly_all_noise"
    return "too_few_clusters" if found.clusters < 2 else None


def _agreement(name: str, labels_N: Labels, others_N: Labels | None) -> dict[str, float | None]:
    """ARI and NMI of labels with others that are called ``name``; None for others that are not known."""
    ari, nmi = f"ari_{name}", f"nmi_{name}"
    if others_N is None or not (others_N >= 0).any():
        return {ari: None, nmi: None}
    known = others_N >= 0
    ours = noise_as_singletons(labels_N)[known]
    return {
        ari: adjusted_rand_score(ours, others_N[known]),
        nmi: normalized_mutual_info_score(ours, others_N[known]),
    }


# Agreement as scikit-learn's functions of the same names give it; scikit-learn is not among what training installs.


def adjusted_rand_score(one_N: np.ndarray, other_N: np.ndarray) -> float:
    """1 for the same partition, about 0 for independent ones (Hubert and Arabie, 1985, equation 5)."""
    cells, one_sizes, other_sizes = _contingency(one_N, other_N)
    together, pairs = _pairs(cells), comb(len(one_N), 2)
    by_one, by_other = _pairs(one_sizes), _pairs(other_sizes)
    # Both sides are multiplied by twice the number of pairs, so that all are integers and exact for millions of points.
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
    """Labels with a class of its own for each noise point (−1), numbered on from the largest label."""
    noise_N = labels_N < 0
    alone_N = labels_N.copy()
    alone_N[noise_N] = labels_N.max(initial=-1) + 1 + np.arange(noise_N.sum())
    return alone_N


def _contingency(one_N: np.ndarray, other_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes of the cells that are not empty, of the classes of one and of those of the other; ValueError for labels of
    different numbers of points."""
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
