"""The ratio of Eqs. 1 and 6 from unit vectors and masks, in float32 or wider and without overflow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from tmor_train.encoder.projection import Scale
from tmor_train.losses.candidates import Candidates
from tmor_train.losses.masked_sums import masked_sums
from tmor_train.objective_config import ObjectiveConfig, Reduction


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """One loss and what it was made of; all tensors of shape (), only ``loss`` with a gradient.

    ``anchors`` are those the loss is the mean of; without any it is 0 with gradient 0. ``positives`` and ``negatives``
    are their mean |P| and |N|. ``without_negatives`` is the share of anchors that had none by the clusters: they were
    left out, or, where ``alone`` is 1, all were contrasted with every other clip. ``floor`` is the mean of
    log(1 + sum_N / sum_P), which bounds the loss from below (and is the loss where positives are summed inside).
    ``collapsed`` is the loss these sets would have if all embeddings were the same.
    """

    loss: Tensor
    anchors: Tensor
    positives: Tensor
    negatives: Tensor
    without_negatives: Tensor
    alone: Tensor
    floor: Tensor
    collapsed: Tensor

    def detached(self) -> Term:
        """The same without gradient."""
        return replace(self, loss=self.loss.detach())


def contrast(anchors_ND: Tensor, pool_KD: Tensor, who: Candidates, *, scale: Scale, reduction: Reduction) -> Term:
    """−E[log(S_align / (S_align + S_disc))] over the anchors that have positives and negatives.

    With s = Sim of Eq. 4, the products of the unit vectors times ``scale`` = 1 / Temp, S_disc = sum_N e^s and

    * inside: S_align = sum_P e^s (Eq. 2);
    * mean_inside: S_align = sum_P e^s / |P|;
    * outside: −E[mean over p in P of log(e^s_p / (sum_P e^s + sum_N e^s))].
    """
    sums = masked_sums(anchors_ND * scale, pool_KD, who.positives_NK, who.negatives_NK)
    counted_N = who.anchors_N & (sums.positives_N > 0) & (sums.negatives_N > 0)
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

    eligible = who.anchors_N.sum().clamp(min=1)
    return Term(
        loss=mean(loss_N),
        anchors=anchors,
        positives=mean(positives_N),
        negatives=mean(negatives_N),
        without_negatives=who.lonely_N.sum() / eligible,
        alone=who.alone.to(gap_N.dtype),
        floor=mean(floor_N.detach()),
        collapsed=mean(collapsed_N),
    )


def frozen_contrast(
    anchors_ND: Tensor,
    frozen_KD: Tensor,
    motion_KD: Tensor,
    who: Candidates,
    *,
    own_N: Tensor,
    scale: Scale,
    config: ObjectiveConfig,
) -> Term:
    """Motion anchors against projected frozen vectors; if ``symmetric``, half of the loss the other way round.

    The other way, the frozen vectors at ``own_N`` are compared with motion: with the anchors themselves, which have
    gradient, at ``own_N`` and with the keys ``motion_KD`` elsewhere. P and N are the same clips. The figures are those
    of the first way.
    """
    term = contrast(anchors_ND, frozen_KD, who, scale=scale, reduction=config.positive_reduction)
    if config.symmetric == "off":
        return term
    live_KD = motion_KD.index_copy(0, own_N, anchors_ND)
    back = contrast(frozen_KD[own_N], live_KD, who, scale=scale, reduction=config.positive_reduction)
    return replace(term, loss=(term.loss + back.loss) / 2)
