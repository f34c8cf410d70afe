"""One step of a network that is trained to name classes, against the equations; what of it moves."""

import copy
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests import gestures
from tmor_train.configuration import changed
from tmor_train.data import Batching, Loader, MotionBatch
from tmor_train.evaluation.clips.config import TuneConfig
from tmor_train.evaluation.clips.tuner import Tuner
from tmor_train.evaluation.config import StartConfig
from tmor_train.evaluation.encoders import started
from tmor_train.pretrained.encoder import Pretrained

torch.set_num_threads(1)
MOTIONS = gestures.motions(gestures.CLASSES * 2)
PLAIN = ("augment=[]", "optimizer.rate=0.1", "optimizer.momentum=0", "optimizer.decay=0", "optimizer.clip=none")


@pytest.fixture(scope="module")
def encoder() -> Pretrained:
    changes = ["scratch.encoder.backbone=stgcn", "scratch.sampling.frames=8"]
    return started(changed(StartConfig(weights="scratch"), changes), seed=0, device="cpu")[0]


@pytest.fixture
def batches(encoder: Pretrained) -> Iterator[MotionBatch]:
    return iter(Loader(MOTIONS, sampling=encoder.sampling, batching=Batching(size=3), workers=0))


def tuner(encoder: Pretrained, *changes: str, seed: int = 0) -> Tuner:
    return Tuner(encoder, changed(TuneConfig(), [*PLAIN, *changes]), classes=3, seed=seed)


def state(tuner: Tuner) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in tuner.network.state_dict().items()}


def test_a_step_of_the_head_by_hand(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    batch, smoothing = next(batches), 0.3
    one = tuner(encoder, "trains=head", "statistics=frozen", f"smoothing={smoothing}", "head_rate=10")
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
    found_loss, found_right = one.train(batch, rate=0.5)
    assert float(found_loss) == pytest.approx(loss, rel=1e-5)
    assert int(found_right) == right
    step = 0.5 * 10 * 0.1  # of the schedule, the head's and the optimiser's rate
    np.testing.assert_allclose(one.network.fc.weight.detach(), weight - step * weight_grad, atol=1e-5)
    np.testing.assert_allclose(one.network.fc.bias.detach(), bias - step * bias_grad, atol=1e-5)


@pytest.mark.parametrize("trains", ["head", "all"])
@pytest.mark.parametrize("statistics", ["frozen", "adapting"])
def test_what_moves(encoder: Pretrained, batches: Iterator[MotionBatch], trains: str, statistics: str) -> None:
    one = tuner(encoder, f"trains={trains}", f"statistics={statistics}")
    before = state(one)
    for batch in batches:
        one.train(batch, rate=1.0)
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
        losses.append([float(one.train(batch, rate=0.0)[0]) for _ in range(2)])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]
    assert losses[0][0] != losses[0][1]  # the same weights, another step


def test_weights_are_averaged_over_the_steps(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    one = tuner(encoder, "average=0.6")
    wanted = np.zeros((3, 256))
    for number, batch in enumerate(batches):
        one.train(batch, rate=1.0)
        weight = one.network.fc.weight.detach().double().numpy()
        wanted = weight if number == 0 else 0.6 * wanted + 0.4 * weight
    assert number == 1
    result = one.result
    assert result is not one.network
    np.testing.assert_allclose(result.fc.weight.detach(), wanted, atol=1e-6)
    assert tuner(encoder).averaged is None
    last = tuner(encoder)
    assert last.result is last.network


def test_the_average_holds_running_statistics_too(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    one = tuner(encoder, "average=0.5")
    one.train(next(batches), rate=1.0)
    first = state(one)
    one.train(next(batches), rate=1.0)
    second, averaged = state(one), one.result.state_dict()
    name = next(name for name in first if name.endswith("running_mean") and not torch.equal(first[name], second[name]))
    np.testing.assert_allclose(averaged[name], (first[name] + second[name]) / 2, rtol=1e-5, atol=1e-6)


def test_nothing_moves_when_a_loss_is_not_finite(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    one = tuner(encoder, "statistics=frozen", "average=0.5")
    batch = next(batches)
    batch.motion_NCTVM[0] = math.nan
    before, averaged = state(one), {name: t.clone() for name, t in one.result.state_dict().items()}
    with pytest.raises(ArithmeticError, match="the loss is nan"):
        one.train(batch, rate=1.0)
    assert one.step == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.network.state_dict().items())
    assert all(torch.equal(tensor, averaged[name]) for name, tensor in one.result.state_dict().items())


def test_another_goes_on_from_the_state(encoder: Pretrained, batches: Iterator[MotionBatch]) -> None:
    changes = ("average=0.9", "optimizer.method=adamw", "dropout=0.2", 'augment=[{"kind": "Rotate"}]')
    one, other = tuner(encoder, *changes), tuner(encoder, *changes, seed=5)
    first, second = batches
    one.train(first, rate=1.0)
    other.seed = one.seed
    other.take(copy.deepcopy(one.state()))  # a file would hold a copy, too
    assert other.step == 1
    one.train(second, rate=1.0)
    other.train(second, rate=1.0)
    mine, theirs = one.state(), other.state()
    for part in ("network", "averaged"):
        assert all(torch.equal(mine[part][name], theirs[part][name]) for name in mine[part])
