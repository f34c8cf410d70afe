"""Builds the motion encoder E_M that a configuration names, and keeps exponential moving averages of modules."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from tmor_train.backbones import Backbone, People
from tmor_train.backbones.agcn import AGCN
from tmor_train.backbones.graph import layout_named
from tmor_train.backbones.stgcn import STGCN
from tmor_train.backbones.unik import UNIK


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which backbone, and its sizes.

    ``channels`` is the number of values per joint that it takes: 2 or 3 coordinates, times the number of streams. It
    is not derived from the data: clips of another number are an error when the first batch is encoded. ``tau`` (frames
    whose joints are mixed with each other, odd) and ``heads`` (of blocks 2 to 10) are used by UNIK alone; the features
    are :data:`~tmor_train.backbones.FEATURES` wide in any case. ``people`` says how the people of a clip are pooled.
    """

    backbone: Literal["unik", "agcn", "stgcn"] = "unik"
    channels: int = 2
    tau: int = 1
    heads: int = 3
    people: People = "mean"


def encoder_of(config: EncoderConfig, *, layout: str, persons: int) -> Backbone:
    """A backbone with new weights and without a classifier.

    Args:
        layout: the joints of the clips, a name of :data:`posecap.joints.LAYOUTS`.
        persons: number of person slots of a clip; ST-GCN takes any number and does not use it.

    Raises:
        posecap.joints.LayoutError: unknown layout.
        ValueError: a size that the backbone does not take.
    """
    if config.backbone == "unik":
        return UNIK(
            joints=len(layout_named(layout).names),
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
    """An exponential moving average of the module ``online``: each update sets parameters to m * own + (1 - m) *
    online.

    The average is a copy of the module, ``module``, without gradient; ``EMA(...)`` is called as that module is. Its
    batch norms compute their running statistics from the batches that the copy itself gets (in train mode), as in MoCo.
    With ``average_buffers`` floating-point buffers such as running statistics are averaged too, for a copy that is only
    evaluated.

    Args:
        online: the module to copy; it is not changed.
        momentum: m, at least 0 and below 1.

    Raises:
        ValueError: ``momentum`` is out of range.
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
        """Updates the average with the present weights of ``online``; to be called after each step of the optimiser."""
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
        """Sets the average to the present state of ``online``."""
        self.module.load_state_dict(online.state_dict())
