"""Fused networks compute what the networks they are made of do."""

from typing import Any

import pytest
import torch

from tests.tmor_train.pretrained.test_export import unlike_new
from tmor_train.backbones.fused import FusedBackbone, fused
from tmor_train.encoder import EncoderConfig, encoder_of

torch.set_num_threads(1)


@pytest.mark.parametrize("frames", [64, 45, 7])
@pytest.mark.parametrize(
    ("settings", "persons"),
    [({}, 1), ({"people": "masked_mean"}, 2), ({"heads": 2, "channels": 6}, 1), ({"backbone": "agcn"}, 2)],
)
@torch.no_grad()
def test_the_same_features(frames: int, settings: dict[str, Any], persons: int) -> None:
    torch.manual_seed(0)
    network = unlike_new(encoder_of(EncoderConfig(**settings), layout="unik17", persons=persons))
    network.get_buffer("data_bn.running_mean").normal_(0, 0.1)
    one = fused(network)
    assert isinstance(one, FusedBackbone)
    motion = torch.randn(3, network.channels, frames, 17, persons)
    motion[1, ..., -1] = 0  # a slot without a person
    wanted = network.pooled_frames(motion)
    assert wanted.shape == (3, 256, (frames + 3) // 4)
    torch.testing.assert_close(one.pooled_frames(motion), wanted, rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))
    torch.testing.assert_close(one(motion), network(motion), rtol=1e-4, atol=1e-4 * float(wanted.abs().max()))


def test_other_networks_stay_as_they_are() -> None:
    for settings in ({"backbone": "stgcn"}, {"tau": 3}):
        network = encoder_of(EncoderConfig(**settings), layout="unik17", persons=1)
        assert fused(network) is network
