"""Encoders as configured."""

import pytest
import torch

from tmor_train.encoder.motion import EncoderConfig, encoder_of

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
