"""The benchmark interface: protocols, required files, and the splits that are read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tmor_train.data import MotionSet
from tmor_train.data.arrays import Floats, Numbers
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource
from tmor_train.metrics.event_ap import Proposal
from tmor_train.metrics.frame_ap import times

TaskKind = Literal["clips", "frames", "events"]


@dataclass(frozen=True, slots=True)
class Missing:
    """A missing ``file``, the ``page`` to get it from, and the ``place`` to put it at."""

    file: str
    page: str
    place: Path

    def __str__(self) -> str:
        return f"{self.file} is missing: get it from {self.page} and put it at {self.place}"


@dataclass(frozen=True, eq=False)
class Parts:
    """Labelled clips by split."""

    train: MotionSet
    test: MotionSet
    validation: MotionSet | None = None

    @classmethod
    def by_split(cls, motions: MotionSet) -> Parts:
        """The clips of the splits ``train``, ``test`` and, if there are any, ``validation``."""
        train, test, validation = (
            motions.select(motions.clips.split_N == name) for name in ("train", "test", "validation")
        )
        return cls(train, test, validation if len(validation) else None)


Bounds = Literal["strict", "closed", "half_open"]


@dataclass(frozen=True, eq=False)
class Events:
    """Labelled intervals of recordings: ``recording_E`` and ``class_E`` int64, ``begin_E`` and ``end_E`` float64.

    Times are in frames of the recording. ``bounds`` defines which frames an event contains: ``strict`` is begin < frame
    < end (as in TSU and the per-frame evaluation of Charades), ``closed`` is begin <= frame <= end, ``half_open`` is
    begin <= frame < end. An event that ends before it begins is empty.
    """

    recording_E: Numbers
    class_E: Numbers
    begin_E: NDArray[np.float64]
    end_E: NDArray[np.float64]
    bounds: Bounds = "strict"

    def labels_at(
        self, recording: int, time_P: NDArray[Any], *, classes: int, bounds: Bounds | None = None
    ) -> NDArray[np.bool_]:
        """Which classes a recording has at some ascending times in frames: (P, K) bool.

        Args:
            bounds: in place of those of the events.
        """
        label_PK = np.zeros((len(time_P), classes), np.bool_)
        for number, first, behind in self.spans(recording, time_P, bounds=bounds):
            label_PK[first:behind, number] = True
        return label_PK

    def spans(
        self, recording: int, time_P: NDArray[Any], *, bounds: Bounds | None = None
    ) -> list[tuple[int, int, int]]:
        """(class, first, behind the last) of each event of a recording, as numbers of some ascending times."""
        rule = bounds or self.bounds
        found = np.flatnonzero(self.recording_E == recording)
        first_E = np.searchsorted(time_P, self.begin_E[found], side="right" if rule == "strict" else "left")
        behind_E = np.searchsorted(time_P, self.end_E[found], side="right" if rule == "closed" else "left")
        return list(zip(self.class_E[found].tolist(), first_E.tolist(), behind_E.tolist(), strict=True))


def events_of(
    found: Iterable[Sequence[tuple[int, float, float]]],
    *,
    rate_N: NDArray[np.float64] | None = None,
    bounds: Bounds = "strict",
) -> Events:
    """Events out of (class, begin, end) of each recording.

    Args:
        rate_N: frames of a recording in one unit of its times; 1 where None.
    """
    rows = [(number, *event) for number, events in enumerate(found) for event in events]
    columns = np.array(rows, np.float64).reshape(-1, 4)
    recording_E = columns[:, 0].astype(np.int64)
    rate_E = np.ones(len(columns)) if rate_N is None else np.asarray(rate_N, np.float64)[recording_E]
    return Events(recording_E, columns[:, 1].astype(np.int64), columns[:, 2] * rate_E, columns[:, 3] * rate_E, bounds)


@dataclass(frozen=True, eq=False)
class Timelines:
    """What is labelled in recordings of ``frames_N`` frames, for which no poses are needed. ``classes`` is a count.

    Times of the events are in frames, or where ``length_N`` float64 is given in the unit that it has the length of each
    recording in (seconds), so that they are compared as the owners' evaluation does, without rounding.
    """

    frames_N: Numbers
    classes: int
    events: Events
    length_N: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.frames_N)

    def labels(self, number: int) -> NDArray[np.bool_]:
        """Which classes each frame of a recording has: (T, K) bool. An event that ends before it begins has none."""
        return self.events.labels_at(number, self._times(number), classes=self.classes)

    def labels_at_points(self, number: int, *, count: int = 25) -> NDArray[np.bool_]:
        """Which classes a recording has at the times of Charades' official localisation: (``count``, K) bool.

        Begin and end of an event are included. The frames to score are :func:`tmor_train.metrics.frame_ap.points`.
        """
        length = float(self.frames_N[number] if self.length_N is None else self.length_N[number])
        return self.events.labels_at(number, times(length, count=count), classes=self.classes, bounds="closed")

    def truths(self, number: int) -> list[Proposal]:
        """The events of a recording for :func:`tmor_train.metrics.event_ap.event_ap`, by the frames they hold.

        An event that holds no frame is left out.
        """
        spans = self.events.spans(number, self._times(number))
        return [Proposal(begin, end, label, 1.0) for label, begin, end in spans if begin < end]

    def _times(self, number: int) -> NDArray[np.float64]:
        """When each frame is shown: frame / rate, the rate being frames / length."""
        frames = int(self.frames_N[number])
        rate = 1.0 if self.length_N is None else frames / float(self.length_N[number])
        return np.arange(frames, dtype=np.float64) / rate


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recordings, each one long clip of ``motions``, and the ``events`` in them."""

    motions: MotionSet
    classes: tuple[str, ...]
    events: Events

    @property
    def timelines(self) -> Timelines:
        """The labels without the poses."""
        return Timelines(self.motions.clips.frames_N, len(self.classes), self.events)

    def labels(self, number: int) -> NDArray[np.bool_]:
        """As :meth:`Timelines.labels`."""
        return self.timelines.labels(number)


@dataclass(frozen=True, eq=False)
class FrameParts:
    """Recordings by split."""

    train: Recordings
    test: Recordings
    validation: Recordings | None = None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set with its protocols, of which the first is the default.

    ``primary_metric`` is the metric of the paper's table. ``missing`` looks for the files of a protocol in a folder;
    ``read`` reads them and raises MissingFilesError or DamagedFileError. ``clips`` and ``classes`` are
    what is published, 0 where that depends on the user's data.
    """

    name: str
    about: str
    task: TaskKind = "clips"
    protocols: tuple[str, ...]
    primary_metric: str = "top1"
    clips: int
    classes: int
    missing: Callable[[Path, str], tuple[Missing, ...]]
    read: Callable[[Path, str], Parts | FrameParts]


def missing_files(folder: Path, source: DatasetSource, *names: str) -> tuple[Missing, ...]:
    """The files that are missing from a folder; names may be patterns of :meth:`Path.glob`."""
    page = f"{source.page} ({source.archive})"
    return tuple(Missing(name, page, folder / name) for name in names if next(folder.glob(name), None) is None)


def check_for(source: DatasetSource, *names: str) -> Callable[[Path, str], tuple[Missing, ...]]:
    """:attr:`Benchmark.missing` for a benchmark whose protocols all need the same files."""
    return lambda folder, protocol: missing_files(folder, source, *names)


def with_scores(place_MTJ2: Floats, path: Path) -> Floats:
    """Joints (M, T, J, 3) of places in pixels, with the score 1, or 0 for a joint at (0, 0), which was not found.

    Raises:
        DamagedFileError: a place of ``path`` is not finite.
    """
    if not np.isfinite(place_MTJ2).all():
        raise DamagedFileError(f"{path}: joints are not all finite")
    return np.concatenate([place_MTJ2, (place_MTJ2 != 0).any(-1, keepdims=True)], -1, dtype=np.float32)
