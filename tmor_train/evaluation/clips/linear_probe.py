"""Linear probing: the encoder is frozen, batch norm too, and one Linear(256, K) is trained on its clip features.

Features are computed once and kept. The setting of the classifier is chosen on the benchmark's validation part, or on
clips held out of its train part; then the classifier is trained on the whole train part. The test part is used once, at
the end.

The default solver finds the optimum of multinomial logistic regression. It has no learning
rate, schedule or seed, so the result depends on the features and not on the tuning of SGD. The literature uses ``sgd``.

With it, the baselines are measured that learned features have to exceed: the same network with new weights, and
logistic regression on raw coordinates. For the latter frames are taken at even steps from the first to the last, each
joint relative to the middle of the hips and to the size of the picture (joints in space stay in metres); all joints of
all frames side by side, scaled by their deviation over the train part. Whether a joint was seen is ignored: one that
was not lies where its file says, if only at 0. A person whom a clip does not have is 0 everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from posecap.joints import LAYOUTS
from tmor_train.data import MotionSet
from tmor_train.data.batch import people_of
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.data.loader import permutation
from tmor_train.evaluation.clips.config import (
    DescentConfig,
    FewShotConfig,
    LinearConfig,
    LogisticConfig,
    ProbeConfig,
    RawConfig,
)
from tmor_train.evaluation.config import SCRATCH, HoldOut, StartConfig, TTAConfig
from tmor_train.evaluation.encoders import Source, encoder_name, features_of, load_encoder, scratch_like
from tmor_train.evaluation.runner import Begun, Trial, TrialOutput, clip_output, run_trials, seed_folders
from tmor_train.evaluation.task import Task, TaskError, held_out, task_of
from tmor_train.pretrained.encoder import UnusableEncoderError
from tmor_train.training.optimizer import ScheduleConfig, lr_ratio


def probe(config: ProbeConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """Measure a probe for each seed and, unless ``beside`` is ``nothing``, the baselines; returns ``folder``.

    Raises:
        RunError: the run is new and the folder already holds one.
        TaskError, EncoderNotFoundError: no benchmark or no encoder is named, or files are missing; and other errors of
            :func:`~tmor_train.evaluation.task.task_of` and :func:`~tmor_train.evaluation.encoders.load_encoder`.
    """
    encoder_name(config.start)
    task = task_of(config.task)
    return run_trials(_trials(config, task), task=task, config=config, folder=folder, begun=begun)


def _trials(config: ProbeConfig, task: Task) -> Iterator[Trial]:
    """A probe for each seed, then the baselines."""
    features = EncoderFeatures(
        task, config.start, config.look, device=config.device, workers=config.workers, people=config.people
    )
    for seed, name in seed_folders(config.seeds):
        yield Trial(mode="probe", name=name, seed=seed, measure=partial(classified, config, task, features, seed, None))
    if config.beside == "logistic" and config.start.weights != SCRATCH:
        untrained = partial(_untrained, config, task)
        yield Trial(mode="probe_scratch", name="scratch", seed=config.seeds[0], measure=untrained)
    if config.beside == "logistic":
        yield logistic_trial(task, config.raw, config.task.holdout, name="logistic", seed=config.seeds[0])


def _untrained(config: ProbeConfig, task: Task, place: Path) -> TrialOutput:
    """The probe of an encoder like the configured one with new weights, drawn by the first seed; raises as
    :func:`untrained_features`."""
    seed = config.seeds[0]
    features = untrained_features(
        task, config, seed=seed, device=config.device, workers=config.workers, people=config.people
    )
    return classified(config, task, features, seed, None, place)


def untrained_features(
    task: Task, config: ProbeConfig | FewShotConfig, *, seed: int, device: str, workers: int, people: int = 1
) -> EncoderFeatures:
    """Features by an encoder like the configured one with new weights, which the seed that they are asked for draws;
    the other arguments are those of :class:`EncoderFeatures`.

    Raises:
        UnusableEncoderError: the configured encoder's architecture is not known.
    """
    encoder, source = load_encoder(config.start, seed=seed, device=device)
    like = scratch_like(encoder)
    if like is None:
        raise UnusableEncoderError(
            f"{source.name} does not say what network it is, so none of new weights can be measured beside it: set "
            "beside=nothing"
        )
    start = replace(config.start, weights=SCRATCH, scratch=like)
    return EncoderFeatures(task, start, config.look, device=device, workers=workers, people=people)


def classified(
    config: ProbeConfig | FewShotConfig,
    task: Task,
    features: EncoderFeatures,
    seed: int,
    few: Numbers | None,
    place: Path,
) -> TrialOutput:
    """Train a classifier on the train part and score the test part. ``few`` are indices of the train clips to use, all
    for None; then there is no hold-out. ``place`` is not used: nothing is kept besides the result."""
    cached, source = features.for_seed(seed)
    if few is not None:
        cached = cached.few(few)
    scores_NK, chosen = probe_scores(cached, task, config.linear, config.task.holdout, seed=seed)
    return clip_output(task, scores_NK, source=source, trained=len(cached.train.label_N), chosen=chosen)


@dataclass(frozen=True, eq=False, slots=True)
class Cached:
    """Features (N, D) of a task's clips: to ``train`` on, ``test_ND`` to measure on, and those of ``validation`` to
    choose settings on (None where the benchmark has no such part)."""

    train: Labelled
    test_ND: Floats
    validation: Labelled | None

    def few(self, index: Numbers) -> Cached:
        """The same with only the train clips of indices ``index``, and none to choose settings on."""
        return replace(self, train=self.train.take(index), validation=None)


def cached_features(task: Task, features: Callable[[MotionSet], Floats]) -> Cached:
    """Features of all of a task's clips; ``features`` computes those of a set, (N, D) float32."""
    validation = task.validation
    return Cached(
        Labelled(features(task.train), task.train.clips.label_N),
        features(task.test),
        None if validation is None else Labelled(features(validation), validation.clips.label_N),
    )


class EncoderFeatures:
    """Features of a task's clips by the encoder that a configuration names.

    They are computed once; by an encoder of new weights, which differ by seed, again whenever another seed is asked for
    than the time before. Arguments are those of :func:`~tmor_train.evaluation.encoders.load_encoder` and
    :func:`~tmor_train.evaluation.encoders.features_of`.
    """

    def __init__(
        self, task: Task, start: StartConfig, tta: TTAConfig, *, device: str, workers: int, people: int = 1
    ) -> None:
        self._task, self._start, self._tta, self._people = task, start, tta, people
        self._device, self._workers = device, workers
        self._kept: tuple[int, Cached, Source] | None = None  # the first is the seed

    def for_seed(self, seed: int) -> tuple[Cached, Source]:
        """The features, and where the weights of their encoder are from. Only new weights depend on ``seed``.

        Raises:
            tmor_train.evaluation.encoders.EncoderNotFoundError: none is named.
        """
        if self._kept is None or (self._start.weights == SCRATCH and self._kept[0] != seed):
            encoder, source = load_encoder(self._start, seed=seed, device=self._device)
            features = partial(features_of, encoder, tta=self._tta, people=self._people, workers=self._workers)
            self._kept = seed, cached_features(self._task, features), source
        return self._kept[1:]


def probe_scores(
    features: Cached, task: Task, config: LinearConfig, holdout: HoldOut, *, seed: int
) -> tuple[Floats, dict[str, Any]]:
    """Scores (N, K) of the test clips by a linear classifier, and its solver, setting and the metric of each setting on
    the hold-out, as JSON values.

    Raises:
        TaskError: there are several settings, and no clips to choose one on.
    """
    pairs = []
    if features.validation is not None:
        pairs = [(features.train, features.validation)]
    elif len(settings_of(config)) > 1:
        rest, held = held_out(task.train, holdout)
        if not len(held):
            raise TaskError(
                "no class has two clips to train on, so none can be held out to choose a setting on; name one of "
                "linear.exact.strengths, or of linear.descent.rates"
            )
        pairs = [(features.train.take(rest), features.train.take(held))]
    found = fit_best(features.train, pairs, config, classes=len(task.classes), seed=seed, metric=task.metric)
    settings: dict[str, Any] = {"solver": config.solver, "setting": found.setting}
    if found.held_out:
        settings["held_out"] = {f"{setting:g}": round(share, 4) for setting, share in found.held_out.items()}
    return found.linear.scores(features.test_ND), settings


_MOST_PEOPLE = 2  # whose coordinates are used, as many as an interaction has; further people of a clip are left out
_HIPS = ("left_hip", "right_hip")


def logistic(config: LogisticConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """Measure the baseline of a benchmark for each seed; returns ``folder``.

    Raises:
        RunError: the run is new and the folder already holds one.
        TaskError: no benchmark is named, or files are missing.
    """
    task = task_of(config.task)
    trials = [
        logistic_trial(task, config.raw, config.task.holdout, name=name, seed=seed)
        for seed, name in seed_folders(config.seeds)
    ]
    return run_trials(trials, task=task, config=config, folder=folder, begun=begun)


def logistic_trial(
    task: Task, config: RawConfig, holdout: HoldOut, *, name: str, seed: int, few: tuple[float, Numbers] | None = None
) -> Trial:
    """The baseline as one measurement of a run; ``few``: with so many percent of the labels, and the indices of the
    train clips that keep theirs."""

    def measure(place: Path) -> TrialOutput:
        people = min(int(task.train.clips.people_N.max()), _MOST_PEOPLE)
        features = cached_features(task, lambda motions: raw_coordinates(motions, config, people=people))
        if few is not None:
            features = features.few(few[1])
        scores_NK, chosen = probe_scores(features, task, config.linear, holdout, seed=seed)
        return clip_output(task, scores_NK, source=None, trained=len(features.train.label_N), chosen=chosen)

    labels = 1.0 if few is None else few[0] / 100
    return Trial(mode="logistic", name=name, seed=seed, labels=labels, measure=measure)


def raw_coordinates(motions: MotionSet, config: RawConfig, *, people: int) -> Floats:
    """Coordinates of all joints, frames and people of each clip, centred and scaled: (N, M * T * V * C) float32, M
    ``people`` and T ``config.frames``. Joints are those of the layout of the set's first array.

    Raises:
        posecap.joints.LayoutError: the set has several layouts, and one has no exact map to that.
    """
    clips, layout = motions.clips, motions.arrays[0].layout
    index_N = np.arange(len(motions))
    last_N1 = (clips.frames_N - 1)[:, None]
    frame_NT = np.rint(np.linspace(0, 1, config.frames) * last_N1).astype(np.int64)
    person_NM = people_of(motions, most=people, by="first")
    joints, _ = motions.gather(index_N, frame_NT=frame_NT, person_NM=person_NM, layout=layout)
    joints_NMTVC = joints.numpy()
    hips = [LAYOUTS[layout].names.index(name) for name in _HIPS]
    # Of the first person, so that distances between people are kept.
    middle = joints_NMTVC[:, :1, :, hips].mean(3, keepdims=True)
    centred = joints_NMTVC - (middle[:, :, :1] if config.centre == "first" else middle)
    centred[person_NM < 0] = 0  # the set returns arbitrary joints for a person whom a clip lacks
    size_NC = np.ones((len(motions), joints_NMTVC.shape[-1]), np.float32)
    flat = ~motions.has_depth
    size_NC[flat, :2] = np.stack([clips.width_N, clips.height_N], 1)[flat]
    scaled: Floats = (centred / size_NC[:, None, None, None]).reshape(len(motions), -1).astype(np.float32)
    return scaled


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
