"""Optimisers step as configured; the learning rate at chosen steps, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from tmor_train.training.optimizer import NonFiniteError, Optimizer, OptimizerConfig, ScheduleConfig, lr_ratio


def stepped(config: OptimizerConfig) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix and a bias of ones after one step with gradients of one half."""
    matrix, bias = (torch.nn.Parameter(torch.ones(shape)) for shape in ((1, 1), (1,)))
    optimizer = Optimizer(config, ([matrix, bias], 1.0))
    optimizer.zero_grad(lr_ratio=0.2 / config.lr)
    for parameter in (matrix, bias):
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step(torch.tensor(1.0))
    return matrix.detach().flatten(), bias.detach()


def test_sgd_with_nesterov_and_decay() -> None:
    # The gradient with decay is 0.5 + 0.1 = 0.6; Nesterov's first step is 0.6 + 0.9 * 0.6 = 1.14.
    matrix, bias = stepped(OptimizerConfig(weight_decay=0.1))
    assert matrix.item() == pytest.approx(1 - 0.2 * 1.14)
    assert bias.item() == pytest.approx(1 - 0.2 * 1.14)


def test_decay_of_matrices_spares_biases() -> None:
    matrix, bias = stepped(OptimizerConfig(weight_decay=0.1, decays="matrices", momentum=0.0))
    assert matrix.item() == pytest.approx(1 - 0.2 * 0.6)
    assert bias.item() == pytest.approx(1 - 0.2 * 0.5)


def test_adamw_takes_its_decay_off_the_weights() -> None:
    matrix, bias = stepped(OptimizerConfig(method="adamw", weight_decay=0.1, decays="matrices"))
    # Adam's first step is as long as the rate; decay takes rate * decay of the weight.
    assert matrix.item() == pytest.approx(1 - 0.2 * 0.1 - 0.2, abs=1e-5)
    assert bias.item() == pytest.approx(1 - 0.2, abs=1e-5)


def test_groups_have_rates_of_their_own_and_one_bound_on_the_gradient() -> None:
    head, trunk = (torch.nn.Parameter(torch.ones(1)) for _ in range(2))
    config = OptimizerConfig(lr=0.1, momentum=0.0, weight_decay=0.0, clip=1.0)
    optimizer = Optimizer(config, ([head], 10.0), ([trunk], 1.0), ([], 3.0))
    optimizer.zero_grad(lr_ratio=0.5)
    head.grad, trunk.grad = torch.tensor([3.0]), torch.tensor([4.0])
    loss, norm = optimizer.step(torch.tensor(2.0))
    assert (loss, norm) == pytest.approx((2.0, 5.0))
    assert (head.item(), trunk.item()) == pytest.approx((1 - 0.5 * 10 * 0.1 * 0.6, 1 - 0.5 * 0.1 * 0.8), rel=1e-5)
    assert len(optimizer.state_dicts()) == 2


@pytest.mark.parametrize(("loss", "gradient"), [(float("nan"), 1.0), (1.0, float("inf"))])
def test_a_step_that_is_not_finite_is_not_taken(loss: float, gradient: float) -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = Optimizer(OptimizerConfig(), ([weight], 1.0))
    weight.grad = torch.tensor([gradient])
    with pytest.raises(NonFiniteError, match=f"the loss is {loss}"):
        optimizer.step(torch.tensor(loss))
    assert weight.item() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        *({"lr": 0.0}, {"weight_decay": -1.0}, {"momentum": 1.0}, {"betas": (0.9,)}, {"clip": 0.0}),
        *({"lr": float("nan")}, {"lr": float("inf")}, {"weight_decay": float("nan")}, {"clip": float("nan")}),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        OptimizerConfig(**wrong)  # type: ignore[arg-type]


def rates(config: ScheduleConfig, *steps: int) -> list[float]:
    return [lr_ratio(step, config, steps_per_epoch=10, epochs=6) for step in steps]


def test_a_warm_up_then_half_a_cosine_down_to_the_floor() -> None:
    config = ScheduleConfig(warmup=2.0, min_lr_ratio=0.1)
    # 20 steps of warm-up; then 40 of cosine, in the middle of which is the mean of 1 and the floor.
    assert rates(config, 0, 9, 19, 20, 40, 60) == pytest.approx([0.05, 0.5, 1.0, 1.0, 0.55, 0.1])


def test_no_warm_up_begins_at_the_full_rate() -> None:
    assert rates(ScheduleConfig(warmup=0.0), 0, 30) == pytest.approx([1.0, 0.5])


def test_constant_and_steps() -> None:
    assert rates(ScheduleConfig(shape="constant", warmup=1.0), 4, 10, 59) == pytest.approx([0.5, 1, 1])
    stepped = ScheduleConfig(shape="steps", warmup=0.0, milestones=(2, 4))
    assert rates(stepped, 19, 20, 39, 40) == pytest.approx([1, 0.1, 0.1, 0.01])


def test_a_floor_above_the_full_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="min_lr_ratio from 0 to 1"):
        ScheduleConfig(min_lr_ratio=1.5)
    with pytest.raises(ValueError, match="warmup is at least 0"):
        ScheduleConfig(warmup=float("nan"))
