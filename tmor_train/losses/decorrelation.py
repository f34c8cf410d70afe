"""Feature decorrelation of two views, without negatives (USDRL: Weng et al., "USDRL: Unified Skeleton-Based Dense
Representation Learning with Multi-Grained Feature Decorrelation", AAAI 2025).

For samples z and z' of B rows and D columns, with the weights of their released code (``model/loss.py`` and
``pretrain.py``):

    L = 5 |z − z'|² / (BD)                                                      views agree
        + V(z) + V(z'),  V(z) = 5 mean_d max(0, 1 − std_d) + sum_{d≠e} cov_de² / D  columns vary, and differ (VICReg)
        + 0.001 ( sum_d (1 − c_dd)² + 0.005 sum_{d≠e} c_de² )                   of their correlation c (Barlow Twins)

USDRL has four views and sums the last term over their pairs, and applies L to what a transformer gives of a clip, of
its frames pooled and of its joints pooled. Here there are two views, and rows are feature frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

_AGREE, _DEVIATION, _CORRELATION, _OTHERS = 5.0, 5.0, 1e-3, 5e-3
_SMALL = 1e-4  # added to variances, as in their code


def decorrelation(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """L of two views' features, shape (), computed in float32 or float64.

    Raises:
        ValueError: there are fewer than two rows, of which no deviation is known, or shapes differ.
    """
    if first_BD.shape != second_BD.shape or len(first_BD) < 2:
        raise ValueError(
            f"two views of at least two samples are needed, not {tuple(first_BD.shape)} and {tuple(second_BD.shape)}"
        )
    agree = (first_BD - second_BD).square().mean()
    return _AGREE * agree + spread(first_BD) + spread(second_BD) + _CORRELATION * cross(first_BD, second_BD)


def spread(rows_BD: Tensor) -> Tensor:
    """V of one view, shape ()."""
    count, width = rows_BD.shape
    deviation_D = (rows_BD.var(0) + _SMALL).sqrt()
    centred_BD = rows_BD - rows_BD.mean(0)
    covariance_DD = centred_BD.T @ centred_BD / (count - 1)
    return _DEVIATION * (1 - deviation_D).relu().mean() + _off_diagonal(covariance_DD).square().sum() / width


def cross(first_BD: Tensor, second_BD: Tensor) -> Tensor:
    """The term of Barlow Twins, shape (), without its weight of 0.001."""
    standard = [(rows - rows.mean(0)) / (rows.var(0) + _SMALL).sqrt() for rows in (first_BD, second_BD)]
    correlation_DD = standard[0].T @ standard[1] / len(first_BD)
    on = (1 - correlation_DD.diagonal()).square().sum()
    return on + _OTHERS * _off_diagonal(correlation_DD).square().sum()


def _off_diagonal(matrix_DD: Tensor) -> Tensor:
    """The matrix with zeros on its diagonal."""
    return matrix_DD - torch.diag(matrix_DD.diagonal())
