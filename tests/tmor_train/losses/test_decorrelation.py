"""Feature decorrelation against plain loops, and what it pulls features to."""

import math
import statistics

import pytest
import torch

from tmor_train.losses.decorrelation import cross, decorrelation, spread


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.7


def columns(rows_BD: torch.Tensor) -> list[list[float]]:
    found: list[list[float]] = rows_BD.T.tolist()
    return found


def test_spread_against_a_loop() -> None:
    rows = drawn(6, 3, 0)
    own = columns(rows)
    hinge = [max(0.0, 1 - math.sqrt(statistics.variance(column) + 1e-4)) for column in own]
    off = [statistics.covariance(own[d], own[e]) ** 2 for d in range(3) for e in range(3) if d != e]
    assert float(spread(rows)) == pytest.approx(5 * sum(hinge) / 3 + sum(off) / 3)


def test_cross_against_a_loop() -> None:
    first, second = drawn(6, 3, 1), drawn(6, 3, 2)
    total = 0.0
    for d, one in enumerate(columns(first)):
        for e, other in enumerate(columns(second)):
            deviations = math.sqrt(statistics.variance(one) + 1e-4) * math.sqrt(statistics.variance(other) + 1e-4)
            c = statistics.covariance(one, other) * 5 / 6 / deviations
            total += (1 - c) ** 2 if d == e else 0.005 * c**2
    assert float(cross(first, second)) == pytest.approx(total)


def test_the_whole_loss_has_the_released_weights() -> None:
    first, second = drawn(6, 3, 1), drawn(6, 3, 2)
    agree = sum((a - b) ** 2 for a, b in zip(first.flatten().tolist(), second.flatten().tolist(), strict=True)) / 18
    wanted = 5 * agree + float(spread(first)) + float(spread(second)) + 0.001 * float(cross(first, second))
    assert float(decorrelation(first, second)) == pytest.approx(wanted)


def test_equal_rows_cost_more_than_different_ones() -> None:
    collapsed, good = torch.ones(64, 4, dtype=torch.float64), drawn(64, 4, 3) / 0.7
    assert float(decorrelation(collapsed, collapsed)) > 9 > 2 > float(decorrelation(good, good))


def test_one_row_or_two_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match="two samples"):
        decorrelation(drawn(1, 3, 0), drawn(1, 3, 0))
    with pytest.raises(ValueError, match="two views"):
        decorrelation(drawn(4, 3, 0), drawn(5, 3, 0))
