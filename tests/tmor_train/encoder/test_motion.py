"""Encoders as configured; the EMA follows, keeps its own statistics and has no gradient."""

import pytest
import torch
from torch import nn

from posecap.joints import LayoutError
from tmor_train.encoder.motion import EMA, EncoderConfig, encoder_of

torch.set_num_threads(1)


@pytest.mark.parametrize(("backbone", "name"), [("unik", "UNIK"), ("agcn", "AGCN"), ("stgcn", "STGCN")])
def test_each_backbone_takes_the_layout_and_the_persons(backbone: str, name: str) -> None:
    config = EncoderConfig(backbone=backbone, channels=4)  # type: ignore[arg-type]
    encoder = encoder_of(config, layout="unik17", persons=2)
    assert type(encoder).__name__ == name
    assert encoder.clip_features(torch.zeros(1, 4, 8, 17, 2)).shape == (1, 256)


def test_uniks_own_settings() -> None:
    encoder = encoder_of(EncoderConfig(tau=3, heads=4, people="masked_mean"), layout="coco17", persons=1)
    assert (encoder.tau, encoder.heads, encoder.people) == (3, 4, "masked_mean")


@pytest.mark.parametrize("backbone", ["unik", "agcn", "stgcn"])
def test_an_unknown_layout_is_named(backbone: str) -> None:
    with pytest.raises(LayoutError, match=r"unknown layout 'unik18'; known: .*unik17"):
        encoder_of(EncoderConfig(backbone=backbone), layout="unik18", persons=1)  # type: ignore[arg-type]


def test_it_follows_with_the_given_momentum():
    online = nn.Linear(1, 1, bias=False)
    nn.init.constant_(online.weight, 1.0)
    ema = EMA(online, 0.9)
    nn.init.constant_(online.weight, 2.0)
    for expected in (1.1, 1.19):
        ema.update(online)
        assert ema.module.weight.item() == pytest.approx(expected)
    assert online.weight.item() == 2


def test_its_keys_have_no_gradient():
    online = nn.Linear(3, 2)
    ema = EMA(online, 0.9)
    x = torch.randn(4, 3, requires_grad=True)
    assert torch.equal(ema(x), online(x))
    assert not ema(x).requires_grad
    assert not any(parameter.requires_grad for parameter in ema.parameters())


def test_running_statistics_are_its_own():
    online = nn.BatchNorm1d(1, momentum=1.0)
    ema = EMA(online, 0.9)
    online(torch.tensor([[0.0], [2.0]]))
    ema(torch.tensor([[4.0], [6.0]]))
    ema.update(online)
    assert (online.running_mean.item(), ema.module.running_mean.item()) == (1, 5)


def test_running_statistics_are_averaged_where_that_is_asked_for():
    online = nn.BatchNorm1d(1)
    ema = EMA(online, 0.75, average_buffers=True)
    online.running_mean.fill_(4.0)
    online.num_batches_tracked.fill_(3)
    ema.update(online)
    assert (ema.module.running_mean.item(), ema.module.num_batches_tracked.item()) == (1, 3)
    ema.copy_from(online)
    assert ema.module.running_mean.item() == 4


def test_a_module_without_parameters_is_averaged_too():
    online = nn.Identity()
    ema = EMA(online, 0.9)
    ema.update(online)
    assert ema(torch.tensor(3.0)).item() == 3


def test_a_momentum_of_one_would_never_move():
    with pytest.raises(ValueError, match="below 1"):
        EMA(nn.Linear(1, 1), 1.0)
