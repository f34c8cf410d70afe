"""Encoders out of checkpoints: those of runs, released ones, and files that are neither."""

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import tmor_train
from posecap.files import file_sha256
from tests import ROOT
from tmor_train.backbones.unik import UNIK, WrongWeightsError
from tmor_train.data import Sampling, read_shards
from tmor_train.encoder import UnusableEncoderError
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError

torch.set_num_threads(1)


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
