"""Encoders that an evaluation begins with: out of a run, or new ones of a seed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tmor_train
from tests import gestures, planted, skeletons
from tmor_train.configuration import as_json, changed
from tmor_train.data import Batching, Loader, LoaderState, MotionBatch
from tmor_train.data.augment import Flip, Noise
from tmor_train.data.dataset import from_clips
from tmor_train.data.provenance import SeenClips
from tmor_train.evaluation.config import ScratchConfig, StartConfig, TaskConfig, TTAConfig
from tmor_train.evaluation.encoders import (
    EncoderNotFoundError,
    Source,
    encoder_name,
    features_of,
    load_encoder,
    scratch_like,
    seen_notes,
    tta_features,
)
from tmor_train.evaluation.task import task_of
from tmor_train.methods import AimCLR, CrosSCLR
from tmor_train.pretrained.encoder import Pretrained, UnusableEncoderError
from tmor_train.training.checkpoint import CheckpointError
from tmor_train.training.config import PretrainConfig

torch.set_num_threads(1)


def same(one: Pretrained, other: Pretrained) -> bool:
    pairs = zip(one.network.state_dict().values(), other.network.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_new_encoder_is_a_function_of_the_seed() -> None:
    config = changed(StartConfig(weights="scratch"), ["scratch.encoder.backbone=stgcn", "scratch.sampling.frames=8"])
    torch.manual_seed(9)
    one, source = load_encoder(config, seed=0, device="cpu")
    torch.rand(3)
    assert same(one, load_encoder(config, seed=0, device="cpu")[0])
    assert not same(one, load_encoder(config, seed=1, device="cpu")[0])
    assert source == Source("scratch", None)
    assert not one.network.training
    assert not any(parameter.requires_grad for parameter in one.network.parameters())


def test_a_new_encoder_sees_clips_as_configured() -> None:
    config = changed(StartConfig(weights="scratch"), ["scratch.streams=joint,bone", "scratch.encoder.channels=4"])
    encoder, _ = load_encoder(config, seed=0, device="cpu")
    assert encoder.sampling == ScratchConfig().sampling
    assert encoder.views.streams == ("joint", "bone")
    assert encoder.network.channels == 4


def test_an_encoder_of_a_run_sees_clips_as_in_its_training(demo_run: Path) -> None:
    encoder, source = load_encoder(StartConfig(weights=str(demo_run)), seed=0, device="cpu")
    known = tmor_train.load(demo_run)
    assert same(encoder, known)
    assert encoder.sampling == known.sampling
    assert source == Source("step-000000008.pt (ema)", known.sha256)


def test_frames_their_choice_and_which_encoder_can_be_said(demo_run: Path) -> None:
    config = StartConfig(weights=str(demo_run), of="online", frames=12, choice="window")
    encoder, source = load_encoder(config, seed=0, device="cpu")
    known = tmor_train.load(demo_run, of="online")
    assert same(encoder, known)
    assert not same(encoder, tmor_train.load(demo_run, of="ema"))
    assert (encoder.sampling.frames, encoder.sampling.choice) == (12, "window")
    assert encoder.sampling.normalise == known.sampling.normalise
    assert source.name == "step-000000008.pt (online)"
    with pytest.raises(ValueError, match="frames is at least 1, not 0"):
        load_encoder(StartConfig(weights=str(demo_run), frames=0), seed=0, device="cpu")


def test_no_encoder_and_no_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderNotFoundError, match=r"give --from CHECKPOINT .* or --from scratch"):
        encoder_name(StartConfig())
    with pytest.raises(EncoderNotFoundError):
        load_encoder(StartConfig(), seed=0, device="cpu")
    with pytest.raises(CheckpointError, match="nowhere"):
        load_encoder(StartConfig(weights=str(tmp_path / "nowhere")), seed=0, device="cpu")


torch.set_num_threads(1)


@pytest.fixture(scope="module")
def encoder() -> Pretrained:
    changes = ["scratch.encoder.backbone=stgcn", "scratch.sampling.frames=8"]
    return load_encoder(changed(StartConfig(weights="scratch"), changes), seed=0, device="cpu")[0]


MOTIONS = gestures.motions(gestures.CLASSES[:2] * 2)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(("crops", "mirrored"), [(1, "off"), (1, "on"), (3, "off"), (3, "on")])
def test_looks_are_averaged(encoder: Pretrained, crops: int, mirrored: str, workers: int) -> None:
    look = TTAConfig(crops=crops, mirrored=mirrored, batch=3)  # type: ignore[arg-type]
    found = features_of(encoder, MOTIONS, look, workers=workers)
    assert (found.shape, found.dtype) == ((4, 256), np.float32)
    for number in range(4):
        looks = []
        for crop in range(crops):
            loader = Loader(
                MOTIONS,
                sampling=replace(encoder.sampling, draw="random" if crop else "deterministic"),
                batching=Batching(size=1, order="stored"),
                workers=0,
            )
            one = loader.gather(np.array([number]), epoch=crop)
            for batch in (one, Flip(probability=1.0)(one, torch.Generator()))[: 1 if mirrored == "off" else 2]:
                looks.append(encoder.network.clip_features(batch.motion_NCTVM, batch.present)[0].numpy())
        np.testing.assert_allclose(found[number], sum(looks) / len(looks), rtol=1e-4, atol=1e-5)


def test_looks_differ_and_are_the_same_each_time(encoder: Pretrained) -> None:
    one, three = (features_of(encoder, MOTIONS, TTAConfig(crops=n), workers=0) for n in (1, 3))
    assert not np.allclose(one, three, atol=1e-6)
    np.testing.assert_array_equal(three, features_of(encoder, MOTIONS, TTAConfig(crops=3), workers=0))


def test_people_are_seen_one_by_one_and_stand_side_by_side(encoder: Pretrained) -> None:
    two = from_clips(skeletons.counted(f"two-{n}", frames=6 + n, people=2) for n in range(3))
    found = features_of(encoder, two, TTAConfig(), people=2, workers=0)
    assert found.shape == (3, 512)
    np.testing.assert_array_equal(found[:, :256], features_of(encoder, two, TTAConfig(), workers=0))
    second = replace(encoder, sampling=replace(encoder.sampling, rank=1))
    np.testing.assert_array_equal(found[:, 256:], features_of(second, two, TTAConfig(), workers=0))
    assert not np.allclose(found[:, :256], found[:, 256:], atol=1e-3)
    pairs = replace(encoder, sampling=replace(encoder.sampling, people=2))
    with pytest.raises(UnusableEncoderError, match="sees 2 people at once; leave people=1"):
        features_of(pairs, two, TTAConfig(), people=2, workers=0)


def test_an_answer_lands_at_its_clip_whatever_the_batch(encoder: Pretrained) -> None:
    def answer(batch: MotionBatch) -> torch.Tensor:
        return torch.stack([batch.index_N, 10 * batch.index_N], 1)

    for size in (1, 3, 9):
        found = tta_features(MOTIONS, encoder, TTAConfig(batch=size, crops=2), answer, workers=0)
        assert found.tolist() == [[n, 10 * n] for n in range(4)]


def test_looking_changes_nothing_in_the_encoder(encoder: Pretrained) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.network.state_dict().items()}
    features_of(encoder, MOTIONS, TTAConfig(crops=2, mirrored="on"), workers=0)
    after = encoder.network.state_dict()
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not encoder.network.training


def test_still_views_and_streams_are_the_encoders(encoder: Pretrained) -> None:
    loader = Loader(MOTIONS, sampling=encoder.sampling, batching=Batching(size=4, order="stored"), workers=0)
    loader.state = LoaderState()
    batch = next(iter(loader))
    both = replace(encoder, views=replace(encoder.views, streams=("joint", "motion")))
    with pytest.raises(UnusableEncoderError, match="have 2 coordinates a joint, but the encoder of scratch takes 1"):
        both.taken(batch, (), torch.Generator())
    noisy = encoder.taken(batch, (Noise(sigma=0.1, probability=1.0),), torch.Generator().manual_seed(0))
    assert not torch.equal(noisy.motion_NCTVM, batch.motion_NCTVM)
    still = replace(encoder, views=replace(encoder.views, still=(Flip(probability=1.0),)))
    np.testing.assert_allclose(
        features_of(still, MOTIONS, TTAConfig(), workers=0),
        2 * features_of(encoder, MOTIONS, TTAConfig(mirrored="on"), workers=0)
        - features_of(encoder, MOTIONS, TTAConfig(), workers=0),
        rtol=1e-3,
        atol=1e-4,
    )


def test_clips_of_other_coordinates_are_refused() -> None:
    changes = ["scratch.encoder.backbone=stgcn", "scratch.encoder.channels=3"]
    deep, _ = load_encoder(changed(StartConfig(weights="scratch"), changes), seed=0, device="cpu")
    with pytest.raises(
        UnusableEncoderError, match="the clips have 2 coordinates a joint, but the encoder of scratch takes 3"
    ):
        features_of(deep, MOTIONS, TTAConfig(), workers=0)


def test_no_clips_have_no_features(encoder: Pretrained) -> None:
    with pytest.raises(ValueError, match="no clips to encode"):
        features_of(encoder, MOTIONS.select([]), TTAConfig(), workers=0)


def test_new_weights_of_an_encoder_that_a_method_builds_itself_are_not_made() -> None:
    config = changed(StartConfig(weights="scratch"), ["scratch.encoder.backbone=stgcn", "scratch.sampling.frames=8"])
    encoder, _ = load_encoder(config, seed=0, device="cpu")
    for method, known in ((None, True), (AimCLR(), True), (CrosSCLR(), False)):
        trained = replace(encoder, config=as_json(PretrainConfig(recipe="some", about="", method=method)))
        assert (scratch_like(trained) is not None) == known


def test_measured_clips_of_footage_that_was_trained_on_are_told(tmp_path: Path) -> None:
    apart = {**dict.fromkeys(planted.ROWS, "train"), "alone": "test", "copied": "test", "copy": "test"}
    planted.build(tmp_path / "measured", apart)
    planted.build(tmp_path / "other", {name: "train" for name in planted.ROWS if name in ("copy", "one-day")})
    task = task_of(TaskConfig(benchmark="shards", folder=str(tmp_path / "measured")))
    data = {"shards": [str(tmp_path / "other")], "sets": [], "split": "train", "apart_from": []}

    def notes(**changed: object) -> tuple[str, ...]:
        config = {"data": {**data, **changed}, "objective": {"w_mt": 0.0}}
        seen = SeenClips.of(task.train.select(np.zeros(0, np.int64)), captions=False)
        return seen_notes(task, Source("a.pt (ema)", "ab" * 32, config, seen), str(tmp_path / "measured"))

    (note,) = notes()
    assert note.startswith(
        "the encoder was pre-trained on footage of 2 of the 3 measured clips, by signature, file and"
    )
    assert notes(apart_from=[str(tmp_path / "measured")]) == notes(shards=[]) == notes(split="val") == ()
    assert notes(shards=[str(tmp_path / "measured")]) == ()  # its own parts are compared before anything is measured
    (unknown,) = notes(shards=[str(tmp_path / "gone")])
    assert unknown.startswith("whether the encoder was pre-trained on footage of measured clips is not known: ")
