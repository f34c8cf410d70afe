"""Fixtures made once a session: a dataset of thirteen clips, and the folder of a small training run on it. And encoders
of few channels, for files that train many of them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from posecap.types import PartName
from tests import built
from tmor_train.configuration import changed
from tmor_train.recipes import recipe
from tmor_train.training.pretrain import pretrain


@pytest.fixture(scope="session")
def demo_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirteen clips of two people in train and test."""
    root = tmp_path_factory.mktemp("demo") / "shards"
    samples = built.samples(13, people=2, frames=10)
    built.build(root, {PartName("train", 0): samples[:6], PartName("test", 1): samples[6:]})
    return root


@pytest.fixture(scope="session")
def demo_run(demo_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs of all three losses."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("demo") / "run"
    changes = ("sampling.frames=8", "loop.epochs=2", "loop.workers=0", "data.split=none", "objective.momentum=0.5")
    pretrain(changed(recipe("pretrain_demo"), [f"data.shards={demo_shards}", *changes]), folder)
    return folder


@pytest.fixture(scope="module")
def narrow_encoders() -> Iterator[tuple[int, ...]]:
    """For all tests of a file, UNIK and AGCN have blocks of these widths: a step and a checkpoint cost half as much."""
    widths = (8, 8, 8, 8, 16, 16, 16, 32, 32, 256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tmor_train.backbones.layers.WIDTHS", widths)
        yield widths
