"""T-MOR with losses on frames: what of it is T-MOR's own, and which views it takes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from posecap.types import PartName
from tests import built
from tmor_train.configuration import ConfigError, changed
from tmor_train.data import Batching, Loader
from tmor_train.data.augment import Blur, CropResize, Noise, ShiftCrop, TimeFlip
from tmor_train.data_sources import DataConfig, motions_of
from tmor_train.methods.dense import Dense, check_times
from tmor_train.recipes import recipe
from tmor_train.training.config import PretrainConfig
from tmor_train.training.distributed import DistributedContext
from tmor_train.training.train_state import TrainState

torch.set_num_threads(1)
NAMES = ("frames", "decorrelation", "frame_text")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shards")
    built.build(root, {PartName("train", 0): built.samples(6, people=1, frames=10)})
    return root


def tiny(name: str, shards: Path, *changes: str) -> PretrainConfig:
    config = replace(recipe(name), data=DataConfig(shards=(str(shards),)))
    small = "sampling.frames=8 sampling.people=1 batching.size=6 batching.last=keep loop.workers=0 loop.device=cpu"
    made: PretrainConfig = changed(config, [*small.split(), "method.window=1", "method.projector=8", *changes])
    return made


def metrics(config: PretrainConfig) -> dict[str, float]:
    """Of the first step of training."""
    torch.manual_seed(0)
    motions = motions_of(config.data)
    state = TrainState(config, motions, DistributedContext())
    loader = Loader(motions, sampling=config.sampling, batching=Batching(size=6, last="keep"), workers=0)
    return dict(state.train_step(list(loader), lr_ratio=1.0, watch=True).metrics)


@pytest.mark.slow
def test_without_terms_it_is_t_mor_and_each_term_adds_its_loss_with_its_weight(shards: Path) -> None:
    off = tiny("dense", shards)
    plain = metrics(replace(off, method=None))
    assert metrics(off) == pytest.approx(plain)
    every = metrics(changed(off, [f"method.w_{name}={weight}" for name, weight in zip(NAMES, (1, 2, 3), strict=True)]))
    wanted = plain["loss"] + sum(weight * every[f"{name}/loss"] for name, weight in zip(NAMES, (1, 2, 3), strict=True))
    assert every["loss"] == pytest.approx(wanted, rel=1e-5)
    assert all(every[f"{name}/loss"] > 0.01 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_its_term_alone_and_views_that_keep_times(name: str) -> None:
    for prefix, base in (("", "joint"), ("sets_", "sets_train")):
        config, without = recipe(f"{prefix}dense_{name}"), recipe(f"{prefix}dense")
        assert config.method == changed(Dense(), [f"w_{name}=1"])
        assert without.method == Dense()
        assert config.views == without.views
        assert config.objective == without.objective == recipe(base).objective
        for view in (config.views.anchor, config.views.positive):
            check_times("anchor", view)
        assert any(isinstance(step, CropResize) for step in recipe(base).views.positive)


@pytest.mark.parametrize("step", [CropResize(), ShiftCrop(), TimeFlip()])
def test_views_that_move_frames_are_refused(step: CropResize | ShiftCrop | TimeFlip) -> None:
    check_times("positive", (Noise(), Blur()))
    with pytest.raises(ValueError, match=rf"{type(step).__name__} moves them; leave it out of views.positive"):
        check_times("positive", (Noise(), step))


def test_windows_need_a_head_of_texts(shards: Path) -> None:
    config = tiny("dense_frame_text", shards, "objective.w_mt=0")
    with pytest.raises(ValueError, match=r"set objective\.w_mt above 0 or method\.w_frame_text=0"):
        TrainState(config, motions_of(config.data), DistributedContext())


def test_numbers_out_of_range_are_refused(shards: Path) -> None:
    for change in ("method.w_frames=-1", "method.window=0", "method.projector=0"):
        with pytest.raises(ConfigError):
            tiny("dense", shards, change)
