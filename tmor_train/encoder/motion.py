"""The motion encoder E_M that a configuration names, and the moving average of it (or of another module)."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from posecap.joints import LAYOUTS
from tmor_train.backbones import Backbone, People
from tmor_train.backbones.agcn import AGCN
from tmor_train.backbones.stgcn import STGCN
from tmor_train.backbones.unik import UNIK


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which backbone, and what it takes: ``channels`` are coordinates of a joint, all streams together.

    ``tau`` and ``heads`` are UNIK's alone. ``people``: how persons become one vector.
    """

    backbone: Literal["unik", "agcn", "stgcn"] = "unik"
    channels: int = 2
    tau: int = 1
    heads: int = 3
    people: People = "mean"


def encoder_of(config: EncoderConfig, *, layout: str, persons: int) -> Backbone:
    """A new encoder without a classifier for skeletons of a layout of :data:`posecap.joints.LAYOUTS`.

    Raises:
        ValueError: a size that no encoder has.
    """
    if config.backbone == "unik":
        return UNIK(
            joints=len(LAYOUTS[layout].names),
            channels=config.channels,
            persons=persons,
            tau=config.tau,
            heads=config.heads,
            people=config.people,
        )
    if config.backbone == "agcn":
        return AGCN(layout=layout, channels=config.channels, persons=persons, people=config.people)
    return STGCN(layout=layout, channels=config.channels, people=config.people)


class EMA(nn.Module):
    """A copy of ``online`` that follows it: after each step its parameters are m * own + (1 - m) * online.

    Running statistics are its own: batch norm of the copy sees the batches that the copy sees (train mode), as in MoCo.
    With ``average_buffers`` they are averaged, too, as weights that are measured and not trained with need them.
    The copy has no gradient and lies under ``module``; ``EMA(...)`` is called as the module it copies.
    """

    def __init__(self, online: nn.Module, momentum: float, *, average_buffers: bool = False) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is at least 0 and below 1; got {momentum}")
        self.momentum, self.average_buffers = momentum, average_buffers
        self.module = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *args: object, **named: object) -> object:
        return self.module(*args, **named)

    @torch.no_grad()
    def update(self, online: nn.Module) -> None:
        """One step towards ``online``, in place; call it after the optimiser's step."""
        own: list[Tensor] = list(self.module.parameters())
        new: list[Tensor] = list(online.parameters())
        if own:
            torch._foreach_lerp_(own, new, 1 - self.momentum)
        if self.average_buffers:
            for mean, value in zip(self.module.buffers(), online.buffers(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - self.momentum)
                else:  # a count of batches
                    mean.copy_(value)

    @torch.no_grad()
    def copy_from(self, online: nn.Module) -> None:
        """Starts the average anew from ``online``."""
        self.module.load_state_dict(online.state_dict())
