"""Features that are computed once, and the hold-out on which a classifier of them is chosen."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests import gestures
from tmor_train.configuration import changed
from tmor_train.data import MotionSet
from tmor_train.evaluation.clips import cached as module
from tmor_train.evaluation.clips.cached import EncoderFeatures, cached, classified
from tmor_train.evaluation.clips.classifier import fitted
from tmor_train.evaluation.clips.config import ExactConfig, LinearConfig
from tmor_train.evaluation.config import HoldOut, LookConfig, StartConfig
from tmor_train.evaluation.task import NoTask, held_out

torch.set_num_threads(1)
SEVERAL = LinearConfig(exact=ExactConfig(strengths=(0.01, 1.0)))
ONE = LinearConfig(exact=ExactConfig(strengths=(0.5,)))


def ends(motions: MotionSet) -> np.ndarray:
    """Where the first joint ends minus where it begins: the class, plainly."""
    clips = [motions.clip(number).joints_MTJC[0, :, 0, :2] for number in range(len(motions))]
    return np.array([joints[-1] - joints[0] for joints in clips], np.float32)


def test_each_part_keeps_its_features_and_labels() -> None:
    task = gestures.task(validation=gestures.motions(gestures.CLASSES, seed=5))
    found = cached(task, ends)
    np.testing.assert_array_equal(found.train.features_ND, ends(task.train))
    np.testing.assert_array_equal(found.train.label_N, task.train.clips.label_N)
    np.testing.assert_array_equal(found.measured_ND, ends(task.measured))
    assert found.validation is not None
    assert found.validation.label_N.tolist() == [0, 1, 2]
    few = found.few(np.array([4, 1]))
    np.testing.assert_array_equal(few.train.features_ND, ends(task.train)[[4, 1]])
    assert few.validation is None
    np.testing.assert_array_equal(few.measured_ND, found.measured_ND)


def test_a_setting_is_chosen_on_clips_held_out_of_the_train_part() -> None:
    task, holdout = gestures.task(), HoldOut(share=0.5, seed=3)
    found = cached(task, ends)
    scores_NK, settings = classified(found, task, SEVERAL, holdout, seed=0)
    rest, held = held_out(task.train, holdout)
    metrics = {}
    for strength in (0.01, 1.0):
        linear = fitted(found.train.take(rest), SEVERAL, strength, classes=3, seed=0)
        right = linear.scores(found.train.features_ND[held]).argmax(1) == found.train.label_N[held]
        metrics[f"{strength:g}"] = float(right.mean())
    assert settings == {"solver": "lbfgs", "setting": settings["setting"], "held_out": metrics}
    best = max(metrics, key=lambda name: metrics[name])
    assert settings["setting"] == float(best)
    linear = fitted(found.train, SEVERAL, float(best), classes=3, seed=0)
    np.testing.assert_array_equal(scores_NK, linear.scores(found.measured_ND))
    assert (scores_NK.argmax(1) == task.measured.clips.label_N).all()


def test_a_validation_part_is_what_is_chosen_on() -> None:
    """Right and wrong labels of its clips are told apart; clips of the train part would be right either way."""
    task = gestures.task(validation=gestures.motions(("raise",) * 3, seed=5))
    found = cached(task, ends)
    assert found.validation is not None
    for label, metric in ((1, 1.0), (0, 0.0)):
        asked = replace(found, validation=replace(found.validation, label_N=np.full(3, label)))
        _, settings = classified(asked, task, SEVERAL, HoldOut(), seed=0)
        assert settings["held_out"] == {"0.01": metric, "1": metric}
        assert settings["setting"] == 0.01  # the first of equals


def test_one_setting_holds_nothing_out() -> None:
    task = gestures.task(1)  # a clip of each class, of which none can be held out
    _, settings = classified(cached(task, ends), task, ONE, HoldOut(), seed=0)
    assert settings == {"solver": "lbfgs", "setting": 0.5}
    with pytest.raises(NoTask, match=r"no class has two clips .* name one of linear\.exact\.strengths"):
        classified(cached(task, ends), task, SEVERAL, HoldOut(), seed=0)


@pytest.mark.parametrize(("weights", "times"), [("scratch", 3), ("run", 1)])
def test_features_are_found_once_for_each_encoder(
    weights: str, times: int, demo_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def counted(config: StartConfig, *, seed: int, device: str) -> Any:
        asked.append(seed)
        return began(config, seed=seed, device=device)

    began = module.started
    monkeypatch.setattr(module, "started", counted)
    place = str(demo_run) if weights == "run" else weights
    start = changed(StartConfig(weights=place), ["scratch.encoder.backbone=stgcn", "scratch.sampling.frames=8"])
    features = EncoderFeatures(gestures.task(1), start, LookConfig(), device="cpu", workers=0)
    first, source = features.of(0)
    assert features.of(0)[0] is first
    other, _ = features.of(1)
    again, _ = features.of(0)
    assert len(asked) == times
    assert (other is first) == (weights == "run")
    np.testing.assert_array_equal(first.measured_ND, again.measured_ND)
    assert np.array_equal(first.measured_ND, other.measured_ND) == (weights == "run")
    assert (source.sha256 is None) == (weights == "scratch")
