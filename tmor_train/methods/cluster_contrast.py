"""ClusterContrast (Dai et al., "Cluster Contrast for Unsupervised Person Re-Identification", ACCV 2022), for skeletons.

Each cluster has a centroid, the unit vector c_k. The loss makes a clip's feature q, a unit vector, similar to the
centroid of its cluster (Eq. 4):

    L_q = -log(exp(q · c_+ / τ) / Σ_k exp(q · c_k / τ)),    τ = 0.05

After each clustering c_k is the mean of its cluster's features; then each q of a step moves it (Eq. 6): c_k becomes
m c_k + (1 - m) q, scaled to unit length. Noise is in no loss until the next clustering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from tmor_train.backbones import FEATURES
from tmor_train.data.batch import MotionBatch
from tmor_train.encoder import Projection
from tmor_train.losses.queue import Entries
from tmor_train.methods.base import Method, MethodContext, MethodOutput, MethodSettings, StepContext


@dataclass(frozen=True, kw_only=True)
class ClusterContrast(MethodSettings):
    """The settings of ClusterContrast.

    ``momentum`` is the weight m of a centroid's earlier value, 0.1 as in the authors' scripts (0.2 where their
    program is not told). ``update`` says which
    features of a step update it: ``each`` of its cluster, one after the other, or only the ``hardest``, the one of
    least cosine (the authors' CM-hard).

    The temperature is ``objective.temperature_mm``; centroids have the width of what is clustered, so
    ``objective.motion_head`` must be ``identity``, ``objective.width`` 256 and ``objective.keys`` ``same``. Nothing
    else of ``objective`` is used but ``momentum``, for the EMA encoder: noise is always left out. The losses are for
    one view, ``views.positive``.

    Raises:
        ValueError: ``momentum`` is out of its range.
    """

    momentum: float = 0.1
    update: Literal["each", "hardest"] = "each"

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is at least 0 and below 1, not {self.momentum}")

    def method(self, context: MethodContext) -> Method:
        return CentroidContrast(self, context)


class CentroidContrast(Method):
    """The module of ClusterContrast, with the centroids (K, 256) as the buffer ``centroids_KD``; each clustering
    changes their number.

    Before the first clustering, and after one that found no cluster, every clip is a cluster of its own: its centroid
    is its own feature, or zeros, which are left out of the loss, as long as none is known.

    Raises:
        ValueError: the objective has a head other than identity, or an EMA encoder for keys.
    """

    def __init__(self, config: ClusterContrast, context: MethodContext) -> None:
        super().__init__()
        objective = context.objective
        if objective.motion_head != "identity" or objective.keys != "same":
            raise ValueError(
                "ClusterContrast compares features with means of features, by the trained encoder alone; set "
                f"objective.motion_head=identity objective.width={FEATURES} objective.keys=same"
            )
        self.config, self.scale = config, 1 / objective.temperature_mm
        self.motion_head = Projection("identity", FEATURES, objective.width)
        self.gather, self._view = context.gather, context.positive
        self._cluster_of: Tensor | None = None  # of the last batch, for after_step
        self.register_buffer("centroids_KD", torch.zeros(context.clips, FEATURES))
        self.centroids_KD: Tensor

    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """L_q of a batch, and the share of its clips that are in it."""
        features_ND = step.features(step.view(batch, self._view))
        queries_ND = self.motion_head(features_ND)
        self._cluster_of = step.cluster_of
        target_N = batch.index_N if step.cluster_of is None else step.cluster_of[batch.index_N]
        loss, kept = centroid_contrast(queries_ND, self.centroids_KD, target_N, scale=self.scale)
        fresh, _ = self.gather(Entries.of_motion(queries_ND.detach(), batch.index_N))
        terms = {"cc/loss": loss, "cc/kept": kept}
        return MethodOutput(
            total=loss,
            terms=terms,
            features_ND=features_ND,
            keys_ND=features_ND,
            fresh=(fresh,),
        )

    @torch.no_grad()
    def after_step(self, fresh: Sequence[Entries]) -> None:
        """Eq. 6 for all features of the step."""
        index_B = fresh[0].index_K
        target_B = index_B if self._cluster_of is None else self._cluster_of[index_B]
        update_centroids(
            self.centroids_KD, fresh[0].motion_KD, target_B, momentum=self.config.momentum, update=self.config.update
        )

    @torch.no_grad()
    def after_clustering(self, embeddings_KD: Tensor, labels_K: Tensor) -> None:
        """The clusters' means are the new centroids."""
        units_KD = functional.normalize(embeddings_KD.float(), dim=1)
        own_K = labels_K if bool((labels_K >= 0).any()) else torch.arange(len(labels_K), device=labels_K.device)
        self.centroids_KD = cluster_means(units_KD, own_K)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: object) -> None:
        saved = state_dict.get(f"{prefix}centroids_KD")
        if saved is not None and saved.dim() == 2 and saved.shape[1] == FEATURES:  # as many as there were clusters
            self.centroids_KD = self.centroids_KD.new_zeros(saved.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest)


def cluster_means(units_ND: Tensor, labels_N: Tensor) -> Tensor:
    """The mean of each cluster's unit vectors as a unit vector, (K, D); labels are 0 to K - 1, -1 is left out."""
    kept = labels_N >= 0
    sums_KD = units_ND.new_zeros(int(labels_N.max()) + 1, units_ND.shape[1])
    sums_KD.index_add_(0, labels_N[kept], units_ND[kept])
    return functional.normalize(sums_KD, dim=1)


def centroid_contrast(
    queries_ND: Tensor, centroids_KD: Tensor, target_N: Tensor, *, scale: float
) -> tuple[Tensor, Tensor]:
    """The loss of Eq. 4, the mean over queries that have a known target centroid, and the share of these queries.

    Args:
        queries_ND: unit vectors.
        centroids_KD: unit vectors, or zeros for a centroid that is not known yet, which is no candidate.
        target_N: index of each query's centroid, int64; -1 for none.
        scale: 1 / temperature.

    Returns:
        Two tensors of shape (). Without any such query the loss is 0 with gradient 0.
    """
    known_K = centroids_KD.any(1)
    kept_N = (target_N >= 0) & known_K[target_N.clamp(min=0)]
    logits_NK = (scale * queries_ND @ centroids_KD.T).masked_fill(~known_K, -torch.inf)
    if not bool(kept_N.any()):
        return 0.0 * queries_ND.sum(), kept_N.float().mean()
    return functional.cross_entropy(logits_NK[kept_N], target_N[kept_N]), kept_N.float().mean()


def update_centroids(
    centroids_KD: Tensor, queries_BD: Tensor, target_B: Tensor, *, momentum: float, update: Literal["each", "hardest"]
) -> None:
    """Updates centroids in place by Eq. 6, from each query in turn or only from the hardest query of each centroid.

    A centroid of zeros, not known yet, becomes its first query. ``target_B`` int64 is each query's centroid, -1 for
    none.
    """
    units_BD = functional.normalize(queries_BD.to(centroids_KD.dtype), dim=1)
    rows = range(len(target_B))
    targets = target_B.tolist()
    if update == "hardest":
        alike = (units_BD * centroids_KD[target_B.clamp(min=0)]).sum(1).tolist()
        hardest: dict[int, int] = {}
        for row in rows:
            best = hardest.get(targets[row])
            if best is None or alike[row] < alike[best]:
                hardest[targets[row]] = row
        rows_moved: Sequence[int] = sorted(hardest.values())
    else:
        rows_moved = rows
    for row in rows_moved:
        if (target := targets[row]) >= 0:
            mixed_D = momentum * centroids_KD[target] + (1 - momentum) * units_BD[row]
            centroids_KD[target] = functional.normalize(mixed_D, dim=0)
