"""MS-TCT: convolutions and attention at several temporal scales (Dai et al., "MS-TCT: Multi-Scale Temporal
ConvTransformer for Action Detection", CVPR 2022).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES

SCALES = 4
"""Number of stages; each after the first has half as many frames as the one before, rounded up."""


class MSTCT(nn.Module):
    """(N, 256, T') features to (N, K, T') logits; a frame sees the whole window.

    A stage is a convolution over three frames, with stride 2 after the first, then blocks of attention over all frames
    and a convolution beside an MLP; the stages' outputs, brought to T' again, are mixed into class scores. The original
    has three blocks a stage, widths that grow from 256 to 864 and a second loss on the centres of events. Here every
    stage has one block and one width, its MLP is twice as wide, coarse frames are repeated rather than interpolated,
    and the loss on centres is left out. The 8 attention heads are the original's; the dropout is a free choice.
    """

    def __init__(self, classes: int, *, width: int = 256, heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.merge = nn.ModuleList(
            nn.Conv1d(width if number else FEATURES, width, 3, stride=2 if number else 1, padding=1)
            for number in range(SCALES)
        )
        self.norm = nn.ModuleList(nn.LayerNorm(width) for _ in range(SCALES))
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(SCALES))
        self.mix = nn.Conv1d(SCALES * width, 2 * width, 1)
        self.dropout = nn.Dropout(dropout)
        self.map = nn.Conv1d(2 * width, classes, 1)

    def forward(self, features: Tensor, valid: Tensor) -> Tensor:
        frames = torch.arange(features.shape[2], device=features.device)
        x, valid_here, stages = features * valid[:, None].to(features.dtype), valid, []
        for number, (merge, norm, block) in enumerate(zip(self.merge, self.norm, self.blocks, strict=True)):
            valid_here = valid_here[:, ::2] if number else valid_here
            x = norm(merge(x).transpose(1, 2)).transpose(1, 2) * valid_here[:, None].to(x.dtype)
            x = block(x, valid_here)
            stages.append(x[:, :, frames // 2**number])
        logits: Tensor = self.map(self.dropout(functional.relu(self.mix(torch.cat(stages, 1)))))
        return logits


class Block(nn.Module):
    """(N, width, T) to the same: attention over all valid frames, then an MLP with a convolution over three frames in
    it. Each has a residual connection and a layer norm before it; padded frames become 0."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm_all, self.norm_near = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.wide = nn.Conv1d(width, 2 * width, 1)
        self.near = nn.Conv1d(2 * width, 2 * width, 3, padding=1, groups=2 * width)
        self.narrow = nn.Conv1d(2 * width, width, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        mask = valid[:, None].to(x.dtype)
        steps = self.norm_all(x.transpose(1, 2))
        attended: Tensor = self.attention(steps, steps, steps, key_padding_mask=~valid, need_weights=False)[0]
        x = (x + self.dropout(attended.transpose(1, 2))) * mask
        wide = self.wide(self.norm_near(x.transpose(1, 2)).transpose(1, 2)) * mask
        mixed: Tensor = self.narrow(functional.gelu(self.near(wide)))
        output: Tensor = (x + self.dropout(mixed)) * mask
        return output
