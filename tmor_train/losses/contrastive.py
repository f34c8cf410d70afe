"""The three contrastive losses of the paper (Eqs. 1 to 8), each computed from unit vectors and masks, and these masks:
the sets P and N of Eqs. 2, 3, 7 and 8.

N anchors are compared with a pool of K candidates; masks (N, K) say which candidates are an anchor's positives P and
negatives N. The losses share the ratio of Eqs. 1 and 6, computed in float32 or float64 and without overflow, by
``masked_logsumexp``: log sum_P e^s and log sum_N e^s of all anchors from one product of matrices and two masks. Its
gradient is written by hand, because autograd would keep a matrix (N, K) for each operation; and exponents are clamped
rather than masked with -inf, because exp is slow on a CPU where its result is not a normal number. Measured as
``torch.full((1 << 19,), v).exp()`` in float32 on one x86-64 core: 0.3 ms for v of -5 or -80, 1.4 ms for -inf, 3.8 ms
for -200 and 21 ms for -95, whose result is subnormal.

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

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from tmor_train.data.loader import SPLITMIX
from tmor_train.encoder import Scale
from tmor_train.losses.queue import NOBODY, Entries
from tmor_train.objective_config import ObjectiveConfig, Reduction

LOWEST = -80.0
"""Least exponent that is computed: e^-80 times any number of candidates is negligible against 1 also in float64, and is
not a subnormal number in float32."""

BLOCK = 1 << 19
"""Elements of a matrix that a CPU works on at once, 2 MiB of float32, so that they fit its cache."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One loss and figures about it; all tensors of shape (), only ``loss`` with a gradient.

    ``anchors`` is the number of anchors that the loss is the mean of; where it is 0, the loss is 0 with gradient 0.
    ``positives`` and ``negatives`` are their mean |P| and |N|, after limits. ``without_negatives`` is the share, among
    the anchors that take part (``PairMasks.anchors_N``), of those that have no negative by the clusters: they are left
    out, or, where ``alone`` is 1 (no anchor had one), every anchor is contrasted with all other clips. ``floor`` is the
    mean of log(1 + sum_N / sum_P), a lower bound of the loss (equal to it where positives are combined ``inside``).
    ``collapsed`` is the loss that these sets would have if all embeddings were the same.
    """

    loss: Tensor
    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    without_negatives: Tensor
    alone: Tensor
    floor: Tensor
    collapsed: Tensor

    def values(self) -> dict[str, Tensor]:
        """All fields by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def detached(self) -> Term:
        """The same without gradient."""
        return replace(self, loss=self.loss.detach())


def contrast(anchors_ND: Tensor, pool_KD: Tensor, masks: PairMasks, *, scale: Scale, reduction: Reduction) -> Term:
    """The loss −E[log(S_align / (S_align + S_disc))], the mean over anchors that have positives and negatives.

    ``anchors_ND`` (N, D) and ``pool_KD`` (K, D) are unit vectors, float32 or float64; both get a gradient.

    With s = Sim of Eq. 4, the products of the unit vectors times ``scale`` = 1 / Temp, S_disc = sum_N e^s and

    * inside: S_align = sum_P e^s (Eq. 2);
    * mean_inside: S_align = sum_P e^s / |P|;
    * outside: −E[mean over p in P of log(e^s_p / (sum_P e^s + sum_N e^s))].
    """
    sums = masked_logsumexp(anchors_ND * scale, pool_KD, masks.positives_NK, masks.negatives_NK)
    counted_N = masks.anchors_N & (sums.positives_N > 0) & (sums.negatives_N > 0)
    # −log(S_align / (S_align + S_disc)) is softplus(log S_disc − log S_align); the gap is that of sum_P e^s, 0 for
    # anchors that do not count.
    gap_N = torch.where(counted_N, sums.log_negative_N - sums.log_positive_N, 0.0)
    floor_N = functional.softplus(gap_N)
    positives_N, negatives_N = sums.positives_N.to(gap_N.dtype), sums.negatives_N.to(gap_N.dtype)
    # |P| and |N| to divide by, 1 where there are none.
    some_positives_N, some_negatives_N = positives_N.clamp(min=1), negatives_N.clamp(min=1)
    if reduction == "inside":
        loss_N, collapsed_N = floor_N, (some_negatives_N / some_positives_N).log1p()
    elif reduction == "mean_inside":
        loss_N, collapsed_N = functional.softplus(gap_N + some_positives_N.log()), some_negatives_N.log1p()
    else:
        loss_N = sums.log_positive_N + floor_N - sums.sum_positive_N / some_positives_N
        collapsed_N = (some_positives_N + some_negatives_N).log()

    anchors = counted_N.sum()

    def mean(values_N: Tensor) -> Tensor:
        return torch.where(counted_N, values_N, 0.0).sum() / anchors.clamp(min=1)

    eligible = masks.anchors_N.sum().clamp(min=1)
    return Term(
        loss=mean(loss_N),
        anchors=anchors,
        positives=mean(positives_N),
        negatives=mean(negatives_N),
        without_negatives=masks.no_negatives_N.sum() / eligible,
        alone=masks.alone.to(gap_N.dtype),
        floor=mean(floor_N.detach()),
        collapsed=mean(collapsed_N),
    )


def frozen_contrast(
    anchors_ND: Tensor,
    frozen_KD: Tensor,
    motion_KD: Tensor,
    masks: PairMasks,
    *,
    own_N: Tensor,
    scale: Scale,
    config: ObjectiveConfig,
) -> Term:
    """The contrast of motion anchors with projected video or text vectors; with ``symmetric``, the mean of both
    directions.

    In the other direction the anchors are the frozen vectors at ``own_N``, the positions of the anchors' own clips in
    the pool. They are compared with motion: at ``own_N`` with ``anchors_ND``, which have a gradient, elsewhere with the
    keys ``motion_KD``. P and N are the same clips. All fields but ``loss`` are those of the first direction.

    Args:
        anchors_ND, frozen_KD, motion_KD: unit vectors.
        own_N: int64 (N,).
    """
    term = contrast(anchors_ND, frozen_KD, masks, scale=scale, reduction=config.positive_reduction)
    if config.symmetric == "off":
        return term
    online_KD = motion_KD.index_copy(0, own_N, anchors_ND)
    reverse = contrast(frozen_KD[own_N], online_KD, masks, scale=scale, reduction=config.positive_reduction)
    return replace(term, loss=(term.loss + reverse.loss) / 2)


def motion_motion(
    anchors_ND: Tensor, keys_KD: Tensor, relations: Relations, *, scale: Scale, config: ObjectiveConfig
) -> Term:
    """L_mm: a motion is like its augmented view and its cluster, unlike motions of other clusters (Eqs. 1 to 3).

    Eq. 1: L_mm = −E[log(S_align / (S_align + S_disc))], the mean over anchors sk, with

    S_align = sum over sk+ in P_sk of exp(Sim(E_M(sk), E_M(sk+))) (Eq. 2) and
    S_disc = sum over sk− in N_sk of exp(Sim(E_M(sk), E_M(sk−))) (Eq. 3).

    ``anchors_ND`` are phi(E_M(sk)) and ``keys_KD`` those of the pool, unit vectors both; ``scale`` is 1 / Temp.
    """
    masks = motion_masks(relations, config)
    return contrast(anchors_ND, keys_KD, masks, scale=scale, reduction=config.positive_reduction)


def motion_video(
    anchors_ND: Tensor,
    videos_KD: Tensor,
    keys_KD: Tensor,
    relations: Relations,
    *,
    scale: Scale,
    config: ObjectiveConfig,
) -> Term:
    """L_mv: a motion is like the video of its clip, and unlike the videos of other clusters (the text below Eq. 3).

    Eq. 1 with E_V(v) for E_M(sk+) and E_V(v−) for E_M(sk−): L_mv = −E[log(S_align / (S_align + S_disc))],

    S_align = exp(Sim(E_M(sk), E_V(v))), v the video of the same clip (of all clips in P_sk if ``mv_positives`` is
    "cluster"), and S_disc = sum over sk− in N_sk of exp(Sim(E_M(sk), E_V(v−))), v− the video of sk−.

    ``videos_KD`` are the projected videos and ``keys_KD`` the motion keys of the pool, unit vectors; ``scale`` is
    1 / Temp. An anchor without video is left out of the mean.
    """
    masks = video_masks(relations, config)
    return frozen_contrast(anchors_ND, videos_KD, keys_KD, masks, own_N=relations.own_N, scale=scale, config=config)


def motion_text(
    anchors_ND: Tensor,
    texts_KD: Tensor,
    keys_KD: Tensor,
    relations: Relations,
    *,
    scale: Scale,
    config: ObjectiveConfig,
) -> Term:
    """L_mt: a motion is like the sentence that describes it, and unlike sentences of other motions (Eqs. 6 to 8).

    Eq. 6: L_mt = −E[log(S_align / (S_align + S_disc))], the mean over anchors sk that have a text, with

    S_align = exp(Sim(E_M(sk), E_T(a))), a the text of the same clip (Eq. 7), and
    S_disc = sum over sk− in N_a of exp(Sim(E_M(sk), E_T(a−))), a− the text of sk− (Eq. 8).

    Eq. 8 sums over N_a, but the sentence below it draws from N_sk: by default sk− is of another cluster and a− is
    another sentence than a; ``mt_negatives`` selects the other readings. ``texts_KD`` are the projected texts and
    ``keys_KD`` the motion keys of the pool, unit vectors; ``scale`` is 1 / Temp.
    """
    masks = text_masks(relations, config)
    return frozen_contrast(anchors_ND, texts_KD, keys_KD, masks, own_N=relations.own_N, scale=scale, config=config)


class MaskedSums(NamedTuple):
    """For each anchor, (N,): log sum e^s over P and over N (0 for an empty set), the sum of s over P, and |P| and |N|
    as int32."""

    log_positive_N: Tensor
    log_negative_N: Tensor
    sum_positive_N: Tensor
    positives_N: Tensor
    negatives_N: Tensor


def masked_logsumexp(anchors_ND: Tensor, pool_KD: Tensor, positives_NK: Tensor, negatives_NK: Tensor) -> MaskedSums:
    """Sums over P and N of the similarities s (N, K), the products of ``anchors_ND`` and ``pool_KD``.

    Args:
        anchors_ND, pool_KD: float32 or float64, of one anchor or more; autocast is off, so nothing is computed in half
            precision.
        positives_NK, negatives_NK: bool masks of P and N, which have no candidate in common.
    """
    with torch.autocast(anchors_ND.device.type, enabled=False):
        apply = cast(Callable[..., tuple[Tensor, ...]], _MaskedLogSumExp.apply)
        return MaskedSums(*apply(anchors_ND, pool_KD, positives_NK, negatives_NK))


class _MaskedLogSumExp(torch.autograd.Function):
    """The five fields of :class:`MaskedSums`; the first three have a gradient, d log sum e^s / ds = e^s / sum e^s."""

    @staticmethod
    def forward(
        ctx: Any, anchors_ND: Tensor, pool_KD: Tensor, positives_NK: Tensor, negatives_NK: Tensor
    ) -> tuple[Tensor, ...]:
        s_NK = anchors_ND @ pool_KD.T
        blocks = []
        for rows in _blocks(s_NK):
            s, positive, negative = s_NK[rows], positives_NK[rows], negatives_NK[rows]
            blocks.append(
                (
                    _log_sum(s, positive),
                    _log_sum(s, negative),
                    torch.where(positive, s, 0.0).sum(1),
                    positive.sum(1, dtype=torch.int32),
                    negative.sum(1, dtype=torch.int32),
                )
            )
        sums = [torch.cat(parts) for parts in zip(*blocks, strict=True)]
        ctx.save_for_backward(anchors_ND, pool_KD, positives_NK, negatives_NK, s_NK, *sums[:2])
        ctx.mark_non_differentiable(*sums[3:])
        return tuple(sums)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        anchors_ND, pool_KD, positives_NK, negatives_NK, s_NK, log_positive_N, log_negative_N = ctx.saved_tensors
        by_log_positive_N, by_log_negative_N, by_sum_N = gradients[:3]
        by_s_NK = torch.empty_like(s_NK)
        for rows in _blocks(s_NK):
            positive, negative = positives_NK[rows], negatives_NK[rows]
            log_sum = torch.where(positive, log_positive_N[rows, None], log_negative_N[rows, None])
            share = (s_NK[rows] - log_sum).clamp_(LOWEST, 0.0).exp_()
            by_log = torch.where(negative, by_log_negative_N[rows, None], 0.0)
            by_log = torch.where(positive, by_log_positive_N[rows, None], by_log)
            by_s_NK[rows] = by_log.mul_(share).add_(torch.where(positive, by_sum_N[rows, None], 0.0))
        with torch.autocast(anchors_ND.device.type, enabled=False):
            by_anchors_ND = by_s_NK @ pool_KD if ctx.needs_input_grad[0] else None
            by_pool_KD = by_s_NK.T @ anchors_ND if ctx.needs_input_grad[1] else None
        return by_anchors_ND, by_pool_KD, None, None


def _log_sum(s: Tensor, members: Tensor) -> Tensor:
    """log sum e^s over the members of each row; 0 for a row without members."""
    top = torch.where(members, s, -torch.inf).amax(1)
    top = torch.where(top == -torch.inf, 0.0, top)
    shifted = (s - top[:, None]).clamp_(LOWEST, 0.0).exp_()
    # The largest member alone contributes 1, so the clamp to 1 changes only rows without members.
    return top + torch.where(members, shifted, 0.0).sum(1).clamp(min=1.0).log()


def _blocks(matrix_NK: Tensor) -> list[slice]:
    """Slices of rows that are computed together: all rows on a GPU, on a CPU as many as fit its cache."""
    rows, columns = matrix_NK.shape
    step = rows if matrix_NK.is_cuda else max(1, BLOCK // max(columns, 1))
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]


NOISE = -1
"""The label of a clip in no cluster."""

# Increment and multipliers of SplitMix64 as torch has them: signed 64-bit numbers, whose products wrap around.
GOLDEN, FIRST, SECOND = (number - 2**64 for number in SPLITMIX)
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
