"""The optimiser that a configuration names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """``rate`` is the full learning rate of a batch as configured; nothing scales it in secret. SGD has ``momentum``,
    with Nesterov's step. ``decay`` is the weight decay, of ``all`` parameters (as UNIK) or only of those with two axes
    or more, which leaves out biases and normalisation. ``clip`` bounds the norm of the whole gradient; none: no bound.
    """

    method: Literal["sgd", "adamw"] = "sgd"
    rate: float = 0.1
    decay: float = 1e-4
    decays: Literal["all", "matrices"] = "all"
    momentum: float = 0.9
    betas: tuple[float, ...] = (0.9, 0.999)
    clip: float | None = 5.0

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.decay < 0 or not 0 <= self.momentum < 1:
            raise ValueError(
                f"rate is above 0, decay at least 0 and momentum from 0 to below 1, "
                f"not {self.rate}, {self.decay} and {self.momentum}"
            )
        if len(self.betas) != 2 or (self.clip is not None and self.clip <= 0):
            raise ValueError(f"betas are two and clip is above 0 or none, not {self.betas} and {self.clip}")


def optimizer_of(config: OptimizerConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """An optimiser of ``parameters``, in groups by whether they decay."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        decays = config.decays == "all" or parameter.dim() > 1
        groups.setdefault(config.decay if decays else 0.0, []).append(parameter)
    settings = [{"params": some, "weight_decay": decay} for decay, some in groups.items()]
    if config.method == "adamw":
        first, second = config.betas
        return torch.optim.AdamW(settings, lr=config.rate, betas=(first, second))
    return torch.optim.SGD(settings, lr=config.rate, momentum=config.momentum, nesterov=config.momentum > 0)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


__all__ = ["OptimizerConfig", "optimizer_of", "set_rate"]
