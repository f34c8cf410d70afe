"""The three contrastive losses of the paper (Eqs. 1 to 8), each computed from unit vectors and masks.

N anchors are compared with a pool of K candidates; masks (N, K) say which candidates are an anchor's positives P and
negatives N (:mod:`tmor_train.losses.pair_masks`). The losses share the ratio of Eqs. 1 and 6, computed in float32 or
float64 and without overflow, by ``masked_logsumexp``: log sum_P e^s and log sum_N e^s of all anchors from one product
of matrices and two masks. Its gradient is written by hand, because autograd would keep a matrix (N, K) for each
operation; and exponents are clamped rather than masked with -inf, because exp is slow on a CPU where its result is not
a normal number. Measured as ``torch.full((1 << 19,), v).exp()`` in float32 on one x86-64 core: 0.3 ms for v of -5 or
-80, 1.4 ms for -inf, 3.8 ms for -200 and 21 ms for -95, whose result is subnormal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional

from tmor_train.encoder import Scale
from tmor_train.losses.pair_masks import PairMasks, Relations, motion_masks, text_masks, video_masks
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
    gap_N = torch.where(counted_N, sums.log_negative_N - sums.log_positive_N, 0.0)
    floor_N = functional.softplus(gap_N)
    positives_N, negatives_N = sums.positives_N.to(gap_N.dtype), sums.negatives_N.to(gap_N.dtype)
    size_P, size_N = positives_N.clamp(min=1), negatives_N.clamp(min=1)
    if reduction == "inside":
        loss_N, collapsed_N = floor_N, (size_N / size_P).log1p()
    elif reduction == "mean_inside":
        loss_N, collapsed_N = functional.softplus(gap_N + size_P.log()), size_N.log1p()
    else:
        loss_N = sums.log_positive_N + floor_N - sums.sum_positive_N / size_P
        collapsed_N = (size_P + size_N).log()

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
            top = torch.where(positive, log_positive_N[rows, None], log_negative_N[rows, None])
            share = (s_NK[rows] - top).clamp_(LOWEST, 0.0).exp_()
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
