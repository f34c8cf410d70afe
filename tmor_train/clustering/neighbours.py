"""Pairs of rows within a cosine distance, one block of the distance matrix at a time, never the matrix."""

from __future__ import annotations

import torch

from tmor_train.clustering.blocks import Products, reaching, runs
from tmor_train.clustering.directions import Directions
from tmor_train.clustering.screening import Screening

MEASURED_AT_ONCE = 8192


class Neighbours:
    """Finds pairs with distance ≤ eps, decided in float64.

    A quick product decides pairs further from eps than its error; the few others are measured.
    """

    def __init__(self, directions: Directions, eps: float, *, side: int, screening: Screening | None) -> None:
        self._directions = directions
        self._eps = eps
        self._products = Products(directions.quick_ND, side=side)
        self._screening = screening

    def between(self, left_L: torch.Tensor, right_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Row numbers (left, right) of all such pairs from two ascending lists of rows."""
        candidates = self._screening.candidates if self._screening else self._candidates
        left_P, right_P, near_P = candidates(left_L, right_R)
        doubtful_P = torch.nonzero(~near_P).flatten()
        for run in runs(len(doubtful_P), MEASURED_AT_ONCE):
            some = doubtful_P[run]
            near_P[some] = self._directions.distances(left_P[some], right_P[some]) <= self._eps
        return left_P[near_P], right_P[near_P]

    def _candidates(
        self, left_L: torch.Tensor, right_R: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        margin = self._directions.margin
        scores_LR = self._products(left_L, right_R)
        row_P, column_P = reaching(scores_LR, 1.0 - self._eps - margin)
        sure_P = scores_LR[row_P, column_P] >= 1.0 - self._eps + margin
        return left_L[row_P], right_R[column_P], sure_P
