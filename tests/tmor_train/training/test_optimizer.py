"""Optimisers step as configured."""

import pytest
import torch

from tmor_train.training.optimizer import OptimizerConfig, optimizer_of, set_rate


def stepped(config: OptimizerConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix and a bias of ones after one step with gradients of one half."""
    matrix, bias = (torch.nn.Parameter(torch.ones(shape)) for shape in ((1, 1), (1,)))
    optimizer = optimizer_of(config, [matrix, bias])
    for parameter in (matrix, bias):
        parameter.grad = torch.full_like(parameter, 0.5)
    set_rate(optimizer, 0.2)
    optimizer.step()
    return matrix.detach().flatten(), bias.detach()


def test_sgd_with_nesterov_and_decay() -> None:
    # The gradient with decay is 0.5 + 0.1 = 0.6; Nesterov's first step is 0.6 + 0.9 * 0.6 = 1.14.
    matrix, bias = stepped(OptimizerConfig(decay=0.1))
    assert matrix.item() == pytest.approx(1 - 0.2 * 1.14)
    assert bias.item() == pytest.approx(1 - 0.2 * 1.14)


def test_decay_of_matrices_spares_biases() -> None:
    matrix, bias = stepped(OptimizerConfig(decay=0.1, decays="matrices", momentum=0.0))
    assert matrix.item() == pytest.approx(1 - 0.2 * 0.6)
    assert bias.item() == pytest.approx(1 - 0.2 * 0.5)


def test_adamw_takes_its_decay_off_the_weights() -> None:
    matrix, bias = stepped(OptimizerConfig(method="adamw", decay=0.1, decays="matrices"))
    # Adam's first step is as long as the rate; decay takes rate * decay of the weight.
    assert matrix.item() == pytest.approx(1 - 0.2 * 0.1 - 0.2, abs=1e-5)
    assert bias.item() == pytest.approx(1 - 0.2, abs=1e-5)


@pytest.mark.parametrize("wrong", [{"rate": 0.0}, {"decay": -1.0}, {"momentum": 1.0}, {"betas": (0.9,)}, {"clip": 0.0}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        OptimizerConfig(**wrong)  # type: ignore[arg-type]
