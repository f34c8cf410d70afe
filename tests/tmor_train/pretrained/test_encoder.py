"""Skeletons in, vectors out, nearest texts out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tmor_train
from posecap.joints import LayoutError
from tmor_train.backbones.unik import UNIK
from tmor_train.configuration import from_json
from tmor_train.data import Clip, Normalise, Sampling, read_shards
from tmor_train.data.augment import Project
from tmor_train.pretrained.encoder import Pretrained, UnusableEncoderError
from tmor_train.training import checkpoint
from tmor_train.training.config import PretrainConfig, ViewConfig
from tmor_train.training.distributed import DistributedContext
from tmor_train.training.train_state import TrainState

torch.set_num_threads(1)
SIZE = (640.0, 480.0)


@pytest.fixture(scope="module")
def encoder(demo_run: Path) -> Pretrained:
    return tmor_train.load(demo_run)


def walker(*, people: int = 1, frames: int = 20, joints: int = 17, coordinates: int = 2, seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed)
    places = draw.uniform(50, 400, (people, frames, joints, coordinates))
    return np.concatenate([places, np.ones((people, frames, joints, 1))], -1).astype(np.float32)


def bare(network: UNIK, **views: object) -> Pretrained:
    """An encoder as its parts."""
    sampling = Sampling(frames=8, people=1, layout="unik17", normalise=Normalise())
    views_of = ViewConfig(**views)  # type: ignore[arg-type]
    return Pretrained(network=network.eval(), sampling=sampling, views=views_of, path=Path("bare.pt"), sha256="0")


@pytest.mark.parametrize("of", ["ema", "online"])
def test_vectors_are_those_of_training(demo_run: Path, demo_shards: Path, of: str) -> None:
    encoder = tmor_train.load(demo_run, of=of)  # type: ignore[arg-type]
    assert encoder.config is not None
    config = from_json(PretrainConfig, encoder.config)
    config = replace(config, clusters=replace(config.clusters, of=of))  # type: ignore[arg-type]
    motions = read_shards(demo_shards)
    train_state = TrainState(config, motions, DistributedContext())
    train_state.load_state_dict(checkpoint.load(encoder.path)["learner"])
    index, vectors = zip(*encoder.embed_set(motions, batch=256), strict=True)
    np.testing.assert_array_equal(np.concatenate(index), np.arange(13))
    np.testing.assert_array_equal(np.concatenate(vectors), train_state.embeddings().numpy())


def test_a_clip_alone_is_as_in_its_set(encoder: Pretrained, demo_shards: Path) -> None:
    motions = read_shards(demo_shards)
    ((_, vectors),) = encoder.embed_set(motions, workers=0)
    clip = motions.clip(4)
    alone = encoder.embed(clip.joints_MTJC, layout=clip.layout, size=(clip.width, clip.height))
    assert (alone.shape, alone.dtype) == ((256,), np.float32)
    np.testing.assert_allclose(alone, vectors[4], rtol=1e-4, atol=1e-5)
    assert np.abs(vectors[3] - vectors[4]).max() > 1e-3  # other clips have other vectors


def test_one_person_needs_no_axis_and_tensors_are_taken(encoder: Pretrained) -> None:
    joints = walker()
    wanted = encoder.embed(joints, size=SIZE)
    np.testing.assert_array_equal(encoder.embed(joints[0], size=SIZE), wanted)
    np.testing.assert_array_equal(encoder.embed(torch.from_numpy(joints), size=SIZE), wanted)


def test_layout_and_picture_count(encoder: Pretrained) -> None:
    joints = walker()
    one = encoder.embed(joints, layout="coco17", size=SIZE)
    assert np.abs(encoder.embed(joints, layout="unik17", size=SIZE) - one).max() > 1e-3
    assert np.abs(encoder.embed(joints, layout="coco17", size=(1280, 480)) - one).max() > 1e-3


def test_clips_of_many_kinds_at_once(encoder: Pretrained) -> None:
    kinds = [("coco17", 17, 9, 1), ("penn13", 13, 30, 1), ("halpe26", 26, 5, 3)]
    clips = [
        Clip(
            key=layout,
            joints_MTJC=walker(people=people, frames=frames, joints=joints),
            layout=layout,
            width=640,
            height=480,
        )
        for layout, joints, frames, people in kinds
    ]
    vectors = encoder.embed_clips(clips, batch=2)
    assert vectors.shape == (3, 256)
    for clip, vector in zip(clips, vectors, strict=True):
        alone = encoder.embed(clip.joints_MTJC, layout=clip.layout, size=SIZE)
        np.testing.assert_allclose(vector, alone, rtol=1e-4, atol=1e-5)


def test_clips_that_cannot_be_embedded(encoder: Pretrained) -> None:
    joints = walker()
    with pytest.raises(LayoutError, match="need the width and height"):
        encoder.embed(joints)
    with pytest.raises(LayoutError, match=r"are not \(M, T, 13, 3 or 4\) of 'penn13'"):
        encoder.embed(joints, layout="penn13", size=SIZE)
    with pytest.raises(LayoutError, match="dog9"):
        encoder.embed(joints, layout="dog9", size=SIZE)
    with pytest.raises(LayoutError, match="finite"):
        encoder.embed(joints * np.float32(np.nan), size=SIZE)
    with pytest.raises(UnusableEncoderError, match="no joint of the clip has a score above 0"):
        encoder.embed(joints * np.float32(0), size=SIZE)


def test_space_is_not_for_an_encoder_of_pictures() -> None:
    torch.manual_seed(0)
    network, joints = UNIK(persons=1), walker(coordinates=3)
    with pytest.raises(UnusableEncoderError, match=r"have 3 coordinates a joint, but the encoder of bare.pt takes 2"):
        bare(network).embed(joints, layout="unik17")
    seen = bare(network, still=(Project(yaw=0.0, pitch=0.0, camera="orthographic"),))
    vector = seen.embed(joints, layout="unik17")
    # Seen along z, how deep a joint lies changes only the size of the body.
    np.testing.assert_array_equal(seen.embed(joints, layout="unik17"), vector)
    moved = joints + np.array([0, 0, 5, 0], np.float32)
    np.testing.assert_allclose(seen.embed(moved, layout="unik17"), vector, rtol=1e-3, atol=1e-4)
    wide = bare(UNIK(persons=1, channels=3))
    with pytest.raises(UnusableEncoderError, match=r"have 2 coordinates a joint, but the encoder of bare.pt takes 3"):
        wide.embed(walker(), size=SIZE)


def test_streams_are_those_of_training() -> None:
    torch.manual_seed(0)
    both = bare(UNIK(persons=1, channels=4), streams=("joint", "bone"))
    assert both.embed(walker(), size=SIZE).shape == (256,)
    with pytest.raises(UnusableEncoderError, match=r"have 3 coordinates a joint, but the encoder of bare.pt takes 2"):
        both.embed(walker(coordinates=3))


def test_the_nearest_text_is_that_of_the_same_direction(encoder: Pretrained) -> None:
    vector = encoder.embed(walker(), size=SIZE)
    assert encoder.heads is not None
    width = encoder.heads.text_width
    assert width is not None
    text_vectors = np.random.default_rng(3).normal(size=(5, width)).astype(np.float32)
    texts = ["walk", "sit", "jump", "wave", "fall"]
    found = encoder.nearest_texts(vector, texts=texts, text_vectors=text_vectors)
    cosines = encoder.text_cosines(vector, text_vectors)[0]
    assert dict(found) == pytest.approx(dict(zip(texts, cosines.tolist(), strict=True)))
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
    assert np.linalg.norm(encoder.project(vector)) == pytest.approx(1, rel=1e-5)
    tied = encoder.nearest_texts(vector, texts=texts, text_vectors=np.tile(text_vectors[:1], (5, 1)))
    assert [text for text, _ in tied] == texts
    with pytest.raises(UnusableEncoderError, match="for each of 2 texts are needed"):
        encoder.nearest_texts(vector, texts=texts[:2], text_vectors=text_vectors)
    with pytest.raises(UnusableEncoderError, match="did another model make them"):
        encoder.nearest_texts(vector, texts=texts, text_vectors=text_vectors[:, 1:])


def test_facts_do_not_say_where_things_lay(encoder: Pretrained, demo_shards: Path) -> None:
    facts = encoder.facts()
    assert facts["checkpoint"]["sha256"] == encoder.sha256
    assert facts["sampling"]["draw"] == "deterministic"
    assert facts["config"]["recipe"] == "pretrain_demo"
    assert str(demo_shards.parent) not in str(facts)
