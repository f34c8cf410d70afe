"""Few labels: linear probes and fine-tuning with some percent of the train part's labels.

Of a class with n clips, round(p n) are drawn, at least one (AimCLR's rule; Guo et al., AAAI 2022), anew for each seed.
The draws of a seed are nested: clips that are in its 1 % are in its 5 %, too. So few clips leave none to choose
settings on; the classifier has the one setting that its configuration names. Beside the linear probes, on the same
draws, are those of the same network with new weights and of raw coordinates, as beside a probe with all labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from tmor_train.data.dataset import Numbers
from tmor_train.data.loader import permutation
from tmor_train.evaluation.clips.config import FewShotConfig, TuneConfig
from tmor_train.evaluation.clips.fine_tune import fine_tune_and_score
from tmor_train.evaluation.clips.linear_probe import (
    EncoderFeatures,
    classified,
    logistic_trial,
    untrained_features,
)
from tmor_train.evaluation.config import SCRATCH
from tmor_train.evaluation.encoders import encoder_name
from tmor_train.evaluation.runner import Begun, Trial, TrialOutput, run_trials, seed_folders
from tmor_train.evaluation.task import Task, task_of

# The mode of results by that of the configuration.
_MODES = {"linear": "probe", "finetune": "finetune"}


def few_shot(config: FewShotConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """Measure each mode with each share of the labels for each seed; returns ``folder``.

    Raises:
        RunError: the run is new and the folder already holds one, or a loss is not finite.
        TaskError, EncoderNotFoundError: no benchmark or no encoder is named, or files are missing; and other errors of
            :func:`~tmor_train.evaluation.task.task_of` and :func:`~tmor_train.evaluation.encoders.load_encoder`.
        Stopped: the process was asked to stop; the step it was in is saved.
    """
    encoder_name(config.start)
    task = task_of(config.task)
    return run_trials(_trials(config, task), task=task, config=config, folder=folder, begun=begun)


def _trials(config: FewShotConfig, task: Task) -> Iterator[Trial]:
    """Every mode with every share and seed, then the baselines of linear probes."""
    features = EncoderFeatures(task, config.start, config.look, device=config.tune.device, workers=config.tune.workers)
    for mode in config.modes:
        for percent in config.percent:
            for seed, name in seed_folders(config.seeds, f"{mode}-{percent:g}"):
                few = drawn(task.train.clips.label_N, percent, seed=seed)
                if mode == "linear":
                    measure = partial(classified, config, task, features, seed, few)
                else:
                    measure = partial(_tuned, config, task, few, seed)
                yield Trial(mode=_MODES[mode], name=name, seed=seed, labels=percent / 100, measure=measure)
    if config.beside == "logistic" and "linear" in config.modes:
        yield from _baselines(config, task)


def _baselines(config: FewShotConfig, task: Task) -> Iterator[Trial]:
    """For each share and seed the probe of raw coordinates and, beside a trained encoder, of one that is not."""
    untrained: list[EncoderFeatures] = []

    def of_new_weights(seed: int, few: Numbers, place: Path) -> TrialOutput:
        if not untrained:  # not before it is asked for: a run may have all of these results
            tune = config.tune
            untrained.append(untrained_features(task, config, seed=seed, device=tune.device, workers=tune.workers))
        return classified(config, task, untrained[0], seed, few, place)

    for number, seed in enumerate(config.seeds):
        for percent in config.percent:
            few = drawn(task.train.clips.label_N, percent, seed=seed)
            if config.start.weights != SCRATCH:
                _, name = seed_folders(config.seeds, f"scratch-{percent:g}")[number]
                measure = partial(of_new_weights, seed, few)
                yield Trial(mode="probe_scratch", name=name, seed=seed, labels=percent / 100, measure=measure)
            _, name = seed_folders(config.seeds, f"logistic-{percent:g}")[number]
            yield logistic_trial(task, config.raw, config.task.holdout, name=name, seed=seed, few=(percent, few))


def _tuned(config: FewShotConfig, task: Task, few: Numbers, seed: int, place: Path) -> TrialOutput:
    """Fine-tuning with only the train clips of indices ``few``, its log and checkpoint in ``place``."""
    less = replace(task, train=task.train.select(few))
    return fine_tune_and_score(replace(config, tune=lengthened(config.tune, len(few), config.steps)), less, seed, place)


def lengthened(tune: TuneConfig, clips: int, steps: int) -> TuneConfig:
    """``tune`` with as many epochs as make at least ``steps`` steps on ``clips`` clips, and no fewer than it has; the
    warm-up is lengthened in proportion, milestones are not. A last batch that is not full is counted as a step."""
    per_epoch = -(-clips // tune.batching.size)
    epochs = max(tune.epochs, -(-steps // per_epoch))
    schedule = replace(tune.schedule, warmup=tune.schedule.warmup * epochs / tune.epochs)
    return replace(tune, epochs=epochs, schedule=schedule)


def drawn(label_N: Numbers, percent: float, *, seed: int) -> Numbers:
    """Indices, ascending, of the clips that keep their label: of each class ``percent`` of its clips, rounded, at least
    one."""
    chosen = []
    for label in np.unique(label_N).tolist():
        members = np.flatnonzero(label_N == label)
        count = max(round(percent / 100 * len(members)), 1)
        chosen.append(members[permutation(seed, label, count=len(members))[:count]])
    return np.sort(np.concatenate(chosen))
