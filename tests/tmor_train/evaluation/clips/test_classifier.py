"""Linear classifiers against scikit-learn, against plain loops, and how their setting is chosen."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from tmor_train.data.loader import permutation
from tmor_train.evaluation.clips.classifier import Labelled, Linear, fit_best, fitted, settings_of
from tmor_train.evaluation.clips.config import DescentConfig, ExactConfig, LinearConfig

torch.set_num_threads(1)


def drawn(count: int = 60, *, features: int = 5, classes: int = 3, seed: int = 0) -> Labelled:
    """Overlapping classes, features of different scales, and each class at least once."""
    rng = np.random.default_rng(seed)
    label_N = np.concatenate([np.arange(classes), rng.integers(0, classes, count - classes)])
    means = rng.normal(size=(classes, features))
    found = means[label_N] + rng.normal(0, 1.5, (count, features))
    return Labelled((found * np.geomspace(0.2, 5, features) + 1).astype(np.float32), label_N)


def exact(*strengths: float, scale: Any = "none") -> LinearConfig:
    return LinearConfig(solver="lbfgs", scale=scale, exact=ExactConfig(strengths=strengths, iterations=2000))


def top1(scores_NK: np.ndarray, label_N: np.ndarray) -> float:
    return float((scores_NK.argmax(1) == label_N).mean())


@pytest.mark.parametrize("strength", [0.001, 0.1, 1.0, 30.0])
def test_the_optimum_is_that_of_scikit_learn(strength: float) -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    data = drawn()
    found = fitted(data, exact(strength), strength, classes=3, seed=0)
    known = linear_model.LogisticRegression(C=strength, tol=1e-10, max_iter=20_000)
    known.fit(data.features_ND.astype(np.float64), data.label_N)
    np.testing.assert_allclose(found.weight_KD, known.coef_, atol=2e-3 * np.abs(known.coef_).max())
    mine, theirs = (bias - bias.mean() for bias in (found.bias_K, known.intercept_))
    np.testing.assert_allclose(mine, theirs, atol=5e-3)


def test_scaling_is_part_of_the_weights() -> None:
    data = drawn()
    features_ND = np.concatenate([data.features_ND, np.full((60, 1), 7, np.float32)], 1)  # one that never changes
    scaled_ND = features_ND.copy()
    for column in range(5):
        values = features_ND[:, column].astype(np.float64)
        deviation = math.sqrt(sum((v - values.mean()) ** 2 for v in values) / len(values))
        scaled_ND[:, column] = (values - values.mean()) / deviation
    scaled_ND[:, 5] = 0
    folded = fitted(Labelled(features_ND, data.label_N), exact(1.0, scale="standard"), 1.0, classes=3, seed=0)
    plain = fitted(Labelled(scaled_ND, data.label_N), exact(1.0), 1.0, classes=3, seed=0)
    np.testing.assert_allclose(folded.scores(features_ND), plain.scores(scaled_ND), atol=1e-4)
    assert np.isfinite(folded.weight_KD).all()
    assert not folded.weight_KD[:, 5].any()


def test_scores_are_one_linear_layer() -> None:
    linear = Linear(np.array([[1, 2], [3, 4], [0, -1]], np.float32), np.array([0.5, 0, 1], np.float32))
    assert linear.scores(np.array([[1, 1], [2, 0]], np.float32)).tolist() == [[3.5, 7, 0], [2.5, 6, 1]]


def test_descent_follows_its_schedule() -> None:
    data, classes, seed, rate = drawn(11), 3, 4, 0.05
    config = LinearConfig(
        solver="sgd",
        scale="none",
        descent=DescentConfig(rates=(rate,), weight_decay=0.01, momentum=0.8, batch=4, epochs=5, milestones=(2, 4)),
    )
    found = fitted(data, config, rate, classes=classes, seed=seed)

    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 5, generator=generator).double().numpy() * 0.01
    bias = np.zeros(classes)
    speed_weight, speed_bias = np.zeros_like(weight), np.zeros_like(bias)
    for epoch in range(5):
        now = {0: rate, 1: rate, 2: rate / 10, 3: rate / 10, 4: rate / 100}[epoch]
        order = permutation(seed, epoch, 0, count=11)
        for part in (order[:4], order[4:8], order[8:]):
            weight_grad, bias_grad = 0.01 * weight, 0.01 * bias
            for number in part:
                feature_D = data.features_ND[number].astype(np.float64)
                shares = np.exp(weight @ feature_D + bias)
                shares /= shares.sum()
                shares[data.label_N[number]] -= 1
                weight_grad = weight_grad + np.outer(shares, feature_D) / len(part)
                bias_grad = bias_grad + shares / len(part)
            speed_weight, speed_bias = 0.8 * speed_weight + weight_grad, 0.8 * speed_bias + bias_grad
            weight, bias = weight - now * speed_weight, bias - now * speed_bias
    np.testing.assert_allclose(found.weight_KD, weight, atol=1e-5)
    np.testing.assert_allclose(found.bias_K, bias, atol=1e-5)


def test_the_setting_is_chosen_on_the_hold_out_alone() -> None:
    """The metric only likes the held-out clips' labels; what the train part says of each setting plays no part."""
    data = drawn()
    fit, held = data.take(np.arange(0, 60, 2)), data.take(np.arange(1, 60, 2))
    asked: list[np.ndarray] = []
    metrics = iter([0.2, 0.7, 0.7])

    def metric(scores_NK: np.ndarray, label_N: np.ndarray) -> float:
        asked.append(label_N)
        linear = fitted(fit, config, (0.01, 1.0, 10.0)[len(asked) - 1], classes=3, seed=0)
        np.testing.assert_array_equal(scores_NK, linear.scores(held.features_ND))
        return next(metrics)

    config = exact(0.01, 1.0, 10.0)
    found = fit_best(data, [(fit, held)], config, classes=3, seed=0, metric=metric)
    assert [labels.tolist() for labels in asked] == [held.label_N.tolist()] * 3
    assert found.held_out == {0.01: 0.2, 1.0: 0.7, 10.0: 0.7}
    assert found.setting == 1.0  # the first of equals
    whole = fitted(data, config, 1.0, classes=3, seed=0)
    np.testing.assert_array_equal(found.linear.weight_KD, whole.weight_KD)  # in the end of all clips


def test_one_setting_needs_no_hold_out() -> None:
    found = fit_best(drawn(), [], exact(0.5), classes=3, seed=0, metric=top1)
    assert (found.setting, found.held_out) == (0.5, {})


def test_several_settings_without_a_hold_out_are_refused() -> None:
    with pytest.raises(ValueError, match="no hold-out to choose on"):
        fit_best(drawn(), [], exact(0.5, 1.0), classes=3, seed=0, metric=top1)


def test_settings_are_those_of_the_solver() -> None:
    config = LinearConfig(exact=ExactConfig(strengths=(2.0,)), descent=DescentConfig(rates=(0.3, 0.4)))
    assert settings_of(config) == (2.0,)
    assert settings_of(LinearConfig(solver="sgd", descent=config.descent)) == (0.3, 0.4)


def test_a_class_without_a_clip_has_a_score_too() -> None:
    data = drawn()
    two = data.take(np.flatnonzero(data.label_N != 1))
    found = fitted(two, exact(1.0), 1.0, classes=3, seed=0)
    assert found.weight_KD.shape == (3, 5)
    assert (found.scores(two.features_ND).argmax(1) != 1).all()
