"""Who is a positive of an anchor and who a negative: the sets P and N of Eqs. 2, 3, 7 and 8, as masks.

Rules under every option: an anchor's own fresh candidate is positive; an older key of the same clip is never negative;
none is positive and negative; who is left out of P by a bound is not thereby in N. Where no anchor of a step has a
negative (one cluster holds all candidates, say), clusters are left aside in that step and each clip stands for itself,
because a loss without negatives is 0 for a collapsed encoder too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tmor_train.losses.lottery import chosen, tickets
from tmor_train.losses.memory import NOBODY, Entries
from tmor_train.objective_config import ObjectiveConfig

NOISE = -1
"""The label of a clip in no cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relations:
    """How N anchors stand to K candidates: bool masks, N × K for pairs.

    ``own_N`` is the place of an anchor's own fresh candidate and ``own_NK`` marks it; ``copy_NK`` marks all candidates
    of the same clip, ``mates_NK`` of the same cluster, ``same_text_NK`` of the same sentence. ``left_out`` are noise
    where noise is dropped. ``tickets_NK``, where sets are bounded, order the draw.
    """

    own_N: Tensor
    own_NK: Tensor
    copy_NK: Tensor
    mates_NK: Tensor
    same_text_NK: Tensor
    there_K: Tensor
    left_out_N: Tensor
    left_out_K: Tensor
    has_video_N: Tensor
    has_video_K: Tensor
    has_text_N: Tensor
    has_text_K: Tensor
    tickets_NK: Tensor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """P and N as masks (N, K), the anchors a loss is for, and what became of empty negative sets.

    ``anchors_N`` are those that have what the loss compares and take part. ``lonely_N`` are those among them without a
    negative by the clusters; ``alone``, of shape (), says that all were and that clusters were left aside.
    """

    positives_NK: Tensor
    negatives_NK: Tensor
    anchors_N: Tensor
    lonely_N: Tensor
    alone: Tensor


def relations_of(
    pool: Entries, anchors: range, *, cluster_of: Tensor | None, step: Tensor, config: ObjectiveConfig
) -> Relations:
    """How the clips at the places ``anchors`` of the pool, a range of step 1, stand to all of the pool.

    ``cluster_of`` is int64 over the whole dataset, −1 for noise, or None before the first clustering; ``step`` an int64
    of shape () that draws depend on.
    """
    rows = slice(anchors.start, anchors.stop)
    index_K, text_id_K = pool.index_K, pool.text_id_K
    there_K = index_K != NOBODY
    if cluster_of is None:
        label_K = torch.full_like(index_K, NOISE)
    else:
        label_K = torch.where(there_K, cluster_of[index_K.clamp(min=0)], NOISE)
    clustered_K = label_K != NOISE
    dropping = config.noise == "drop" and cluster_of is not None
    left_out_K = ~clustered_K if dropping else torch.zeros_like(clustered_K)
    own_N = torch.arange(anchors.start, anchors.stop, device=index_K.device)
    has_video_K, has_text_K = pool.has_video_K & there_K, pool.has_text_K & there_K
    bounds = config.max_positives is not None or config.num_negatives is not None
    return Relations(
        own_N=own_N,
        own_NK=torch.arange(len(index_K), device=index_K.device) == own_N[:, None],
        copy_NK=index_K[rows, None] == index_K,
        mates_NK=(label_K[rows, None] == label_K) & clustered_K[rows, None],
        same_text_NK=text_id_K[rows, None] == text_id_K,
        there_K=there_K,
        left_out_N=left_out_K[rows],
        left_out_K=left_out_K,
        has_video_N=has_video_K[rows],
        has_video_K=has_video_K,
        has_text_N=has_text_K[rows],
        has_text_K=has_text_K,
        tickets_NK=tickets(index_K[rows], index_K, step=step, seed=config.seed) if bounds else None,
    )


def motion_candidates(of: Relations, config: ObjectiveConfig) -> Candidates:
    """Eqs. 2 and 3: P = the augmented view, older keys of the clip, its cluster; N = clips of other clusters."""
    return _candidates(
        of,
        config,
        anchors_N=torch.ones_like(of.has_video_N),
        pool_K=of.there_K,
        surely_NK=of.own_NK | of.copy_NK if config.own_copies == "positive" else of.own_NK,
        mates="positive",
    )


def video_candidates(of: Relations, config: ObjectiveConfig) -> Candidates:
    """Eqs. 2 and 3 with E_V: P = the own video, or the cluster's too; N = videos of clips of other clusters."""
    return _candidates(
        of,
        config,
        anchors_N=of.has_video_N,
        pool_K=of.has_video_K,
        surely_NK=of.own_NK,
        mates="positive" if config.mv_positives == "cluster" else "aside",
    )


def text_candidates(of: Relations, config: ObjectiveConfig) -> Candidates:
    """Eqs. 7 and 8: P = the own text, or the cluster's too; N = texts of other clusters, other texts, both, or all."""
    mates: Literal["negative", "aside"] = "negative" if config.mt_negatives in ("text", "all") else "aside"
    return _candidates(
        of,
        config,
        anchors_N=of.has_text_N,
        pool_K=of.has_text_K,
        surely_NK=of.own_NK,
        mates="positive" if config.mt_positives == "cluster" else mates,
        barred_NK=of.same_text_NK if config.mt_negatives in ("text", "both") else None,
    )


def _candidates(
    of: Relations,
    config: ObjectiveConfig,
    *,
    anchors_N: Tensor,
    pool_K: Tensor,
    surely_NK: Tensor,
    mates: Literal["positive", "negative", "aside"],
    barred_NK: Tensor | None = None,
) -> Candidates:
    """``surely_NK`` is P and the rest of ``pool_K`` is N, but for cluster mates and ``barred_NK``."""
    others_NK = pool_K & ~of.copy_NK
    if barred_NK is not None:
        others_NK = others_NK & ~barred_NK
    rivals_NK = others_NK & ~of.left_out_K
    if mates != "negative":
        rivals_NK = rivals_NK & ~of.mates_NK
    takers_N = anchors_N & ~of.left_out_N
    rivalled_N = takers_N & rivals_NK.any(1)
    alone = ~rivalled_N.any()
    positives_NK = surely_NK
    if mates == "positive":
        positives_NK = surely_NK | (of.mates_NK & (pool_K & ~alone) & ~of.copy_NK)
    negatives_NK = torch.where(alone, others_NK, rivals_NK)
    if of.tickets_NK is not None and config.max_positives is not None:
        # The own view is drawn before all, then older keys of the clip.
        early_NK = of.tickets_NK.masked_fill(of.copy_NK, -1).masked_fill(of.own_NK, -2)
        positives_NK = chosen(positives_NK, early_NK, config.max_positives)
    if of.tickets_NK is not None and config.num_negatives is not None:
        negatives_NK = chosen(negatives_NK, of.tickets_NK, config.num_negatives)
    return Candidates(
        positives_NK=positives_NK,
        negatives_NK=negatives_NK,
        anchors_N=torch.where(alone, anchors_N, takers_N),
        lonely_N=takers_N & ~rivalled_N,
        alone=alone,
    )
