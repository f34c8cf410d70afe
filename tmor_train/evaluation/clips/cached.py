"""Features of a task's clips, computed once, and classifiers of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tmor_train.data import MotionSet
from tmor_train.data.arrays import Floats, Numbers
from tmor_train.evaluation.clips.classifier import Labelled, chosen, settings_of
from tmor_train.evaluation.clips.config import LinearConfig
from tmor_train.evaluation.config import SCRATCH, HoldOut, LookConfig, StartConfig
from tmor_train.evaluation.encoders import Source, started
from tmor_train.evaluation.features import features_of
from tmor_train.evaluation.task import NoTask, Task, held_out


@dataclass(frozen=True, eq=False, slots=True)
class Cached:
    """Features of the clips to train on, of those that are measured, and of those that settings are chosen on."""

    train: Labelled
    measured_ND: Floats
    validation: Labelled | None

    def few(self, index: Numbers) -> Cached:
        """The same with some of the clips to train on, and none to choose settings on."""
        return replace(self, train=self.train.take(index), validation=None)


def cached(task: Task, features: Callable[[MotionSet], Floats]) -> Cached:
    """Features of all of a task's clips."""
    validation = task.validation
    return Cached(
        Labelled(features(task.train), task.train.clips.label_N),
        features(task.measured),
        None if validation is None else Labelled(features(validation), validation.clips.label_N),
    )


class EncoderFeatures:
    """Features of a task's clips by the encoder that a configuration names, found once; those by new weights, which
    differ by seed, once for each seed in a row."""

    def __init__(
        self, task: Task, start: StartConfig, look: LookConfig, *, device: str, workers: int, people: int = 1
    ) -> None:
        self._task, self._start, self._look, self._people = task, start, look, people
        self._device, self._workers = device, workers
        self._kept: tuple[int, Cached, Source] | None = None

    def of(self, seed: int) -> tuple[Cached, Source]:
        """The features, and whose they are.

        Raises:
            tmor_train.evaluation.encoders.NoEncoder: none is named.
        """
        if self._kept is None or (self._start.weights == SCRATCH and self._kept[0] != seed):
            encoder, source = started(self._start, seed=seed, device=self._device)
            look = partial(features_of, encoder, look=self._look, people=self._people, workers=self._workers)
            self._kept = seed, cached(self._task, look), source
        return self._kept[1:]


def classified(
    features: Cached, task: Task, config: LinearConfig, holdout: HoldOut, *, seed: int
) -> tuple[Floats, dict[str, Any]]:
    """Scores (N, K) of the measured clips by a linear classifier, and what was chosen for it, as JSON values.

    Raises:
        NoTask: there are several settings, and no clips to choose on.
    """
    pairs = []
    if features.validation is not None:
        pairs = [(features.train, features.validation)]
    elif len(settings_of(config)) > 1:
        rest, held = held_out(task.train, holdout)
        if not len(held):
            raise NoTask(
                "no class has two clips to train on, so none can be held out to choose a setting on; name one of "
                "linear.exact.strengths, or of linear.descent.rates"
            )
        pairs = [(features.train.take(rest), features.train.take(held))]
    found = chosen(features.train, pairs, config, classes=len(task.classes), seed=seed, metric=task.metric)
    settings: dict[str, Any] = {"solver": config.solver, "setting": found.setting}
    if found.held_out:
        settings["held_out"] = {f"{setting:g}": round(share, 4) for setting, share in found.held_out.items()}
    return found.linear.scores(features.measured_ND), settings


__all__ = ["Cached", "EncoderFeatures", "cached", "classified"]
