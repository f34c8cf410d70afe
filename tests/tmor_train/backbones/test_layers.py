from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tmor_train.backbones.layers import TemporalConvolution

torch.set_num_threads(1)


def made(wide_in: int, wide_out: int, *, stride: int = 1, kernel: int = 9) -> TemporalConvolution:
    torch.manual_seed(0)
    return TemporalConvolution(wide_in, wide_out, kernel=kernel, stride=stride)


def plainly(conv: TemporalConvolution, x: torch.Tensor) -> torch.Tensor:
    return functional.conv2d(x, conv.weight, conv.bias, conv.stride, conv.padding)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("length", "kernel"), [(1, 9), (2, 9), (3, 9), (7, 9), (16, 9), (33, 9), (12, 3), (5, 1)])
def test_it_is_the_plain_convolution(length: int, kernel: int, stride: int) -> None:
    conv = made(6, 5, stride=stride, kernel=kernel).double()
    x = torch.randn(2, 6, length, 3, dtype=torch.float64)
    torch.testing.assert_close(conv._by_frequencies(x), plainly(conv, x), rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_the_plain_convolution() -> None:
    conv = made(4, 3, stride=2).double()
    x = torch.randn(2, 4, 11, 3, dtype=torch.float64, requires_grad=True)
    leaves = (x, conv.weight, conv.bias)
    slope = torch.randn(2, 3, 6, 3, dtype=torch.float64)
    found = torch.autograd.grad(conv._by_frequencies(x), leaves, slope)
    for one, other in zip(found, torch.autograd.grad(plainly(conv, x), leaves, slope), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("channels", "length"), [(64, 64), (128, 32), (256, 16)])
def test_it_rounds_no_worse_than_the_plain_sum(channels: int, length: int) -> None:
    conv = made(channels, channels)
    x = torch.randn(1, channels, length, 4)
    with torch.no_grad():
        exact = functional.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=(4, 0))  # type: ignore[union-attr]
        error = (conv._by_frequencies(x) - exact).norm() / exact.norm()
    assert error < 1e-6


def test_a_loud_frame_leaves_the_quiet_ones_their_precision() -> None:
    conv = made(64, 64)
    x = torch.randn(1, 64, 64, 1)
    x[:, :, 0] *= 100
    with torch.no_grad():
        torch.testing.assert_close(conv._by_frequencies(x)[:, :, 10:], plainly(conv, x)[:, :, 10:], rtol=0, atol=2e-4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_it_takes_the_way_that_is_less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    real = TemporalConvolution._by_frequencies

    def noted(self: TemporalConvolution, x: torch.Tensor) -> torch.Tensor:
        taken.append(x.shape[2])
        return real(self, x)

    monkeypatch.setattr(TemporalConvolution, "_by_frequencies", noted)
    with torch.no_grad():
        for length in (1, 16, 300):
            made(64, 64)(torch.zeros(1, 64, length, 2))
        made(2, 64, kernel=1)(torch.zeros(1, 2, 16, 2))
        with torch.autocast("cpu", torch.bfloat16):
            made(64, 64)(torch.zeros(1, 64, 16, 2))
        torch.jit.trace(made(64, 64), torch.zeros(1, 64, 16, 2), check_trace=False)
    assert taken == [16]


def test_its_parameters_are_those_of_a_convolution() -> None:
    plain = nn.Conv2d(4, 6, (9, 1), padding=(4, 0))
    conv = made(4, 6)
    conv.load_state_dict(plain.state_dict())
    x = torch.randn(1, 4, 20, 2)
    torch.testing.assert_close(conv(x), plain(x))


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel is odd"):
        TemporalConvolution(3, 3, kernel=4)
