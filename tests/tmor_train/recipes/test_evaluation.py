"""What the recipes of evaluation and detection are about, that the latter run, and the paper's tables."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import acted
from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS, FrameParts
from tmor_train.configuration import changed
from tmor_train.recipes import recipe
from tmor_train.recipes.evaluation import RECIPES
from tmor_train.results import read_result
from tmor_train.tables.paper import TABLES


def test_fine_tuning_has_the_settings_of_uniks_code() -> None:
    config = RECIPES["finetune"]()
    tune = config.tune
    assert (config.start.frames, config.start.choice, tune.batching.size, tune.epochs) == (150, "window", 8, 30)
    assert (tune.optimizer.method, tune.optimizer.lr, tune.optimizer.weight_decay) == ("sgd", 0.05, 5e-4)
    assert (tune.schedule.shape, tune.schedule.milestones) == ("steps", (10, 20))


def test_its_linear_probe_differs_in_what_is_trained_alone() -> None:
    whole, probe = RECIPES["finetune"](), RECIPES["probe_reference"]()
    assert (whole.tune.trains, probe.tune.trains, probe.tune.statistics) == ("all", "head", "adapting")
    assert (probe.start, probe.tune.optimizer, probe.tune.epochs) == (whole.start, whole.tune.optimizer, 30)


def test_probes_find_the_optimum_or_take_steps_on_unscaled_features() -> None:
    assert RECIPES["probe"]().linear.solver == "lbfgs"
    assert (RECIPES["probe_sgd"]().linear.solver, RECIPES["probe_sgd"]().linear.scale) == ("sgd", "none")


def test_few_labels_fill_their_batches() -> None:
    few, tuned = RECIPES["fewshot"](), RECIPES["finetune_cpu"]()
    assert (few.percent, few.tune.batching.last) == ((1.0, 5.0, 10.0), "fill")
    assert few.tune.optimizer == tuned.tune.optimizer


def test_zero_shot_by_movements_has_these_prompts_alone() -> None:
    assert RECIPES["zero_shot_movement"]().prompts == ("movement",)
    assert "movement" not in RECIPES["zero_shot"]().prompts


def test_zero_shot_by_parts_compares_them_with_the_whole_and_with_their_own_features() -> None:
    by_parts, whole = RECIPES["zero_shot_parts"](), RECIPES["zero_shot_movement"]()
    assert by_parts.prompts == ("movement", "body_parts")
    assert (whole.part_pooling, by_parts.part_pooling) == ("off", "on")
    assert (whole.text_neighbours, by_parts.text_neighbours) == (0, 0)


def test_every_table_of_the_paper_has_a_recipe() -> None:
    assert [name for name in RECIPES if RECIPES[name]().__class__.__name__ == "TableConfig"] == list(TABLES)
    assert all(RECIPES[name]().table == name for name in TABLES)


torch.set_num_threads(1)


def test_the_papers_settings_are_those_of_the_released_detector() -> None:
    for name, trains in (("detect_probe", "head"), ("detect_finetune", "all")):
        config = recipe(name)
        assert (config.train.head, config.train.trains) == ("linear", trains)
        assert (config.windows.length, config.windows.stride, config.train.epochs) == (300, None, 50)
        optimizer = config.train.optimizer
        assert (optimizer.method, optimizer.lr, optimizer.weight_decay, optimizer.momentum) == ("sgd", 0.01, 5e-4, 0.9)
        assert config.train.schedule.milestones == (20, 40, 60)
    assert recipe("detect_probe").train.cached
    assert recipe("detect_events").windows.stride == 150
    assert recipe("detect_events").events.threshold == 0.4


@pytest.mark.parametrize("name", ["sdtcn", "bilstm", "tgm", "pdan", "mstct"])
def test_other_heads_stand_on_frozen_features(name: str) -> None:
    config = recipe(f"detect_{name}")
    assert config.train.head == name
    assert config.train.cached


@pytest.mark.parametrize("name", [name for name in RECIPES if name.startswith("detect_")])
def test_every_recipe_measures_every_frame(name, tmp_path, monkeypatch) -> None:
    parts = FrameParts(acted.recordings((20,)), acted.recordings((14,), first=4))
    made = replace(acted.benchmark(), read=lambda folder, protocol: parts)
    monkeypatch.setitem(BENCHMARKS, "acted", made)
    settings = ["task.benchmark=acted", "task.folder=x", "start.weights=scratch", "train.device=cpu"]
    tasks.run(changed(recipe(name), [*settings, "train.epochs=1"]), tmp_path)
    result = read_result(tmp_path)
    assert result.recipe == name
    assert result.counts["frames"] == 14
    assert all(0 <= share <= 1 for share in result.metrics.values())
    assert len(result.per_class) == 3
    assert np.isfinite(result.seconds)
