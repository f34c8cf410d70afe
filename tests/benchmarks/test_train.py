"""The benchmark of training compares like with like: both of its steps are the same function."""

from types import ModuleType

import numpy as np
import pytest
import torch

from tests import ROOT, plain_unik
from tests.programs import program
from tmor_train.backbones.unik import UNIK
from tmor_train.data import Loader, MotionSet, read_shards
from tmor_train.training.train_state import TrainState

torch.set_num_threads(1)

STEPS = 3


@pytest.fixture(scope="module")
def train() -> ModuleType:
    return program(ROOT / "benchmarks" / "train.py")


@pytest.fixture(scope="module")
def motions(train: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> MotionSet:
    root = tmp_path_factory.mktemp("walks")
    train.write_dataset(root, clips=24, frames=8)
    return read_shards(root)


def small_train_state(train: ModuleType, motions: MotionSet) -> TrainState:
    # A large step and a fast average: an error in either would show in the next loss.
    also = "views.positive= optimizer.lr=0.003 objective.momentum=0.5"
    config = train.configuration(batch=6, frames=8, queue=16, also=also)
    made: TrainState = train.new_train_state(config, motions, torch.device("cpu"))
    # Keys of another encoder than the anchors': were they the same, L_mm would be 0 whatever the queue holds.
    torch.manual_seed(1)
    for parameter in made.ema_encoder.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.3)
    return made


def test_both_steps_have_the_same_losses_step_after_step(train: ModuleType, motions: MotionSet) -> None:
    train_state = small_train_state(train, motions)
    plain = train.PlainTrainer(train_state)
    loader = Loader(motions, sampling=train_state.config.sampling, batching=train_state.config.batching)
    for step in range(STEPS):
        batch = loader.gather(np.arange(6) + 6 * step)
        assert plain.train(batch) == pytest.approx(
            train_state.train_step([batch], lr_ratio=1.0, watch=False).loss, rel=2e-4
        )
    kept = train_state.objective.memory.state_dict()
    for name, theirs in plain.queue.items():
        assert torch.allclose(kept[name].float(), theirs.float(), atol=1e-3), name


def test_the_losses_of_the_benchmark_depend_on_clusters_and_queue(train: ModuleType, motions: MotionSet) -> None:
    train_state = small_train_state(train, motions)
    batch = Loader(motions, sampling=train_state.config.sampling, batching=train_state.config.batching).gather(
        np.arange(6)
    )
    plain, other_keys, other_videos, other_clusters = (train.PlainTrainer(train_state) for _ in range(4))
    usual = plain.train(batch)
    # A key of this encoder in every slot; at first there are others, which are like no anchor.
    other_keys.queue["motion_KD"] = plain.queue["motion_KD"][:1].expand(16, -1).clone()
    other_videos.queue["video_KDv"] = -other_videos.queue["video_KDv"]
    other_clusters.cluster_of = torch.arange(24) % 2
    for other in (other_keys, other_videos, other_clusters):
        assert other.train(batch) != pytest.approx(usual, rel=1e-3)


def test_flops_of_the_plain_encoder_are_those_of_unik(train: ModuleType) -> None:
    weights = train.plain_weights(UNIK(joints=17, channels=2, persons=1))
    assert sum(tensor.numel() for tensor in train.weights_in(weights)) == 3_443_596
    with train.FlopCounterMode(display=False) as counter:
        plain_unik.scores(weights, torch.randn(1, 2, 64, 17, 1), training=True)
    assert counter.get_total_flops() / 2 == pytest.approx(1.39e9, rel=0.01)


def test_parts_are_the_operations_with_their_products(train: ModuleType) -> None:
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    with train.Parts() as parts:
        (a @ b).relu()
    assert {name: (flop, calls) for name, (_, flop, calls) in parts.spent.items()} == {
        "mm": (2 * 3 * 4 * 5, 1),
        "relu": (0, 1),
    }
