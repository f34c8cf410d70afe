"""Layers that UNIK and AGCN share: temporal units, spatial units whose heads are computed together, and blocks of both.

Tensors between layers are float (N, C, T, V): N clips times persons, channels, frames, joints. In memory the channels
are last: a 1x1 convolution is then one matrix product, the results of the heads lie next to each other without a copy,
and convolutions on CPU and GPU use their fast implementations.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import Backbone, People
from tmor_train.backbones.temporal import TemporalConvolution

WIDTHS = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
"""Output channels of the ten blocks; these, :data:`STRIDED` and :data:`TEMPORAL_KERNEL` are UNIK's and 2s-AGCN's."""

STRIDED = (5, 8)
"""Numbers, from 1, of the blocks that halve the number of frames."""

TEMPORAL_KERNEL = 9
"""Frames that a convolution along time covers."""

_EMBEDDING = 4  # the attention of a unit of C' output channels works on C' / 4 channels, as in both released codes


class TemporalUnit(nn.Module):
    """Convolution along time and batch norm: (N, C, T, V) to (N, C', ceil(T / stride), V), each joint by itself."""

    def __init__(self, wide_in: int, wide_out: int, *, kernel: int = TEMPORAL_KERNEL, stride: int = 1) -> None:
        super().__init__()
        self.conv = TemporalConvolution(wide_in, wide_out, kernel=kernel, stride=stride)
        self.bn = nn.BatchNorm2d(wide_out)
        start_convolution(self.conv)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.bn(self.conv(x))
        return normed


class SpatialUnit(nn.Module, ABC):
    """Joints mixed by h heads: relu(bn(sum_k d_k(x (softmax_k + D_k))) + x), as in UNIK's S-LSU and AGCN's unit.

    softmax_k is over the source joint of a_k(x)^T b_k(x) / (C'T / 4), one matrix for all frames of a clip; D_k is
    :meth:`dependencies`. a_k, b_k and d_k are 1x1 convolutions, named head by head as in the released checkpoints; the
    forward joins them: one product for every a and b, one for the mixing, one for every d on the heads side by side.
    """

    def __init__(self, wide_in: int, wide_out: int, *, heads: int) -> None:
        super().__init__()
        self.heads, self.embedded = heads, wide_out // _EMBEDDING
        self.conv_a = nn.ModuleList(nn.Conv2d(wide_in, self.embedded, 1) for _ in range(heads))
        self.conv_b = nn.ModuleList(nn.Conv2d(wide_in, self.embedded, 1) for _ in range(heads))
        self.conv_d = nn.ModuleList(nn.Conv2d(wide_in, wide_out, 1) for _ in range(heads))
        self.down = (
            nn.Identity()
            if wide_in == wide_out
            else nn.Sequential(nn.Conv2d(wide_in, wide_out, 1), nn.BatchNorm2d(wide_out))
        )
        self.bn = nn.BatchNorm2d(wide_out)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                start_convolution(module)
        for conv in _convolutions(self.conv_d):  # as in both released codes
            nn.init.normal_(conv.weight, 0, math.sqrt(2 / (wide_out * wide_in * heads)))
        nn.init.constant_(self.bn.weight, 1e-6)  # each unit starts as its residual path

    @abstractmethod
    def dependencies(self) -> Tensor:
        """D: (h, V, V) float; entry (u, v) of head k is the weight of source joint u in the mix for joint v."""

    def forward(self, x: Tensor) -> Tensor:
        mixed = self._mixed(x.permute(0, 2, 3, 1))
        activated: Tensor = self.bn(mixed.permute(0, 3, 1, 2)).add_(self.down(x)).relu_()
        return activated

    def _mixed(self, x: Tensor) -> Tensor:
        """sum_k d_k(x (softmax_k + D_k)) of (N, T, V, C)."""
        clips, length, joints, _ = x.shape
        matrices = self._attention(x) + self.dependencies()
        # From (N, h, source, target) to rows (target, h): the result then has axes (target, h, C).
        weights = matrices.permute(0, 3, 1, 2).reshape(clips, 1, joints * self.heads, joints)
        heads = torch.matmul(weights.expand(-1, length, -1, -1), x)
        convolutions = _convolutions(self.conv_d)
        weight = torch.cat([conv.weight.flatten(1) for conv in convolutions], 1)
        bias = torch.stack([_bias(conv) for conv in convolutions]).sum(0)
        return functional.linear(heads.reshape(clips, length, joints, -1), weight, bias)

    def _attention(self, x: Tensor) -> Tensor:
        """softmax_k: (N, h, V, V), source by target joint; columns sum to 1."""
        clips, length, joints, _ = x.shape
        convolutions = (*_convolutions(self.conv_a), *_convolutions(self.conv_b))
        weight = torch.cat([conv.weight.flatten(1) for conv in convolutions])
        bias = torch.cat([_bias(conv) for conv in convolutions])
        both = functional.linear(x, weight, bias).view(clips, length, joints, 2, self.heads, self.embedded)
        a, b = both.unbind(3)
        size = length * self.embedded
        source = a.permute(0, 3, 2, 1, 4).reshape(clips * self.heads, joints, size)
        target = b.permute(0, 3, 1, 4, 2).reshape(clips * self.heads, size, joints)
        return torch.softmax(torch.bmm(source, target) / size, 1).view(clips, self.heads, joints, joints)


MakeSpatial = Callable[[int, int, int], SpatialUnit]
"""Makes a spatial unit, from the number of its block (from 1) and its input and output channels."""


class Block(nn.Module):
    """A spatial unit, a temporal unit, and a residual around both: (N, C, T, V) to (N, C', ceil(T / stride), V).

    Args:
        number: from 1; block 1 has no residual connection, those in :data:`STRIDED` halve the number of frames.
        spatial: makes the spatial unit.
        names: of the spatial and of the temporal unit, as keys of a state dict have them.
    """

    def __init__(
        self, wide_in: int, wide_out: int, *, number: int, spatial: MakeSpatial, names: tuple[str, str]
    ) -> None:
        super().__init__()
        stride = 2 if number in STRIDED else 1
        self._first, self._names = number == 1, names
        self.residual: nn.Module = nn.Identity()
        if not self._first and (wide_in != wide_out or stride != 1):
            self.residual = TemporalUnit(wide_in, wide_out, kernel=1, stride=stride)
        self.add_module(names[0], spatial(number, wide_in, wide_out))
        self.add_module(names[1], TemporalUnit(wide_out, wide_out, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x
        for name in self._names:
            y = self.get_submodule(name)(y)
        return y.relu_() if self._first else y.add_(self.residual(x)).relu_()


class BlockBackbone(Backbone):
    """The structure of UNIK and AGCN: batch norm for each person slot, joint and coordinate, then blocks ``l1`` to
    ``l10``.

    ``persons`` is M, the number of person slots, each with its own statistics of batch norm. ``spatial`` and ``names``
    are as in :class:`Block`.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self,
        *,
        joints: int,
        channels: int,
        persons: int,
        classes: int | None,
        people: People,
        spatial: MakeSpatial,
        names: tuple[str, str],
    ) -> None:
        super().__init__(joints=joints, channels=channels, classes=classes, people=people)
        if persons < 1:
            raise ValueError(f"persons are at least 1, not {persons}")
        self.persons = persons
        self.data_bn = nn.BatchNorm1d(persons * joints * channels)
        for number, (wide_in, wide_out) in enumerate(pairwise((channels, *WIDTHS)), 1):
            self.add_module(f"l{number}", Block(wide_in, wide_out, number=number, spatial=spatial, names=names))

    def joint_features(self, x: Tensor) -> Tensor:
        clips, channels, length, joints, persons = x.shape
        if persons != self.persons:
            slots = f"{self.persons} person slots, each with its own statistics"
            raise ValueError(f"the model has {slots}, and got {persons} persons; give it clips of {self.persons} slots")
        normed: Tensor = self.data_bn(x.permute(0, 4, 3, 1, 2).reshape(clips, -1, length))
        by_person = normed.view(clips * persons, joints, channels, length).permute(0, 3, 1, 2)
        # Copied with the axes in this order, so that the permuted tensor is channels-last in memory for all blocks.
        y = by_person.contiguous().permute(0, 3, 1, 2)
        for number in range(1, len(WIDTHS) + 1):
            y = self.get_submodule(f"l{number}")(y)
        return y


def start_convolution(conv: nn.Conv2d) -> None:
    """He's normal initialisation, scaled by the number of outputs (``fan_out``); the bias is 0."""
    nn.init.kaiming_normal_(conv.weight, mode="fan_out")
    nn.init.zeros_(_bias(conv))


def _convolutions(modules: Iterable[nn.Module]) -> list[nn.Conv2d]:
    return [cast(nn.Conv2d, module) for module in modules]


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # noqa: S101 – every convolution here has a bias
    return conv.bias
