"""Toyota Smarthome Untrimmed (TSU) as a benchmark of frame labels: 536 long recordings, 51 classes, 41,288 events. Also
the one recording that is public, as a benchmark of its own.

R. Dai et al., "Toyota Smarthome Untrimmed", TPAMI 2022. ``smarthome_CS_51.json`` and ``smarthome_CV_51.json`` give for
each recording ``P11T13C03`` (person, time, camera) its subset, its duration in frames and its events as ``[class,
begin, end]``, class numbers from 0 and times in frames. A frame has the class if begin < frame < end. Cross-subject
(CS) trains on 351 recordings and tests on 185. Cross-view (CV) trains on the cameras 1, 3, 4, 6, 7 (369) and tests on 2
and 5 (167); 33 classes occur in that test. Poses are ``poses/{recording}_LCRNet2d.npz`` with ``kpts`` (T, 17, 2)
float32 in pixels of a picture of 640 x 480, 20 frames per second; a joint at (0, 0) was not found. The joints are in
COCO's order, all five points of the head at one position. The metric is the mean of the classes' average precisions
over those above 0 (``nonzero``), as the owners' evaluation divides.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tmor_train.benchmarks.base import (
    Benchmark,
    FrameParts,
    Interval,
    Missing,
    Recordings,
    Timelines,
    check_for,
    events_from_intervals,
    missing_files,
    with_scores,
)
from tmor_train.data import Clip, from_clips
from tmor_train.data.dataset import Floats
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, parsing, read_text
from tmor_train.data.provenance import record_file

SOURCE = DatasetSource(
    "Toyota Smarthome Untrimmed", "https://project.inria.fr/toyotasmarthome/", "skeletons and annotations"
)
CLASSES = (
    "Enter",
    "Walk",
    "Make_coffee",
    "Get_water",
    "Make_coffee.Pour_water",
    "Use_Drawer",
    "Make_coffee.Pour_grains",
    "Use_telephone",
    "Leave",
    "Put_something_on_table",
    "Take_something_off_table",
    "Pour.From_kettle",
    "Stir_coffee/tea",
    "Drink.From_cup",
    "Dump_in_trash",
    "Make_tea",
    "Make_tea.Boil_water",
    "Use_cupboard",
    "Insert_tea_bag",
    "Read",
    "Take_pills",
    "Use_fridge",
    "Clean_dishes",
    "Clean_dishes.Put_something_in_sink",
    "Eat_snack",
    "Sit_down",
    "Watch_TV",
    "Use_laptop",
    "Get_up",
    "Drink.From_bottle",
    "Pour.From_bottle",
    "Drink.From_glass",
    "Lay_down",
    "Drink.From_can",
    "Write",
    "Breakfast",
    "Breakfast.Spread_jam_or_butter",
    "Breakfast.Cut_bread",
    "Breakfast.Eat_at_table",
    "Breakfast.Take_ham",
    "Clean_dishes.Dry_up",
    "Wipe_table",
    "Cook",
    "Cook.Cut",
    "Cook.Use_stove",
    "Cook.Stir",
    "Cook.Use_oven",
    "Clean_dishes.Clean_with_water",
    "Use_tablet",
    "Use_glasses",
    "Pour.From_can",
)
"""Names of the classes; class ``n`` of the annotation files is ``CLASSES[n]``."""

WIDTH, HEIGHT = 640.0, 480.0
"""Of the picture, in pixels."""
MAX_FRAMES = 200_000
"""Of one recording; the longest published has 50,541, and more than four times as many are damage."""
MAX_FILE_BYTES = MAX_FRAMES * 17 * 2 * 8
"""Of one pose file: 17 joints, two coordinates, float64."""

_NAME = re.compile(r"P(\d\d)T(\d\d)C(\d\d)")  # person, time, camera
_POSES = "_LCRNet2d.npz"
_SUBSETS = {"train": "training", "test": "testing"}  # as the annotation files call them


class Annotation(NamedTuple):
    """What an annotation file says of a recording: ``subset`` is ``training`` or ``testing``, ``frames`` its duration,
    ``events`` are in frames from 0. An event that ends before it begins is kept, and holds no frame."""

    subset: str
    frames: int
    events: list[Interval]


Annotations = dict[str, Annotation]


def read_annotations(path: Path) -> Annotations:
    """The annotation of each recording by its name.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    annotations = {}
    with parsing(path, "annotation file of TSU"):
        for name, entry in json.loads(read_text(path, source=SOURCE)).items():
            events = [Interval(int(label), float(begin), float(end)) for label, begin, end in entry["actions"]]
            if entry["subset"] not in _SUBSETS.values() or not _NAME.fullmatch(name):
                raise DamagedFileError(
                    f"{path}: recording {name!r} of the subset {entry['subset']!r}, expected a name such as P11T13C03 "
                    "and the subset training or testing"
                )
            if not 0 < int(entry["duration"]) <= MAX_FRAMES:
                raise DamagedFileError(f"{path}: {name} has {entry['duration']} frames, expected 1 to {MAX_FRAMES}")
            if not all(math.isfinite(event.begin) and math.isfinite(event.end) for event in events):
                raise DamagedFileError(f"{path}: {name} has an event whose begin or end is NaN or infinite")
            if any(not 0 <= event.label < len(CLASSES) for event in events):
                raise DamagedFileError(f"{path}: {name} has an event whose class is not 0 to {len(CLASSES) - 1}")
            annotations[name] = Annotation(str(entry["subset"]), int(entry["duration"]), events)
    return annotations


def read_poses(path: Path) -> Floats:
    """Joints (1, T, 17, 3) float32 of a pose file in the layout ``coco17``: x and y in pixels, and the score 1 or 0.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    if not path.is_file():
        raise SOURCE.missing(path)
    with parsing(path, "pose file with 'kpts'"):
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DamagedFileError(f"{path} is larger than any recording of TSU")
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MAX_FILE_BYTES:
                raise DamagedFileError(f"{path} unpacks to more than any recording of TSU")
        with np.load(path, allow_pickle=False) as archived:
            kpts = archived["kpts"]
        record_file(path)
    if kpts.ndim != 3 or kpts.shape[1:] != (17, 2) or not len(kpts) or kpts.dtype.kind != "f":
        raise DamagedFileError(f"{path}: kpts {kpts.shape} {kpts.dtype}, expected (T, 17, 2) of floats")
    return with_scores(kpts[None].astype(np.float32), path)


def timelines(path: Path) -> dict[str, Timelines]:
    """The labels of the recordings of the subsets ``training`` and ``testing``, in the order of their sorted names.

    Times are in frames of the annotated videos.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    annotations = read_annotations(path)
    labels_of = {}
    for subset in _SUBSETS.values():
        chosen = [annotations[name] for name in sorted(annotations) if annotations[name].subset == subset]
        frames_N = np.array([annotation.frames for annotation in chosen], np.int64)
        events = events_from_intervals([annotation.events for annotation in chosen])
        labels_of[subset] = Timelines(frames_N, len(CLASSES), events)
    return labels_of


def _recordings(folder: Path, annotations: Annotations, names: list[str]) -> Recordings:
    """The recordings of ``names``, with their events in frames of the poses. Raises as :func:`read_poses`."""
    clips = []
    for name in names:
        joints = read_poses(folder / "poses" / f"{name}{_POSES}")
        # The names of annotations are checked as they are read.
        subject, _, camera = (int(part) for part in _NAME.fullmatch(name).groups())  # type: ignore[union-attr]
        split = "test" if annotations[name].subset == "testing" else "train"
        clips.append(
            Clip(
                key=name,
                joints_MTJC=joints,
                layout="coco17",
                fps=20.0,
                width=WIDTH,
                height=HEIGHT,
                split=split,
                subject=subject,
                camera=camera,
            )
        )
    motions = from_clips(clips, classes=CLASSES)
    # Annotated times count frames of the video, whose number may differ from that of the poses. As in the owners'
    # evaluation, times are scaled by frames of the poses / annotated duration.
    annotated_N = np.array([annotations[name].frames for name in names], np.float64)
    events = events_from_intervals(
        [annotations[name].events for name in names], rate_N=motions.clips.frames_N / annotated_N
    )
    return Recordings(motions, CLASSES, events)


def _missing(folder: Path, protocol: str) -> tuple[Missing, ...]:
    """As :attr:`Benchmark.missing`: of the annotated recordings, all of their poses."""
    names = ["P*"]  # without the annotations, which name the files, any file will do
    if not (lists := missing_files(folder, SOURCE, file := f"smarthome_{protocol}_51.json")):
        names = sorted(read_annotations(folder / file))
    return *lists, *missing_files(folder, SOURCE, *(f"poses/{name}{_POSES}" for name in names))


def _read(folder: Path, protocol: str) -> FrameParts:
    """As :attr:`Benchmark.read`."""
    annotations = read_annotations(folder / f"smarthome_{protocol}_51.json")
    names_of = {
        split: [name for name in sorted(annotations) if annotations[name].subset == subset]
        for split, subset in _SUBSETS.items()
    }
    train, test = (_recordings(folder, annotations, names_of[split]) for split in ("train", "test"))
    return FrameParts(train, test)


TSU = Benchmark(
    name="tsu",
    about="Toyota Smarthome Untrimmed, daily living in 2D, by frames",
    task="frames",
    protocols=("CS", "CV"),
    primary_metric="nonzero",
    clips=536,
    classes=51,
    missing=_missing,
    read=_read,
)


def _sample(folder: Path, protocol: str) -> FrameParts:
    """As :attr:`Benchmark.read`: the one recording as both parts, whatever the protocol."""
    only = _recordings(folder, read_annotations(folder / "smarthome_CS_51.json"), ["P11T13C03"])
    return FrameParts(train=only, test=only)


SAMPLE = Benchmark(
    name="tsu_sample",
    about="the one public recording of TSU; trained and tested on itself, which shows only that everything runs",
    task="frames",
    protocols=("itself",),
    primary_metric="nonzero",
    clips=1,
    classes=51,
    missing=check_for(SOURCE, "smarthome_CS_51.json", f"poses/P11T13C03{_POSES}"),
    read=_sample,
)
