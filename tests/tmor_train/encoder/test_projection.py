"""Heads give unit vectors in float32; temperatures stay within their bounds."""

import pytest
import torch
from torch import nn

from tmor_train.encoder.projection import Projection, Temperatures
from tmor_train.objective_config import ObjectiveConfig


@pytest.mark.parametrize(
    ("head", "parameters"), [("mlp", 6 * 6 + 6 + 6 * 4 + 4), ("linear", 6 * 4 + 4), ("identity", 0)]
)
def test_heads_give_unit_vectors(head, parameters):
    projection = Projection(head, 6, 6 if head == "identity" else 4)
    assert sum(p.numel() for p in projection.parameters()) == parameters
    for dtype in (torch.float32, torch.float64):
        out = projection.to(dtype)(torch.randn(5, 6, dtype=dtype))
        assert out.dtype == dtype
        assert torch.allclose(out.norm(dim=1), torch.ones(5, dtype=dtype))


def test_the_mlp_is_linear_relu_linear():
    torch.manual_seed(0)
    projection = Projection("mlp", 3, 2)
    first, _, second = projection.layers
    x = torch.randn(4, 3)
    expected = (x @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    assert torch.allclose(projection(x), nn.functional.normalize(expected, dim=1), atol=1e-6)


def test_autocast_ends_before_the_length_is_taken():
    projection = Projection("linear", 8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert projection.layers(torch.randn(2, 8)).dtype == torch.bfloat16
        out = projection(torch.randn(2, 8))
    assert out.dtype == torch.float32
    assert out.norm(dim=1).sub(1).abs().max().item() < 1e-6


def test_a_vector_without_direction_has_finite_gradients():
    x = torch.zeros(1, 3, requires_grad=True)
    out = Projection("identity", 3, 3)(x)
    out.sum().backward()
    assert out.abs().max().item() == 0
    assert x.grad.isfinite().all()


def test_an_identity_cannot_change_the_width():
    with pytest.raises(ValueError, match="set width=512"):
        Projection("identity", 512, 128)


def test_a_fixed_temperature_is_no_parameter():
    temperatures = Temperatures(ObjectiveConfig(temperature_mv=0.5))
    assert temperatures() == (1 / 0.07, 2.0, 1 / 0.07)
    assert not list(temperatures.parameters())
    temperatures.clamp()


def test_a_learned_temperature_starts_as_given_and_stays_within_its_bounds():
    temperatures = Temperatures(ObjectiveConfig(temperature="learned", temperature_mv=0.5))
    assert [scale.item() for scale in temperatures()] == pytest.approx([1 / 0.07, 2.0, 1 / 0.07])
    with torch.no_grad():
        temperatures.log_scales.copy_(torch.tensor([9.0, -3.0, 1.0]))
    temperatures.clamp()
    assert [scale.item() for scale in temperatures()] == pytest.approx([100.0, 1.0, 2.718282])
