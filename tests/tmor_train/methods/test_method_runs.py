"""Each method runs in the one loop: it learns, stops and goes on to the same bytes, and its encoder is of use."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import tmor_train
from posecap.types import PartName
from tests import built
from tests.interrupted import assert_same_bytes, straight_and_resumed
from tmor_train.configuration import as_json, changed, from_json
from tmor_train.data_sources import DataConfig, motions_of
from tmor_train.encoder import UnusableEncoderError
from tmor_train.methods.cluster_contrast import CentroidContrast
from tmor_train.recipes import recipe
from tmor_train.recipes.pretrain import RECIPES
from tmor_train.training.config import PretrainConfig
from tmor_train.training.distributed import DistributedContext
from tmor_train.training.metric_logger import read_events
from tmor_train.training.pretrain import fitted, pretrain
from tmor_train.training.runs import RunError
from tmor_train.training.train_state import TrainState

torch.set_num_threads(1)

CLIPS = 6  # one step an epoch, of four clips
TINY = (
    "sampling.frames=8 batching.size=4 batching.last=drop loop.epochs=2 loop.checkpoint_steps=3 loop.workers=0 "
    "loop.device=cpu loop.log_steps=1 sampling.people=1 clusters.how.k1=4 clusters.how.k2=2 clusters.how.min_samples=2 "
    "clusters.how.largest_share=0.9"
)
# From the second epoch on, what the recipe does later.
LATER = {"crosclr": ["method.cross_from=1"], "aimclr": ["method.mine_from=1"]}
# All losses on frames, in one run.
LATER["dense"] = [f"method.w_{name}=1" for name in ("frames", "decorrelation", "frame_text")]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    built.build(root, {PartName("train", 0): built.samples(CLIPS, people=1, frames=10)})
    return root


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tmor_train.training.pretrain.plot", lambda folder: "no plots")


def tiny(name: str, shards: Path) -> PretrainConfig:
    config = replace(recipe(name), data=DataConfig(shards=(str(shards),)))
    changes = [*TINY.split(), *LATER.get(name.removeprefix("sets_"), [])]
    if name.endswith("motionclip"):
        text = motions_of(config.data).text
        assert text is not None
        changes += [f"objective.width={text.width}", "objective.w_mv=0"]  # these videos' vectors have another width
    return changed(config, changes)


@pytest.mark.parametrize("name", [name for name, made in RECIPES.items() if made().method is not None])
def test_a_recipe_is_what_its_json_says(name: str) -> None:
    config = RECIPES[name]()
    values = json.loads(json.dumps(as_json(config)))
    assert from_json(PretrainConfig, values) == config
    del values["method"]  # as runs have it that were begun before there were methods
    assert from_json(PretrainConfig, values).method is None


@pytest.mark.slow
@pytest.mark.usefixtures("narrow_encoders")
@pytest.mark.parametrize("name", ["cluster_contrast", "crosclr", "aimclr", "motionclip", "via", "dense"])
def test_stopped_and_resumed_ends_in_the_same_bytes_and_its_encoder_loads(
    name: str, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny(name, shards)
    straight, again = straight_and_resumed(config, tmp_path, monkeypatch, dies_before=1)
    assert_same_bytes(straight, again, steps=2)
    assert all(loss > 0 for loss in straight["losses"])
    assert len(list(read_events(tmp_path / "straight", "step"))) == 2

    motions = motions_of(config.data)
    train_state = TrainState(fitted(config, motions)[0], motions, DistributedContext())
    train_state.load_state_dict(straight["learner"])
    encoder = tmor_train.load(tmp_path / "straight")
    vectors = np.concatenate([vectors for _, vectors in encoder.embed_set(motions, batch=CLIPS, workers=0)])
    assert vectors.shape == (CLIPS, 256)
    np.testing.assert_allclose(vectors, train_state.embeddings().numpy(), rtol=1e-4, atol=1e-6)
    if name in ("crosclr", "via"):
        with pytest.raises(UnusableEncoderError, match="without projection heads"):
            encoder.project(vectors)
    else:
        np.testing.assert_allclose(np.linalg.norm(encoder.project(vectors), axis=1), 1, rtol=1e-5)


def test_motionclip_compares_motion_with_texts(shards: Path, tmp_path: Path) -> None:
    config = changed(tiny("motionclip", shards), ["loop.epochs=1"])
    pretrain(config, tmp_path / "run")
    encoder = tmor_train.load(tmp_path / "run")
    texts = np.eye(config.objective.width, dtype=np.float32)[:3]
    found = encoder.text_cosines(np.ones((2, 256), np.float32), texts)
    np.testing.assert_allclose(found, encoder.project(np.ones((2, 256), np.float32))[:, :3], rtol=1e-5)


def test_centroids_are_the_clusters_means_after_a_clustering(shards: Path) -> None:
    config = changed(tiny("cluster_contrast", shards), ["clusters.how.eps=0.3", "clusters.how.metric=cosine"])
    train_state = TrainState(config, motions_of(config.data), DistributedContext())
    assert isinstance(train_state.method, CentroidContrast)
    train_state.recluster(torch.eye(3, 256).repeat(2, 1))
    torch.testing.assert_close(train_state.method.centroids_KD, torch.eye(3, 256))
    train_state.recluster(torch.ones(CLIPS, 256))  # no clusters: each clip stands for itself
    assert train_state.method.centroids_KD.shape == (CLIPS, 256)
    with pytest.raises(TypeError, match="CentroidContrast is trained here"):
        _ = train_state.objective


def test_a_clip_without_a_direction_is_noise_where_all_are_clustered(shards: Path) -> None:
    config = changed(tiny("cluster_contrast", shards), ["clusters.how.eps=0.3", "clusters.how.metric=cosine"])
    train_state = TrainState(config, motions_of(config.data), DistributedContext())
    embeddings = torch.eye(3, 256).repeat(2, 1)
    embeddings[4] = 0
    train_state.recluster(embeddings)
    assert train_state.cluster_of is not None
    assert train_state.cluster_of.tolist() == [0, -1, 1, 0, -1, 1]
    assert not embeddings[4].any()


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("cluster_contrast", "objective.keys=ema", "objective.motion_head=identity"),
        ("crosclr", "encoder.channels=4", "channels is 4"),
        ("motionclip", "objective.width=5", "set objective.width="),
        ("motionclip", "objective.text_head=mlp", "objective.text_head=identity"),
        ("via", 'views.positive=[{"kind": "CropResize"}]', "CropResize changes time"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_written(
    name: str, change: str, message: str, shards: Path, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match=message):
        pretrain(changed(tiny(name, shards), [change]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
