"""Layers of the backbones: the convolution along time of all three, and what UNIK and AGCN share besides, temporal
units, spatial units whose heads are computed together, and blocks of both. Also the graphs of ST-GCN and AGCN.

Tensors between layers are float (N, C, T, V): N clips times persons, channels, frames, joints. ``wide_in`` and
``wide_out`` are the channels C that a layer takes and C' that it gives. In memory the channels are
last: a 1x1 convolution is then one matrix product, the results of the heads lie next to each other without a copy, and
convolutions on CPU and GPU use their fast implementations.

The convolution along time is two thirds of the multiplications of every backbone. On a CPU it is computed by discrete
Fourier transforms, which need far fewer of them.

A convolution of T frames by 9 taps is a product of each frequency of the clip with the same frequency of the kernel.
Discrete Fourier transforms of so few frames are matrix products, and a complex product is three real ones, of the real
part, the imaginary part and their sum (Gauss). With three matrices that depend on T alone, and P = 1.5 L - 1 rows for a
period of L = T + 4 frames (T + 5 where T is odd), at which the ends of the clip do not overlap:

    y = B ((G w) * (D x)),   D (P, T), G (P, 9), B (T, P),   * a product of channels in each of the P rows

With a stride only every stride-th row of B is computed. Instead of 9 products of channels per frame there are about 1.6
at T = 64, and the transforms. The result is the same, with rounding errors no larger than those of the plain sum.

Skeleton graphs are the matrices that ST-GCN and AGCN multiply joints with, made of the layouts of posecap. They are (3,
V, V) float32, from a joint (row) to a joint (column). Columns sum to 1: over all three parts in ST-GCN's, in each part
(or to 0 where it has no links) in AGCN's.
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

from posecap.joints import Layout
from tmor_train.backbones import Backbone, People

WIDTHS = (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)
"""Output channels of the ten blocks; these, :data:`STRIDED` and :data:`TEMPORAL_KERNEL` are UNIK's and 2s-AGCN's."""

STRIDED = (5, 8)
"""Numbers, from 1, of the blocks that halve the number of frames."""

TEMPORAL_KERNEL = 9
"""Frames that a convolution along time covers."""

_EMBEDDING = 4  # the attention of a unit of C' output channels works on C' / 4 channels, as in both released codes

_WORTH_IT = 0.65
"""The transforms are used if they need less than this share of the plain convolution's products. Chosen on two Intel
cores with AMX, for the training steps of docs/results/train.md. Up to which share they win depends on the processor and
on what else it does: ``benchmarks/estimates.py`` prints it (0.25 on a core of an AMD EPYC that other programs used)."""


class TemporalConvolution(nn.Conv2d):
    """A convolution (kernel, 1) with padding (kernel - 1) / 2; the parameters are those of ``nn.Conv2d``.

    (N, C, T, V) to (N, C', ceil(T / stride), V), N counting clips times people. ``kernel`` is odd.

    In eager mode on a CPU, in float32 or float64, Fourier transforms are used where they are less work. Elsewhere (GPU,
    autocast, compiled or exported) it is the plain convolution, for which those libraries have fast implementations.

    Raises:
        ValueError: ``kernel`` is even.
    """

    def __init__(self, wide_in: int, wide_out: int, *, kernel: int, stride: int = 1) -> None:
        if kernel % 2 == 0:
            raise ValueError(f"kernel is odd, so that as many frames come out as went in, not {kernel}")
        super().__init__(wide_in, wide_out, (kernel, 1), stride=(stride, 1), padding=(kernel // 2, 0))

    def forward(self, x: Tensor) -> Tensor:
        if _eager_on_cpu(x) and self._share(x.shape[2]) < _WORTH_IT:
            return self._by_frequencies(x)
        return super().forward(x)

    def _share(self, length: int) -> float:
        """Products that the transforms need, as a share of those of the plain convolution."""
        kernel, out = self.kernel_size[0], -(-length // self.stride[0])
        rows = 3 * (_period(length, kernel) // 2 + 1) - 4
        wide_in, wide_out = self.in_channels, self.out_channels
        transformed = rows * (length * wide_in + wide_in * wide_out + out * wide_out)
        return transformed / (kernel * out * wide_in * wide_out)

    def _by_frequencies(self, x: Tensor) -> Tensor:
        """B ((G w) * (D x)) of the module's docstring."""
        people, channels, length, joints = x.shape
        kernel = self.kernel_size[0]
        forward, taps, back = _transforms(length, kernel, like=x)
        back = back[:: self.stride[0]]
        flat = x.permute(2, 0, 3, 1).reshape(length, -1)
        spectrum = (forward @ flat).view(-1, people * joints, channels)
        weight = (taps @ self.weight.reshape(-1, kernel).T).view(-1, self.out_channels, channels)
        product = torch.bmm(spectrum, weight.transpose(1, 2)).view(len(weight), -1)
        summed = (back @ product).view(-1, people, joints, self.out_channels).transpose(0, 1)
        assert self.bias is not None  # noqa: S101 – __init__ makes one
        # Contiguous before the axes are permuted: the result is then channels-last in memory, as in the other layers.
        return (summed.contiguous() + self.bias).permute(0, 3, 1, 2)


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
        number: from 1; block 1, ``first``, has no residual connection, those in :data:`STRIDED` halve the number of
            frames.
        spatial: makes the spatial unit.
        names: of the spatial and of the temporal unit, as keys of a state dict have them.
    """

    def __init__(
        self, wide_in: int, wide_out: int, *, number: int, spatial: MakeSpatial, names: tuple[str, str]
    ) -> None:
        super().__init__()
        stride = 2 if number in STRIDED else 1
        self.first, self.names = number == 1, names
        self.residual: nn.Module = nn.Identity()
        if not self.first and (wide_in != wide_out or stride != 1):
            self.residual = TemporalUnit(wide_in, wide_out, kernel=1, stride=stride)
        self.add_module(names[0], spatial(number, wide_in, wide_out))
        self.add_module(names[1], TemporalUnit(wide_out, wide_out, stride=stride))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x
        for name in self.names:
            y = self.get_submodule(name)(y)
        return y.relu_() if self.first else y.add_(self.residual(x)).relu_()


class BlockBackbone(Backbone):
    """The structure of UNIK and AGCN: batch norm for each person slot, joint and coordinate, then blocks ``l1`` to
    ``l10``.

    ``persons`` is M, the number of person slots, each with its own statistics of batch norm. ``spatial`` and ``names``
    are as in :class:`Block`.

    Raises:
        ValueError: a size below 1; or, from ``joint_features``, clips of another number of person slots.
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


def _eager_on_cpu(x: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        and x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
    )


def _period(length: int, kernel: int) -> int:
    """L: an even number of frames, large enough that one end of the clip does not affect the other."""
    return 2 * math.ceil((length + kernel // 2) / 2)


def _transforms(length: int, kernel: int, *, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """D (P, T), G (P, kernel) and B (T, P), computed in float64 and returned with the dtype and device of ``like``."""
    period = _period(length, kernel)
    turns = torch.arange(period // 2 + 1, dtype=torch.float64)[:, None] * (2 * math.pi / period)
    frames = torch.arange(length, dtype=torch.float64) * turns
    taps = (torch.arange(kernel, dtype=torch.float64) - kernel // 2) * turns
    # Frequency 0 and the highest are real: of them only the real part is needed.
    inner = slice(1, period // 2)
    forward = _three(frames.cos(), -frames.sin(), inner)
    weigh = _three(taps.cos(), taps.sin(), inner)  # conjugated: what is called a convolution is a correlation
    twice = torch.full_like(turns, 2 / period)
    twice[[0, -1]] /= 2
    real, imaginary = twice * frames.cos(), -twice * frames.sin()
    # Products p of real parts, q of imaginary parts, r of sums: the result is p - q + i (r - p - q).
    back = torch.cat([real - imaginary, (-real - imaginary)[inner], imaginary[inner]]).T
    return forward.to(like), weigh.to(like), back.to(like)


def _three(real: Tensor, imaginary: Tensor, inner: slice) -> Tensor:
    """The rows of a transform for Gauss's three products: real parts, imaginary parts and sums, the latter two of the
    ``inner`` frequencies, since those of the others are real."""
    return torch.cat([real, imaginary[inner], (real + imaginary)[inner]])


_CENTRES = {"unik17": "neck", "h36m17": "thorax", "halpe26": "neck"}
"""The centre where it is not the root of the layout's bones: the joint between the shoulders, as in ``ntu25``."""


def centre(layout: Layout) -> int:
    """The joint that "inward" points to: between the shoulders where the layout has such a joint, else its root.

    ``ntu25``: spine_shoulder and ``openpose18``: neck, as in ST-GCN; ``coco17`` and ``penn13``: nose and head;
    ``unik17`` and ``halpe26``: neck; ``h36m17``: thorax.
    """
    return layout.names.index(_CENTRES[layout.name]) if layout.name in _CENTRES else layout.root


def partitions_by_distance(layout: Layout) -> Tensor:
    """ST-GCN's "spatial" strategy: a joint itself, its neighbours farther from the centre, and those nearer.

    The three add up to the adjacency with self-links, each column divided by its sum.
    """
    inward, itself = _inward(layout), torch.eye(len(layout.names))
    # A column takes from its rows. Its children are farther from the centre, its parent is nearer.
    parts = torch.stack([itself, inward.T, inward])
    return parts / parts.sum((0, 1))


def partitions_by_direction(layout: Layout) -> Tensor:
    """2s-AGCN's: self-links, links to the centre and links from it, each column of each divided by its sum."""
    inward, itself = _inward(layout), torch.eye(len(layout.names))
    parts = torch.stack([itself, inward, inward.T])
    return parts / parts.sum(1, keepdim=True).clamp(min=1)


def _inward(layout: Layout) -> Tensor:
    """1 at (parent, child) of every bone, the parent being the end nearer to the centre. The bones of every layout are
    a tree, so that each joint is reached once, in whatever order."""
    links: dict[int, set[int]] = {joint: set() for joint in range(len(layout.names))}
    for one, other in layout.bones:
        links[one].add(other)
        links[other].add(one)
    matrix = torch.zeros(len(layout.names), len(layout.names))
    edge, reached = [centre(layout)], {centre(layout)}
    while edge:
        parent = edge.pop()
        for child in links[parent] - reached:
            matrix[parent, child] = 1
            reached.add(child)
            edge.append(child)
    return matrix
