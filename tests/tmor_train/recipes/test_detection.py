"""What the recipes of detection are about, and that each of them runs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import acted
from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS, FrameParts
from tmor_train.configuration import changed
from tmor_train.recipes import detection, recipe
from tmor_train.results import read_result

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


@pytest.mark.parametrize("name", detection.RECIPES)
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
