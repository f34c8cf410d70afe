"""The projection heads phi of Eq. 4 and the temperatures: what stands between frozen or learned features and Sim."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.objective_config import Head, ObjectiveConfig

Scale = float | Tensor
"""1 / Temp of Eq. 4."""

# Below this length a vector has no direction that float32 could tell; it is scaled up no further.
SHORTEST = 1e-6


class Projection(nn.Module):
    """phi: (N, ``width_in``) to unit vectors (N, ``width_out``), float32 even under autocast (float64 stays float64).

    "mlp" is Linear, ReLU, Linear with a hidden layer as wide as the input and without batch norm; "linear" one layer;
    "identity" only scales to unit length.

    Raises:
        ValueError: an identity whose widths differ.
    """

    def __init__(self, head: Head, width_in: int, width_out: int) -> None:
        super().__init__()
        if head == "identity" and width_in != width_out:
            raise ValueError(
                f"an identity head keeps the width, but the features have {width_in} and the projection {width_out}; "
                f"set width={width_in} or another head"
            )
        layers: list[nn.Module] = []
        if head == "mlp":
            layers += [nn.Linear(width_in, width_in), nn.ReLU()]
        if head != "identity":
            layers += [nn.Linear(width_in, width_out)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.layers(features)
        with torch.autocast(projected.device.type, enabled=False):
            return functional.normalize(single(projected), dim=1, eps=SHORTEST)


def single(x: Tensor) -> Tensor:
    """``x`` in float32 at least: halves are widened, float64 is left alone."""
    return x if x.dtype == torch.float64 else x.float()


class Temperatures(nn.Module):
    """1 / Temp of each loss, constant or learned as a logarithm; ``clamp`` goes after each step of the optimiser."""

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.fixed = (1 / config.temperature_mm, 1 / config.temperature_mv, 1 / config.temperature_mt)
        self.highest = math.log(1 / config.lowest_temperature)
        learned = nn.Parameter(torch.tensor(self.fixed).log()) if config.temperature == "learned" else None
        self.register_parameter("log_scales", learned)
        self.log_scales: nn.Parameter | None

    def forward(self) -> tuple[Scale, Scale, Scale]:
        """What cosines of L_mm, L_mv and L_mt are multiplied with."""
        if self.log_scales is None:
            return self.fixed
        mm, mv, mt = single(self.log_scales).exp().unbind()
        return mm, mv, mt

    @torch.no_grad()
    def clamp(self) -> None:
        """Brings the temperatures back between the lowest and 1; a clamp in ``forward`` would end their gradient."""
        if self.log_scales is not None:
            self.log_scales.clamp_(0.0, self.highest)
