"""ST-GCN (Yan et al., AAAI 2018): convolutions on a fixed skeleton graph whose edges have learned importance.

Parameters have the names of the released code, except for its classifier: there it is ``fcn``, a 1x1 convolution that
computes the same as the linear layer ``fc`` here.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from posecap.joints import layout_named
from tmor_train.backbones import FEATURES, Backbone, People
from tmor_train.backbones.layers import (
    STRIDED,
    TEMPORAL_KERNEL,
    WIDTHS,
    TemporalConvolution,
    partitions_by_distance,
)

QUARTER_WIDTHS = (16, 16, 16, 16, 32, 32, 32, 64, 64, 256)
"""Output channels of the ten blocks in CrosSCLR and AimCLR, for direct use of the model: recipes have no option for
widths."""


class GraphConvolution(nn.Module):
    """Mixes joints along the K partitions of a graph (``parts``), each with a 1x1 convolution of its own: (N, C, T, V)
    to (N, C', T, V).

    ``forward`` takes the graph as (K, V, V) float: entry (u, v) is the weight of joint u in the mix for joint v.
    """

    def __init__(self, wide_in: int, wide_out: int, *, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.conv = nn.Conv2d(wide_in, wide_out * parts, 1)

    def forward(self, x: Tensor, graph: Tensor) -> Tensor:
        clips, _, length, joints = x.shape
        split = functional.linear(x.permute(0, 2, 3, 1), self.conv.weight.flatten(1), self.conv.bias)
        sources = split.reshape(clips * length, joints * self.parts, -1)
        weights = graph.permute(2, 1, 0).reshape(1, joints, joints * self.parts).expand(clips * length, -1, -1)
        return torch.bmm(weights, sources).view(clips, length, joints, -1).permute(0, 3, 1, 2)


class StGcnBlock(nn.Module):
    """Graph convolution, then batch norm, ReLU, convolution along time, batch norm and dropout; a residual around all.

    (N, C, T, V) to (N, C', ceil(T / stride), V). ``number`` counts blocks from 1; ``dropout`` is the share of values
    set to 0 in training.
    """

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
    """ST-GCN on the graph of a layout of :data:`posecap.joints.LAYOUTS`, for any number of persons, which share the
    statistics of batch norm.

    Args:
        layout: name of the layout; V follows from it.
        channels: C, values of a joint: its coordinates, times the number of streams.
        widths: output channels of the ten blocks, the last 256; e.g. :data:`QUARTER_WIDTHS`.
        dropout: share of values, 0 to 1, that blocks 2 to 10 set to 0 in training; 0.5 in the released configurations.
        classes: number of class scores that the model returns; None: it returns features.
        people: how persons are pooled; ``mean`` as in the released code.

    Raises:
        LayoutError: unknown layout.
        ValueError: a size below 1, widths of another number than ten, a last one other than 256, or a dropout that is
        no
            share.
    """

    A: Tensor
    """The graph, (3, V, V); each block multiplies it by an importance of its own, which is learned and 1 at first."""

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
            for number, (wide_in, wide_out) in enumerate(pairwise((channels, *widths)), 1)
        )
        self.edge_importance = nn.ParameterList(torch.ones_like(graph) for _ in widths)

    def joint_features(self, x: Tensor) -> Tensor:
        clips, channels, length, joints, persons = x.shape
        normed: Tensor = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(clips * persons, joints * channels, length))
        # Copied with the axes in this order, so that the permuted tensor is channels-last in memory for all blocks.
        by_frame = normed.view(-1, joints, channels, length).permute(0, 3, 1, 2).contiguous()
        y: Tensor = by_frame.permute(0, 3, 1, 2)
        for block, importance in zip(self.st_gcn_networks, self.edge_importance, strict=True):
            y = block(y, self.A * importance)
        return y
