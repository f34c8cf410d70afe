"""The benchmark interface: protocols, required files, and the splits that are read from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tmor_train.data import MotionSet
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource
from tmor_train.metrics.average_precision import Proposal, times

TaskKind = Literal["clips", "frames", "events"]
"""What is predicted: one class for each clip, the classes of each frame of a recording, or the begin, end and class of
each event of a recording."""


@dataclass(frozen=True, slots=True)
class Missing:
    """A file that a benchmark needs and that is missing.

    ``file`` is its name, relative to the benchmark's folder, or a pattern of :meth:`Path.glob` that no file matches;
    ``page`` says where to get it (a web page, or a command that makes it), ``path`` where to put it.
    """

    file: str
    page: str
    path: Path

    def __str__(self) -> str:
        return f"{self.file} is missing: get it from {self.page} and put it at {self.path}"


VALIDATION_WORDS = ("validation", "val", "valid", "dev")
"""Names of the split that settings are chosen on, in one data set or another; what posecap's importers write is
``val``."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Labelled clips to ``train`` on and to ``test``; ``validation`` is None where the protocol has no such split."""

    train: MotionSet
    test: MotionSet
    validation: MotionSet | None = None

    @classmethod
    def by_split(cls, motions: MotionSet) -> Parts:
        """The clips of the splits ``train``, ``test`` and, if there are any, of those that :data:`VALIDATION_WORDS`
        name; those of other splits are left out. ``train`` and ``test`` may be empty;
        :mod:`tmor_train.evaluation.task` refuses such parts."""
        train, test, validation = (
            motions.select(np.isin(motions.clips.split_N, names)) for names in ("train", "test", VALIDATION_WORDS)
        )
        return cls(train, test, validation if len(validation) else None)


class Interval(NamedTuple):
    """One annotated action: its class index from 0, and when it begins and ends, in the unit its reader states."""

    label: int
    begin: float
    end: float


class FrameSpan(NamedTuple):
    """The frames ``first`` to ``stop - 1`` of a recording, counted from 0, that have the class index ``label``."""

    label: int
    first: int
    stop: int


Bounds = Literal["strict", "closed", "half_open"]
"""Which frames an event contains: begin < frame < end, begin <= frame <= end, or begin <= frame < end."""


@dataclass(frozen=True, eq=False)
class Events:
    """Labelled intervals of E events, of all recordings together, in any order.

    ``recording_E`` int64 is the recording's index in its set, ``class_E`` int64 the class index. ``begin_E`` and
    ``end_E`` float64 are times from the recording's start: in frames, the first frame being 0, unless the
    :class:`Timelines` that hold the events have a ``length_N``. ``bounds`` says whether the frames at begin and end
    belong to the event: ``strict`` leaves both out, as TSU and the per-frame evaluation of Charades do. An event that
    ends before it begins contains no frame.
    """

    recording_E: Numbers
    class_E: Numbers
    begin_E: NDArray[np.float64]
    end_E: NDArray[np.float64]
    bounds: Bounds = "strict"

    def labels_at(
        self, recording: int, time_P: NDArray[Any], *, classes: int, bounds: Bounds | None = None
    ) -> NDArray[np.bool_]:
        """Which classes a recording has at given times: (P, K) bool, K being ``classes``.

        Args:
            recording: index of the recording.
            time_P: ascending times, in the unit of the events.
            bounds: used instead of those of the events; None uses theirs.
        """
        label_PK = np.zeros((len(time_P), classes), np.bool_)
        for span in self.spans(recording, time_P, bounds=bounds):
            label_PK[span.first : span.stop, span.label] = True
        return label_PK

    def spans(self, recording: int, time_P: NDArray[Any], *, bounds: Bounds | None = None) -> list[FrameSpan]:
        """Which of some ascending times each event of a recording contains, as ranges of indices into ``time_P``.

        A range is empty (``stop <= first``) where the event contains none of them. Arguments as for :meth:`labels_at`.
        """
        rule = bounds or self.bounds
        events = np.flatnonzero(self.recording_E == recording)
        first_E = np.searchsorted(time_P, self.begin_E[events], side="right" if rule == "strict" else "left")
        stop_E = np.searchsorted(time_P, self.end_E[events], side="right" if rule == "closed" else "left")
        columns = self.class_E[events].tolist(), first_E.tolist(), stop_E.tolist()
        return [FrameSpan(*span) for span in zip(*columns, strict=True)]


def events_from_intervals(
    intervals_of: Iterable[Sequence[tuple[int, float, float]]],
    *,
    rate_N: NDArray[np.float64] | None = None,
    bounds: Bounds = "strict",
) -> Events:
    """The :class:`Events` of N recordings.

    Args:
        intervals_of: the :class:`Interval` of each recording, in the recordings' order; a plain (class index, begin,
            end) will do.
        rate_N: factor that makes frames of a recording's times: frames per second where times are in seconds. None
            leaves times as they are. Products are not rounded.
        bounds: which frames an event contains, of the frames after this conversion.
    """
    rows = [(recording, *interval) for recording, intervals in enumerate(intervals_of) for interval in intervals]
    columns = np.array(rows, np.float64).reshape(-1, 4)
    recording_E = columns[:, 0].astype(np.int64)
    rate_E = np.ones(len(columns)) if rate_N is None else np.asarray(rate_N, np.float64)[recording_E]
    return Events(recording_E, columns[:, 1].astype(np.int64), columns[:, 2] * rate_E, columns[:, 3] * rate_E, bounds)


@dataclass(frozen=True, eq=False)
class Timelines:
    """The labels of N recordings, without their poses.

    ``frames_N`` int64 counts the frames of each recording; ``classes`` is the number of classes K. ``length_N`` float64
    is the length of each recording in the unit of the events' times, usually seconds, above 0: frame t is then shown at
    t * length / frames, and events are compared with these times, without rounding, as the owners' evaluation does.
    Where it is None, times are in frames.
    """

    frames_N: Numbers
    classes: int
    events: Events
    length_N: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.frames_N)

    def labels(self, number: int) -> NDArray[np.bool_]:
        """Which classes each frame of the recording of index ``number`` has: (T, K) bool."""
        return self.events.labels_at(number, self._times(number), classes=self.classes)

    def labels_at_points(self, number: int, *, count: int = 25) -> NDArray[np.bool_]:
        """Which classes a recording has at the times of Charades' official localisation: (``count``, K) bool.

        The times divide the recording's length into ``count`` equal parts and begin with 0
        (:func:`~tmor_train.metrics.average_precision.times`). Begin and end of an event are included, whatever its
        bounds. The scores that belong to these times are those of the frames
        :func:`~tmor_train.metrics.average_precision.points`.
        """
        length = float(self.frames_N[number] if self.length_N is None else self.length_N[number])
        return self.events.labels_at(number, times(length, count=count), classes=self.classes, bounds="closed")

    def truths(self, number: int) -> list[Proposal]:
        """The events of a recording as :func:`~tmor_train.metrics.average_precision.event_ap` takes them: each from the
        first frame it contains to the one after its last, with the score 1.

        An event that contains no frame is left out.
        """
        spans = self.events.spans(number, self._times(number))
        return [Proposal(span.first, span.stop, span.label, 1.0) for span in spans if span.first < span.stop]

    def _times(self, number: int) -> NDArray[np.float64]:
        """When each frame is shown, in the unit of the events: frame / rate, the rate being frames / length."""
        frames = int(self.frames_N[number])
        rate = 1.0 if self.length_N is None else frames / float(self.length_N[number])
        return np.arange(frames, dtype=np.float64) / rate


@dataclass(frozen=True, eq=False)
class Recordings:
    """Untrimmed recordings, each of them one long clip of ``motions``, and the ``events`` in them, in frames.

    ``Events.recording_E`` is an index of ``motions``, ``Events.class_E`` one of ``classes``, the classes' names.
    """

    motions: MotionSet
    classes: tuple[str, ...]
    events: Events

    @property
    def timelines(self) -> Timelines:
        """The labels without the poses."""
        return Timelines(self.motions.clips.frames_N, len(self.classes), self.events)

    def labels(self, number: int) -> NDArray[np.bool_]:
        """Which classes each frame of a recording has: (T, K) bool, as :meth:`Timelines.labels`."""
        return self.timelines.labels(number)


@dataclass(frozen=True, eq=False)
class FrameParts:
    """Recordings to ``train`` on and to ``test``; ``validation`` is None where the protocol has no such split.
    ``notes`` are sentences about what is missing of them, to print beside every metric."""

    train: Recordings
    test: Recordings
    validation: Recordings | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set with its evaluation protocols.

    ``name`` is what users type, ``about`` one line for lists. ``protocols`` are the names of the protocols (ways to
    split the set), the default first. ``primary_metric`` is the metric that the papers' tables give, by its name in
    the results.

    ``missing(folder, protocol)`` returns what that protocol needs and ``folder`` lacks, an empty tuple where it lacks
    nothing; it raises DamagedFileError where a list of files is there and not as published. ``read(folder, protocol)``
    reads the set: :class:`Parts` where ``task`` is ``clips``, else :class:`FrameParts`; it raises MissingFilesError for
    files that are missing and DamagedFileError for files that are not as published.

    ``clips`` (recordings, where ``task`` is not ``clips``) and ``classes`` are the numbers the set is published with,
    for lists: a protocol may use fewer of both, and readers do not compare with them. 0 where they depend on the user's
    data.

    ``reading`` is raised by one whenever ``read`` gives something else of the same files than it did before. Runs and
    results store it, so that they are not continued or shown as if nothing had changed.
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
    reading: int = 1


def missing_files(folder: Path, source: DatasetSource, *names: str) -> tuple[Missing, ...]:
    """Those of ``names``, paths relative to ``folder`` or patterns of :meth:`Path.glob`, that match no file there."""
    page = f"{source.page} ({source.archive})"
    return tuple(Missing(name, page, folder / name) for name in names if next(folder.glob(name), None) is None)


def check_for(source: DatasetSource, *names: str) -> Callable[[Path, str], tuple[Missing, ...]]:
    """:attr:`Benchmark.missing` for a benchmark whose protocols all need the same files."""
    return lambda folder, protocol: missing_files(folder, source, *names)


def with_scores(xy_MTJ2: Floats, path: Path) -> Floats:
    """Joints (M, T, J, 3) float32 as (x, y, score) of positions in pixels that come without scores.

    The score is 1, or 0 for a joint at (0, 0), which the estimator did not find.

    Args:
        xy_MTJ2: x and y in pixels.
        path: the file they were read from, for the message.

    Raises:
        DamagedFileError: a position is not finite.
    """
    if not np.isfinite(xy_MTJ2).all():
        raise DamagedFileError(f"{path}: a joint's position is NaN or infinite; get the file again")
    return np.concatenate([xy_MTJ2, (xy_MTJ2 != 0).any(-1, keepdims=True)], -1, dtype=np.float32)
