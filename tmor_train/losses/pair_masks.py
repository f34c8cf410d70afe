"""The positives and negatives of each anchor, the sets P and N of Eqs. 2, 3, 7 and 8, as masks.

Rules under every option: an anchor's own fresh candidate is positive; an older key of the same clip is never negative;
none is positive and negative; who is left out of P by a bound is not thereby in N. Where no anchor of a step has a
negative (one cluster holds all candidates, say), clusters are left aside in that step and each clip stands for itself,
because a loss without negatives is 0 for a collapsed encoder too.

Bounded sets are sampled without a generator: the order is a hash of the seed, the step and the two clips. So a resumed
run samples what the first would have, on any device, and the order of the candidates does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tmor_train.losses.queue import NOBODY, Entries
from tmor_train.objective_config import ObjectiveConfig

NOISE = -1
"""The label of a clip in no cluster."""

# The multipliers of splitmix64 as signed 64-bit numbers; products wrap around.
GOLDEN, FIRST, SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685
LARGEST_HASH = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Relations:
    """How N anchors stand to K candidates: bool masks, N × K for pairs.

    ``own_N`` is the position of an anchor's own fresh candidate and ``own_NK`` marks it; ``copy_NK`` marks all
    candidates of the same clip, ``same_cluster_NK`` of the same cluster, ``same_text_NK`` of the same sentence.
    ``dropped`` are noise where noise is dropped. ``hashes_NK``, where sets are bounded, order the sample.
    """

    own_N: Tensor
    own_NK: Tensor
    copy_NK: Tensor
    same_cluster_NK: Tensor
    same_text_NK: Tensor
    filled_K: Tensor
    dropped_N: Tensor
    dropped_K: Tensor
    has_video_N: Tensor
    has_video_K: Tensor
    has_text_N: Tensor
    has_text_K: Tensor
    hashes_NK: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairMasks:
    """P and N as masks (N, K), the anchors a loss is for, and what became of empty negative sets.

    ``anchors_N`` are those that have what the loss compares and take part. ``no_negatives_N`` are those among them that
    have no negative by the clusters; ``alone``, of shape (), says that none had and that clusters were left aside.
    """

    positives_NK: Tensor
    negatives_NK: Tensor
    anchors_N: Tensor
    no_negatives_N: Tensor
    alone: Tensor


def relate(
    pool: Entries, anchors: range, *, cluster_of: Tensor | None, step: Tensor, config: ObjectiveConfig
) -> Relations:
    """How the clips at the positions ``anchors`` of the pool, a range of step 1, stand to all of the pool.

    ``cluster_of`` is int64 over the whole dataset, −1 for noise, or None before the first clustering; ``step`` an int64
    of shape () that samples depend on.
    """
    rows = slice(anchors.start, anchors.stop)
    index_K, text_id_K = pool.index_K, pool.text_id_K
    filled_K = index_K != NOBODY
    if cluster_of is None:
        label_K = torch.full_like(index_K, NOISE)
    else:
        label_K = torch.where(filled_K, cluster_of[index_K.clamp(min=0)], NOISE)
    clustered_K = label_K != NOISE
    dropping = config.noise == "drop" and cluster_of is not None
    dropped_K = ~clustered_K if dropping else torch.zeros_like(clustered_K)
    own_N = torch.arange(anchors.start, anchors.stop, device=index_K.device)
    has_video_K, has_text_K = pool.has_video_K & filled_K, pool.has_text_K & filled_K
    bounds = config.max_positives is not None or config.num_negatives is not None
    return Relations(
        own_N=own_N,
        own_NK=torch.arange(len(index_K), device=index_K.device) == own_N[:, None],
        copy_NK=index_K[rows, None] == index_K,
        same_cluster_NK=(label_K[rows, None] == label_K) & clustered_K[rows, None],
        same_text_NK=text_id_K[rows, None] == text_id_K,
        filled_K=filled_K,
        dropped_N=dropped_K[rows],
        dropped_K=dropped_K,
        has_video_N=has_video_K[rows],
        has_video_K=has_video_K,
        has_text_N=has_text_K[rows],
        has_text_K=has_text_K,
        hashes_NK=pair_hashes(index_K[rows], index_K, step=step, seed=config.seed) if bounds else None,
    )


def motion_masks(of: Relations, config: ObjectiveConfig) -> PairMasks:
    """Eqs. 2 and 3: P = the augmented view, older keys of the clip, its cluster; N = clips of other clusters."""
    return _masks(
        of,
        config,
        anchors_N=torch.ones_like(of.has_video_N),
        pool_K=of.filled_K,
        positives_NK=of.own_NK | of.copy_NK if config.own_copies == "positive" else of.own_NK,
        same_cluster="positive",
    )


def video_masks(of: Relations, config: ObjectiveConfig) -> PairMasks:
    """Eqs. 2 and 3 with E_V: P = the own video, or the cluster's too; N = videos of clips of other clusters."""
    return _masks(
        of,
        config,
        anchors_N=of.has_video_N,
        pool_K=of.has_video_K,
        positives_NK=of.own_NK,
        same_cluster="positive" if config.mv_positives == "cluster" else "aside",
    )


def text_masks(of: Relations, config: ObjectiveConfig) -> PairMasks:
    """Eqs. 7 and 8: P = the own text, or the cluster's too; N = texts of other clusters, other texts, both, or all."""
    same_cluster: Literal["negative", "aside"] = "negative" if config.mt_negatives in ("text", "all") else "aside"
    return _masks(
        of,
        config,
        anchors_N=of.has_text_N,
        pool_K=of.has_text_K,
        positives_NK=of.own_NK,
        same_cluster="positive" if config.mt_positives == "cluster" else same_cluster,
        excluded_NK=of.same_text_NK if config.mt_negatives in ("text", "both") else None,
    )


def _masks(
    of: Relations,
    config: ObjectiveConfig,
    *,
    anchors_N: Tensor,
    pool_K: Tensor,
    positives_NK: Tensor,
    same_cluster: Literal["positive", "negative", "aside"],
    excluded_NK: Tensor | None = None,
) -> PairMasks:
    """``positives_NK`` is P, the rest of ``pool_K`` is N, except for the same cluster and ``excluded_NK``."""
    others_NK = pool_K & ~of.copy_NK
    if excluded_NK is not None:
        others_NK = others_NK & ~excluded_NK
    negatives_NK = others_NK & ~of.dropped_K
    if same_cluster != "negative":
        negatives_NK = negatives_NK & ~of.same_cluster_NK
    eligible_N = anchors_N & ~of.dropped_N
    has_negatives_N = eligible_N & negatives_NK.any(1)
    alone = ~has_negatives_N.any()
    if same_cluster == "positive":
        positives_NK = positives_NK | (of.same_cluster_NK & (pool_K & ~alone) & ~of.copy_NK)
    negatives_NK = torch.where(alone, others_NK, negatives_NK)
    if of.hashes_NK is not None and config.max_positives is not None:
        # The own view is sampled before all, then older keys of the clip.
        early_NK = of.hashes_NK.masked_fill(of.copy_NK, -1).masked_fill(of.own_NK, -2)
        positives_NK = sample_members(positives_NK, early_NK, config.max_positives)
    if of.hashes_NK is not None and config.num_negatives is not None:
        negatives_NK = sample_members(negatives_NK, of.hashes_NK, config.num_negatives)
    return PairMasks(
        positives_NK=positives_NK,
        negatives_NK=negatives_NK,
        anchors_N=torch.where(alone, anchors_N, eligible_N),
        no_negatives_N=eligible_N & ~has_negatives_N,
        alone=alone,
    )


def pair_hashes(index_N: Tensor, index_K: Tensor, *, step: Tensor, seed: int) -> Tensor:
    """Hashes (N, K) of all pairs of clips in this step, int64 and not negative, as good as uniform."""
    anchor_N = _hashed(_hashed(index_N + step * GOLDEN) + seed)
    candidate_K = _hashed(index_K * GOLDEN)
    return _hashed(anchor_N[:, None] ^ candidate_K) & LARGEST_HASH


def sample_members(members_NK: Tensor, hashes_NK: Tensor, most: int) -> Tensor:
    """Of each row of ``members_NK`` the ``most`` members with the lowest hashes, or all if there are fewer."""
    if most >= members_NK.shape[1]:
        return members_NK
    lowest = hashes_NK.masked_fill(~members_NK, LARGEST_HASH).topk(most, dim=1, largest=False, sorted=False).indices
    return torch.zeros_like(members_NK).scatter(1, lowest, True) & members_NK


def _hashed(x: Tensor) -> Tensor:
    for multiplier, shift in ((FIRST, 30), (SECOND, 27)):
        # Python's >> and torch's keep the sign; the mask makes the shift a logical one.
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * multiplier
    return x ^ ((x >> 31) & ((1 << 33) - 1))
