"""UNIK and AGCN for inference: the same function with fewer and larger operations.

Batch norms are part of the convolutions before them, the convolutions of all heads are one, and joints are a batch
axis. Tensors between blocks are (N * V, C, 1, T), N clips times people: mixing joints is then one product (V * h,
V) by (V, C * T) for each clip instead of one for each frame, and the convolution along time reads neighbouring numbers.
Both suit ONNX Runtime, which computes the convolutions in its blocked layout or, quantized, as int8 products.

The results are those of the network it is made of, up to rounding; ``tests/tmor_train/backbones/test_fused.py``
compares them. It is not for training: in training mode batch norms depend on the batch.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tmor_train.backbones import FEATURES, Backbone
from tmor_train.backbones.layers import WIDTHS, Block, BlockBackbone, SpatialUnit, TemporalUnit
from tmor_train.backbones.unik import UNIK


def fused(network: Backbone) -> Backbone:
    """A network that computes what ``network`` does in evaluation mode, as :class:`FusedBackbone` where there is one:
    for UNIK with ``tau`` 1 and AGCN. Others are returned as they are."""
    if isinstance(network, UNIK) and network.tau != 1:
        return network
    return FusedBackbone(network) if isinstance(network, BlockBackbone) else network


class FusedBackbone(Backbone):
    """The fused form of ``network``, without its classifier; weights are copies without gradient."""

    def __init__(self, network: BlockBackbone) -> None:
        super().__init__(joints=network.joints, channels=network.channels, classes=None, people=network.people)
        self.persons = network.persons
        scale, shift = _affine(network.data_bn)
        # Slots of persons, joints and coordinates have statistics each, in this order.
        axes = (1, network.persons, network.joints, network.channels, 1)
        self.scale, self.shift = _constant(scale.view(axes)), _constant(shift.view(axes))
        blocks = (cast(Block, network.get_submodule(f"l{number}")) for number in range(1, len(WIDTHS) + 1))
        self.blocks = nn.ModuleList(_FusedBlock(block, joints=network.joints) for block in blocks)
        self.eval()

    def joint_features(self, x: Tensor) -> Tensor:
        length = int(x.shape[2])
        normed = x.permute(0, 4, 3, 1, 2) * self.scale + self.shift
        y = normed.reshape(-1, self.channels, 1, length)
        for block in self.blocks:
            y = block(y)
        return y.reshape(-1, self.joints, FEATURES, int(y.shape[3])).permute(0, 2, 3, 1)


class _FusedBlock(nn.Module):
    """A block of (N * V, C, 1, T) to (N * V, C', 1, ceil(T / stride))."""

    def __init__(self, block: Block, *, joints: int) -> None:
        super().__init__()
        spatial, temporal = (block.get_submodule(name) for name in block.names)
        self.spatial = _FusedSpatial(cast(SpatialUnit, spatial), joints=joints)
        self.temporal = _along_time(cast(TemporalUnit, temporal))
        self.residual: nn.Module | None = None
        if not block.first:
            kept = isinstance(block.residual, nn.Identity)
            self.residual = nn.Identity() if kept else _along_time(cast(TemporalUnit, block.residual))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.temporal(self.spatial(x))
        return functional.relu(y if self.residual is None else y + self.residual(x))


class _FusedSpatial(nn.Module):
    """A spatial unit of (N * V, C, 1, T) to (N * V, C', 1, T)."""

    def __init__(self, unit: SpatialUnit, *, joints: int) -> None:
        super().__init__()
        self.joints, self.heads, self.embedded = joints, unit.heads, unit.embedded
        # A convolution for each side of the attention: ONNX Runtime then multiplies both as the bytes that quantized
        # convolutions give. Sides that are cut from one tensor it converts to float32 first.
        self.source, self.target = (_of_heads(convolutions) for convolutions in (unit.conv_a, unit.conv_b))
        heads = [cast(nn.Conv2d, conv) for conv in unit.conv_d]
        weight, bias = _with_norm(
            torch.cat([conv.weight for conv in heads], 1), torch.stack([_bias(conv) for conv in heads]).sum(0), unit.bn
        )
        self.down: nn.Module = nn.Identity()
        if isinstance(unit.down, nn.Sequential):
            conv, norm = cast(nn.Conv2d, unit.down[0]), cast(nn.BatchNorm2d, unit.down[1])
            self.down = _convolution(*_with_norm(conv.weight, _bias(conv), norm))
        self.mixed = _convolution(weight, bias)
        self.dependencies = _constant(unit.dependencies())

    def forward(self, x: Tensor) -> Tensor:
        channels, length = int(x.shape[1]), int(x.shape[3])
        size = self.embedded * length
        shape = (-1, self.joints, self.heads, size)
        source, target = self.source(x).reshape(shape), self.target(x).reshape(shape)
        products = torch.matmul(source.transpose(1, 2), target.permute(0, 2, 3, 1))
        matrices = torch.softmax(products / size, 2) + self.dependencies
        # From (N, h, source, target) to rows (target, h): a joint's heads lie next to each other afterwards.
        rows = matrices.permute(0, 3, 1, 2).reshape(-1, self.joints * self.heads, self.joints)
        mixed = torch.matmul(rows, x.reshape(-1, self.joints, channels * length))
        y = self.mixed(mixed.reshape(-1, self.heads * channels, 1, length))
        return functional.relu(y + self.down(x))


def _of_heads(convolutions: nn.ModuleList) -> nn.Conv2d:
    """The 1x1 convolutions of all heads as one, whose outputs lie head by head."""
    heads = [cast(nn.Conv2d, conv) for conv in convolutions]
    return _convolution(torch.cat([conv.weight for conv in heads]), torch.cat([_bias(conv) for conv in heads]))


def _along_time(unit: TemporalUnit) -> nn.Conv2d:
    """The convolution of a temporal unit and its batch norm as one of (N * V, C, 1, T)."""
    weight, bias = _with_norm(unit.conv.weight, _bias(unit.conv), unit.bn)
    return _convolution(weight.transpose(2, 3), bias, stride=unit.conv.stride[0])


def _convolution(weight: Tensor, bias: Tensor, *, stride: int = 1) -> nn.Conv2d:
    """A convolution (1, kernel) along the last axis, padded so that as many numbers come out as went in."""
    wide_out, wide_in, _, kernel = weight.shape
    made = nn.Conv2d(wide_in, wide_out, (1, kernel), stride=(1, stride), padding=(0, kernel // 2))
    made.weight, made.bias = _constant(weight), _constant(bias)
    return made


def _with_norm(weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch norm after it."""
    assert norm.running_mean is not None  # noqa: S101 – every batch norm here has running statistics
    assert norm.running_var is not None  # noqa: S101
    return fuse_conv_bn_weights(weight, bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias)


def _affine(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Factor and shift of each channel of a batch norm in evaluation mode."""
    assert norm.running_mean is not None  # noqa: S101 – every batch norm here has running statistics
    assert norm.running_var is not None  # noqa: S101
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # noqa: S101 – every convolution of the backbones has a bias
    return conv.bias


def _constant(values: Tensor) -> nn.Parameter:
    return nn.Parameter(values.detach().clone(memory_format=torch.contiguous_format), requires_grad=False)
