"""Deciding most pairs by a few of their dimensions.

Split unit vectors by an orthonormal basis: x = (p, q) with p in K leading directions and q in the rest. Then
|x · y − p_x · p_y| ≤ |q_x| |q_y| (Cauchy–Schwarz). Where embeddings nearly fill K of their D dimensions, a product of
K + 1 numbers decides nearly all pairs for certain, and only the others are measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tmor_train.clustering.blocks import Products, reaching
from tmor_train.clustering.directions import Directions

SHARES = (1 / 4, 1 / 8, 1 / 16)
TRIED_BLOCKS = 6
TRIED_ROWS = 512
SAMPLED = 2048
# Costs are in products of a whole block: of going over the scores, of measuring one pair beside multiplying it, and
# the most that still is a gain.
OVERHEAD = 0.1
MEASURING = 500.0
WORTH = 0.85


class Screening:
    """Rows cut to K leading coordinates and, last, the length of the rest: products are upper bounds of cosines."""

    def __init__(self, quick_ND: torch.Tensor, basis_DK: torch.Tensor, eps: float, *, side: int) -> None:
        dimensions, kept = basis_DK.shape
        # Rounding moves a leading part by at most `slip`; the length of the rest is taken so much longer that the
        # product stays a bound.
        slip = 2 * (dimensions + 8) * kept**0.5 * 2.0**-24
        short_NK = quick_ND.new_empty(len(quick_ND), kept + 1)
        short_NK[:, :kept] = quick_ND @ basis_DK.to(quick_ND.dtype)
        energy_N = torch.linalg.vector_norm(short_NK[:, :kept], dim=1).square()
        self._rest_N = (1.0 - energy_N + 4 * slip).clamp_min(0.0).sqrt()
        short_NK[:, kept] = self._rest_N
        self._products = Products(short_NK, side=side)
        self._lowest, self._surest = 1.0 - eps - 4 * slip, 1.0 - eps + 4 * slip

    def candidates(
        self, left_L: torch.Tensor, right_R: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Pairs (left, right) that may be within eps, and which of them surely are."""
        bounds_LR = self._products(left_L, right_R)
        row_P, column_P = reaching(bounds_LR, self._lowest)
        left_P, right_P = left_L[row_P], right_R[column_P]
        lower_P = bounds_LR[row_P, column_P] - 2.0 * self._rest_N[left_P] * self._rest_N[right_P]
        return left_P, right_P, lower_P >= self._surest


def screening_for(directions: Directions, eps: float, pairs: Sequence[tuple[slice, slice]]) -> Screening | None:
    """The screening that saves most on a few of these pairs of blocks; None where none pays, and on a GPU."""
    side = max(left.stop - left.start for left, _ in pairs) if pairs else 0
    apart = [(left, right) for left, right in pairs if left != right and left.stop - left.start == side]
    if directions.quick_ND.dtype != torch.float32 or len(apart) < 4 * TRIED_BLOCKS:
        return None
    tried = apart[:: len(apart) // TRIED_BLOCKS][:TRIED_BLOCKS]
    basis_DD = _leading(directions.quick_ND)
    best, best_cost = 0, WORTH
    for share in SHARES:  # fewer dimensions leave more pairs open: the cost falls, then climbs
        kept = max(1, round(share * len(basis_DD)))
        left_open = [_left_open(directions.quick_ND, basis_DD[:, :kept], eps, pair) for pair in tried]
        cost = OVERHEAD + kept / len(basis_DD) + MEASURING * sum(left_open) / len(tried)
        if cost >= best_cost:
            break
        best, best_cost = kept, cost
    return Screening(directions.quick_ND, basis_DD[:, :best], eps, side=side) if best else None


def _leading(quick_ND: torch.Tensor) -> torch.Tensor:
    """Directions of decreasing energy, in columns, from rows spread over all of them."""
    sample_SD = quick_ND[:: max(1, len(quick_ND) // SAMPLED)].double()
    basis_DD: torch.Tensor = torch.linalg.eigh(sample_SD.T @ sample_SD)[1]
    return basis_DD.flip(1)


def _left_open(quick_ND: torch.Tensor, basis_DK: torch.Tensor, eps: float, pair: tuple[slice, slice]) -> float:
    """Share of a block's pairs that screening leaves to be measured, judged by rows spread over each side."""
    left_LD, right_RD = (quick_ND[block][:: -(-(block.stop - block.start) // TRIED_ROWS)] for block in pair)
    screening = Screening(torch.cat([left_LD, right_RD]), basis_DK, eps, side=max(len(left_LD), len(right_RD)))
    both = torch.arange(len(left_LD) + len(right_RD))
    _, _, sure_P = screening.candidates(both[: len(left_LD)], both[len(left_LD) :])
    return int((~sure_P).sum()) / (len(left_LD) * len(right_RD))
