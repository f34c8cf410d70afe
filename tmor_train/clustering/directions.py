"""Embeddings as directions: cosine distances in float64, and a faster copy whose error is bounded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

Precision = Literal["single", "half"]
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True)
class Directions:
    """Rows to compare by angle.

    rows_ND as given (float32 or float64), norms_N float64, quick_ND unit vectors in float32 or float16. A product of
    two rows of quick_ND differs from the cosine of the given rows by less than `margin`, however it is summed.
    """

    rows_ND: torch.Tensor
    norms_N: torch.Tensor
    quick_ND: torch.Tensor
    margin: float

    def distances(self, left_P: torch.Tensor, right_P: torch.Tensor) -> torch.Tensor:
        """Cosine distance of each pair of rows in float64, clipped to [0, 2]."""
        left_PD = self.rows_ND[left_P].double() / self.norms_N[left_P, None]
        right_PD = self.rows_ND[right_P].double() / self.norms_N[right_P, None]
        return (1.0 - (left_PD * right_PD).sum(1)).clamp(0.0, 2.0)

    def taken(self, order_N: torch.Tensor) -> Directions:
        """The same rows in another order, or some of them."""
        return Directions(self.rows_ND[order_N], self.norms_N[order_N], self.quick_ND[order_N], self.margin)


def directions_of(embeddings: np.ndarray | torch.Tensor, *, precision: Precision | None = None) -> Directions:
    """Directions of N×D real numbers. Half precision is the default on a GPU, where it is several times faster.

    Raises ValueError for another shape, for numbers that are not finite and for rows of zeros, which have no direction.
    """
    rows_ND = torch.as_tensor(embeddings).detach()
    if rows_ND.ndim != 2 or not rows_ND.shape[1]:
        raise ValueError(f"embeddings have shape {tuple(rows_ND.shape)}; clustering wants (rows, dimensions)")
    if rows_ND.is_complex():
        raise ValueError("embeddings are complex numbers; clustering wants real ones")
    if rows_ND.dtype not in (torch.float32, torch.float64):
        rows_ND = rows_ND.float() if rows_ND.is_floating_point() else rows_ND.double()
    precision = precision or ("half" if rows_ND.is_cuda else "single")
    norms_N = torch.empty(len(rows_ND), dtype=torch.float64, device=rows_ND.device)
    quick_ND = torch.empty(rows_ND.shape, dtype=_DTYPES[precision], device=rows_ND.device)
    for start in range(0, len(rows_ND), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        some_ND = rows_ND[some].double()
        norms_N[some] = torch.linalg.vector_norm(some_ND, dim=1)
        quick_ND[some] = some_ND / norms_N[some, None]
    _refuse(norms_N)
    return Directions(rows_ND, norms_N, quick_ND, _margin(precision, rows_ND.shape[1]))


_DTYPES: dict[Precision, torch.dtype] = {"single": torch.float32, "half": torch.float16}


def _margin(precision: Precision, dimensions: int) -> float:
    """Bound on the error of a product of two unit vectors of so many dimensions.

    Rounding both vectors costs two units in the last place; adding D products in float32, in any order, D more
    (Higham, Accuracy and Stability of Numerical Algorithms, §3.1). Half precision also rounds the result, may add
    partial sums in half, compares in half and has coarser smallest numbers: eight units cover that. Tensor cores cut
    instead of rounding while they add, hence the factor 4.
    """
    if precision == "single":
        return (dimensions + 8) * 2.0**-24
    return 8 * 2.0**-11 + 4 * dimensions * 2.0**-24


def _refuse(norms_N: torch.Tensor) -> None:
    broken = torch.nonzero(~torch.isfinite(norms_N)).flatten()
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(norms_N)} embeddings are not finite or too long to measure (first: row "
            f"{int(broken[0])}); look for the step that made them, leave those rows out, or scale them down"
        )
    without = torch.nonzero(norms_N == 0).flatten()
    if len(without):
        raise ValueError(
            f"{len(without)} of {len(norms_N)} embeddings are zero and have no direction (first: row "
            f"{int(without[0])}); leave those rows out"
        )
