"""Draws of few labels by their rule, and measurements with them as a run."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import gestures
from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import changed
from tmor_train.data import Batching
from tmor_train.evaluation.clips.config import FewShotConfig, TuneConfig
from tmor_train.evaluation.clips.few_shot import drawn, few_shot, lengthened
from tmor_train.evaluation.clips.linear_probe import EncoderFeatures, fitted
from tmor_train.recipes import recipe
from tmor_train.results import read_result, read_scores, results_under
from tmor_train.training.optimizer import ScheduleConfig

torch.set_num_threads(1)
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 30, 4]))


@pytest.mark.parametrize(
    ("percent", "of_each"),
    [(1.0, [1, 1, 1]), (5.0, [5, 2, 1]), (10.0, [10, 3, 1]), (40.0, [40, 12, 2]), (100.0, [100, 30, 4])],
)
def test_of_each_class_its_share_is_drawn_and_one_clip_at_least(percent: float, of_each: list[int]) -> None:
    assert [max(round(percent * n / 100), 1) for n in (100, 30, 4)] == of_each
    found = drawn(LABELS, percent, seed=0)
    assert np.bincount(LABELS[found]).tolist() == of_each
    assert found.tolist() == sorted(set(found.tolist()))


@pytest.mark.parametrize("seed", range(3))
def test_draws_of_a_seed_are_nested(seed: int) -> None:
    draws = [set(drawn(LABELS, percent, seed=seed).tolist()) for percent in (1, 5, 10, 50)]
    assert all(few <= more for few, more in pairwise(draws))


def test_seeds_draw_other_clips_and_the_same_each_time() -> None:
    draws = [drawn(LABELS, 5, seed=seed).tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_class_without_a_clip_draws_none() -> None:
    assert np.bincount(np.array([0, 2, 2])[drawn(np.array([0, 2, 2]), 10, seed=0)]).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("clips", "steps", "epochs"),
    [
        (20, 40, 20),  # 3 batches of 8, which make 60 steps in 20 epochs
        (20, 61, 21),
        (3, 100, 100),  # a batch an epoch
        (8, 100, 100),
        (9, 100, 50),
    ],
)
def test_few_clips_are_seen_for_more_epochs(clips: int, steps: int, epochs: int) -> None:
    tune = TuneConfig(epochs=20, batching=Batching(size=8, last="fill"), schedule=ScheduleConfig(warmup=2.0))
    found = lengthened(tune, clips, steps)
    assert found.epochs == epochs
    assert found.schedule.warmup == pytest.approx(epochs / 10)  # a tenth of the training, as before
    assert found.batching == tune.batching


@pytest.fixture(scope="module")
def config() -> FewShotConfig:
    changes = (
        *("task.benchmark=gestures", "task.folder=anywhere", "start.weights=scratch", "start.frames=8"),
        *("start.scratch.encoder.backbone=stgcn", "tune.device=cpu", "tune.workers=0", "tune.batching.size=4"),
        *("tune.epochs=1", "steps=2", "percent=10,50", "seeds=0,1", "look.crops=1", "look.mirrored=off"),
    )
    made: FewShotConfig = changed(recipe("fewshot"), changes)
    return made


@pytest.fixture(scope="module")
def run(config: FewShotConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BENCHMARKS, "gestures", gestures.benchmark())
        return few_shot(config, tmp_path_factory.mktemp("few") / "run")


@pytest.mark.slow
def test_every_mode_share_and_seed_is_measured(run: Path) -> None:
    found = {place.relative_to(run).as_posix(): result for place, result in results_under(run)}
    names = [
        f"{mode}-{percent}/seed-{seed}"
        for mode in ("finetune", "linear", "logistic")
        for percent in (10, 50)
        for seed in (0, 1)
    ]
    assert sorted(found) == sorted(names)
    for name, result in found.items():
        mode, percent = name.split("/")[0].split("-")
        assert result.mode == {"linear": "probe", "finetune": "finetune", "logistic": "logistic"}[mode]
        assert result.labels == float(percent) / 100
        assert result.counts == {"train": 3 if percent == "10" else 6, "test": 6}
        assert str(result.seed) == name[-1]


def test_a_probe_sees_the_labels_that_were_drawn_alone(run: Path, config: FewShotConfig) -> None:
    task = gestures.task()
    features, _ = EncoderFeatures(task, config.start, config.look, device="cpu", workers=0).for_seed(1)
    few = drawn(task.train.clips.label_N, 50, seed=1)
    linear = fitted(features.train.take(few), config.linear, 1.0, classes=3, seed=1)
    np.testing.assert_allclose(
        read_scores(run / "linear-50/seed-1").scores_NK, linear.scores(features.test_ND), atol=1e-4
    )
    assert read_result(run / "linear-50/seed-1").chosen == {"solver": "lbfgs", "setting": 1.0}


@pytest.mark.slow
def test_a_trained_encoder_has_baselines_on_its_draws(
    config: FewShotConfig, demo_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark())
    trained = changed(config, (f"start.weights={demo_run}", "start.frames=none", "modes=linear"))
    found = {place.parent.name: result for place, result in results_under(few_shot(trained, tmp_path / "run"))}
    assert sorted(found) == [f"{mode}-{percent}" for mode in ("linear", "logistic", "scratch") for percent in (10, 50)]
    assert {name: (result.mode, result.labels) for name, result in found.items() if name.endswith("-50")} == {
        "linear-50": ("probe", 0.5),
        "logistic-50": ("logistic", 0.5),
        "scratch-50": ("probe_scratch", 0.5),
    }
    assert {result.counts["train"] for name, result in found.items() if name.endswith("-50")} == {6}
    alone = few_shot(changed(trained, ("beside=nothing",)), tmp_path / "alone")
    assert {place.parent.name for place, _ in results_under(alone)} == {"linear-10", "linear-50"}


def test_what_is_measured_is_not_measured_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BENCHMARKS, "gestures", gestures.benchmark())
    lost = run / "linear-10/seed-1/result.json"
    before = {path: path.read_bytes() for path in run.rglob("result.json")}
    scores = read_scores(lost.parent).scores_NK
    lost.unlink()
    tasks.resume(run)
    after = {path: path.read_bytes() for path in run.rglob("result.json")}
    assert set(after) == set(before)
    assert all(after[path] == before[path] for path in before if path != lost)
    assert np.array_equal(read_scores(lost.parent).scores_NK, scores)
