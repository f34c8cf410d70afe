"""The types of runs: for each class of configuration, the function that runs it and the command-line flags it takes.

A new type is one more entry of ``TASKS``. The type that measures the paper's tables is added in
:mod:`tmor_train.tables`, because it runs other tasks. Each ``_run_…`` imports what it runs when it is called, so
that listing and showing recipes does not import torch's models; imports inside functions are seen by mypy and the
import contracts, names in strings would not be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tmor_train.configuration import KIND, from_json
from tmor_train.evaluation.clips.config import FewShotConfig, FineTuneConfig, LogisticConfig, ProbeConfig
from tmor_train.evaluation.config import ZeroShotConfig
from tmor_train.evaluation.detection.config import DetectConfig, DetectEventsConfig
from tmor_train.training.config import PretrainConfig
from tmor_train.training.runs import CONFIG, INPUTS, READING, read_config

if TYPE_CHECKING:
    from tmor_train.evaluation.runner import Begun


class UnknownTaskError(ValueError):
    """A configuration is of a type that cannot be run, or its type does not take a flag; the message says which."""


@dataclass(frozen=True, kw_only=True)
class TaskType:
    """One type of run.

    ``about`` names it for users: a heading in the list of recipes, and the subject of errors. ``run`` takes a
    configuration of class ``config``, the run's folder, and whether the run is ``"new"`` or was begun ``"before"``; it
    returns the path of the file or folder with its results. ``flags``: by the name of a command-line flag, without
    ``--``, the paths of the fields that get its value (``"task.folder"``). ``implied``: by flag, one change
    ``path=value`` that is applied before those of all flags; without a value it empties the field.
    """

    about: str
    config: type
    run: Callable[[Any, Path, Begun], Path]
    flags: Mapping[str, tuple[str, ...]]
    implied: Mapping[str, str] = field(default_factory=dict)

    def changes(self, flags: Mapping[str, str]) -> list[str]:
        """The changes ``path=value`` that ``flags`` (values by name) make, for
        :func:`tmor_train.configuration.changed`.

        Raises:
            UnknownTaskError: runs of this type take no such flag.
        """
        for flag in flags:
            if flag not in self.flags:
                known = ", ".join(f"--{name}" for name in self.flags)
                raise UnknownTaskError(f"--{flag} is not supported for {self.about}; it takes {known} and --set")
        first = [self.implied[flag] for flag in flags if flag in self.implied]
        return first + [f"{path}={value}" for flag, value in flags.items() for path in self.flags[flag]]


def _run_pretraining(config: PretrainConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.training import pretrain

    return pretrain.pretrain(config, folder) if begun == "new" else pretrain.resume(folder)


def _run_probe(config: ProbeConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.evaluation.clips.linear_probe import probe

    return probe(config, folder, begun=begun)


def _run_fine_tuning(config: FineTuneConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.evaluation.clips.fine_tune import fine_tune

    return fine_tune(config, folder, begun=begun)


def _run_few_shot(config: FewShotConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.evaluation.clips.few_shot import few_shot

    return few_shot(config, folder, begun=begun)


def _run_detection(config: DetectConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.evaluation.detection.detect import detect

    return detect(config, folder, begun=begun)


def _run_event_detection(config: DetectEventsConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.evaluation.detection.detect import detect_events

    return detect_events(config, folder, begun=begun)


def _run_logistic(config: LogisticConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.evaluation.clips.linear_probe import logistic

    return logistic(config, folder, begun=begun)


def _run_zero_shot(config: ZeroShotConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.evaluation.zero_shot import zero_shot

    return zero_shot(config, folder, begun=begun)


# Flags that several types take.
_BENCHMARK = {"benchmark": ("task.benchmark",), "protocol": ("task.protocol",), "data": ("task.folder",)}
_CLIPS = {**_BENCHMARK, "seed": ("seeds",), "seeds": ("seeds",)}
_ENCODER = {**_CLIPS, "from": ("start.weights",)}

TASKS: dict[str, TaskType] = {
    "PretrainConfig": TaskType(
        about="pre-training",
        config=PretrainConfig,
        run=_run_pretraining,
        flags={
            "data": ("data.shards",),
            "sets": ("data.sets",),
            "folder": ("data.folder",),
            "texts": ("data.texts",),
            "from": ("loop.start_from",),
            "epochs": ("loop.epochs",),
            "seed": ("loop.seed", "batching.seed", "objective.seed", "clusters.how.seed"),
        },
        implied={"data": "data.sets=", "sets": "data.shards=", "from": "loop.start=checkpoint"},
    ),
    "ProbeConfig": TaskType(about="linear probing", config=ProbeConfig, run=_run_probe, flags=_ENCODER),
    "FineTuneConfig": TaskType(
        about="fine-tuning",
        config=FineTuneConfig,
        run=_run_fine_tuning,
        flags={**_ENCODER, "epochs": ("tune.epochs",)},
    ),
    "FewShotConfig": TaskType(about="few labels", config=FewShotConfig, run=_run_few_shot, flags=_ENCODER),
    "DetectConfig": TaskType(
        about="detection by frames",
        config=DetectConfig,
        run=_run_detection,
        flags={**_ENCODER, "epochs": ("train.epochs",)},
    ),
    "DetectEventsConfig": TaskType(
        about="detection of events",
        config=DetectEventsConfig,
        run=_run_event_detection,
        flags={**_ENCODER, "epochs": ("train.epochs",)},
    ),
    "LogisticConfig": TaskType(about="raw coordinates", config=LogisticConfig, run=_run_logistic, flags=_CLIPS),
    "ZeroShotConfig": TaskType(
        about="zero-shot recognition",
        config=ZeroShotConfig,
        run=_run_zero_shot,
        flags={**_BENCHMARK, "from": ("start.weights",), "texts": ("texts",), "seed": ("seed",)},
    ),
}
"""By the name of the configuration's class, which ``config.json`` has under ``kind`` (see ``_UNNAMED``)."""

_UNNAMED = "PretrainConfig"  # pre-training writes config.json without a ``kind``


def task_type(config: object, tasks: Mapping[str, TaskType] = TASKS) -> TaskType:
    """The type of run whose configuration ``config`` is.

    Raises:
        UnknownTaskError: ``tasks`` has no entry for its class.
    """
    name = type(config).__name__
    if name not in tasks:
        raise UnknownTaskError(f"{name} is not a configuration that can be run; those are {', '.join(tasks)}")
    return tasks[name]


def run(config: Any, folder: Path, tasks: Mapping[str, TaskType] = TASKS) -> Path:
    """Run a configuration in a new ``folder``; returns the path of the file or folder with its results.

    If it fails and leaves nothing but its configuration, the folder is removed, so that the same command can be given
    again after the mistake is corrected.

    Raises:
        UnknownTaskError: nothing runs such a configuration.
    """
    task, before = task_type(config, tasks), folder.exists()
    try:
        return task.run(config, folder, "new")
    except Exception:
        if not before and folder.is_dir() and {path.name for path in folder.iterdir()} <= {CONFIG, INPUTS}:
            for name in (CONFIG, INPUTS):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()
        raise


def resume(folder: Path, tasks: Mapping[str, TaskType] = TASKS) -> Path:
    """Resume the run in ``folder``, of any type; returns the path of the file or folder with its results.

    Raises:
        tmor_train.training.runs.RunError: the folder holds no run.
        UnknownTaskError: it is of no known type.
    """
    values = read_config(folder)
    name = values.get(KIND, _UNNAMED) if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in tasks:
        raise UnknownTaskError(
            f"{folder / CONFIG} has the unknown kind {name!r}; the known kinds are {', '.join(tasks)}"
        )
    values.pop(READING, None)  # the evaluation itself looks at it
    return tasks[name].run(from_json(tasks[name].config, values), folder, "before")
