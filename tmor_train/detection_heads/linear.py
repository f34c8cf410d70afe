"""T-MOR's linear detection head: one linear map a feature frame (arXiv 2606.21607)."""

from __future__ import annotations

from torch import Tensor, nn

from tmor_train.backbones import FEATURES


class Linear(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees itself alone, so ``valid`` changes nothing."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.map = nn.Conv1d(FEATURES, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        logits: Tensor = self.map(features)
        return logits
