"""log sum_P e^s and log sum_N e^s of all anchors: one product of matrices and two masks, with its gradient.

Written out because of what the parts would cost. Each operation on (N, K) would leave another matrix of that size for
the gradient, and exp of what is masked with a large negative number is ten times as slow on a CPU as of small numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

# exp of this times any number of candidates is nothing beside 1 in float64 too, and no subnormal number in float32.
NOTHING = -80.0
# Numbers of a block that a CPU works on at once: they fit its cache.
BLOCK = 1 << 19


class Sums(NamedTuple):
    """Of each anchor, (N,): log sum e^s over P and over N (0 for an empty set), sum of s over P, |P| and |N|."""

    log_positive_N: Tensor
    log_negative_N: Tensor
    sum_positive_N: Tensor
    positives_N: Tensor
    negatives_N: Tensor


def masked_sums(anchors_ND: Tensor, pool_KD: Tensor, positives_NK: Tensor, negatives_NK: Tensor) -> Sums:
    """Sums of the similarities s = ``anchors_ND`` · ``pool_KD``, never in half precision; P and N are disjoint."""
    with torch.autocast(anchors_ND.device.type, enabled=False):
        apply = cast(Callable[..., tuple[Tensor, ...]], _MaskedSums.apply)
        return Sums(*apply(anchors_ND, pool_KD, positives_NK, negatives_NK))


class _MaskedSums(torch.autograd.Function):
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
            share = (s_NK[rows] - top).clamp_(NOTHING, 0.0).exp_()
            by_log = torch.where(negative, by_log_negative_N[rows, None], 0.0)
            by_log = torch.where(positive, by_log_positive_N[rows, None], by_log)
            by_s_NK[rows] = by_log.mul_(share).add_(torch.where(positive, by_sum_N[rows, None], 0.0))
        with torch.autocast(anchors_ND.device.type, enabled=False):
            by_anchors_ND = by_s_NK @ pool_KD if ctx.needs_input_grad[0] else None
            by_pool_KD = by_s_NK.T @ anchors_ND if ctx.needs_input_grad[1] else None
        return by_anchors_ND, by_pool_KD, None, None


def _log_sum(s: Tensor, members: Tensor) -> Tensor:
    """log sum e^s over the members of each row, 0 for a row without. The largest member adds 1 to the shifted sum."""
    top = torch.where(members, s, -torch.inf).amax(1)
    top = torch.where(top == -torch.inf, 0.0, top)
    shifted = (s - top[:, None]).clamp_(NOTHING, 0.0).exp_()
    return top + torch.where(members, shifted, 0.0).sum(1).clamp(min=1.0).log()


def _blocks(matrix_NK: Tensor) -> list[slice]:
    """Rows that are worked on together: all on a GPU, on a CPU what fits its cache."""
    rows, columns = matrix_NK.shape
    step = rows if matrix_NK.is_cuda else max(1, BLOCK // max(columns, 1))
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]
