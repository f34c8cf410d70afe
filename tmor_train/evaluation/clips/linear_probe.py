"""Linear probing: the encoder stays as it is, batch norm too, and one Linear(256, K) is trained on its clip features.

Features are computed once and kept. The setting of the classifier is chosen on the benchmark's validation part, or on
clips held out of its train part; then the classifier is trained on the whole train part. The measured part is seen
once, at the end.

The default solver goes to the optimum of multinomial logistic regression. That takes a second, has no rate, schedule or
seed, and so says what the features hold and not how well SGD was set. ``sgd`` is what the literature does.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tmor_train.evaluation.clips.cached import EncoderFeatures, classified
from tmor_train.evaluation.clips.config import ProbeConfig
from tmor_train.evaluation.clips.logistic import raw_trial
from tmor_train.evaluation.encoders import named
from tmor_train.evaluation.task import Task, task_of
from tmor_train.evaluation.trials import Begun, Found, Trial, begin, measured, of_each_seed


def probe(config: ProbeConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """A probe for each seed, and logistic regression on raw coordinates beside it; returns ``folder``.

    Raises:
        RunError: the folder holds a run.
        NoTask, NoEncoder: it is not said what is to be measured, or with what.
    """
    named(config.start)
    task = task_of(config.task)
    begin(config, folder, begun)
    return measured(_trials(config, task), task=task, config=config, folder=folder)


def _trials(config: ProbeConfig, task: Task) -> Iterator[Trial]:
    features = EncoderFeatures(
        task, config.start, config.look, device=config.device, workers=config.workers, people=config.people
    )
    for seed, name in of_each_seed(config.seeds):
        yield Trial(mode="probe", name=name, seed=seed, measure=partial(_measured, config, task, features, seed))
    if config.beside == "logistic":
        yield raw_trial(task, config.raw, config.task.holdout, name="logistic", seed=config.seeds[0])


def _measured(config: ProbeConfig, task: Task, features: EncoderFeatures, seed: int, place: Path) -> Found:
    found, source = features.of(seed)
    scores_NK, chosen = classified(found, task, config.linear, config.task.holdout, seed=seed)
    return Found(scores_NK=scores_NK, source=source, trained=len(task.train), chosen=chosen)


__all__ = ["probe"]
