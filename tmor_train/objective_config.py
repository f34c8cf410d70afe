"""Every reading of the paper's equations as one named option; the defaults are the faithful ones."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_origin, get_type_hints

Reduction = Literal["inside", "outside", "mean_inside"]
"""Where positives are summed: inside the logarithm (Eq. 1), as a mean of logarithms, or as a mean inside of it."""

Positives = Literal["own", "cluster"]
"""The frozen vectors an anchor is drawn to: its own clip's, or also those of its cluster."""

TextNegatives = Literal["cluster", "text", "both", "all"]
"""Whose text is pushed away: clips of another cluster, of another text, of both, or every other clip."""

Copies = Literal["positive", "ignore"]
"""An older key of the anchor's own clip, met in the memory: one more view of it, or nothing. Never a negative."""

Noise = Literal["singleton", "drop"]
"""A clip in no cluster: a cluster of its own, or out of the losses until the next clustering."""

Negatives = Literal["queue", "batch", "memory_bank"]
"""What candidates come from, beside the batch: the last keys, nothing, or one averaged key for every clip."""

Keys = Literal["ema", "same"]
"""Who encodes the second view: an EMA copy without gradient, or the trained encoder itself, with gradient."""

Head = Literal["mlp", "linear", "identity"]
Temperature = Literal["fixed", "learned"]
Switch = Literal["off", "on"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """The objective, Eq. 9; with ``w_mt=0`` it is Eq. 5, and a loss of weight 0 is neither built nor computed.

    ``max_positives`` and ``num_negatives`` bound |P| and |N| of an anchor by a random draw, which depends on ``seed``,
    on the step and on the two clips, and on nothing else. ``symmetric`` adds the video-to-motion and text-to-motion
    directions, each direction with half of the weight. A learned temperature starts at the given one and stays between
    ``lowest_temperature`` and 1. ``bank_momentum`` is the weight of the past in the memory bank.

    Raises:
        ValueError: a word is unknown or a number out of its range; the message names the field.
    """

    w_mm: float = 1.0
    w_mv: float = 1.0
    w_mt: float = 1.0

    positive_reduction: Reduction = "inside"
    mv_positives: Positives = "own"
    mt_positives: Positives = "own"
    mt_negatives: TextNegatives = "both"
    own_copies: Copies = "positive"
    noise: Noise = "singleton"
    max_positives: int | None = None
    num_negatives: int | None = None
    symmetric: Switch = "off"
    seed: int = 0

    negatives: Negatives = "queue"
    queue_size: int = 65_536
    bank_momentum: float = 0.2
    keys: Keys = "ema"
    momentum: float = 0.999

    motion_head: Head = "mlp"
    video_head: Head = "mlp"
    text_head: Head = "mlp"
    width: int = 128

    temperature: Temperature = "fixed"
    temperature_mm: float = 0.07
    temperature_mv: float = 0.07
    temperature_mt: float = 0.07
    lowest_temperature: float = 0.01

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            if get_origin(kind) is Literal and getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} is one of {', '.join(get_args(kind))}; got {getattr(self, name)!r}")
        for name in ("max_positives", "num_negatives", "queue_size", "width"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"{name} is at least 1; got {number}")
        for name in ("momentum", "bank_momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 0 and below 1; got {getattr(self, name)}")
        for name in (field.name for field in fields(self) if field.name.startswith("temperature_")):
            if not 0 < self.lowest_temperature <= getattr(self, name) <= 1:
                raise ValueError(
                    f"{name} is above 0, at least lowest_temperature ({self.lowest_temperature}) and at most 1; "
                    f"got {getattr(self, name)}"
                )
        weights = (self.w_mm, self.w_mv, self.w_mt)
        if not all(0 <= weight < math.inf for weight in weights) or not any(weights):
            raise ValueError(f"w_mm, w_mv and w_mt are finite, at least 0 and not all 0; got {weights}")
