"""Encoders out of checkpoints, those of runs, released ones, and files that are neither; skeletons in, vectors out,
nearest texts out; and a set's embeddings in a Parquet file."""

import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import tmor_train
from posecap.files import OutputExistsError, file_sha256
from posecap.joints import LayoutError
from tests import ROOT
from tmor_train.backbones.unik import UNIK, WrongWeightsError
from tmor_train.configuration import from_json
from tmor_train.data import Clip, Normalise, Sampling, read_shards
from tmor_train.data.augment import Project
from tmor_train.data_sources import DataConfig
from tmor_train.pretrained.encoder import Pretrained, UnusableEncoderError, embed_to_parquet, identity
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError
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


class Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def newest(run: Path) -> Path:
    return run / "checkpoints" / "step-000000008.pt"


def test_the_package_itself_is_light() -> None:
    code = "import sys, tmor_train; assert 'torch' not in sys.modules; assert callable(tmor_train.load)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
    with pytest.raises(AttributeError, match="no attribute 'laod'"):
        tmor_train.laod  # type: ignore[attr-defined]  # noqa: B018


def test_a_run_and_its_newest_checkpoint_are_one(demo_run: Path) -> None:
    by_run, by_file = tmor_train.load(demo_run), tmor_train.load(str(newest(demo_run)))
    assert by_run.path == by_file.path == newest(demo_run)
    assert by_run.sha256 == file_sha256(newest(demo_run))
    assert (by_run.of, by_run.sampling.frames, by_run.sampling.layout) == ("ema", 8, "unik17")
    assert not by_run.network.training
    assert not any(parameter.requires_grad for parameter in by_run.network.parameters())


def test_the_clips_that_it_was_trained_on_are_known(demo_run: Path, demo_shards: Path) -> None:
    seen = tmor_train.load(demo_run).seen
    assert seen is not None
    assert seen.count(read_shards(demo_shards)) == (13, 13)  # one of the captions of each is its label


@pytest.mark.parametrize(("of", "where"), [("ema", "ema"), ("online", "encoder")])
def test_each_of_the_two_encoders(demo_run: Path, of: Any, where: str) -> None:
    saved = checkpoint.load(newest(demo_run))["learner"][where]
    loaded = tmor_train.load(demo_run, of=of).network.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_released_weights_of_unik(tmp_path: Path, prefix: str) -> None:
    torch.manual_seed(0)
    released = UNIK(persons=2, classes=320)
    weights = {prefix + name: tensor for name, tensor in released.state_dict().items()}
    torch.save(weights, tmp_path / "posetics.pt")
    encoder = tmor_train.load(tmp_path / "posetics.pt")
    assert (encoder.sampling.layout, encoder.sampling.people, encoder.sampling.frames) == ("unik17", 2, 150)
    assert encoder.sampling.normalise.screen == "fixed640"
    clip = torch.randn(1, 2, 16, 17, 2)
    wanted = released.eval().clip_features(clip)
    torch.testing.assert_close(encoder.network.clip_features(clip), wanted, rtol=0, atol=0)
    with pytest.raises(UnusableEncoderError, match=r"posetics.pt holds an encoder without projection heads"):
        encoder.project(wanted[0].detach().numpy())


def test_released_weights_of_other_joints_need_a_word(tmp_path: Path) -> None:
    torch.save(UNIK(joints=13).state_dict(), tmp_path / "penn.pt")
    with pytest.raises(UnusableEncoderError, match="takes 13 joints of 2 coordinates and does not say which"):
        tmor_train.load(tmp_path / "penn.pt")
    assert tmor_train.load(tmp_path / "penn.pt", sampling=Sampling(layout="penn13")).sampling.layout == "penn13"


def test_files_that_hold_no_encoder(tmp_path: Path, demo_run: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(WrongWeightsError, match=r"no l1.s_unit.DepM, so it is not one of UNIK"):
        tmor_train.load(tmp_path / "other.pt")
    whole = newest(demo_run).read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "page.pt").write_text("<!doctype html>")
    for name in ("cut.pt", "page.pt"):
        with pytest.raises(CheckpointError, match=f"{name} cannot be read as a checkpoint"):
            tmor_train.load(tmp_path / name)
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1  # a bit of a weight: the archive opens, and torch takes it
    (tmp_path / "flipped.pt").write_bytes(flipped)
    with pytest.raises(CheckpointError, match=r"flipped.pt is damaged: the SHA-256"):
        tmor_train.load(tmp_path / "flipped.pt")
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a folder with checkpoints"):
        tmor_train.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="neither a checkpoint nor a folder with checkpoints"):
        tmor_train.load(tmp_path)


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    torch.save({"format": checkpoint.FORMAT, "config": Payload(tmp_path / "ran")}, tmp_path / "zip.pt")
    (tmp_path / "legacy.pt").write_bytes(pickle.dumps({"l1.s_unit.DepM": Payload(tmp_path / "ran")}, protocol=2))
    for name in ("zip.pt", "legacy.pt"):
        with pytest.raises(CheckpointError, match=name):
            tmor_train.load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def changed_config(content: dict[str, Any], **fields: Any) -> None:
    config = json.loads(content["config"])
    config["sampling"] |= fields
    content["config"] = json.dumps(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content.pop("learner"), "KeyError: 'learner'"),
        (lambda content: content.update(config="{"), "JSONDecodeError"),
        (lambda content: content.update(learner=3), "TypeError"),
        (lambda content: changed_config(content, frams=3), "did you mean"),
        (lambda content: changed_config(content, layout="dog9"), "LayoutError: unknown layout 'dog9'"),
        (lambda content: changed_config(content, people=10**9), "not those of its configuration"),
        (lambda content: content["learner"]["ema"].pop("l1.s_unit.DepM"), "not those of its configuration"),
        (lambda content: content["learner"]["objective"].pop("text_head.layers.2.bias"), "RuntimeError: Error"),
    ],
)
def test_a_checkpoint_that_does_not_hold_what_it_says(demo_run: Path, tmp_path: Path, change: Any, said: str) -> None:
    content = checkpoint.load(newest(demo_run))
    change(content)
    checkpoint.save(tmp_path / "changed.pt", content)
    with pytest.raises(CheckpointError, match=r"changed.pt does not hold what a checkpoint of tmor_train") as error:
        tmor_train.load(tmp_path / "changed.pt")
    assert said in str(error.value)


def test_every_clip_has_its_row(encoder: Pretrained, demo_shards: Path, tmp_path: Path) -> None:
    motions = read_shards(demo_shards)
    assert embed_to_parquet(encoder, motions, tmp_path / "e.parquet", about={}, batch=5) == 13
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.schema.field("embedding").type.list_size == 256
    assert table.schema.field("embedding").type.value_type == pa.float32()
    assert table["key"].to_pylist() == motions.clips.key_N.tolist()
    assert table["split"].to_pylist() == motions.clips.split_N.tolist()
    assert table["label"].to_pylist() == [motions.clip(number).label for number in range(13)]
    stored = np.array(table["embedding"].to_pylist(), np.float32)
    wanted = np.concatenate([vectors for _, vectors in encoder.embed_set(motions, batch=5)])
    np.testing.assert_array_equal(stored, wanted)
    assert len(np.unique(stored, axis=0)) == 13


def test_a_clip_without_a_label_has_none(encoder: Pretrained, demo_shards: Path, tmp_path: Path) -> None:
    motions = read_shards(demo_shards).select([0, 1])
    unknown = replace(motions, clips=replace(motions.clips, label_N=np.array([-1, 0])))
    embed_to_parquet(encoder, unknown, tmp_path / "e.parquet", about={})
    assert pq.read_table(tmp_path / "e.parquet")["label"].to_pylist() == [None, motions.classes[0]]


def test_the_file_says_what_it_is(encoder: Pretrained, demo_shards: Path, tmp_path: Path) -> None:
    motions = read_shards(demo_shards, split="test")
    about = identity(DataConfig(shards=(f"{demo_shards}/",), split="test"), motions)
    embed_to_parquet(encoder, motions, tmp_path / "e.parquet", about=about, batch=64)
    metadata = pq.read_schema(tmp_path / "e.parquet").metadata
    made_by, of = (json.loads(metadata[name]) for name in (b"tmor_train.encoder", b"tmor_train.set"))
    assert made_by["checkpoint"] == {"name": "step-000000008.pt", "of": "ema", "sha256": encoder.sha256}
    assert (made_by["batch"], made_by["config"]["encoder"]["backbone"]) == (64, "unik")
    assert (of["shards"], of["split"], of["clips"], len(of["keys_sha256"])) == (["shards"], "test", 7, 64)
    assert of["keys_sha256"] != identity(DataConfig(), read_shards(demo_shards))["keys_sha256"]


def test_the_same_bytes_with_any_workers_and_row_groups(
    encoder: Pretrained, demo_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    motions = read_shards(demo_shards)
    for name, workers in (("a", 0), ("b", 2)):
        embed_to_parquet(encoder, motions, tmp_path / name, about={}, batch=4, workers=workers)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    monkeypatch.setattr("tmor_train.pretrained.encoder._GROUP_ROWS", 8)
    embed_to_parquet(encoder, motions, tmp_path / "c", about={}, batch=4)
    file = pq.ParquetFile(tmp_path / "c")
    assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [8, 5]
    assert file.read().equals(pq.read_table(tmp_path / "a"))


def test_a_batch_of_nothing_is_refused(encoder: Pretrained, demo_shards: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch is at least 1, not 0"):
        embed_to_parquet(encoder, read_shards(demo_shards), tmp_path / "e.parquet", about={}, batch=0)
    assert not list(tmp_path.iterdir())


def test_a_file_is_whole_or_absent(
    encoder: Pretrained, demo_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    motions, path = read_shards(demo_shards), tmp_path / "e.parquet"
    embed_set = Pretrained.embed_set

    def dying(self: Pretrained, *given: object, **named: object) -> Iterator[object]:
        yield next(embed_set(self, *given, **named))  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Pretrained, "embed_set", dying)
        with pytest.raises(KeyboardInterrupt):
            embed_to_parquet(encoder, motions, path, about={}, batch=4)
    assert not list(tmp_path.iterdir())
    embed_to_parquet(encoder, motions, path, about={})
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match="already exists"):
        embed_to_parquet(encoder, motions, path, about={}, batch=4)
    assert path.read_bytes() == before
    embed_to_parquet(encoder, motions, path, about={"now": "other"}, existing="replace")
    assert path.read_bytes() != before
