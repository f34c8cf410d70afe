"""ST-GCN (Yan et al., AAAI 2018): convolutions on a fixed skeleton graph whose edges have learned importance.

Names are those of the released code, but for its classifier: a 1x1 convolution ``fcn`` there, the same as ``fc`` here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES, Backbone, People
from tmor_train.backbones.graph import layout_named, partitions_by_distance
from tmor_train.backbones.layers import STRIDED, TEMPORAL_KERNEL, WIDTHS
from tmor_train.backbones.temporal import TemporalConvolution

QUARTER_WIDTHS = (16, 16, 16, 16, 32, 32, 32, 64, 64, 256)
"""Channels of the ten blocks in CrosSCLR and AimCLR."""


class GraphConvolution(nn.Module):
    """1x1 convolution to K parts, and their sum over the graph's K parts: (N, C, T, V) to (N, C', T, V)."""

    def __init__(self, wide_in: int, wide_out: int, *, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.conv = nn.Conv2d(wide_in, wide_out * parts, 1)

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        clips, _, length, joints = x.shape
        split = functional.linear(x.permute(0, 2, 3, 1), self.conv.weight.flatten(1), self.conv.bias)
        givers = split.reshape(clips * length, joints * self.parts, -1)
        takers = graph.permute(2, 1, 0).reshape(1, joints, joints * self.parts).expand(clips * length, -1, -1)
        return torch.bmm(takers, givers).view(clips, length, joints, -1).permute(0, 3, 1, 2)


class StGcnBlock(nn.Module):
    """Graph convolution, then norm, ReLU, convolution along time, norm and dropout, and a residual around both."""

    def __init__(self, wide_in: int, wide_out: int, *, parts: int, number: int, dropout: float) -> None:
        super().__init__()
        stride = 2 if number in STRIDED else 1
        self._first = number == 1
        self.gcn = GraphConvolution(wide_in, wide_out, parts=parts)
        self.tcn = nn.Sequential(
            nn.BatchNorm2d(wide_out),
            nn.ReLU(inplace=True),
            TemporalConvolution(wide_out, wide_out, kernel=TEMPORAL_KERNEL, stride=stride),
            nn.BatchNorm2d(wide_out),
            nn.Dropout(0 if self._first else dropout),
        )
        self.residual: nn.Module = nn.Identity()
        if not self._first and (wide_in != wide_out or stride != 1):
            self.residual = nn.Sequential(nn.Conv2d(wide_in, wide_out, 1, stride=(stride, 1)), nn.BatchNorm2d(wide_out))

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        y: Tensor = self.tcn(self.gcn(x, graph))
        return functional.relu(y if self._first else y + self.residual(x))


class STGCN(Backbone):
    """The encoder on the graph of a layout of :data:`posecap.joints.LAYOUTS`. Any number of persons shares its norm.

    Args:
        layout: name of the layout; V follows from it.
        channels: C, coordinates of a joint.
        widths: channels of the ten blocks, the last 256; e.g. :data:`QUARTER_WIDTHS`.
        dropout: share of values that blocks 2 to 10 leave out in training; 0.5 is the released configurations'.
        classes: class scores to give; None for features.
        people: how persons are pooled; ``mean`` is the released code's.

    Raises:
        LayoutError: unknown layout.
        ValueError: a size below 1, widths of another number than ten, or a last one other than 256.
    """

    A: Tensor

    def __init__(
        self,
        *,
        layout: str = "unik17",
        channels: int = 2,
        widths: tuple[int, ...] = WIDTHS,
        dropout: float = 0.5,
        classes: int | None = None,
        people: People = "mean",
    ) -> None:
        graph = partitions_by_distance(layout_named(layout))
        super().__init__(joints=graph.shape[1], channels=channels, classes=classes, people=people)
        if len(widths) != len(WIDTHS) or min(widths) < 1 or widths[-1] != FEATURES:
            raise ValueError(f"widths are {len(WIDTHS)} numbers of channels, the last {FEATURES}, not {widths}")
        self.layout, self.widths = layout, widths
        self.register_buffer("A", graph)
        self.data_bn = nn.BatchNorm1d(self.joints * channels)
        self.st_gcn_networks = nn.ModuleList(
            StGcnBlock(wide_in, wide_out, parts=len(graph), number=number, dropout=dropout)
            for number, (wide_in, wide_out) in enumerate(zip((channels, *widths), widths, strict=False), 1)
        )
        self.edge_importance = nn.ParameterList(torch.ones_like(graph) for _ in widths)

    def joint_features(self, x: Tensor) -> Tensor:
        clips, channels, length, joints, persons = x.shape
        normed: Tensor = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(clips * persons, joints * channels, length))
        by_frame = normed.view(-1, joints, channels, length).permute(0, 3, 1, 2).contiguous()
        y: Tensor = by_frame.permute(0, 3, 1, 2)
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            y = block(y, self.A * importance)
        return y
