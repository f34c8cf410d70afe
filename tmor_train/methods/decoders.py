"""Light decoders from features back to joints, and how far their joints are from those of a clip."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES

_WIDTHS = (256, 128, 64)
_TAPS = 5


class FrameDecoder(nn.Module):
    """Feature frames to frames: (B, 256, T') to (B, ``outputs``, 4 T'). Two convolutions each double time; one makes
    the coordinates."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for taken, given in pairwise(_WIDTHS):
            layers += [nn.Upsample(scale_factor=2), nn.Conv1d(taken, given, _TAPS, padding=_TAPS // 2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(_WIDTHS[-1], outputs, _TAPS, padding=_TAPS // 2))

    def forward(self, frames: Tensor) -> Tensor:
        made: Tensor = self.layers(frames)
        return made


class ClipDecoder(nn.Module):
    """One vector a clip to frames: (N, 256) to (N, ``outputs``, T). The vector is said at every feature frame together
    with the time (sines, Vaswani et al., 2017), then decoded as feature frames are."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.into = nn.Linear(FEATURES, FEATURES)
        self.frames = FrameDecoder(outputs)

    def forward(self, features_ND: Tensor, length: int) -> Tensor:
        times = -(-length // 4)
        said = self.into(features_ND)[:, :, None] + time_code(times, features_ND.device).T
        made: Tensor = self.frames(functional.relu(said))[..., :length]
        return made


def time_code(times: int, device: torch.device) -> Tensor:
    """Sines and cosines of the time at 128 rates, (T', 256) float32."""
    rates = torch.exp(torch.arange(FEATURES // 2, device=device) * (-9.21 / (FEATURES // 2)))  # 1 down to 1e-4
    angles = torch.arange(times, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def distance(made_NCTVM: Tensor, motion_NCTVM: Tensor, seen_NTVM: Tensor) -> Tensor:
    """Mean squared difference of coordinates where a joint is seen; 0 where none is; shape ()."""
    weight = seen_NTVM[:, None].to(made_NCTVM.dtype)
    squares = (made_NCTVM - motion_NCTVM).square() * weight
    return squares.sum() / (weight.sum() * motion_NCTVM.shape[1]).clamp(min=1)
