"""Charades as a benchmark of frame labels: 9,848 videos recorded at home, 66,500 timed actions of 157 classes.

G. Sigurdsson et al., "Hollywood in Homes", ECCV 2016. ``Charades_v1_train.csv`` (7,985 videos) and
``Charades_v1_test.csv`` (1,863) list the actions of each video as ``c092 11.90 21.20;...``: class code, begin and end
in seconds from the video's start. 174 and 49 videos have none, and seven actions end before they begin. The owners
publish no skeletons: estimate them with posecap from the videos into a dataset at ``shards`` whose row ids are the ids
of the videos (``46GP8``), one clip each: a row with a span, such as one that begins at 0, is not split into shots.
Seconds become frames by the times that the dataset's index has for the first and the last frame of each clip.

Videos that the dataset has a row of, but no clip (nobody was found, or the file was damaged), are left out of both
parts, and a note with every metric says how many: figures are then of other videos than those that are published.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from posecap.shards import Dataset, sidecars
from tmor_train.benchmarks.base import (
    Benchmark,
    FrameParts,
    Interval,
    Missing,
    Recordings,
    Timelines,
    events_from_intervals,
    missing_files,
)
from tmor_train.data import MotionSet, read_shards
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, parsing, read_text

SOURCE = DatasetSource("Charades", "https://prior.allenai.org/projects/charades", "the annotations")
_CODE = re.compile(r"c(\d{3})")
CLASS_COUNT = 157  # of codes c000 to c156
MAX_SECONDS = 3600.0
"""Times beyond it are damage, and labels of every frame are held in memory; the longest published video has 194 s."""
FILES = {"train": "Charades_v1_train.csv", "test": "Charades_v1_test.csv"}
"""The annotation file of each split."""
_NAMES = "Charades_v1_classes.txt"


def actions(path: Path) -> dict[str, list[Interval]]:
    """The actions of each video of an annotation file by the video's id, in seconds from the video's start.

    Actions that end before they begin are among them, as published; a video without actions has an empty list.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    return {video: intervals for video, (_, intervals) in _rows(path).items()}


def timelines(path: Path, *, rate: float = 24.0) -> Timelines:
    """The labels of an annotation file's videos, sorted by id; times are in seconds.

    Args:
        rate: frames per second that each video is assumed to have, from which its number of frames follows; 24 as in
            the frames that the owners publish.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    rows = [row for _, row in sorted(_rows(path).items())]
    frames_N = np.array([max(1, round(seconds * rate)) for seconds, _ in rows], np.int64)
    seconds_N = np.array([seconds for seconds, _ in rows], np.float64)
    return Timelines(frames_N, CLASS_COUNT, events_from_intervals([intervals for _, intervals in rows]), seconds_N)


def _rows(path: Path) -> dict[str, tuple[float, list[Interval]]]:
    """The length in seconds and the actions of each video, by its id; raises as :func:`actions`."""
    rows = {}
    with parsing(path, "annotation file of Charades"):
        for row in csv.DictReader(io.StringIO(read_text(path, source=SOURCE))):
            parts = [action.split() for action in row["actions"].split(";") if action]
            intervals = [Interval(_class_index(code), _seconds(begin), _seconds(end)) for code, begin, end in parts]
            length = _seconds(row["length"])
            if length <= 0 or row["id"] in rows:
                raise ValueError(f"video {row['id']!r} has a length of {length} s, or is there twice")
            rows[row["id"]] = length, intervals
    return rows


def _seconds(written: str) -> float:
    """A time in seconds; ValueError for what is none, or beyond :data:`MAX_SECONDS`."""
    value = float(written)
    if not -MAX_SECONDS <= value <= MAX_SECONDS:
        raise ValueError(f"{written!r} is not a time in a video of at most {MAX_SECONDS:.0f} s")
    return value


def _class_index(code: str) -> int:
    """The index of a class by its code; ValueError for what is none."""
    match = _CODE.fullmatch(code)
    if match is None or int(match[1]) >= CLASS_COUNT:
        raise ValueError(f"{code!r} is not a class, such as c092")
    return int(match[1])


def class_names(path: Path) -> tuple[str, ...]:
    """The names of the 157 classes in order of their codes, c000 first, out of ``Charades_v1_classes.txt``.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    lines = [line.split(maxsplit=1) for line in read_text(path, source=SOURCE).splitlines() if line.strip()]
    if [line[0] for line in lines] != [f"c{n:03d}" for n in range(CLASS_COUNT)] or any(len(line) < 2 for line in lines):
        raise DamagedFileError(f"{path} does not name the classes c000 to c156")
    return tuple(line[1].strip() for line in lines)


@dataclass(frozen=True, eq=False)
class _Videos:
    """The clips of a dataset. ``number_of``: the indices in ``motions`` of a video's clips, by its id. ``first_N``:
    when the first frame of each clip is shown, in seconds of the video. ``rate_N``: the rate of its frames, in frames
    per second (0: not known). ``lost``: why a video has no clip, by the id of each that was tried and has none."""

    motions: MotionSet
    number_of: Mapping[str, list[int]]
    first_N: NDArray[np.float64]
    rate_N: NDArray[np.float64]
    lost: Mapping[str, str]

    @classmethod
    def of(cls, dataset: Path) -> _Videos:
        """Those of a posecap dataset, by its rows' ids."""
        motions = read_shards(dataset)
        columns = ["key", "row_id", "T", "fps", "first_pts_seconds", "last_pts_seconds"]
        index = {row["key"]: row for row in Dataset(dataset).index().to_table(columns=columns).to_pylist()}
        number_of: dict[str, list[int]] = {}
        first_N, rate_N = np.zeros(len(motions)), np.zeros(len(motions))
        for number, key in enumerate(motions.clips.key_N.tolist()):
            row = index[key]
            number_of.setdefault(row["row_id"], []).append(number)
            first, seconds = row["first_pts_seconds"], row["last_pts_seconds"] - row["first_pts_seconds"]
            first_N[number] = first
            # The video's own rate is that of the clip only where no frames were left out.
            rate_N[number] = (row["T"] - 1) / seconds if row["T"] > 1 and seconds > 0 else row["fps"] or 0.0
        lost = {
            str(row["row_id"]): str(row.get("reason") or "removed")  # a kept one without clip was removed afterwards
            for _, document in sidecars(str(dataset))
            for row in document["rows"]
            if row["row_id"] not in number_of
        }
        return cls(motions, number_of, first_N, rate_N, lost)


def _recordings(folder: Path, split: str, videos: _Videos, classes: tuple[str, ...]) -> Recordings:
    """The videos of the split's list, sorted, but those that posecap lost; the dataset may hold others, such as those
    of the other split.

    Raises:
        DamagedFileError: the dataset has no row of one, has it as several clips, or does not know its frame rate.
    """
    intervals_of = actions(folder / FILES[split])
    lacking = sorted(set(intervals_of) - set(videos.number_of) - set(videos.lost))
    if lacking:
        raise DamagedFileError(
            f"{folder / 'shards'} lacks {len(lacking)} of the {len(intervals_of)} {split} videos, such as "
            f"{lacking[0]}; build it from all of them, with the videos' ids as row ids"
        )
    names = sorted(set(intervals_of) & set(videos.number_of))
    several = [name for name in names if len(videos.number_of[name]) > 1]
    if several:
        raise DamagedFileError(
            f"{folder / 'shards'}: {len(several)} videos are several clips, such as {several[0]} "
            f"({len(videos.number_of[several[0]])}); build it from rows with a span (start_seconds: 0), "
            "which stay whole"
        )
    chosen = np.array([videos.number_of[name][0] for name in names], np.int64)
    if (videos.rate_N[chosen] <= 0).any():
        raise DamagedFileError(
            f"{folder / 'shards'}: some clips have no frame rate, so seconds cannot become frames; build it again"
        )
    firsts = videos.first_N[chosen].tolist()
    since_first = [
        [Interval(label, begin - first, end - first) for label, begin, end in intervals_of[name]]
        for name, first in zip(names, firsts, strict=True)
    ]
    events = events_from_intervals(since_first, rate_N=videos.rate_N[chosen])
    return Recordings(videos.motions.select(chosen), classes, events)


def _lost_notes(folder: Path, videos: _Videos) -> tuple[str, ...]:
    """How many videos of the lists posecap lost, and why; none where it lost none."""
    of_split = {split: sorted(set(actions(folder / name)) & set(videos.lost)) for split, name in FILES.items()}
    reasons = Counter(videos.lost[video] for names in of_split.values() for video in names)
    if not reasons:
        return ()
    counts = " and ".join(f"{len(names)} {split} videos" for split, names in of_split.items())
    why = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return (f"{counts} are left out, of which the dataset has no clip ({why})",)


def _missing(folder: Path, protocol: str) -> tuple[Missing, ...]:
    """As :attr:`Benchmark.missing`."""
    lists = missing_files(folder, SOURCE, *FILES.values(), _NAMES)
    dataset = folder / "shards"
    poses = Missing("a posecap dataset of the videos", f"`posecap build` on the videos of {SOURCE.page}", dataset)
    return lists if dataset.is_dir() else (*lists, poses)


def _read(folder: Path, protocol: str) -> FrameParts:
    if not (folder / "shards").is_dir():
        raise SOURCE.missing(folder / "shards")
    videos, classes = _Videos.of(folder / "shards"), class_names(folder / _NAMES)
    return FrameParts(
        train=_recordings(folder, "train", videos, classes),
        test=_recordings(folder, "test", videos, classes),
        notes=_lost_notes(folder, videos),
    )


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
