"""Kinds of runs: by the class of a configuration, what runs it, what resumes it, and which flags it has.

Nothing is imported before it is needed: classes and functions are named as ``module:name``. A new kind of run is one
more entry of ``KINDS``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from tmor_train.configuration import KIND, from_json


class UnknownRunError(ValueError):
    """A configuration is of no kind that can be run, or takes no such flag; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of run.

    ``config`` is the class of its configurations. ``run`` takes one and a folder and returns what it wrote. ``resume``
    takes the folder of a run that was begun before; where it is None, ``run`` goes on by itself if it is called with
    ``begun="before"``. ``flags`` says what a flag of the command line changes, its value in place of ``{}``; changes
    without one are made before all others. ``about`` is a heading.
    """

    about: str
    config: str
    run: str
    resume: str | None = None
    flags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def changes(self, flags: Mapping[str, str]) -> list[str]:
        """What the flags of a command line change, as :func:`tmor_train.configuration.changed` takes it.

        Raises:
            UnknownRunError: runs of this kind have no such flag.
        """
        for flag in flags:
            if flag not in self.flags:
                known = ", ".join(f"--{name}" for name in self.flags)
                raise UnknownRunError(f"--{flag} is not supported for {self.about}; it takes {known} and --set")
        found = [(change, value) for flag, value in flags.items() for change in self.flags[flag]]
        first = [change for change, _ in found if "{}" not in change]
        return [*first, *(change.format(value) for change, value in found if "{}" in change)]


_CLIPS = {
    "benchmark": ("task.benchmark={}",),
    "protocol": ("task.protocol={}",),
    "data": ("task.folder={}",),
    "seed": ("seeds={}",),
    "seeds": ("seeds={}",),
}
_ENCODER = {**_CLIPS, "from": ("start.weights={}",)}

KINDS: dict[str, Kind] = {
    "PretrainConfig": Kind(
        about="pre-training",
        config="tmor_train.pretrain_config:PretrainConfig",
        run="tmor_train.training.runs:pretrain",
        resume="tmor_train.training.runs:resume",
        flags={
            "data": ("data.sets=", "data.shards={}"),
            "sets": ("data.shards=", "data.sets={}"),
            "folder": ("data.folder={}",),
            "texts": ("data.texts={}",),
            "from": ("loop.start=checkpoint", "loop.start_from={}"),
            "epochs": ("loop.epochs={}",),
            "seed": ("loop.seed={}", "batching.seed={}", "objective.seed={}", "clusters.how.seed={}"),
        },
    ),
    "ProbeConfig": Kind(
        about="linear probing",
        config="tmor_train.evaluation.clips.config:ProbeConfig",
        run="tmor_train.evaluation.clips.linear_probe:probe",
        flags=_ENCODER,
    ),
    "FineTuneConfig": Kind(
        about="fine-tuning",
        config="tmor_train.evaluation.clips.config:FineTuneConfig",
        run="tmor_train.evaluation.clips.fine_tune:fine_tune",
        flags={**_ENCODER, "epochs": ("tune.epochs={}",)},
    ),
    "FewShotConfig": Kind(
        about="few labels",
        config="tmor_train.evaluation.clips.config:FewShotConfig",
        run="tmor_train.evaluation.clips.few_shot:few_shot",
        flags=_ENCODER,
    ),
    "DetectConfig": Kind(
        about="detection by frames",
        config="tmor_train.evaluation.detection.config:DetectConfig",
        run="tmor_train.evaluation.detection.detect:detect",
        flags={**_ENCODER, "epochs": ("train.epochs={}",)},
    ),
    "DetectEventsConfig": Kind(
        about="detection of events",
        config="tmor_train.evaluation.detection.config:DetectEventsConfig",
        run="tmor_train.evaluation.detection.detect:detect_events",
        flags={**_ENCODER, "epochs": ("train.epochs={}",)},
    ),
    "LogisticConfig": Kind(
        about="raw coordinates",
        config="tmor_train.evaluation.clips.config:LogisticConfig",
        run="tmor_train.evaluation.clips.linear_probe:logistic",
        flags=_CLIPS,
    ),
    "ZeroShotConfig": Kind(
        about="zero-shot recognition",
        config="tmor_train.evaluation.zero_shot.config:ZeroShotConfig",
        run="tmor_train.evaluation.zero_shot.recognition:zero_shot",
        flags={
            "benchmark": ("task.benchmark={}",),
            "protocol": ("task.protocol={}",),
            "data": ("task.folder={}",),
            "from": ("start.weights={}",),
            "texts": ("texts={}",),
            "seed": ("seed={}",),
        },
    ),
    "TableConfig": Kind(
        about="tables of the paper",
        config="tmor_train.tables.base:TableConfig",
        run="tmor_train.tables.run:measure_table",
        flags={
            "data-root": ("data_root={}",),
            "from": ("weights={}",),
            "rows": ("rows={}",),
            "texts": ("texts={}",),
            "seed": ("seeds={}",),
            "seeds": ("seeds={}",),
        },
    ),
}
"""By the name of the configuration's class."""

_BEFORE_KINDS = "PretrainConfig"  # runs whose config.json says no kind


def kind_of(config: object) -> Kind:
    """What runs a configuration.

    Raises:
        UnknownRunError: nothing does.
    """
    name = type(config).__name__
    if name not in KINDS:
        raise UnknownRunError(f"{name} is no configuration that can be run; there are {', '.join(KINDS)}")
    return KINDS[name]


def run(config: Any, folder: Path) -> Path:
    """A new run of any kind in ``folder``; returns what it wrote.

    A run that fails before it has left more than its configuration is taken back, so that it can be begun again with
    what was wrong put right.

    Raises:
        UnknownRunError: nothing runs such a configuration.
    """
    start = _named(kind_of(config).run)
    before = folder.exists()
    try:
        written: Path = start(config, folder)
    except Exception:
        if not before:
            _take_back(folder)
        raise
    return written


def _take_back(folder: Path) -> None:
    from tmor_train.training.runs import CONFIG

    if folder.is_dir() and [path.name for path in folder.iterdir()] == [CONFIG]:
        (folder / CONFIG).unlink()
        folder.rmdir()


def resume(folder: Path) -> Path:
    """Go on with the run in ``folder``, of whatever kind it is; returns what it wrote.

    Raises:
        tmor_train.training.runs.RunError: no run is there.
        UnknownRunError: it is of a kind that is not known here.
    """
    from tmor_train.training.runs import CONFIG, RunError

    try:
        values = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} holds no run ({CONFIG}): {error}") from error
    name = values.get(KIND, _BEFORE_KINDS) if isinstance(values, dict) else None
    if not isinstance(name, str) or name not in KINDS:
        raise UnknownRunError(
            f"{folder / CONFIG} is of a kind {name!r} that is not known; there are {', '.join(KINDS)}"
        )
    kind = KINDS[name]
    if kind.resume is not None:
        resumed: Path = _named(kind.resume)(folder)
        return resumed
    written: Path = _named(kind.run)(from_json(_named(kind.config), values), folder, begun="before")
    return written


def _named(place: str) -> Any:
    """What ``module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)
