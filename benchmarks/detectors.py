"""Reads the settings that benchmarks of detectors compare, from the command line.

A setting is an engine with its parameters, as in a pipeline file, or a pipeline file itself:

    movenet                                      the engine of posecap/engines/movenet.py, with its default parameters
    movenet:imgsz=256,conf=0.2                   with others
    blazepose
    ultralytics:weights_from=yolo11n-pose
    rtmdet_onnx:size=n+rtmpose_onnx:size=t       boxes from one engine, joints from another
    movenet+oc_sort                              tracked by another engine than the pipeline's
    mine.py                                      the detection of a pipeline file

An engine takes the place of the detector in a pipeline (``pipelines/default.py`` unless another one is given), whose
filter stays as it is, and its tracker where none is named. A pipeline file brings its own, and decodes as it does
itself.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from posecap.files import file_sha256
from posecap.interfaces import Detections
from posecap.pipeline import Pipeline, load_pipeline
from posecap.stage import Engine, Stage
from posecap.stages.filter_people import FilterPeople
from posecap.types import CutVideo, Pixels, Row, Video

ROOT = Path(__file__).parents[1]
DEFAULT = ROOT / "pipelines" / "default.py"
"""Whose detector a setting replaces, unless another pipeline is given."""


class SettingError(ValueError):
    """A setting names an unknown engine, or parameters that the engine does not have."""


@dataclass
class Timed:
    """A detector that records each call of ``detect``: number of frames, wall seconds and CPU seconds."""

    detector: Any
    frames: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return str(self.detector.name)

    @property
    def layout(self) -> str | None:
        return self.detector.layout  # type: ignore[no-any-return]

    @property
    def milliseconds(self) -> tuple[float, float]:
        """Milliseconds a frame, as (wall, CPU) time: medians over the calls; NaN before the first."""
        frames = np.maximum(self.frames, 1)
        by_clip = [1000 * np.array(spent) / frames for spent in (self.seconds, self.cpu_seconds)]
        return (float(np.median(by_clip[0])), float(np.median(by_clip[1]))) if self.frames else (math.nan, math.nan)

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        if not self.frames:  # networks are built with the first frame they see
            self.detector.detect(frames_THW3[:1])
        since, cpu_since = perf_counter(), process_time()
        found: list[Detections] = self.detector.detect(frames_THW3)
        self.seconds.append(perf_counter() - since)
        self.cpu_seconds.append(process_time() - cpu_since)
        self.frames.append(len(frames_THW3))
        return found


@dataclass(frozen=True)
class Setting:
    """The stages of one setting: those that decode, those from the clip to its joints, and the filter after them."""

    name: str
    decoding: tuple[Stage, ...]
    posing: tuple[Stage, ...]
    filtering: FilterPeople
    timed: Timed

    def load(self) -> None:
        self.timed.detector.load()
        for stage in (*self.decoding, *self.posing, self.filtering):
            stage.load()


def setting(name: str, *, pipeline: Path = DEFAULT, long_side: int | None = None) -> Setting:
    """The stages that a setting stands for.

    Args:
        pipeline: whose detector an engine replaces.
        long_side: of decoded frames, pixels; None leaves the pipeline's.

    Raises:
        SettingError: it names no detector of the project, or parameters that the engine does not have.
        PipelineError: the pipeline file cannot be read.
    """
    decoding = {} if long_side is None else {"long_side": long_side}
    if name.endswith(".py"):
        return _setting_with(name, load_pipeline(Path(name)), decoding)
    detector, *others = (_engine(part) for part in name.split("+"))
    estimators, trackers = ([e for e in others if hasattr(e, method)] for method in ("estimate", "track"))
    if (
        not hasattr(detector, "detect")
        or max(len(estimators), len(trackers)) > 1
        or len(others) > len(estimators) + len(trackers)
    ):
        raise SettingError(
            f"{name!r}: expected DETECTOR, and after + an ESTIMATOR, a TRACKER or both, each NAME or "
            "NAME:PARAMETER=VALUE,…"
        )
    if not estimators and detector.layout is None:  # type: ignore[attr-defined]
        raise SettingError(f"{name!r}: {detector.name} gives boxes only; add an estimator of joints with +")
    parts = {"detector": detector, "estimator": (*estimators, "detector")[0]}
    return _setting_with(
        name, load_pipeline(pipeline), {**decoding, **parts, **({"tracker": trackers[0]} if trackers else {})}
    )


def _setting_with(name: str, pipeline: Pipeline, parts: dict[str, Any]) -> Setting:
    """The setting of a pipeline's stages, with ``parts`` in place of their fields of these names."""
    given: tuple[Any, ...] = pipeline.stages  # dataclasses, which their type does not say
    stages: list[Any] = [
        replace(stage, **{f.name: parts[f.name] for f in fields(stage) if f.name in parts}) for stage in given
    ]
    detecting = [i for i, stage in enumerate(stages) if hasattr(stage, "detector")]
    filtering = [i for i, stage in enumerate(stages) if isinstance(stage, FilterPeople)]
    if len(detecting) != 1 or len(filtering) != 1:
        raise SettingError(f"{name!r}: expected a pipeline with one stage that detects people and one FilterPeople")
    first, end = max(i for i, stage in enumerate(stages) if stage.takes is CutVideo) + 1, filtering[0]
    timed = Timed(stages[detecting[0]].detector)
    stages[detecting[0]] = replace(stages[detecting[0]], detector=timed)
    decoding = tuple(stage for stage in stages[:first] if stage.takes in (Video, CutVideo))
    return Setting(name, decoding, tuple(stages[first:end]), stages[end], timed)


def _engine(written: str) -> Engine:
    """The engine that ``NAME`` or ``NAME:PARAMETER=VALUE,…`` stands for; NAME is a module of ``posecap.engines``."""
    name, _, settings = written.partition(":")
    try:
        module = importlib.import_module(f"posecap.engines.{name}")
    except ModuleNotFoundError as error:
        known = ", ".join(sorted(p.stem for p in (ROOT / "posecap" / "engines").glob("[!_]*.py")))
        raise SettingError(f"no engine named {name!r}; modules of posecap/engines: {known}") from error
    found: list[Any] = [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if kind.__module__ == module.__name__
        and issubclass(kind, Engine)
        and hasattr(kind, "name")
        and any(hasattr(kind, method) for method in ("detect", "estimate", "track"))
    ]
    if len(found) != 1:
        raise SettingError(
            f"posecap/engines/{name}.py has {len(found)} engines that find or track people, expected one"
        )
    parameters = {}
    for part in filter(None, settings.split(",")):
        key, equals, value = part.partition("=")
        known = ", ".join(f.name for f in fields(found[0]) if f.init)
        if not equals or key not in known.split(", "):
            raise SettingError(f"{written!r}: {part!r} is none of NAME=VALUE with the parameters {known}")
        parameters[key] = _value(value)
    try:
        engine: Engine = found[0](**parameters)
    except (TypeError, ValueError) as error:
        raise SettingError(f"{written!r}: {error}") from error
    return engine


def _value(written: str) -> object:
    """A parameter's value: a Python literal, or else the text itself."""
    try:
        return ast.literal_eval(written)
    except (SyntaxError, ValueError):
        return written


def video_of(path: Path) -> Video:
    """A local file as the stage after the download takes it."""
    row = Row(row_id=path.stem, uri=str(path))
    return Video(row=row, path=path, source_id=file_sha256(path), size_bytes=path.stat().st_size)
