"""What a benchmark is: its protocols, the files it needs, and the parts that reading them gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tmor_train.data import MotionSet
from tmor_train.data.flat import Numbers
from tmor_train.data.sets.files import Origin

TaskKind = Literal["clips", "frames", "events"]


@dataclass(frozen=True, slots=True)
class Missing:
    """A ``file`` that is not there, the ``page`` to ask for it on, and the ``place`` it is to be put at."""

    file: str
    page: str
    place: Path

    def __str__(self) -> str:
        return f"{self.file} is missing: get it from {self.page} and put it at {self.place}"


@dataclass(frozen=True, eq=False)
class Parts:
    """Clips with a class each, by part of a split."""

    train: MotionSet
    test: MotionSet
    validation: MotionSet | None = None


@dataclass(frozen=True, eq=False)
class Events:
    """Labelled stretches of recordings: ``recording_E`` and ``class_E`` int64, ``begin_E`` and ``end_E`` float64.

    Times are in frames of the recording. ``bounds`` says what they hold: ``strict`` is begin < frame < end (the rule of
    TSU and of the per-frame evaluation of Charades), ``closed`` is begin <= frame <= end.
    """

    recording_E: Numbers
    class_E: Numbers
    begin_E: NDArray[np.float64]
    end_E: NDArray[np.float64]
    bounds: Literal["strict", "closed"] = "strict"


@dataclass(frozen=True, eq=False)
class Recordings:
    """Recordings, each one long clip of ``motions``, and the ``events`` in them."""

    motions: MotionSet
    classes: tuple[str, ...]
    events: Events

    def labels(self, number: int) -> NDArray[np.bool_]:
        """Which classes each frame of a recording has: (T, K) bool. An event that ends before it begins has none."""
        frame_T = np.arange(int(self.motions.clips.frames_N[number]))
        label_TK = np.zeros((len(frame_T), len(self.classes)), np.bool_)
        for event in np.flatnonzero(self.events.recording_E == number).tolist():
            begin, end = self.events.begin_E[event], self.events.end_E[event]
            strict = self.events.bounds == "strict"
            inside = (frame_T > begin) & (frame_T < end) if strict else (frame_T >= begin) & (frame_T <= end)
            label_TK[inside, int(self.events.class_E[event])] = True
        return label_TK


@dataclass(frozen=True, eq=False)
class FrameParts:
    """Recordings by part of a split."""

    train: Recordings
    test: Recordings
    validation: Recordings | None = None


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A data set with its protocols, of which the first is the default.

    ``headline`` is the figure of the paper's table. ``missing`` looks for the files of a protocol in a folder;
    ``read`` reads them and raises MissingFiles or DamagedFile. ``clips`` and ``classes`` are what is published, 0 where
    that depends on the user's data.
    """

    name: str
    about: str
    task: TaskKind
    protocols: tuple[str, ...]
    headline: str
    clips: int
    classes: int
    missing: Callable[[Path, str], tuple[Missing, ...]]
    read: Callable[[Path, str], Parts | FrameParts]


def absent(folder: Path, names: tuple[str, ...], origin: Origin) -> tuple[Missing, ...]:
    """Those of some files that are not in a folder; a name may be a pattern as of :meth:`Path.glob`."""
    page = f"{origin.page} ({origin.archive})"
    return tuple(Missing(name, page, folder / name) for name in names if next(folder.glob(name), None) is None)
