"""A run of an evaluation as a folder: ``config.json``, and a result for each of its measurements.

What is measured already is not measured again, so a run that was stopped is gone on with by doing it once more.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import numpy as np

from tmor_train.configuration import KIND, as_json
from tmor_train.data.arrays import Floats
from tmor_train.evaluation.encoders import Source
from tmor_train.evaluation.task import Task
from tmor_train.metrics.accuracy import accuracy
from tmor_train.results import RESULT, Result, Scores, save
from tmor_train.training.runs import CONFIG, RunError

Begun = Literal["new", "before"]
"""Whether a run's folder is made by it, or is there from before."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Found:
    """What a measurement gives: scores (N, K) of the task's measured clips; whose features they are made of (None:
    raw coordinates); and on how many clips it was ``trained``. ``chosen`` are settings found on a hold-out, and
    ``notes`` what is to be said beside the metrics."""

    scores_NK: Floats
    source: Source | None
    trained: int
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Trial:
    """One measurement: its ``mode``, the ``name`` of its folder below the run's ('': the run's own), its seed, what
    share of the train part's labels it has, and what makes it, given that folder."""

    mode: str
    name: str
    seed: int
    labels: float = 1.0
    measure: Callable[[Path], Found]


def begin(config: Any, folder: Path, begun: Begun) -> None:
    """Write the run's configuration, or see that there is none yet.

    Raises:
        RunError: a new run, and the folder holds one.
    """
    if begun == "before":
        return
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} holds a run; go on with `tmor_train resume {folder}`, or choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps({KIND: type(config).__name__} | as_json(config), indent=2) + "\n")


def measured(trials: Iterable[Trial], *, task: Task, config: Any, folder: Path) -> Path:
    """Every trial that has no result yet, each saved as soon as it is there; returns ``folder``."""
    for trial in trials:
        place = folder / trial.name
        if (place / RESULT).exists():
            continue
        began = monotonic()
        found = trial.measure(place)
        result = result_of(found, trial, task=task, config=config, seconds=monotonic() - began)
        clips = task.measured.clips
        save(result, place, scores=Scores(found.scores_NK, clips.label_N, clips.key_N))
    return folder


def result_of(found: Found, trial: Trial, *, task: Task, config: Any, seconds: float) -> Result:
    """A measurement with its metrics."""
    metrics = accuracy(found.scores_NK, task.measured.clips.label_N)
    source = found.source
    return Result(
        benchmark=task.benchmark.name,
        protocol=task.protocol,
        mode=trial.mode,
        recipe=config.recipe,
        seed=trial.seed,
        labels=trial.labels,
        checkpoint=None if source is None else source.name,
        checkpoint_sha256=None if source is None else source.sha256,
        metrics={"top1": metrics.top1, "mean_per_class": metrics.mean_per_class},
        primary_metric=task.primary_metric,
        per_class=tuple(None if np.isnan(share) else float(share) for share in metrics.per_class_K),
        classes=task.classes,
        counts={"train": found.trained, "test": len(task.measured)},
        seconds=round(seconds, 1),
        config=as_json(config),
        chosen=dict(found.chosen),
        notes=(*task.notes, *found.notes),
    )


def of_each_seed(seeds: Sequence[int], name: str = "") -> list[tuple[int, str]]:
    """Seeds with the names of their folders below ``name``; a sole seed needs no folder of its own."""
    if len(seeds) == 1:
        return [(seeds[0], name)]
    return [(seed, f"{name}/seed-{seed}" if name else f"seed-{seed}") for seed in seeds]


__all__ = ["Begun", "Found", "Trial", "begin", "measured", "of_each_seed", "result_of"]
