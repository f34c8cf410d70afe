"""Temporal Gaussian mixture layers (Piergiovanni and Ryoo, "Temporal Gaussian Mixture Layer for Videos", ICML 2019)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES

LAYERS = 3
GAUSSIANS = 16
LENGTH = 5
"""Frames that a filter covers."""
CHANNELS = 8
"""Output channels of a layer."""
_HIDDEN = 512


class TGM(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees six feature frames on each side.

    Three layers of 16 Gaussians, length 5 and 8 channels, the maximum over channels joined to the features themselves,
    and a hidden layer of 512, as in the released model. Here a Gaussian's weights sum to 1 (there its width follows
    another formula), and its super-events, which look at the whole video, are left out as they are in the paper's base
    model.
    """

    def __init__(self, classes: int, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.layers = nn.ModuleList(GaussianLayer(CHANNELS if number else 1) for number in range(LAYERS))
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Conv1d(2 * FEATURES, _HIDDEN, 1)
        self.map = nn.Conv1d(_HIDDEN, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None, None].to(features.dtype)
        channels = features[:, None] * mask
        for layer in self.layers:
            channels = layer(channels) * mask
        joined = torch.cat([self.dropout(features), self.dropout(channels.amax(1))], 1)
        logits: Tensor = self.map(functional.relu(self.hidden(functional.relu(joined))))
        return logits


class GaussianLayer(nn.Module):
    """(N, C, D, T) to (N, 8, D, T): each output channel filters every input channel over time with a mixture of 16
    Gaussians, the same for all D features, and adds the channels up by a 1 x 1 convolution with ReLU.

    K[m, l] = exp(-(l - mu_m)^2 / (2 s_m^2)) / Z with mu_m = (L - 1)(tanh(c_m) + 1) / 2 and s_m = exp(-2 |w_m|)
    (Eqs. 1 and 2); a channel's filter is sum_m softmax(a)_m K[m] (Eq. 3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        # Initial values are free choices: centres over the whole filter, widths of up to a frame.
        self.centre = nn.Parameter(torch.randn(GAUSSIANS))
        self.width = nn.Parameter(0.5 * torch.randn(GAUSSIANS))
        self.attention = nn.Parameter(torch.randn(CHANNELS * channels, GAUSSIANS))
        # A single channel has nothing to be added to.
        self.combine = nn.Conv2d(CHANNELS * channels, CHANNELS, 1, groups=CHANNELS) if channels > 1 else None

    def filters(self) -> Tensor:
        """One filter for each output and input channel: (8 C, L), each row sums to 1."""
        mean = (LENGTH - 1) * (torch.tanh(self.centre) + 1) / 2
        deviation = torch.exp(-2 * self.width.abs())
        step = torch.arange(LENGTH, device=mean.device, dtype=mean.dtype)
        gaussian = torch.softmax(-((step - mean[:, None]) ** 2) / (2 * deviation[:, None] ** 2), 1)
        return torch.softmax(self.attention, 1) @ gaussian

    def forward(self, x: Tensor) -> Tensor:
        filters = self.filters()[:, None, None]
        # All C input channels are repeated for each output channel; each repeated channel has a filter of its own.
        filtered = functional.conv2d(
            x.repeat(1, CHANNELS, 1, 1), filters, padding=(0, LENGTH // 2), groups=CHANNELS * self.channels
        )
        return filtered if self.combine is None else functional.relu(self.combine(filtered))
