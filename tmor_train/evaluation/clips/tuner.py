"""A network that is trained to name the class of each clip: a step of it, and its state.

Everything drawn at random is a function of seed and step, so that a run that goes on from a checkpoint does what the
first would have done, to the last bit on a CPU.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tmor_train.backbones import FEATURES, Backbone
from tmor_train.data import MotionBatch
from tmor_train.evaluation.clips.config import TuneConfig
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.training.device import autocast_of
from tmor_train.training.learner import seed_of
from tmor_train.training.optimizer import optimizer_of, set_rate

_HEAD, _DROPOUT, _VIEWS = 0, 1, 2
_HEAD_DEVIATION = 0.01


class Tuner:
    """A copy of an encoder with a new head, and all that changes as it is trained."""

    def __init__(self, encoder: Pretrained, config: TuneConfig, *, classes: int, seed: int) -> None:
        self.encoder, self.config, self.seed = encoder, config, seed
        network = copy.deepcopy(encoder.network).requires_grad_(config.trains == "all")
        torch.manual_seed(seed_of(seed, _HEAD))
        network.fc = nn.Linear(FEATURES, classes).to(encoder.device)
        nn.init.normal_(network.fc.weight, 0, _HEAD_DEVIATION)
        nn.init.zeros_(network.fc.bias)
        self.network: Backbone = network
        head = list(network.fc.parameters())
        trunk = [p for name, p in network.named_parameters() if p.requires_grad and not name.startswith("fc.")]
        self.parameters = [*trunk, *head]
        self._optimizers = [(optimizer_of(config.optimizer, head), config.head_rate)]
        if trunk:
            self._optimizers.append((optimizer_of(config.optimizer, trunk), 1.0))
        self.averaged = None if config.average is None else _average(network, config.average)
        self.step = 0
        self._generator = torch.Generator(encoder.device)

    def train(self, batch: MotionBatch, *, rate: float) -> tuple[Tensor, Tensor]:
        """One step; the batch's loss, and how many of its clips were told right.

        Raises:
            ArithmeticError: the loss or its gradient is NaN or infinite; no weight has changed.
        """
        config = self.config
        self.network.train(config.statistics == "adapting")
        torch.manual_seed(seed_of(self.seed, _DROPOUT, self.step))
        self._generator.manual_seed(seed_of(self.seed, _VIEWS, self.step))
        for optimizer, share in self._optimizers:
            set_rate(optimizer, rate * share * config.optimizer.rate)
            optimizer.zero_grad(set_to_none=True)
        seen = self.encoder.taken(batch, (*self.encoder.views.still, *config.augment), self._generator)
        with autocast_of(config.precision, self.encoder.device):
            features_ND = self.network.clip_features(seen.motion_NCTVM, seen.present)
            scores_NK = self.network.fc(functional.dropout(features_ND, config.dropout))
        loss = functional.cross_entropy(scores_NK.float(), batch.label_N, label_smoothing=config.smoothing)
        torch.autograd.backward(loss)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, config.optimizer.clip or math.inf)
        if not torch.isfinite(loss.detach() + norm):
            raise ArithmeticError(f"the loss is {float(loss.detach())} and its gradient's norm {float(norm)}")
        for optimizer, _ in self._optimizers:
            optimizer.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.network)
        self.step += 1
        return loss.detach(), (scores_NK.detach().argmax(1) == batch.label_N).sum()

    @property
    def result(self) -> Backbone:
        """The network that is measured."""
        if self.averaged is None:
            return self.network
        assert isinstance(self.averaged.module, Backbone)  # noqa: S101, it is a copy of one
        return self.averaged.module

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer, _ in self._optimizers],
        }

    def take(self, state: dict[str, Any]) -> None:
        """Go on from a ``state`` of the same configuration."""
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        for (optimizer, _), known in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(known)


def _average(network: nn.Module, momentum: float) -> AveragedModel:
    """The average over the steps, running statistics too; it begins with the first step's weights."""
    rule = get_ema_multi_avg_fn(momentum)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=rule, use_buffers=True)


__all__ = ["Tuner"]
