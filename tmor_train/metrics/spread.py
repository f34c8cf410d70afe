"""How far a figure varies from seed to seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as students_t


@dataclass(frozen=True, slots=True)
class Spread:
    """The ``mean`` over seeds and half the width of its confidence interval, NaN where there is one seed only."""

    mean: float
    half_width: float


def spread(values: Sequence[float], *, confidence: float = 0.95) -> Spread:
    """Mean and confidence interval of a figure by Student's t, as few seeds ask for: t · s / √n, with s over n - 1.

    Raises:
        ValueError: no values, or a confidence that does not lie between 0 and 1.
    """
    if not len(values) or not 0 < confidence < 1:
        raise ValueError(f"{len(values)} values and a confidence of {confidence} have no interval")
    found = np.asarray(values, np.float64)
    if len(found) == 1:
        return Spread(float(found[0]), float("nan"))
    factor = float(students_t.ppf((1 + confidence) / 2, len(found) - 1))
    return Spread(float(found.mean()), factor * float(found.std(ddof=1)) / len(found) ** 0.5)


__all__ = ["Spread", "spread"]
