"""Head and trunk are trained at their own rates, and never by a step that is not finite."""

import pytest
import torch
from torch import nn

from tmor_train.evaluation.head_optimizer import HeadOptimizer
from tmor_train.training.optimizer import OptimizerConfig


def made(head: nn.Linear, trunk: nn.Linear) -> HeadOptimizer:
    config = OptimizerConfig(rate=0.5)
    return HeadOptimizer(config, head=head.parameters(), trunk=trunk.parameters(), head_rate=10.0)


def test_a_step_that_is_not_finite_changes_nothing_and_a_state_comes_back() -> None:
    torch.manual_seed(0)
    head, trunk = nn.Linear(3, 2), nn.Linear(4, 3)
    optimizer = made(head, trunk)
    before = [parameter.detach().clone() for parameter in optimizer.parameters]
    optimizer.start_step(0.1)
    with pytest.raises(ArithmeticError, match="the loss is nan and its gradient's norm"):
        optimizer.step(head(trunk(torch.ones(1, 4))).sum() * float("nan"))
    assert all(torch.equal(one, other) for one, other in zip(before, optimizer.parameters, strict=True))
    optimizer.start_step(0.1)
    optimizer.step(head(trunk(torch.ones(1, 4))).square().sum())
    assert not any(torch.equal(one, other) for one, other in zip(before, optimizer.parameters, strict=True))
    states = optimizer.state_dict()
    assert [state["param_groups"][0]["lr"] for state in states] == [pytest.approx(0.5), pytest.approx(0.05)]
    other = made(head, trunk)
    other.load_state_dict(states)
    assert [state["param_groups"] for state in other.state_dict()] == [state["param_groups"] for state in states]
