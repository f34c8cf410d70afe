"""The positives and negatives of each anchor, the sets P and N of Eqs. 2, 3, 7 and 8, as masks.

Candidates are the keys of the batch (the fresh ones) and those of the queue or memory bank (older ones). Whatever the
options: the fresh key of an anchor's own clip is a positive; an older key of the same clip is never a negative; no
candidate is both; a candidate that ``max_positives`` leaves out of P does not thereby become a negative. Where none of
the anchors that are related at once (one batch of one process) has a negative in a loss (all candidates are in one
cluster, for example), that loss ignores clusters for this batch and takes each clip for a cluster of its own, because a
loss without negatives is 0 for a collapsed encoder too.

Limited sets are sampled without a generator: members are ordered by a hash of the seed, the step and the two clips. So
a resumed run draws the same sample as an uninterrupted one, on any device and for any order of the candidates, except
among several keys of one clip, whose hashes are equal: which of them are taken depends on order and device.
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

# Increment and multipliers of SplitMix64 as signed 64-bit numbers, whose products wrap around.
GOLDEN, FIRST, SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685
LARGEST_HASH = 2**63 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Relations:
    """What N anchors have in common with K candidates; bool masks, (N, K) for pairs, except for ``own_N`` and the
    hashes.

    ``own_N`` int64 is the position of the fresh candidate of an anchor's own clip; ``own_NK`` marks it. ``copy_NK``
    marks all candidates of the same clip, the own one included, ``same_cluster_NK`` those of the same cluster (none for
    noise), ``same_text_NK`` those with the same sentence (or, like the anchor, with none). ``filled_K`` is False for
    empty slots of the queue or memory bank. ``dropped_N`` and ``dropped_K`` are noise where the configuration drops
    noise. ``has_video_*`` and ``has_text_*`` say who has such a vector. ``hashes_NK`` int64 orders the sample where a
    set is limited, else None.
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
    """P and N of N anchors among K candidates as masks, ``positives_NK`` and ``negatives_NK`` bool, and which anchors
    take part in the loss.

    ``anchors_N`` bool are the anchors that have what the loss compares (a video, a text) and are not dropped as noise.
    ``no_negatives_N`` bool are those of them that have no negative by the clusters. ``alone`` bool of shape () says
    that this holds for all of them, so that this loss ignored clusters for this batch; it is also True where there are
    none (no clip has a text, or all are dropped).
    """

    positives_NK: Tensor
    negatives_NK: Tensor
    anchors_N: Tensor
    no_negatives_N: Tensor
    alone: Tensor


def relate(
    pool: Entries, anchors: range, *, cluster_of: Tensor | None, step: Tensor, config: ObjectiveConfig
) -> Relations:
    """The relations of some clips of a pool to all of it.

    Args:
        pool: the candidates, fresh and older ones.
        anchors: positions of the anchors' own fresh keys in the pool, a range of step 1.
        cluster_of: the cluster of each clip of the dataset, int64, −1 for noise; None before the first clustering and
            while the last one found no cluster. Each clip is then a cluster of its own, and none is dropped as noise.
        step: int64 of shape (), which step of training this is; random samples depend on it.
        config: of which only ``noise``, the limits and their ``seed`` matter here.
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
    sampling = config.max_positives is not None or config.num_negatives is not None
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
        hashes_NK=pair_hashes(index_K[rows], index_K, step=step, seed=config.seed) if sampling else None,
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
    """The masks of a loss.

    Args:
        anchors_N: anchors that have what the loss compares; pool_K: candidates that have it.
        positives_NK: positives whatever the clusters are.
        same_cluster: what candidates of the anchor's cluster are: positives, negatives, or neither (``aside``).
        excluded_NK: candidates that are not negatives.
    """
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
        # The clip's own fresh key is taken first, then its older keys; hashes are at least 0.
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
    """A hash of each pair of clips in this step: (N, K) int64, uniform from 0 to 2^63 - 1."""
    anchor_N = _hashed(_hashed(index_N + step * GOLDEN) + seed)
    candidate_K = _hashed(index_K * GOLDEN)
    return _hashed(anchor_N[:, None] ^ candidate_K) & LARGEST_HASH


def sample_members(members_NK: Tensor, hashes_NK: Tensor, most: int) -> Tensor:
    """The bool mask (N, K) with only the ``most`` members of lowest hash in each row of ``members_NK``; all where there
    are fewer. Of hashes only their order matters; they are at most 2^63 - 1."""
    if most >= members_NK.shape[1]:
        return members_NK
    lowest = hashes_NK.masked_fill(~members_NK, LARGEST_HASH).topk(most, dim=1, largest=False, sorted=False).indices
    return torch.zeros_like(members_NK).scatter(1, lowest, True) & members_NK


def _hashed(x: Tensor) -> Tensor:
    for multiplier, shift in ((FIRST, 30), (SECOND, 27)):
        # Python's >> and torch's keep the sign; the mask makes the shift a logical one.
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * multiplier
    return x ^ ((x >> 31) & ((1 << 33) - 1))
