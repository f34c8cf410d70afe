"""Encoders that an evaluation begins with: out of a run, or new ones of a seed."""

from pathlib import Path

import pytest
import torch

import tmor_train
from tmor_train.configuration import changed
from tmor_train.evaluation.config import ScratchConfig, StartConfig
from tmor_train.evaluation.encoders import NoEncoder, Source, named, started
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.training.checkpoint import BadCheckpoint

torch.set_num_threads(1)


def same(one: Pretrained, other: Pretrained) -> bool:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_new_encoder_is_a_function_of_the_seed() -> None:
    config = changed(StartConfig(weights="scratch"), ["scratch.encoder.backbone=stgcn", "scratch.sampling.frames=8"])
    torch.manual_seed(9)
    one, source = started(config, seed=0, device="cpu")
    torch.rand(3)
    assert same(one, started(config, seed=0, device="cpu")[0])
    assert not same(one, started(config, seed=1, device="cpu")[0])
    assert source == Source("scratch", None)
    assert not one.network.training
    assert not any(parameter.requires_grad for parameter in one.network.parameters())


def test_a_new_encoder_sees_clips_as_it_is_told() -> None:
    config = changed(StartConfig(weights="scratch"), ["scratch.streams=joint,bone", "scratch.encoder.channels=4"])
    encoder, _ = started(config, seed=0, device="cpu")
    assert encoder.sampling == ScratchConfig().sampling
    assert encoder.views.streams == ("joint", "bone")
    assert encoder.network.channels == 4


def test_an_encoder_of_a_run_sees_clips_as_in_its_training(demo_run: Path) -> None:
    encoder, source = started(StartConfig(weights=str(demo_run)), seed=0, device="cpu")
    known = tmor_train.load(demo_run)
    assert same(encoder, known)
    assert encoder.sampling == known.sampling
    assert source == Source("step-000000008.pt (averaged)", known.sha256)


def test_frames_their_choice_and_which_encoder_can_be_said(demo_run: Path) -> None:
    config = StartConfig(weights=str(demo_run), of="live", frames=12, choice="window")
    encoder, source = started(config, seed=0, device="cpu")
    known = tmor_train.load(demo_run, of="live")
    assert same(encoder, known)
    assert not same(encoder, tmor_train.load(demo_run, of="averaged"))
    assert (encoder.sampling.frames, encoder.sampling.choice) == (12, "window")
    assert encoder.sampling.normalise == known.sampling.normalise
    assert source.name == "step-000000008.pt (live)"


def test_no_encoder_and_no_checkpoint_are_told(tmp_path: Path) -> None:
    with pytest.raises(NoEncoder, match=r"say --from CHECKPOINT .* or --from scratch"):
        named(StartConfig())
    with pytest.raises(NoEncoder):
        started(StartConfig(), seed=0, device="cpu")
    with pytest.raises(BadCheckpoint, match="nowhere"):
        started(StartConfig(weights=str(tmp_path / "nowhere")), seed=0, device="cpu")
