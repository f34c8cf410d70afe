"""The learning rate of each step: a warm-up, then half a cosine. It is a function of the step and has no state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """``warmup`` epochs rise evenly from nothing to the full rate. Then the rate falls along half a ``cosine`` to
    ``floor`` (a share of the full rate) at the last step, or stays ``constant``, or falls to a tenth at each of
    ``drops`` (epochs) in ``steps``."""

    shape: Literal["cosine", "constant", "steps"] = "cosine"
    warmup: float = 5.0
    floor: float = 0.0
    drops: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.warmup < 0 or not 0 <= self.floor <= 1:
            raise ValueError(f"warmup is at least 0 and floor from 0 to 1, not {self.warmup} and {self.floor}")


def rate_at(step: int, config: ScheduleConfig, *, steps_per_epoch: int, epochs: int) -> float:
    """The share of the full learning rate at ``step``, counted from 0."""
    warm, total = config.warmup * steps_per_epoch, epochs * steps_per_epoch
    if step + 1 < warm:
        return (step + 1) / warm
    if config.shape == "steps":
        return float(0.1 ** sum(step >= drop * steps_per_epoch for drop in config.drops))
    if config.shape == "constant":
        return 1.0
    done = min((step - warm) / max(total - warm, 1), 1.0) if step > warm else 0.0
    return config.floor + (1 - config.floor) * (1 + math.cos(math.pi * done)) / 2


__all__ = ["ScheduleConfig", "rate_at"]
