"""The optimizers of a new head on an encoder: its own learning rate, clipped gradients, only finite steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tmor_train.training.optimizer import OptimizerConfig, optimizer_of, set_rate


class HeadOptimizer:
    """Steps of a head, whose learning rate is ``head_rate`` times that of the trunk, and of a trunk that may be frozen.

    Args:
        trunk: those of its parameters that are trained; none where it stays as it is.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        *,
        head: Iterable[nn.Parameter],
        trunk: Iterable[nn.Parameter],
        head_rate: float,
    ) -> None:
        self._config = config
        head, trunk = list(head), list(trunk)
        self.parameters = [*trunk, *head]
        self._optimizers = [(optimizer_of(config, head), head_rate)]
        if trunk:
            self._optimizers.append((optimizer_of(config, trunk), 1.0))

    def start_step(self, rate: float) -> None:
        """Set the learning rates to ``rate``, the schedule's share, of the configured one, and clear the gradients."""
        for optimizer, share in self._optimizers:
            set_rate(optimizer, rate * share * self._config.rate)
            optimizer.zero_grad(set_to_none=True)

    def step(self, loss: Tensor) -> None:
        """Change all parameters by the gradient of ``loss``, clipped.

        Raises:
            ArithmeticError: the loss or its gradient is NaN or infinite; no weight has changed.
        """
        torch.autograd.backward(loss)
        norm = nn.utils.clip_grad_norm_(self.parameters, self._config.clip or math.inf)
        if not torch.isfinite(loss.detach() + norm):
            raise ArithmeticError(f"the loss is {float(loss.detach())} and its gradient's norm {float(norm)}")
        for optimizer, _ in self._optimizers:
            optimizer.step()

    def state_dict(self) -> list[dict[str, Any]]:
        """That of the head's optimizer and, where it is trained, of the trunk's."""
        return [optimizer.state_dict() for optimizer, _ in self._optimizers]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Continue from a :meth:`state_dict` of the same configuration."""
        for (optimizer, _), known in zip(self._optimizers, states, strict=True):
            optimizer.load_state_dict(known)


__all__ = ["HeadOptimizer"]
