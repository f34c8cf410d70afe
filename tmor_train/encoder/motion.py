"""The motion encoder E_M that a configuration names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tmor_train.backbones import Backbone, People


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
    from posecap.joints import LAYOUTS
    from tmor_train.backbones.agcn import AGCN
    from tmor_train.backbones.stgcn import STGCN
    from tmor_train.backbones.unik import UNIK

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
