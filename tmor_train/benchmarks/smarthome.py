"""Toyota Smarthome as a benchmark of clips: daily living of 18 older people, 7 cameras, 31 classes, 2D poses of
LCR-Net.

S. Das et al., "Toyota Smarthome", ICCV 2019. A clip is named ``Walk_p03_r01_v16_c06`` (class, person, repetition,
video, camera) and is a file ``{clip}.json``: ``frames`` holds for each frame a list of people, each with ``pose2d``, 13
values of x and then 13 of y, in pixels of a picture of 640 x 480; 20 frames per second.

CS trains on nine people, validates on the people 19 and 25 and tests on seven. CV1 trains on camera 1, CV2 on the
cameras 1, 3, 4, 6 and 7; both validate on camera 5 and test on camera 2, and have only 19 classes. In CV the reference
repeats each training clip round(1000/n) times where a class has n < 1000 clips; here none is repeated. The official
lists of CS name 14 clips of ``Pour.Fromcup``, which is none of the 31 classes: they are left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from tmor_train.benchmarks.base import Benchmark, Parts, check_for, missing_files, with_scores
from tmor_train.data import Clip, from_clips
from tmor_train.data.dataset import Floats
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, parsing, read_text

SOURCE = DatasetSource(
    "Toyota Smarthome", "https://project.inria.fr/toyotasmarthome/", "the 2D skeletons of the trimmed set"
)
WIDTH, HEIGHT = 640.0, 480.0
"""Of the picture, in pixels."""
CAPTIONS = {
    "Cook.Cleandishes": "cleaning dishes",
    "Cook.Cleanup": "cleaning up",
    "Cook.Cut": "cutting food",
    "Cook.Stir": "stirring",
    "Cook.Usestove": "using a stove",
    "Cutbread": "cutting bread",
    "Drink.Frombottle": "drinking from bottle",
    "Drink.Fromcan": "drinking from can",
    "Drink.Fromcup": "drinking from cup",
    "Drink.Fromglass": "drinking from glass",
    "Eat.Attable": "eating at table",
    "Eat.Snack": "eat snack",
    "Enter": "entering",
    "Getup": "getting up",
    "Laydown": "laying down",
    "Leave": "leaving",
    "Makecoffee.Pourgrains": "pouring coffee grains",
    "Makecoffee.Pourwater": "pouring water",
    "Maketea.Boilwater": "boiling water",
    "Maketea.Insertteabag": "inserting tea bag",
    "Pour.Frombottle": "pour from bottle",
    "Pour.Fromcan": "pouring from can",
    "Pour.Fromkettle": "pouring from kettle",
    "Readbook": "read book",
    "Sitdown": "sit down",
    "Takepills": "taking pills",
    "Uselaptop": "using laptop",
    "Usetelephone": "using telephone",
    "Usetablet": "using tablet",
    "Walk": "walk",
    "WatchTV": "watch tv",
}
"""The 31 classes of CS in the order of their indices, each in the words of SKI-Models' list of labels."""

CLASSES = tuple(CAPTIONS)
CV_CLASSES = tuple(
    sorted(
        {name for name in CLASSES if not name.startswith(("Cook.", "Make"))} - {"Laydown", "Pour.Fromkettle", "WatchTV"}
    )
)
"""The 19 classes of CV1 and CV2 in the order of their indices."""

Part = Literal["train", "validation", "test"]
_PARTS: dict[str, dict[Part, set[int]]] = {  # numbers of people in CS, of cameras in CV1 and CV2
    "CS": {
        "train": {3, 4, 6, 7, 9, 12, 13, 15, 17},
        "validation": {19, 25},
        "test": {2, 10, 11, 14, 16, 18, 20},
    },
    "CV1": {"train": {1}, "validation": {5}, "test": {2}},
    "CV2": {"train": {1, 3, 4, 6, 7}, "validation": {5}, "test": {2}},
}
_FILES = "*_p*_r*_v*_c*.json"
_NAME = re.compile(r"([A-Za-z.]+)_p(\d\d)_r\d+_v\d+_c(\d\d)")  # class, person, camera
# LCR-Net's joints go from the ankles up to the head, right before left; those of penn13 from the head down, left before
# right: one order is the reverse of the other.
_PENN_OF_LCR = [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]
MAX_PEOPLE = 8
"""In a frame of a pose file; our choice, above what a room at home shows, against damaged files."""
_LEFT_OUT = "Pour.Fromcup"


def part_of(clip: str, protocol: str) -> Part | None:
    """The split that a protocol puts a clip in; None where it leaves the clip out, as none of its lists has its person
    (CS), or its camera or class (CV1, CV2).

    Args:
        clip: its name, without ``.json``.
        protocol: ``CS``, ``CV1`` or ``CV2``.

    Raises:
        ValueError: ``clip`` is not the name of a clip.
    """
    match = _NAME.fullmatch(clip)
    if match is None:
        raise ValueError(f"{clip!r} is not the name of a clip of Smarthome, such as Walk_p03_r01_v16_c06")
    if protocol != "CS" and match[1] not in CV_CLASSES:
        return None
    number = int(match[2] if protocol == "CS" else match[3])
    return next((part for part, numbers in _PARTS[protocol].items() if number in numbers), None)


def read_poses(path: Path) -> Floats:
    """Joints (M, T, 13, 3) float32 of a clip in the layout ``penn13``: x and y in pixels, and the score 1 or 0.

    M is the largest number of people in a frame, at least 1. People are in the order of the file, frame by frame: it
    does not track them, so that a slot may be another person in the next frame.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    with parsing(path, "pose file of Smarthome"):
        frames = json.loads(read_text(path, source=SOURCE))["frames"]
        most = max([1, *(len(people) for people in frames)])
        if not frames or most > MAX_PEOPLE:
            raise DamagedFileError(
                f"{path}: {len(frames)} frames of up to {most} people, expected at least one frame and at most "
                f"{MAX_PEOPLE} people"
            )
        xy_MTJ2 = np.zeros((most, len(frames), 13, 2), np.float32)
        for frame, people in enumerate(frames):
            for person, entry in enumerate(people):
                xy_MTJ2[person, frame] = np.array(entry["pose2d"], np.float32).reshape(2, 13).T[_PENN_OF_LCR]
    return with_scores(xy_MTJ2, path)


def _clips(folder: Path, protocol: str) -> Iterator[Clip]:
    """The clips of a protocol; DamagedFileError for a file of another name."""
    for path in sorted(folder.glob(_FILES)):
        match = _NAME.fullmatch(path.stem)
        if match is None or match[1] not in (*CLASSES, _LEFT_OUT):
            raise DamagedFileError(f"{path}: its name is not that of a clip of Smarthome")
        part = part_of(path.stem, protocol)
        if part and match[1] != _LEFT_OUT:
            yield Clip(
                key=path.stem,
                joints_MTJC=read_poses(path),
                layout="penn13",
                fps=20.0,
                width=WIDTH,
                height=HEIGHT,
                label=match[1],
                split=part,
                subject=int(match[2]),
                camera=int(match[3]),
            )


def _read(folder: Path, protocol: str) -> Parts:
    if missing_files(folder, SOURCE, _FILES):
        raise SOURCE.missing(folder / "Walk_p03_r01_v16_c06.json")
    classes = CLASSES if protocol == "CS" else CV_CLASSES
    return Parts.by_split(from_clips(_clips(folder, protocol), classes=classes))


SMARTHOME = Benchmark(
    name="smarthome",
    about="Toyota Smarthome, daily living in 2D",
    protocols=("CS", "CV1", "CV2"),
    primary_metric="mean_per_class",
    clips=16115,
    classes=31,
    missing=check_for(SOURCE, _FILES),
    read=_read,
)
