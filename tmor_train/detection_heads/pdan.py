"""PDAN: a pyramid of dilated attention (Dai et al., "PDAN: Pyramid Dilated Attention Network for Action Detection",
WACV 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES

DILATIONS = (1, 2, 4, 8, 16)
"""Distance of the neighbours that each block attends to, in feature frames."""


class PDAN(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees 31 feature frames on each side.

    One stage of five blocks of width 512, each a dilated attention over three frames, ReLU, a 1 x 1 convolution and
    dropout around a residual, as in the released ``models_PDAN.py`` (of width 256 by default; the released ``PDAN.py``
    also adds a learned vector for each of the three frames to the values). Here attention keeps PyTorch's initial
    weights, the released ones are He's (``fan_out``); and frames beyond the recording get no attention, where the
    original attends to zeros.
    """

    def __init__(self, classes: int, *, width: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.into = nn.Conv1d(FEATURES, width, 1)
        self.attend = nn.ModuleList(DilatedAttention(width, dilation) for dilation in DILATIONS)
        self.mix = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in DILATIONS)
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Conv1d(width, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None].to(features.dtype)
        x = self.into(features) * mask
        for attend, mix in zip(self.attend, self.mix, strict=True):
            x = (x + self.dropout(mix(functional.relu(attend(x, valid))))) * mask
        logits: Tensor = self.map(x)
        return logits


class DilatedAttention(nn.Module):
    """Each frame attends to itself and to the frames ``dilation`` before and after it, channel by channel:
    y_t = sum_s softmax_s(q_t k_s) v_s over s in {t - d, t, t + d} that are valid (Sec. 3.1)."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.query, self.key, self.value = (nn.Conv1d(width, width, 1, bias=False) for _ in range(3))

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        agreement = self.query(x)[..., None] * self._three(self.key(x))
        is_valid = self._three(valid[:, None].to(x.dtype)) > 0
        # A padded frame may have no valid neighbour; it always attends to itself, so that no softmax is empty.
        is_valid = is_valid | torch.tensor([False, True, False], device=x.device)
        weights = torch.softmax(agreement.masked_fill(~is_valid, float("-inf")), -1)
        return (weights * self._three(self.value(x))).sum(-1)

    def _three(self, x: Tensor) -> Tensor:
        """(N, D, T) to (N, D, T, 3): the frames before, at and after each; zeros beyond the ends."""
        padded, frames = functional.pad(x, (self.dilation, self.dilation)), x.shape[2]
        return torch.stack([padded[..., shift * self.dilation :][..., :frames] for shift in range(3)], -1)
