"""SD-TCN: residual dilated convolutions, the head of UNIK's released detector for untrimmed recordings (Toyota
Smarthome Untrimmed, Dai et al., TPAMI 2022); its layers are those of MS-TCN (Farha and Gall, CVPR 2019).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES

DILATIONS = (1, 2, 4, 8, 16)


class SDTCN(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees 31 feature frames on each side."""

    def __init__(self, classes: int, *, width: int = 512, dropout: float = 0.5) -> None:
        super().__init__()
        self.into = nn.Conv1d(FEATURES, width, 1)
        self.wide = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in DILATIONS)
        self.narrow = nn.ModuleList(nn.Conv1d(width, width, 1) for _ in DILATIONS)
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Conv1d(width, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None].to(features.dtype)
        x = self.into(features) * mask
        for wide, narrow in zip(self.wide, self.narrow, strict=True):
            x = (x + self.dropout(narrow(functional.relu(wide(x))))) * mask
        logits: Tensor = self.map(x) * mask
        return logits
