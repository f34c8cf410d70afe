"""Fine-tuning as a run: stopped and resumed, what it measures, and what it refuses."""

import copy
import json
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests import gestures
from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import changed
from tmor_train.data import Batching, Loader, MotionBatch
from tmor_train.data.augment import Flip
from tmor_train.evaluation.clips.config import FineTuneConfig, TuneConfig
from tmor_train.evaluation.clips.fine_tune import FineTuner, class_shares, fine_tune, tuned
from tmor_train.evaluation.config import StartConfig, TTAConfig
from tmor_train.evaluation.encoders import EncoderNotFoundError, load_encoder
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.recipes import recipe
from tmor_train.results import read_result, read_scores
from tmor_train.training import checkpoint
from tmor_train.training.runs import RunError, Stopped

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
    """The weights in the last checkpoint of a run."""
    path = max((folder / "checkpoints").glob("step-*.pt"))
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


@pytest.mark.slow
# Steps 3 and 6 are the last of their epochs, of which nothing is left to tell then.
@pytest.mark.parametrize(("step", "epochs"), [(2, [0, 1]), (3, [1]), (6, [0])])
def test_stopped_and_resumed_it_ends_as_it_would_have(
    straight: Path, step: int, epochs: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = FineTuner.train_step

    def asked(self: FineTuner, batch: Any, *, lr_ratio: float) -> Any:
        if self.step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return train(self, batch, lr_ratio=lr_ratio)

    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(FineTuner, "train_step", asked)
        with pytest.raises(Stopped):
            fine_tune(config(), folder)
    assert max(path.name for path in (folder / "checkpoints").glob("*.pt")) == f"step-{step:09}.pt"
    assert not (folder / "result.json").exists()
    assert tasks.resume(folder) == folder
    mine, theirs = network_of(folder), network_of(straight)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert np.array_equal(read_scores(folder).scores_NK, read_scores(straight).scores_NK)
    assert read_result(folder).metrics == read_result(straight).metrics
    assert [line["epoch"] for line in events(folder, "epoch")] == epochs
    assert all(line["loss"] > 0 for line in events(folder, "epoch"))


@pytest.mark.parametrize("statistics", ["frozen", "adapting"])
def test_a_trunk_that_is_not_trained_keeps_its_weights(statistics: str, tmp_path: Path) -> None:
    some = config("tune.trains=head", f"tune.statistics={statistics}", "tune.epochs=1")
    fine_tune(some, tmp_path / "run")
    known = load_encoder(some.start, seed=0, device="cpu")[0].network.state_dict()
    found = network_of(tmp_path / "run")
    running = {name for name in known if "running" in name or "num_batches" in name}
    assert running
    for name, tensor in known.items():
        moved = not torch.equal(tensor, found[name])
        assert moved == (name in running and statistics == "adapting"), name


def test_the_average_is_what_is_measured(straight: Path) -> None:
    some = config()
    assert some.tune.average == 0.99
    encoder, _ = load_encoder(some.start, seed=0, device="cpu")
    task = gestures.task()
    path = max((straight / "checkpoints").glob("step-*.pt"))
    known = FineTuner(encoder, some.tune, classes=3, seed=0)
    known.load_state_dict(checkpoint.load(path)["tuner"])
    shares = {}
    for name, network in (("average", known.result), ("last", known.network)):
        shares[name] = class_shares(replace(encoder, network=network.eval()), task.test, some.look, some.tune)
    found = read_scores(straight).scores_NK
    assert np.array_equal(found, shares["average"])
    assert not np.allclose(found, shares["last"], atol=1e-6)


def test_shares_are_averaged_over_looks() -> None:
    """Shares of the classes, not their scores, clip by clip."""
    some = config("tune.average=none", "tune.epochs=1")
    encoder, _ = load_encoder(some.start, seed=0, device="cpu")
    known = FineTuner(encoder, some.tune, classes=3, seed=0)
    torch.nn.init.normal_(known.network.fc.weight, generator=torch.Generator().manual_seed(0))
    network = replace(encoder, network=known.network.eval().requires_grad_(False))
    motions = gestures.motions(gestures.CLASSES)
    found = class_shares(network, motions, TTAConfig(mirrored="on"), some.tune)
    sampling = replace(encoder.sampling, draw="deterministic")
    loader = Loader(motions, sampling=sampling, batching=Batching(size=1, order="stored"), workers=0)
    for number, one in enumerate(loader):
        both = (one, Flip(probability=1.0)(one, torch.Generator()))
        each = [network.network(batch.motion_NCTVM, batch.present)[0].double().exp().numpy() for batch in both]
        np.testing.assert_allclose(found[number], sum(e / e.sum() for e in each) / 2, rtol=1e-4, atol=1e-6)


def test_seeds_have_folders_and_orders_of_their_own(tmp_path: Path) -> None:
    changes = ("seeds=0,1", "tune.epochs=1", "start.of=online")
    folder = fine_tune(config(*changes), tmp_path / "run")
    results = [read_result(folder / f"seed-{seed}") for seed in (0, 1)]
    assert [result.seed for result in results] == [0, 1]
    assert not (folder / "result.json").exists()
    one, other = (network_of(folder / f"seed-{seed}") for seed in (0, 1))
    assert not torch.equal(one["fc.weight"], other["fc.weight"])
    assert not any(torch.equal(one[name], other[name]) for name in one if name.endswith("conv.weight"))


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    changes = ("tune.optimizer.method=sgd", "tune.optimizer.lr=1e30", "tune.optimizer.clip=none")
    with pytest.raises(RunError, match=r"step \d was not taken: the loss is .*; lower tune\.optimizer\.lr"):
        fine_tune(config(*changes, "tune.schedule.warmup=0"), tmp_path / "run")
    assert not (tmp_path / "run/result.json").exists()


def test_fewer_clips_than_a_batch_are_refused_and_leave_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"12 clips to train on, fewer than a batch of 13; set tune\.batching\.size"):
        tasks.run(config("tune.batching.size=13"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    tasks.run(config("tune.batching.size=13", "tune.batching.last=fill", "tune.epochs=1"), tmp_path / "run")
    assert read_result(tmp_path / "run").counts["train"] == 12


def test_a_folder_with_a_run_is_refused(straight: Path) -> None:
    before = (straight / "result.json").read_bytes()
    with pytest.raises(RunError, match="already holds a run; resume it with `tmor_train resume"):
        tasks.run(config(), straight)
    assert (straight / "result.json").read_bytes() == before
    with pytest.raises(EncoderNotFoundError, match="--from"):
        fine_tune(config("start.weights=none"), straight.parent / "other")
    assert not (straight.parent / "other").exists()


def test_what_is_trained_answers_in_evaluation_mode(tmp_path: Path) -> None:
    some = config("tune.epochs=1", name="finetune")
    encoder, _ = load_encoder(some.start, seed=0, device="cpu")
    network = tuned(encoder, some.tune, gestures.motions(gestures.CLASSES * 2), tmp_path, seed=0)
    assert not network.network.training
    assert network.heads is None
    assert not any(parameter.requires_grad for parameter in network.network.parameters())
    assert network.network.fc.out_features == 3


torch.set_num_threads(1)
MOTIONS = gestures.motions(gestures.CLASSES * 2)
PLAIN = ("augment=[]", "optimizer.lr=0.1", "optimizer.momentum=0", "optimizer.weight_decay=0", "optimizer.clip=none")


@pytest.fixture(scope="module")
def encoder() -> Pretrained:
    changes = ["scratch.encoder.backbone=stgcn", "scratch.sampling.frames=8"]
    return load_encoder(changed(StartConfig(weights="scratch"), changes), seed=0, device="cpu")[0]


@pytest.fixture
def batches(encoder: Pretrained) -> Iterator[MotionBatch]:
    return iter(Loader(MOTIONS, sampling=encoder.sampling, batching=Batching(size=3), workers=0))


def tuner(encoder: Pretrained, *changes: str, seed: int = 0) -> FineTuner:
    return FineTuner(encoder, changed(TuneConfig(), [*PLAIN, *changes]), classes=3, seed=seed)


def state(tuner: FineTuner) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in tuner.network.state_dict().items()}


def test_a_step_of_the_head_by_hand(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    batch, smoothing = next(batches), 0.3
    one = tuner(encoder, "trains=head", "statistics=frozen", f"smoothing={smoothing}", "head_lr_ratio=10")
    weight, bias = (one.network.fc.state_dict()[name].double().numpy() for name in ("weight", "bias"))
    assert not bias.any()
    features_ND = encoder.network.clip_features(batch.motion_NCTVM, batch.present).double().numpy()
    loss, right, weight_grad, bias_grad = 0.0, 0, np.zeros_like(weight), np.zeros_like(bias)
    for feature_D, label in zip(features_ND, batch.label_N.tolist(), strict=True):
        score_K = weight @ feature_D + bias
        share_K = np.exp(score_K) / np.exp(score_K).sum()
        wanted_K = np.full(3, smoothing / 3)
        wanted_K[label] += 1 - smoothing
        loss -= sum(float(w) * math.log(s) for w, s in zip(wanted_K, share_K, strict=True)) / 3
        right += int(score_K.argmax() == label)
        weight_grad += np.outer(share_K - wanted_K, feature_D) / 3
        bias_grad += (share_K - wanted_K) / 3
    found_loss, sums = one.train_step(batch, lr_ratio=0.5)
    assert float(found_loss) == pytest.approx(loss, rel=1e-5)
    assert int(sums["train_top1"]) == right
    step = 0.5 * 10 * 0.1  # of the schedule, the head's and the optimiser's rate
    np.testing.assert_allclose(one.network.fc.weight.detach(), weight - step * weight_grad, atol=1e-5)
    np.testing.assert_allclose(one.network.fc.bias.detach(), bias - step * bias_grad, atol=1e-5)


@pytest.mark.parametrize("trains", ["head", "all"])
@pytest.mark.parametrize("statistics", ["frozen", "adapting"])
def test_what_moves(encoder: Pretrained, batches: Iterator[MotionBatch], trains: str, statistics: str) -> None:
    one = tuner(encoder, f"trains={trains}", f"statistics={statistics}")
    before = state(one)
    for batch in batches:
        one.train_step(batch, lr_ratio=1.0)
    moved = {name for name, tensor in one.network.state_dict().items() if not torch.equal(tensor, before[name])}
    running = {name for name in before if "running" in name or "num_batches" in name}
    trunk = {name for name in before if not name.startswith("fc.")} - running
    assert {"fc.weight", "fc.bias"} <= moved
    assert bool(moved & trunk) == (trains == "all")
    assert moved & running == (running if statistics == "adapting" else set())
    known = encoder.network.state_dict()
    assert all(torch.equal(known[name], before[name]) for name in known)  # the encoder itself is left alone


def test_dropout_and_views_depend_on_seed_and_step_alone(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    changes = ("dropout=0.5", 'augment=[{"kind": "Rotate"}, {"kind": "Noise"}]', "trains=head", "statistics=frozen")
    batch = next(batches)
    losses = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(losses))
        one = tuner(encoder, *changes, seed=seed)
        losses.append([float(one.train_step(batch, lr_ratio=0.0)[0]) for _ in range(2)])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert losses[0][0] != losses[0][1]  # the same weights, another step


def test_weights_are_averaged_over_the_steps(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    one = tuner(encoder, "average=0.6")
    wanted = np.zeros((3, 256))
    for number, batch in enumerate(batches):
        one.train_step(batch, lr_ratio=1.0)
        weight = one.network.fc.weight.detach().double().numpy()
        wanted = weight if number == 0 else 0.6 * wanted + 0.4 * weight
    assert number == 1
    result = one.result
    assert result is not one.network
    np.testing.assert_allclose(result.fc.weight.detach(), wanted, atol=1e-6)
    assert tuner(encoder).ema is None
    last = tuner(encoder)
    assert last.result is last.network


def test_the_average_holds_running_statistics_too(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    one = tuner(encoder, "average=0.5")
    one.train_step(next(batches), lr_ratio=1.0)
    first = state(one)
    one.train_step(next(batches), lr_ratio=1.0)
    second, averaged = state(one), one.result.state_dict()
    name = next(name for name in first if name.endswith("running_mean") and not torch.equal(first[name], second[name]))
    np.testing.assert_allclose(averaged[name], (first[name] + second[name]) / 2, rtol=1e-5, atol=1e-6)


def test_nothing_moves_when_a_loss_is_not_finite(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    one = tuner(encoder, "statistics=frozen", "average=0.5")
    batch = next(batches)
    batch.motion_NCTVM[0] = math.nan
    before, averaged = state(one), {name: t.clone() for name, t in one.result.state_dict().items()}
    with pytest.raises(ArithmeticError, match="the loss is nan"):
        one.train_step(batch, lr_ratio=1.0)
    assert one.step == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.network.state_dict().items())
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in one.result.state_dict().items())


def test_another_goes_on_from_the_state(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    changes = ("average=0.9", "optimizer.method=adamw", "dropout=0.2", 'augment=[{"kind": "Rotate"}]')
    one, other = tuner(encoder, *changes), tuner(encoder, *changes, seed=5)
    first, second = batches
    one.train_step(first, lr_ratio=1.0)
    other.seed = one.seed
    other.load_state_dict(copy.deepcopy(one.state_dict()))  # a file would hold a copy, too
    assert other.step == 1
    one.train_step(second, lr_ratio=1.0)
    other.train_step(second, lr_ratio=1.0)
    mine, theirs = one.state_dict(), other.state_dict()
    for part in ("network", "ema"):
        assert all(torch.equal(mine[part][name], theirs[part][name]) for name in mine[part])
