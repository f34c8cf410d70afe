"""Pipelines: lists of stages that are checked before anything runs, divided into segments, and fingerprinted."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from posecap import legacy
from posecap.hashing import digest
from posecap.models import weights_sha256
from posecap.stage import Resources, Stage, configuration, engines_of
from posecap.types import Clip, Row, Sample


class PipelineError(ValueError):
    """The pipeline cannot run as written; the message names the stage and the remedy."""


@dataclass(frozen=True)
class Segment:
    """Consecutive stages that run in one worker."""

    stages: tuple[Stage, ...]
    resources: Resources


@dataclass(frozen=True)
class Pipeline:
    """Stages from :class:`~posecap.types.Row` to :class:`~posecap.types.Sample`, in order.

    Args:
        stages: in order.
        expected_rejections: stage name → share of items it may reject before a build raises an alarm. It does
            not change samples, so it is not part of the fingerprint.
        worker: resources of one computing worker, for stages that do not declare any. Not part of the fingerprint.

    Raises:
        PipelineError: the stages do not fit together.
    """

    stages: tuple[Stage, ...]
    expected_rejections: Mapping[str, float] = field(default_factory=dict)
    worker: Resources = field(default_factory=Resources)

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", tuple(self.stages))
        if not self.stages:
            raise PipelineError("a pipeline needs at least one stage")
        if self.stages[0].takes is not Row:
            raise PipelineError(
                f"the first stage must take a Row; {self.stages[0].name!r} takes {_takes(self.stages[0])}"
            )
        for before, after in pairwise(self.stages):
            if not issubclass(before.gives, after.takes):
                raise PipelineError(
                    f"stage {after.name!r} takes {_takes(after)}, but {before.name!r} before it gives "
                    f"{before.gives.__name__}: put the stage that makes a {_takes(after)} between them"
                )
        for name in self.expected_rejections:
            if name not in {stage.name for stage in self.stages}:
                raise PipelineError(f"expected_rejections names {name!r}, which is no stage of this pipeline")
        if not issubclass(self.stages[-1].gives, Sample):
            raise PipelineError(f"the last stage must give a Sample (Pack does); {self.stages[-1].name!r} does not")
        for segment in self.segments():
            _check_concurrency(segment)

    def configuration(self) -> list[Any]:
        """Every stage with every parameter, as JSON."""
        return [configuration(stage) for stage in self.stages]

    def lineage(self) -> dict[str, Any]:
        """Versions of the packages and hashes of the weights that determine the result.

        Raises:
            MissingWeightsError: weights without a known hash are neither on disk nor downloadable.
        """
        engines = [engine for stage in self.stages for engine in engines_of(stage)]
        packages = sorted({p for engine in engines for p in engine.packages} | {"posecap", "numpy"})
        weights = sorted({w for engine in engines for w in engine.weights})
        return {
            "packages": {name: _version(name) for name in packages},
            "weights": {
                shown: weights_sha256(name) for shown, name in zip(_names_without_paths(weights), weights, strict=True)
            },
        }

    def fingerprint(self) -> str:
        """SHA-256 over configuration and lineage; words are those of format 1, so that a new word changes no part."""
        return digest({"configuration": legacy.as_format_1(self.configuration()), "lineage": self.lineage()})

    def segments(self) -> tuple[Segment, ...]:
        """Groups of stages that share a worker: neighbours with equal resources, or between which frames are passed."""
        groups: list[list[Stage]] = []
        for stage in self.stages:
            if groups and (
                issubclass(stage.takes, Clip) or self._resources_of(groups[-1][-1]) == self._resources_of(stage)
            ):
                groups[-1].append(stage)
            else:
                groups.append([stage])
        return tuple(Segment(tuple(group), _maximum(self._resources_of(s) for s in group)) for group in groups)

    def _resources_of(self, stage: Stage) -> Resources:
        return self.worker if stage.resources == Resources() else stage.resources


def load_pipeline(path: Path) -> Pipeline:
    """The value named ``pipeline`` of a Python file. The file is executed, so it must be trusted.

    Raises:
        PipelineError: no such file, or it defines no ``pipeline``.
    """
    if not path.is_file():
        raise PipelineError(f"no pipeline file at {path}; name one under 'pipeline:' in the manifest")
    found = _run(path).get("pipeline")
    if not isinstance(found, Pipeline):
        raise PipelineError(f"{path} defines no `pipeline = Pipeline([...])`")
    return found


def _run(path: Path) -> dict[str, Any]:
    """The names that a pipeline file defines; words of posecap 0.1 in it are understood, and pointed out."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError) as error:
        raise PipelineError(f"{path} is no Python file: {error}") from error
    for word in legacy.translated(tree):
        legacy.hint(word, path)
    module = ModuleType(f"<pipeline {path}>")  # where dataclasses look their annotations up
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(compile(tree, str(path), "exec"), module.__dict__)  # noqa: S102
    finally:
        sys.modules.pop(module.__name__, None)
    return vars(module)


def _names_without_paths(weights: list[str]) -> list[str]:
    """Names of weights without paths: the file's name, preceded by its folder's if two files have the same name."""
    names = Counter(Path(name).name for name in weights)
    return [path.name if names[path.name] == 1 else f"{path.parent.name}/{path.name}" for path in map(Path, weights)]


def _takes(stage: Stage) -> str:
    return stage.takes.__name__


def _maximum(resources: Iterator[Resources]) -> Resources:
    every = list(resources)
    return Resources(
        cpus=max(r.cpus for r in every), gpus=max(r.gpus for r in every), concurrency=max(r.concurrency for r in every)
    )


def _check_concurrency(segment: Segment) -> None:
    alone = [e.name for stage in segment.stages for e in engines_of(stage) if not e.thread_safe]
    if segment.resources.concurrency > 1 and alone:
        raise PipelineError(
            f"a worker with concurrency={segment.resources.concurrency} shares its engines among threads, which "
            f"{', '.join(alone)} cannot be: use concurrency=1, or other engines"
        )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
