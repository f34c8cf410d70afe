"""What is to be detected: a benchmark's recordings to train on, and those that count."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tmor_train.benchmarks import Benchmark, FrameParts, Recordings
from tmor_train.data.arrays import Numbers
from tmor_train.evaluation.config import HoldOut, TaskConfig
from tmor_train.evaluation.task import TaskError, benchmark_of, held_out

_HELD = "measured on a part of the train recordings that was held out, not on the test part"


@dataclass(frozen=True, eq=False, kw_only=True)
class FrameTask:
    """Recordings to ``train`` on, and the ``test`` ones; ``notes`` are to be said beside every metric."""

    benchmark: Benchmark
    protocol: str
    train: Recordings
    test: Recordings
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes


def frame_task_of(config: TaskConfig) -> FrameTask:
    """The task that a configuration names, its files read. What is held out are whole recordings.

    Raises:
        TaskError: no benchmark or folder is named, the protocol is unknown, files are missing, it is about clips, or
            there
            are too few recordings to hold one out.
        tmor_train.benchmarks.UnknownBenchmarkError: there is none of that name.
    """
    found, protocol, folder = benchmark_of(config)
    parts = found.read(folder, protocol)
    if not isinstance(parts, FrameParts):
        raise TaskError(f"{found.name} is measured in clips, not in frames; choose a recipe such as probe")
    for name, part in (("train", parts.train), ("test", parts.test)):
        if not len(part.motions) or not len(part.events.class_E):
            raise TaskError(f"the {name} part of {found.name} {protocol} has no recordings, or no events in them")
    task = FrameTask(benchmark=found, protocol=protocol, train=parts.train, test=parts.test)
    if config.part == "test":
        return task
    if parts.validation is not None:
        return replace(task, test=parts.validation, notes=(_HELD,))
    return within(task, config.holdout)


def within(task: FrameTask, holdout: HoldOut) -> FrameTask:
    """A task in the train part of another: some of its recordings are held out and measured.

    Raises:
        TaskError: there are too few recordings, or subjects, to hold one out.
    """
    rest, held = held_out(task.train.motions, holdout)
    if not len(held):
        raise TaskError(f"{task.benchmark.name} {task.protocol} has one recording to train on, so none can be held out")
    return replace(task, train=selected(task.train, rest), test=selected(task.train, held), notes=(_HELD,))


def selected(recordings: Recordings, index: Numbers) -> Recordings:
    """Some recordings, by number and in that order, with their events."""
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
