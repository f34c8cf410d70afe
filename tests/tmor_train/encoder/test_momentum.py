"""The averaged copy follows, keeps its own statistics and has no gradient."""

import pytest
import torch
from torch import nn

from tmor_train.encoder.momentum import EMA


def test_it_follows_with_the_given_momentum():
    live = nn.Linear(1, 1, bias=False)
    nn.init.constant_(live.weight, 1.0)
    averaged = EMA(live, 0.9)
    nn.init.constant_(live.weight, 2.0)
    for expected in (1.1, 1.19):
        averaged.update(live)
        assert averaged.module.weight.item() == pytest.approx(expected)
    assert live.weight.item() == 2


def test_its_keys_have_no_gradient():
    live = nn.Linear(3, 2)
    averaged = EMA(live, 0.9)
    x = torch.randn(4, 3, requires_grad=True)
    assert torch.equal(averaged(x), live(x))
    assert not averaged(x).requires_grad
    assert not any(parameter.requires_grad for parameter in averaged.parameters())


def test_running_statistics_are_its_own():
    live = nn.BatchNorm1d(1, momentum=1.0)
    averaged = EMA(live, 0.9)
    live(torch.tensor([[0.0], [2.0]]))
    averaged(torch.tensor([[4.0], [6.0]]))
    averaged.update(live)
    assert (live.running_mean.item(), averaged.module.running_mean.item()) == (1, 5)


def test_a_module_without_parameters_is_averaged_too():
    live = nn.Identity()
    averaged = EMA(live, 0.9)
    averaged.update(live)
    assert averaged(torch.tensor(3.0)).item() == 3


def test_a_momentum_of_one_would_never_move():
    with pytest.raises(ValueError, match="below 1"):
        EMA(nn.Linear(1, 1), 1.0)
