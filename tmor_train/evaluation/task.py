"""Tasks: the clips or whole recordings of a benchmark to train on, and those to measure on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from posecap.leakage import leaks_between
from tmor_train.benchmarks import Benchmark, FrameParts, Parts, Recordings, benchmark
from tmor_train.benchmarks.base import VALIDATION_WORDS
from tmor_train.configuration import nearest
from tmor_train.data import MotionSet
from tmor_train.data.dataset import NOT_KNOWN, Floats, Numbers
from tmor_train.data.loader import permutation
from tmor_train.data.provenance import Inputs, recording
from tmor_train.evaluation.config import HoldOut, TaskConfig
from tmor_train.metrics.accuracy import accuracy

SHARDS = "shards"
"""The benchmark that is any posecap dataset, with splits of its own."""
_HELD = "measured on a part of the train {} that was held out, not on the test part"


class TaskError(ValueError):
    """No benchmark is named, its files are missing, or it is of the wrong kind; the message says what to do."""


class LeakError(TaskError):
    """Footage of the test part stands in the train part, too; the message says how to divide or allow it."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """Clips to ``train`` on, and the ``test`` ones, all labelled, of one ``protocol`` of a ``benchmark``.
    ``validation`` are clips that settings are chosen on, where the benchmark has such; ``notes`` go with every metric.
    ``inputs`` are the files that they were read from."""

    benchmark: Benchmark
    protocol: str
    train: MotionSet
    test: MotionSet
    validation: MotionSet | None = None
    notes: tuple[str, ...] = ()
    inputs: Inputs = field(default_factory=lambda: Inputs({}))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes; the columns of scores are in this order."""
        return self.train.classes

    @property
    def primary_metric(self) -> str:
        """The metric of the paper's table: ``top1`` or ``mean_per_class``."""
        return self.benchmark.primary_metric

    def metric(self, scores_NK: Floats, label_N: Numbers) -> float:
        """The primary metric of some scores."""
        return float(getattr(accuracy(scores_NK, label_N), self.primary_metric))


def task_of(config: TaskConfig) -> Task:
    """The task that a configuration names, with its files read.

    Raises:
        TaskError: no benchmark or folder is named, the protocol is unknown, files are missing, it is not about
            clips, there is one clip to train on, or there are too few of them to hold one out.
        LeakError: footage of the test part of a posecap dataset stands in its train part, and ``leaks`` is ``refuse``.
        tmor_train.benchmarks.UnknownBenchmarkError: there is no benchmark of that name.
        DamagedFileError: a file is not as published.
    """
    chosen, protocol, folder = benchmark_of(config)
    with recording() as recorder:
        parts = chosen.read(folder, protocol)
    if not isinstance(parts, Parts):
        raise TaskError(f"{chosen.name} is measured in frames, not in clips; choose a recipe such as detect_probe")
    for name, motions in (("train", parts.train), ("test", parts.test), ("validation", parts.validation)):
        if motions is not None and (not len(motions) or (motions.clips.label_N == NOT_KNOWN).any()):
            raise TaskError(f"the {name} part of {chosen.name} {protocol} has no clips, or clips without a class")
    if len(parts.train) < 2:
        raise TaskError(
            f"the train part of {chosen.name} {protocol} holds one clip, so there is nothing to tell it from; name "
            "data with clips of several classes"
        )
    task = Task(
        benchmark=chosen,
        protocol=protocol,
        train=parts.train,
        test=parts.test,
        validation=parts.validation,
        notes=_leaks(chosen, folder, config),
        inputs=recorder.inputs,
    )
    if config.part == "test":
        return task
    notes = (*task.notes, _HELD.format("clips"))
    if parts.validation is not None:
        return replace(task, test=parts.validation, validation=None, notes=notes)
    rest, held = held_out(parts.train, config.holdout)
    if not len(held):
        raise TaskError(f"{chosen.name} {protocol} has no class with two clips to train on, so none can be held out")
    train, test = parts.train.select(rest), parts.train.select(held)
    return replace(task, train=train, test=test, notes=notes)


def _leaks(chosen: Benchmark, folder: Path, config: TaskConfig) -> tuple[str, ...]:
    """A note on footage of a posecap dataset that stands in the part that is measured, and in one that is trained or
    chosen on, too, or on what was not compared; none where all was and there is none, and of other benchmarks, whose
    splits are their publishers'.

    Raises:
        LeakError: there is some, and the configuration refuses it.
    """
    if chosen.name != SHARDS:
        return ()
    chosen_on = VALIDATION_WORDS if config.part == "test" else ()
    measured = ("test",) if config.part == "test" else VALIDATION_WORDS
    found = leaks_between(folder, ("train", *chosen_on), measured)
    if not found.leaks:
        return (
            () if found.is_complete else (f"footage that stands in several splits was looked for by {found.checked}",)
        )
    clips = sum(count for leak in found.leaks for split, count in leak.clips.items() if split in measured)
    note = (
        f"footage of {clips:,} measured clips, or of their source videos, stands in the train or validation part, too, "
        f"so that what was trained on is measured: `posecap leakage` lists {len(found.leaks):,} (checked: "
        f"{found.checked})"
    )
    if config.leaks == "refuse":
        raise LeakError(
            f"{folder}: {note}; divide it anew with 'split: auto' in its manifest, or measure all the same, with this "
            "as a note, by --set task.leaks=note"
        )
    return (note,)


class ChosenBenchmark(NamedTuple):
    """The benchmark that a configuration names, one of its protocols, and the folder with its files."""

    benchmark: Benchmark
    protocol: str
    folder: Path


def benchmark_of(config: TaskConfig) -> ChosenBenchmark:
    """What a configuration names; without a protocol, the benchmark's first. No file of it is missing.

    Raises:
        TaskError: no benchmark or folder is named, the protocol is unknown, or files are missing.
        tmor_train.benchmarks.UnknownBenchmarkError: there is no benchmark of that name.
    """
    if config.benchmark is None:
        raise TaskError("no benchmark is named: give --benchmark NAME; `tmor_train bench list` has them all")
    chosen = benchmark(config.benchmark)
    protocol = config.protocol or chosen.protocols[0]
    if protocol not in chosen.protocols:
        raise TaskError(f"{chosen.name} has no protocol {protocol!r}; {nearest(protocol, chosen.protocols)}")
    if config.folder is None:
        raise TaskError(f"the folder with the files of {chosen.name} is not given: --data DIR")
    if missing := chosen.missing(Path(config.folder), protocol):
        raise TaskError("\n".join([f"{config.folder} lacks files of {chosen.name}:", *map(str, missing)]))
    return ChosenBenchmark(chosen, protocol, Path(config.folder))


def held_out(motions: MotionSet, config: HoldOut) -> tuple[Numbers, Numbers]:
    """Indices of the clips that remain and of those that are held out, each ascending, int64.

    By ``clips``: of each class the share, rounded, but one clip at least remains and, of two or more, one is held out.
    By ``subjects``: the share of the subjects, rounded, at least one and not all.

    Raises:
        TaskError: subjects are asked for, and that of a clip is not known or there is only one.
    """
    clips = motions.clips
    if config.by == "clips":
        held = _of_each_class(clips.label_N, config)
    else:
        subjects = np.unique(clips.subject_N)
        if len(subjects) < 2 or subjects[0] == NOT_KNOWN:
            raise TaskError("clips of other subjects cannot be held out: the set does not say whose each clip is")
        count = min(max(round(config.share * len(subjects)), 1), len(subjects) - 1)
        drawn = subjects[permutation(config.seed, count=len(subjects))[:count]]
        held = np.isin(clips.subject_N, drawn)
    return np.flatnonzero(~held), np.flatnonzero(held)


def _of_each_class(label_N: Numbers, config: HoldOut) -> NDArray[np.bool_]:
    """(N,) True for the clips that :func:`held_out` holds out by ``clips``."""
    held = np.zeros(len(label_N), np.bool_)
    for label in np.unique(label_N).tolist():
        members = np.flatnonzero(label_N == label)
        count = min(max(round(config.share * len(members)), 1), len(members) - 1)
        held[members[permutation(config.seed, label, count=len(members))[:count]]] = True
    return held


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameTask:
    """Recordings to ``train`` on, and the ``test`` ones, of one ``protocol`` of a ``benchmark``; ``notes`` go with
    every metric. ``inputs`` are the files that they were read from."""

    benchmark: Benchmark
    protocol: str
    train: Recordings
    test: Recordings
    notes: tuple[str, ...] = ()
    inputs: Inputs = field(default_factory=lambda: Inputs({}))

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the K classes; the columns of scores are in this order."""
        return self.train.classes


def frame_task_of(config: TaskConfig) -> FrameTask:
    """The task that a configuration names, its files read. What is held out are whole recordings.

    Raises:
        TaskError, UnknownBenchmarkError, DamagedFileError: as :func:`task_of`, or it is not about frames.
    """
    chosen, protocol, folder = benchmark_of(config)
    with recording() as recorder:
        parts = chosen.read(folder, protocol)
    if not isinstance(parts, FrameParts):
        raise TaskError(f"{chosen.name} is measured in clips, not in frames; choose a recipe such as probe")
    for name, part in (("train", parts.train), ("test", parts.test)):
        if not len(part.motions) or not len(part.events.class_E):
            raise TaskError(f"the {name} part of {chosen.name} {protocol} has no recordings, or no events in them")
    task = FrameTask(
        benchmark=chosen,
        protocol=protocol,
        train=parts.train,
        test=parts.test,
        notes=parts.notes,
        inputs=recorder.inputs,
    )
    if config.part == "test":
        return task
    if parts.validation is not None:
        return replace(task, test=parts.validation, notes=(*task.notes, _HELD.format("recordings")))
    return within(task, config.holdout)


def within(task: FrameTask, holdout: HoldOut) -> FrameTask:
    """A task within the train part of another: some of its recordings are held out and measured.

    Raises:
        TaskError: there are too few recordings, or subjects, to hold one out.
    """
    rest, held = held_out(task.train.motions, holdout)
    if not len(held):
        raise TaskError(f"{task.benchmark.name} {task.protocol} has one recording to train on, so none can be held out")
    return replace(
        task,
        train=selected(task.train, rest),
        test=selected(task.train, held),
        notes=(*task.notes, _HELD.format("recordings")),
    )


def selected(recordings: Recordings, index: Numbers) -> Recordings:
    """The recordings of the indices ``index``, in that order, with their events."""
    events = recordings.events
    new = np.full(len(recordings.motions), -1, np.int64)
    new[index] = np.arange(len(index))
    kept = new[events.recording_E] >= 0
    chosen = replace(
        events,
        recording_E=new[events.recording_E[kept]],
        class_E=events.class_E[kept],
        begin_E=events.begin_E[kept],
        end_E=events.end_E[kept],
    )
    return replace(recordings, motions=recordings.motions.select(index), events=chosen)
