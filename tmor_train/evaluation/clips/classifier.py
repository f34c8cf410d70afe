"""Trains linear classifiers of features, by SGD or L-BFGS, and chooses their setting on a hold-out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from tmor_train.data.dataset import Floats, Numbers
from tmor_train.data.loader import permutation
from tmor_train.evaluation.clips.config import DescentConfig, LinearConfig
from tmor_train.training.optimizer import ScheduleConfig, lr_ratio

_ORDER = 0  # purpose of random numbers: the order of clips


@dataclass(frozen=True, eq=False, slots=True)
class Labelled:
    """``features_ND`` float32 of N clips, and ``label_N`` int64, the index of each one's class."""

    features_ND: Floats
    label_N: Numbers

    def take(self, index: Numbers) -> Labelled:
        """Those of the clips of indices ``index``, in that order."""
        return Labelled(self.features_ND[index], self.label_N[index])


@dataclass(frozen=True, eq=False, slots=True)
class Linear:
    """One linear layer, ``weight_KD`` and ``bias_K`` in float32, for features as they are: scaling them is part of
    it."""

    weight_KD: Floats
    bias_K: Floats

    def scores(self, features_ND: Floats) -> Floats:
        """Logits (N, K) float32 of features (N, D)."""
        return features_ND @ self.weight_KD.T + self.bias_K


@dataclass(frozen=True, eq=False, slots=True)
class BestFit:
    """``linear``: the classifier trained on the whole train part with the best setting, that ``setting``, and in
    ``held_out`` the mean metric of each setting on the hold-out (empty where there was one setting only)."""

    linear: Linear
    setting: float
    held_out: dict[float, float]


def settings_of(config: LinearConfig) -> tuple[float, ...]:
    """The settings to choose among: learning rates for SGD, or strengths C for L-BFGS."""
    return config.descent.rates if config.solver == "sgd" else config.exact.strengths


def fit_best(
    train: Labelled,
    pairs: Sequence[tuple[Labelled, Labelled]],
    config: LinearConfig,
    *,
    classes: int,
    seed: int,
    metric: Callable[[Floats, Numbers], float],
) -> BestFit:
    """A classifier trained on ``train`` with the setting whose mean ``metric`` on the hold-out is highest, the first of
    equals.

    Args:
        pairs: for comparing settings, what to train on and what to measure on; empty without a hold-out.
        metric: of scores (N, K) and labels (N,); higher is better.

    Raises:
        ValueError: there are several settings and no hold-out.
    """
    settings = settings_of(config)
    held_out: dict[float, float] = {}
    if len(settings) > 1:
        if not pairs:
            raise ValueError(
                "several settings of a classifier are given, and no hold-out to choose on; name one setting"
            )
        for setting in settings:
            metrics = [
                metric(fitted(fit, config, setting, classes=classes, seed=seed).scores(held.features_ND), held.label_N)
                for fit, held in pairs
            ]
            held_out[setting] = float(np.mean(metrics))
    best = max(settings, key=lambda setting: held_out.get(setting, 0.0))
    return BestFit(fitted(train, config, best, classes=classes, seed=seed), best, held_out)


def fitted(train: Labelled, config: LinearConfig, setting: float, *, classes: int, seed: int) -> Linear:
    """A classifier trained on ``train`` with one setting; ``seed`` is used by SGD alone."""
    features = torch.from_numpy(train.features_ND).float()
    mean, deviation = torch.zeros(features.shape[1]), torch.ones(features.shape[1])
    if config.scale == "standard":
        mean, deviation = features.mean(0), features.std(0, correction=0)
        # A feature that varies less than a millionth of the one that varies most is constant but for rounding in
        # float32; it says nothing and keeps its size.
        deviation[deviation < 1e-6 * deviation.max().clamp(min=1e-12)] = 1.0
    scaled, labels = (features - mean) / deviation, torch.from_numpy(train.label_N)
    if config.solver == "sgd":
        weight, bias = _descended(scaled, labels, classes, config.descent, setting, seed)
    else:
        weight, bias = _optimum(scaled, labels, classes, setting, config.exact.iterations)
    weight = weight / deviation
    return Linear(weight.numpy(), (bias - weight @ mean).numpy())


def _descended(
    features: torch.Tensor, labels: torch.Tensor, classes: int, config: DescentConfig, rate: float, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (K, D) and bias (K,) by SGD with cross-entropy. Weights begin with a standard deviation of 0.01 and the
    bias with 0, as in MoCo's code for linear probes."""
    generator = torch.Generator().manual_seed(seed)
    weight = nn.Parameter(torch.randn(classes, features.shape[1], generator=generator) * 0.01)
    bias = nn.Parameter(torch.zeros(classes))
    optimizer = torch.optim.SGD([weight, bias], lr=rate, momentum=config.momentum, weight_decay=config.weight_decay)
    schedule = ScheduleConfig(shape="steps", warmup=0.0, milestones=config.milestones)
    for epoch in range(config.epochs):
        share = lr_ratio(epoch, schedule, steps_per_epoch=1, epochs=config.epochs)
        optimizer.param_groups[0]["lr"] = share * rate
        order = torch.from_numpy(permutation(seed, epoch, _ORDER, count=len(labels)))
        for begin in range(0, len(order), config.batch):
            part = order[begin : begin + config.batch]
            optimizer.zero_grad(set_to_none=True)
            loss = functional.cross_entropy(functional.linear(features[part], weight, bias), labels[part])
            torch.autograd.backward(loss)
            optimizer.step()
    return weight.detach(), bias.detach()


def _optimum(
    features: torch.Tensor, labels: torch.Tensor, classes: int, strength: float, iterations: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight (K, D) and bias (K,) at the minimum of |W|² / 2 + C times the summed cross-entropy, as in scikit-learn;
    the bias is not penalised. C is ``strength``."""
    features = features.double()
    weight = torch.zeros(classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=iterations,
        history_size=10,  # SciPy's default, with which scikit-learn calls it
        line_search_fn="strong_wolfe",
        tolerance_grad=1e-6,  # of the mean loss, whose gradient is of the order of 1 at the start
        tolerance_change=1e-12,  # in effect none, so that the gradient decides
    )
    scale = 1 / (strength * len(labels))  # divided by C N, so that the tolerance means the same at every C

    def loss() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        scores = functional.linear(features, weight, bias)
        total = functional.cross_entropy(scores, labels) + scale * weight.square().sum() / 2
        torch.autograd.backward(total)
        return total

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach().float(), bias.detach().float()
