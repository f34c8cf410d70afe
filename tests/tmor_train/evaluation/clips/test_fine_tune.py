"""Fine-tuning as a run: stopped and gone on with, what it measures, and how it says no."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import gestures
from tmor_train import kinds
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import changed
from tmor_train.data import Batching, Loader
from tmor_train.data.augment import Flip
from tmor_train.evaluation.clips.config import FineTuneConfig
from tmor_train.evaluation.clips.fine_tune import class_shares, fine_tune, tuned
from tmor_train.evaluation.clips.tuner import Tuner
from tmor_train.evaluation.config import LookConfig
from tmor_train.evaluation.encoders import NoEncoder, started
from tmor_train.recipes import recipe
from tmor_train.results import read_result, read_scores
from tmor_train.training import checkpoint
from tmor_train.training.runs import RunError
from tmor_train.training.stopping import Stopped

torch.set_num_threads(1)
TINY = (
    "task.benchmark=gestures",
    "task.folder=anywhere",
    "start.weights=scratch",
    "start.frames=8",
    "start.scratch.encoder.backbone=stgcn",
    "tune.device=cpu",
    "tune.workers=0",
    "tune.batching.size=4",
    "tune.epochs=2",
    "tune.log_steps=1",
)


@pytest.fixture(autouse=True)
def _gestures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark())


def config(*changes: str, name: str = "finetune_cpu") -> FineTuneConfig:
    made: FineTuneConfig = changed(recipe(name), [*TINY, *changes])
    return made


def network_of(folder: Path) -> dict[str, torch.Tensor]:
    """The weights in the one checkpoint that a run leaves."""
    (path,) = (folder / "checkpoints").glob("step-*.pt")
    found: dict[str, torch.Tensor] = checkpoint.load(path)["tuner"]["network"]
    return found


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BENCHMARKS, "gestures", gestures.benchmark())
        return fine_tune(config(), tmp_path_factory.mktemp("straight") / "run")


def test_a_run_leaves_its_figures_scores_and_journal(straight: Path) -> None:
    result, scores = read_result(straight), read_scores(straight)
    assert (result.mode, result.recipe, result.checkpoint) == ("finetune", "finetune_cpu", "scratch")
    assert result.counts == {"train": 12, "test": 6}
    assert result.metrics["top1"] == (scores.scores_NK.argmax(1) == scores.label_N).mean()
    np.testing.assert_allclose(scores.scores_NK.sum(1), 1, atol=1e-5)  # shares
    assert events(straight, "start")[0]["steps"] == 6
    assert len(events(straight, "step")) == 6
    assert [line["epoch"] for line in events(straight, "epoch")] == [0, 1]


# Steps 3 and 6 are the last of their epochs, of which nothing is left to tell then.
@pytest.mark.parametrize(("step", "told"), [(2, [0, 1]), (3, [1]), (6, [0])])
def test_asked_to_stop_and_gone_on_with_it_ends_as_it_would_have(
    straight: Path, step: int, told: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = Tuner.train

    def asked(self: Tuner, batch: Any, *, rate: float) -> Any:
        if self.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, batch, rate=rate)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Tuner, "train", asked)
        with pytest.raises(Stopped):
            fine_tune(config(), folder)
    assert [path.name for path in (folder / "checkpoints").glob("*.pt")] == [f"step-{step:09}.pt"]
    assert not (folder / "result.json").exists()
    assert kinds.resume(folder) == folder
    mine, theirs = network_of(folder), network_of(straight)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert np.array_equal(read_scores(folder).scores_NK, read_scores(straight).scores_NK)
    assert read_result(folder).metrics == read_result(straight).metrics
    assert [line["epoch"] for line in events(folder, "epoch")] == told
    assert all(line["loss"] > 0 for line in events(folder, "epoch"))


@pytest.mark.parametrize("statistics", ["frozen", "adapting"])
def test_a_trunk_that_is_not_trained_keeps_its_weights(statistics: str, tmp_path: Path) -> None:
    some = config("tune.trains=head", f"tune.statistics={statistics}", "tune.epochs=1")
    fine_tune(some, tmp_path / "run")
    known = started(some.start, seed=0, device="cpu")[0].network.state_dict()
    found = network_of(tmp_path / "run")
    running = {name for name in known if "running" in name or "num_batches" in name}
    assert running
    for name, tensor in known.items():
        moved = not torch.equal(tensor, found[name])
        assert moved == (name in running and statistics == "adapting"), name


def test_the_average_is_what_is_measured(straight: Path) -> None:
    some = config()
    assert some.tune.average == 0.99
    encoder, _ = started(some.start, seed=0, device="cpu")
    task = gestures.task()
    (path,) = (straight / "checkpoints").glob("step-*.pt")
    known = Tuner(encoder, some.tune, classes=3, seed=0)
    known.take(checkpoint.load(path)["tuner"])
    shares = {}
    for name, network in (("average", known.result), ("last", known.network)):
        shares[name] = class_shares(replace(encoder, network=network.eval()), task.measured, some.look, some.tune)
    found = read_scores(straight).scores_NK
    assert np.array_equal(found, shares["average"])
    assert not np.allclose(found, shares["last"], atol=1e-6)


def test_shares_are_averaged_over_looks() -> None:
    """Shares of the classes, not their scores, clip by clip."""
    some = config("tune.average=none", "tune.epochs=1")
    encoder, _ = started(some.start, seed=0, device="cpu")
    known = Tuner(encoder, some.tune, classes=3, seed=0)
    torch.nn.init.normal_(known.network.fc.weight, generator=torch.Generator().manual_seed(0))
    network = replace(encoder, network=known.network.eval().requires_grad_(False))
    motions = gestures.motions(gestures.CLASSES)
    found = class_shares(network, motions, LookConfig(mirrored="on"), some.tune)
    sampling = replace(encoder.sampling, draw="centre")
    loader = Loader(motions, sampling=sampling, batching=Batching(size=1, order="stored"), workers=0)
    for number, one in enumerate(loader):
        both = (one, Flip(probability=1.0)(one, torch.Generator()))
        each = [network.network(batch.motion_NCTVM, batch.present)[0].double().exp().numpy() for batch in both]
        np.testing.assert_allclose(found[number], sum(e / e.sum() for e in each) / 2, rtol=1e-4, atol=1e-6)


def test_seeds_have_folders_and_orders_of_their_own(tmp_path: Path) -> None:
    changes = ("seeds=0,1", "tune.epochs=1", "start.of=live")
    folder = fine_tune(config(*changes), tmp_path / "run")
    results = [read_result(folder / f"seed-{seed}") for seed in (0, 1)]
    assert [result.seed for result in results] == [0, 1]
    assert not (folder / "result.json").exists()
    one, other = (network_of(folder / f"seed-{seed}") for seed in (0, 1))
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("conv.weight"))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    changes = ("tune.optimizer.method=sgd", "tune.optimizer.rate=1e30", "tune.optimizer.clip=none")
    with pytest.raises(RunError, match=r"step \d was not taken: the loss is .*; lower tune\.optimizer\.rate"):
        fine_tune(config(*changes, "tune.schedule.warmup=0"), tmp_path / "run")
    assert not (tmp_path / "run/result.json").exists()


def test_fewer_clips_than_a_batch_are_told_and_leave_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"12 clips to train on, fewer than a batch of 13; set tune\.batching\.size"):
        kinds.run(config("tune.batching.size=13"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    kinds.run(config("tune.batching.size=13", "tune.batching.last=fill", "tune.epochs=1"), tmp_path / "run")
    assert read_result(tmp_path / "run").counts["train"] == 12


def test_a_folder_with_a_run_is_refused(straight: Path) -> None:
    before = (straight / "result.json").read_bytes()
    with pytest.raises(RunError, match="holds a run; go on with `tmor_train resume"):
        kinds.run(config(), straight)
    assert (straight / "result.json").read_bytes() == before
    with pytest.raises(NoEncoder, match="--from"):
        fine_tune(config("start.weights=none"), straight.parent / "other")
    assert not (straight.parent / "other").exists()


def test_what_is_trained_answers_in_evaluation_mode(tmp_path: Path) -> None:
    some = config("tune.epochs=1", name="finetune")
    encoder, _ = started(some.start, seed=0, device="cpu")
    network = tuned(encoder, some.tune, gestures.motions(gestures.CLASSES * 2), tmp_path, seed=0)
    assert not network.network.training
    assert network.heads is None
    assert not any(parameter.requires_grad for parameter in network.network.parameters())
    assert network.network.fc.out_features == 3
