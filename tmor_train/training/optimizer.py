"""The optimiser and learning-rate schedule that configurations name, and one step of it for everything trained here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """``method`` is SGD or AdamW of torch. ``lr`` is the full learning rate; it is not scaled by the batch or the
    number of processes. ``momentum`` is used by ``sgd`` alone, with Nesterov's step, and ``betas`` by ``adamw`` alone.
    ``weight_decay`` is that of ``all`` parameters (as UNIK) or, with ``matrices``, only of those with two axes or more,
    which leaves out biases and normalisation; ``adamw`` decays apart from the gradient. ``clip`` bounds the L2 norm of
    the gradient of all parameters together; None: no bound. Rate, decay and momentum are UNIK's, ``betas`` torch's; the
    bound is our choice, against single batches whose gradient is far longer than all others'.

    Raises:
        ValueError: a number is out of its range.
    """

    method: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.1
    weight_decay: float = 1e-4
    decays: Literal["all", "matrices"] = "all"
    momentum: float = 0.9
    betas: tuple[float, ...] = (0.9, 0.999)
    clip: float | None = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.lr < math.inf or not 0 <= self.weight_decay < math.inf or not 0 <= self.momentum < 1:
            raise ValueError(
                f"lr is above 0, weight_decay at least 0 and momentum from 0 to below 1, "
                f"not {self.lr}, {self.weight_decay} and {self.momentum}"
            )
        if len(self.betas) != 2 or not (self.clip is None or self.clip > 0):
            raise ValueError(f"betas are two and clip is above 0 or none, not {self.betas} and {self.clip}")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """How the learning rate changes; see :func:`lr_ratio`.

    In each shape the rate first rises linearly over ``warmup`` epochs (a fraction is allowed) to the full rate; the
    first step already has a share of it. Then it falls along half a ``cosine`` to ``min_lr_ratio`` (a share of the full
    rate) at the end of training, or stays ``constant``, or in ``steps`` falls to a tenth after each of ``milestones``
    epochs. ``min_lr_ratio`` is used by ``cosine`` alone and ``milestones`` by ``steps`` alone. The shape and five
    epochs of warm-up are our choice, where the paper is silent: both are usual for contrastive pre-training.

    Raises:
        ValueError: ``warmup`` or ``min_lr_ratio`` is out of its range.
    """

    shape: Literal["cosine", "constant", "steps"] = "cosine"
    warmup: float = 5.0
    min_lr_ratio: float = 0.0
    milestones: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < math.inf or not 0 <= self.min_lr_ratio <= 1:
            raise ValueError(
                f"warmup is at least 0 and min_lr_ratio from 0 to 1, not {self.warmup} and {self.min_lr_ratio}"
            )


class NonFiniteError(ArithmeticError):
    """A loss or the norm of its gradient is NaN or infinite; the parameters were not changed."""


class Optimizer:
    """One or more groups of parameters, each with an optimiser of its own, that are stepped together.

    Args:
        groups: parameters, and their learning rate as a ratio of ``config.lr``. Groups without parameters are left out.
    """

    def __init__(self, config: OptimizerConfig, *groups: tuple[Sequence[nn.Parameter], float]) -> None:
        groups = tuple((parameters, ratio) for parameters, ratio in groups if parameters)
        self.config = config
        # Last group first: the gradient's norm has always been summed in this order, and rounds accordingly.
        self.parameters = [parameter for parameters, _ in reversed(groups) for parameter in parameters]
        self._optimizers = [(build_optimizer(config, parameters), ratio) for parameters, ratio in groups]

    def zero_grad(self, *, lr_ratio: float) -> None:
        """Drops the gradients and sets the next step's learning rate, as a ratio of the full one."""
        for optimizer, ratio in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr_ratio * ratio * self.config.lr
            optimizer.zero_grad(set_to_none=True)

    def step(self, loss: Tensor) -> tuple[float, float]:
        """Clips the gradient and moves the parameters; returns the loss and the gradient's norm before clipping.

        Raises:
            NonFiniteError: one of both is NaN or infinite; no parameter has changed.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip or math.inf)
        # Both numbers in one transfer: each would wait for the device.
        loss_number, norm_number = torch.stack([loss.detach().double(), norm.double()]).tolist()
        if not math.isfinite(loss_number) or not math.isfinite(norm_number):
            raise NonFiniteError(f"the loss is {loss_number} and its gradient's norm {norm_number}")
        for optimizer, _ in self._optimizers:
            optimizer.step()
        return loss_number, norm_number

    def state_dicts(self) -> list[dict[str, Any]]:
        """The state of each group's optimiser."""
        return [optimizer.state_dict() for optimizer, _ in self._optimizers]

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Resumes from the ``state_dicts`` of the same configuration and groups.

        Raises:
            ValueError: the number of groups, or of parameters in one, differs.
        """
        for (optimizer, _), state in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(dict(state))


def build_optimizer(config: OptimizerConfig, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """torch's optimiser of ``parameters``, in groups by whether they decay; its learning rate is ``config.lr``."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        decays = config.decays == "all" or parameter.dim() > 1
        groups.setdefault(config.weight_decay if decays else 0.0, []).append(parameter)
    settings = [{"params": some, "weight_decay": decay} for decay, some in groups.items()]
    if config.method == "adamw":
        first, second = config.betas
        return torch.optim.AdamW(settings, lr=config.lr, betas=(first, second))
    return torch.optim.SGD(settings, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)


def lr_ratio(step: int, config: ScheduleConfig, *, steps_per_epoch: int, epochs: int) -> float:
    """The share of the full learning rate at ``step``, counted from 0 over all epochs. A function of the step, without
    state.

    Args:
        steps_per_epoch: steps of the optimiser; epochs of ``config`` are converted to steps with it.
        epochs: the length of training, at whose end, one step after the last, ``cosine`` is at its lowest.
    """
    warm, total = config.warmup * steps_per_epoch, epochs * steps_per_epoch
    if step + 1 < warm:
        return (step + 1) / warm
    if config.shape == "steps":
        return float(0.1 ** sum(step >= epoch * steps_per_epoch for epoch in config.milestones))
    if config.shape == "constant":
        return 1.0
    done = min((step - warm) / max(total - warm, 1), 1.0) if step > warm else 0.0
    return config.min_lr_ratio + (1 - config.min_lr_ratio) * (1 + math.cos(math.pi * done)) / 2
