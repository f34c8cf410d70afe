"""The convolution along time, computed on a CPU by discrete Fourier transforms, which need far fewer multiplications.

It is two thirds of the multiplications of every backbone.

A convolution of T frames by 9 taps is a product of each frequency of the clip with the same frequency of the kernel.
Discrete Fourier transforms of so few frames are matrix products, and a complex product is three real ones, of the real
part, the imaginary part and their sum (Gauss). With three matrices that depend on T alone, and P = 1.5 L - 1 rows for a
period of L = T + 4 frames (T + 5 where T is odd), at which the ends of the clip do not overlap:

    y = B ((G w) * (D x)),   D (P, T), G (P, 9), B (T, P),   * a product of channels in each of the P rows

With a stride only every stride-th row of B is computed. Instead of 9 products of channels per frame there are about 1.6
at T = 64, and the transforms. The result is the same, with
rounding errors no larger than those of the plain sum.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_WORTH_IT = 0.65
"""The transforms are used if they need less than this share of the plain convolution's products; measured on a CPU."""


class TemporalConvolution(nn.Conv2d):
    """A convolution (kernel, 1) with padding (kernel - 1) / 2; the parameters are those of ``nn.Conv2d``.

    (N, C, T, V) to (N, C', ceil(T / stride), V), N counting clips times people. ``kernel`` is odd.

    In eager mode on a CPU, in float32 or float64, Fourier transforms are used where they are less work. Elsewhere (GPU,
    autocast, compiled or exported) it is the plain convolution, for which those libraries have fast implementations.
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
    return torch.cat([real, imaginary[inner], (real + imaginary)[inner]])
