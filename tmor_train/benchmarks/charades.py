"""Charades: 9,848 videos at home, 157 classes in 66,500 timed actions, by frames.

G. Sigurdsson et al., "Hollywood in Homes", ECCV 2016. ``Charades_v1_train.csv`` (7,985) and ``Charades_v1_test.csv``
(1,863) give ``c092 11.90 21.20;...`` in seconds for each video; 174 and 49 videos have none, and seven actions end
before they begin. The owners publish no skeletons: estimate them with posecap from the videos into a dataset at
``shards`` whose row ids are the ids of the videos (``46GP8``). Times become frames by each clip's own rate.
"""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np

from tmor_train.benchmarks.base import Benchmark, FrameParts, Missing, Recordings, Timelines, events_of, missing_files
from tmor_train.data import MotionSet, read_shards
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, parsing, read_text

SOURCE = DatasetSource("Charades", "https://prior.allenai.org/projects/charades", "the annotations")
_CODE = re.compile(r"c(\d{3})")
CLASS_COUNT = 157
MAX_SECONDS = 3600.0
FILES = {"train": "Charades_v1_train.csv", "test": "Charades_v1_test.csv"}
_NAMES = "Charades_v1_classes.txt"


def actions(path: Path) -> dict[str, list[tuple[int, float, float]]]:
    """(class, begin, end) in seconds of each video, those that end before they begin too.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    return {name: events for name, (_, events) in _rows(path).items()}


def timelines(path: Path, *, rate: float = 24.0) -> Timelines:
    """What an annotation file labels in its videos, sorted by id, at ``rate`` frames a second of their ``length``.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    found = sorted(_rows(path).items())
    frames_N = np.array([max(1, round(seconds * rate)) for _, (seconds, _) in found], np.int64)
    seconds_N = np.array([seconds for _, (seconds, _) in found], np.float64)
    return Timelines(frames_N, CLASS_COUNT, events_of([events for _, (_, events) in found]), seconds_N)


def _rows(path: Path) -> dict[str, tuple[float, list[tuple[int, float, float]]]]:
    """The length in seconds and the actions of each video."""
    found = {}
    with parsing(path, "annotation file of Charades"):
        for row in csv.DictReader(io.StringIO(read_text(path, source=SOURCE))):
            parts = [action.split() for action in row["actions"].split(";") if action]
            events = [(_number(code), _seconds(begin), _seconds(end)) for code, begin, end in parts]
            length = _seconds(row["length"])
            if length <= 0:
                raise ValueError(f"video {row['id']!r} has a length of {length} s")
            found[row["id"]] = length, events
    return found


def _seconds(written: str) -> float:
    value = float(written)
    if not -MAX_SECONDS <= value <= MAX_SECONDS:
        raise ValueError(f"{written!r} is no time of a video of at most {MAX_SECONDS:.0f} s")
    return value


def _number(code: str) -> int:
    match = _CODE.fullmatch(code)
    if match is None or int(match[1]) >= CLASS_COUNT:
        raise ValueError(f"{code!r} is no class")
    return int(match[1])


def class_names(path: Path) -> tuple[str, ...]:
    """The 157 names, in order of their codes.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    lines = [line.split(maxsplit=1) for line in read_text(path, source=SOURCE).splitlines() if line.strip()]
    if [line[0] for line in lines] != [f"c{n:03d}" for n in range(CLASS_COUNT)] or any(len(line) < 2 for line in lines):
        raise DamagedFileError(f"{path} does not name the classes c000 to c156")
    return tuple(line[1].strip() for line in lines)


def _part(folder: Path, part: str, motions: MotionSet, classes: tuple[str, ...]) -> Recordings:
    known = actions(folder / FILES[part])
    at = {key: number for number, key in enumerate(motions.clips.key_N.tolist())}
    lacking = sorted(set(known) - set(at))
    if lacking:
        raise DamagedFileError(
            f"{folder / 'shards'} lacks {len(lacking)} of {len(known)} {part} videos, as {lacking[0]}"
        )
    names = sorted(known)
    chosen = motions.select([at[name] for name in names])
    if (chosen.clips.fps_N <= 0).any():
        raise DamagedFileError(f"{folder / 'shards'}: clips without a frame rate, so seconds have no frames")
    events = events_of([known[name] for name in names], rate_N=chosen.clips.fps_N.astype(np.float64))
    return Recordings(chosen, classes, events)


def _missing(folder: Path, protocol: str) -> tuple[Missing, ...]:
    lists = missing_files(folder, SOURCE, *FILES.values(), _NAMES)
    place = folder / "shards"
    poses = Missing("a posecap dataset of the videos", f"`posecap build` on the videos of {SOURCE.page}", place)
    return lists if place.is_dir() else (*lists, poses)


def _read(folder: Path, protocol: str) -> FrameParts:
    if not (folder / "shards").is_dir():
        raise SOURCE.missing(folder / "shards")
    motions, classes = read_shards(folder / "shards"), class_names(folder / _NAMES)
    return FrameParts(*(_part(folder, part, motions, classes) for part in FILES))


CHARADES = Benchmark(
    name="charades",
    about="Charades, acted scenes at home in 2D, by frames",
    task="frames",
    protocols=("official",),
    primary_metric="all_classes",
    clips=9848,
    classes=CLASS_COUNT,
    missing=_missing,
    read=_read,
)
