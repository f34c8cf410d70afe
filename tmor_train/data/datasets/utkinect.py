"""Reads UTKinect-Action3D: 20 recordings of 10 people doing 10 actions one after another, 20 joints of a Kinect in
space.

L. Xia, C.-C. Chen, J. K. Aggarwal, "View invariant human action recognition using histograms of 3D joints", CVPR-W
2012. A recording is ``joints/joints_s01_e01.txt``: a line for each tracked frame, its number and x, y, z of 20 joints.
``joints/actionLabel.txt`` says, by frame numbers, when each action begins and ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.dataset import Clip, MotionSet, from_clips
from tmor_train.data.datasets.files import (
    KINECT_LIMBS,
    DamagedFileError,
    DatasetSource,
    as_ntu25,
    from_kinect,
    matching,
    parsing,
    read_numbers,
    read_text,
)

SOURCE = DatasetSource("UTKinect-Action3D", "http://cvrc.ece.utexas.edu/KinectDatasets/HOJ3D.html", "joints.zip")

CAPTIONS = {
    "walk": "walking",
    "sitDown": "sitting down",
    "standUp": "standing up",
    "pickUp": "picking something up",
    "carry": "carrying something",
    "throw": "throwing",
    "push": "pushing",
    "pull": "pulling",
    "waveHands": "waving hands",
    "clapHands": "clapping hands",
}
"""By action, as the files name it, a caption."""

JOINTS = ("spine_base", "spine_mid", "spine_shoulder", "head", *KINECT_LIMBS)
"""The joints of a frame in the order of the files, as ``ntu25`` names them."""

# A file of joints, and a recording and an action in the file of labels: subject and trial; action, first and last
# frame.
_NAME = re.compile(r"joints_s(\d\d)_e(\d\d)\.txt")
_HEADING = re.compile(r"s(\d\d)_e(\d\d)")
_LINE = re.compile(r"(\w+):\s+(\S+)\s+(\S+)")
_FRAME = re.compile(r"[0-9]{1,9}")


@dataclass(frozen=True, slots=True)
class Segment:
    """One action of a recording, from frame number ``first`` to ``last``, both included, as the sensor counts."""

    action: str
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Recording:
    """A whole recording: ``frame_T`` the sensor's number of each tracked frame, ascending; ``joints_TJC`` (T, 25, 4) in
    the layout ``ntu25``; ``segments`` its labelled actions. ``subject`` and ``trial`` are the numbers in its file's
    name."""

    subject: int
    trial: int
    frame_T: NDArray[np.int64]
    joints_TJC: NDArray[np.float32]
    segments: tuple[Segment, ...]


def read(folder: Path) -> MotionSet:
    """The labelled actions of all recordings as clips, in the layout ``ntu25``, all in the split ``train``.

    The set has no official split: papers leave out one recording or one subject at a time. A label without frame
    numbers is left out, and so is one during which nobody was tracked.

    Raises:
        MissingFilesError: recordings or labels are not there.
        DamagedFileError: a file is not as published.
    """
    whole = recordings(folder)
    with parsing(_labels(folder), "list of actions, each once, in the recordings beside it"):
        return from_clips(_clips(whole), classes=tuple(CAPTIONS))


def recordings(folder: Path) -> list[Recording]:
    """All recordings whole, with their labels by frame numbers.

    Some frame numbers occur twice in a file; the first of the two lines is kept.

    Raises:
        MissingFilesError, DamagedFileError: as :func:`read`.
    """
    labels = _segments(_labels(folder))
    whole = []
    files = matching(Path(folder) / "joints", _NAME, source=SOURCE, example="joints_s01_e01.txt")
    for path, (subject, trial) in files:
        rows = read_numbers(path, columns=1 + 20 * 3, source=SOURCE)
        frame_T, kept = np.unique(rows[:, 0].astype(np.int64), return_index=True)
        metres = rows[kept, 1:].reshape(1, -1, 20, 3)
        joints = as_ntu25(from_kinect(metres), JOINTS, path=path)[0]
        whole.append(Recording(subject, trial, frame_T, joints, labels.get((subject, trial), ())))
    return whole


def _labels(folder: Path) -> Path:
    """The file of labels."""
    return Path(folder) / "joints" / "actionLabel.txt"


def _segments(path: Path) -> dict[tuple[int, int], tuple[Segment, ...]]:
    """The labelled actions by subject and trial; DamagedFileError for a line that is none."""
    segments: dict[tuple[int, int], tuple[Segment, ...]] = {}
    recording: tuple[int, int] | None = None
    for number, line in enumerate(read_text(path, source=SOURCE).splitlines(), 1):
        heading, entry = _HEADING.fullmatch(line.strip()), _LINE.fullmatch(line.strip())
        if heading:
            recording = int(heading[1]), int(heading[2])
            segments[recording] = ()
        elif entry and recording and entry[1] in CAPTIONS:
            if _FRAME.fullmatch(entry[2]) and _FRAME.fullmatch(entry[3]):
                segments[recording] += (Segment(entry[1], int(entry[2]), int(entry[3])),)
            elif "NaN" not in entry.groups():
                raise DamagedFileError(f"{path}, line {number}: {line!r} gives no frame numbers")
        elif line.strip():
            raise DamagedFileError(f"{path}, line {number}: {line!r} is neither a recording nor an action")
    return segments


def _clips(whole: list[Recording]) -> Iterator[Clip]:
    """The labelled actions of recordings during which somebody was tracked."""
    for recording in whole:
        for segment in recording.segments:
            inside = (recording.frame_T >= segment.first) & (recording.frame_T <= segment.last)
            if inside.any():
                yield Clip(
                    key=f"utkinect-s{recording.subject:02d}-e{recording.trial:02d}-{segment.action}",
                    joints_MTJC=recording.joints_TJC[inside][None],
                    layout="ntu25",
                    label=segment.action,
                    captions=(CAPTIONS[segment.action],),
                    subject=recording.subject,
                )
