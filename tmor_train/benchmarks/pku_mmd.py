"""PKU-MMD, phase 1, as a benchmark of events: 1,076 long recordings, 51 classes, 25 joints of up to two people in 3D.

C. Liu et al., "PKU-MMD", 2017. For a recording ``0002-L`` (number, camera: left, middle or right) each line of
``PKU_Skeleton_Renew/0002-L.txt`` is a frame, at 30 frames per second: x, y, z in metres of the 25 joints of one person
and then of another, zeros where there is none. ``Train_Label_PKU_final/0002-L.txt`` has lines
``class,start,end,confidence``: classes from 1, times in frames from 0, start included and end excluded. The confidence,
1 or 2, is not used.
``Split/cross-subject.txt`` and ``Split/cross-view.txt`` list the recordings to train on in their second line and those
to test on in their fourth, separated by commas. Joints are as recorded, but with x to the right and y down, as in a
camera's axes; an end beyond the recording is cut there. The loader centres and scales them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from posecap.joints import LAYOUTS
from tmor_train.benchmarks.base import (
    Benchmark,
    FrameParts,
    Interval,
    Missing,
    Recordings,
    events_from_intervals,
    missing_files,
)
from tmor_train.data import Clip, from_clips
from tmor_train.data.dataset import Floats
from tmor_train.data.datasets.files import (
    DamagedFileError,
    DatasetSource,
    as_ntu25,
    from_kinect,
    parsing,
    read_numbers,
    read_text,
)

SOURCE = DatasetSource(
    "PKU-MMD", "https://www.icst.pku.edu.cn/struct/Projects/PKUMMD.html", "skeletons, labels and splits"
)
SKELETONS, LABELS, SPLITS = "PKU_Skeleton_Renew", "Train_Label_PKU_final", "Split"
SPLIT_FILES = {"CS": "cross-subject.txt", "CV": "cross-view.txt"}
# Bounds that the published files keep by far; only damaged ones exceed them.
MAX_FRAMES, MAX_RECORDINGS = 30_000, 5_000
CLASSES = (
    "bow",
    "brushing hair",
    "brushing teeth",
    "check time (from watch)",
    "cheer up",
    "clapping",
    "cross hands in front (say stop)",
    "drink water",
    "drop",
    "eat meal/snack",
    "falling",
    "giving something to other person",
    "hand waving",
    "handshaking",
    "hopping (one foot jumping)",
    "hugging other person",
    "jump up",
    "kicking other person",
    "kicking something",
    "make a phone call/answer phone",
    "pat on back of other person",
    "pickup",
    "playing with phone/tablet",
    "point finger at the other person",
    "pointing to something with finger",
    "punching/slapping other person",
    "pushing other person",
    "put on a hat/cap",
    "put something inside pocket",
    "reading",
    "rub two hands together",
    "salute",
    "sitting down",
    "standing up",
    "take off a hat/cap",
    "take off glasses",
    "take off jacket",
    "take out something from pocket",
    "taking a selfie",
    "tear up paper",
    "throw",
    "touch back (backache)",
    "touch chest (stomachache/heart pain)",
    "touch head (headache)",
    "touch neck (neckache)",
    "typing on a keyboard",
    "use a fan (with hand or paper)/feeling warm",
    "wear jacket",
    "wear on glasses",
    "wipe face",
    "writing",
)
"""Class ``n`` of the label files is ``CLASSES[n - 1]``."""

_NAME = re.compile(r"(\d{4})-([LMR])")  # number, camera
_CAMERAS = {"L": 1, "M": 2, "R": 3}  # numbers of ours


def read_split(path: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of the recordings to train on, and of those to test on, out of a split file.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    lines = read_text(path, source=SOURCE).splitlines()
    if len(lines) < 4:
        raise DamagedFileError(f"{path} has {len(lines)} lines, expected names to train on in line 2, to test on in 4")
    parts = [tuple(name.strip() for name in lines[index].split(",") if name.strip()) for index in (1, 3)]
    names = [name for part in parts for name in part]
    for name in names:
        if not _NAME.fullmatch(name):
            raise DamagedFileError(f"{path}: {name[:40]!r} is not the name of a recording of PKU-MMD, such as 0002-L")
    if not all(parts) or len(set(names)) < len(names) or len(names) > MAX_RECORDINGS:
        raise DamagedFileError(
            f"{path}: line 2 or 4 names no recording, one is named twice, or there are more than {MAX_RECORDINGS}"
        )
    return parts[0], parts[1]


def read_labels(path: Path) -> list[Interval]:
    """The events of a label file, in frames from 0, the end excluded; class indices begin with 0 here.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    events = []
    for number, line in enumerate(read_text(path, source=SOURCE).splitlines(), start=1):
        if not line.strip():
            continue
        with parsing(f"{path}, line {number}", "class,start,end,confidence"):
            label, begin, end, _ = (int(value) for value in line.split(","))
        if not 1 <= label <= len(CLASSES) or not 0 <= begin <= end <= MAX_FRAMES:
            raise DamagedFileError(
                f"{path}, line {number}: {line[:80]!r}, expected a class of 1 to {len(CLASSES)} and "
                f"0 <= start <= end <= {MAX_FRAMES}"
            )
        events.append(Interval(label - 1, float(begin), float(end)))
    return events


def read_skeleton(path: Path) -> Floats:
    """Joints (M, T, 25, 4) float32 in the layout ``ntu25``: x, y, z in metres in a camera's axes, and the score 1 or 0.

    M is 2 where a second person is in any frame, else 1.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    rows = read_numbers(path, columns=2 * 25 * 3, source=SOURCE)
    if len(rows) > MAX_FRAMES:
        raise DamagedFileError(f"{path}: {len(rows)} frames, expected at most {MAX_FRAMES}")
    metres_MTJ3 = rows.reshape(len(rows), 2, 25, 3).swapaxes(0, 1)
    joints = as_ntu25(from_kinect(metres_MTJ3), LAYOUTS["ntu25"].names, path=path)
    return joints if joints[1, :, :, 3].any() else joints[:1].copy()  # a view would keep the empty half in memory


def _recordings(folder: Path, names: tuple[str, ...], split: str) -> Recordings:
    """The recordings of ``names``, which are of ``split``, with their events."""
    events = events_from_intervals([read_labels(folder / LABELS / f"{name}.txt") for name in names], bounds="half_open")

    def clips() -> Iterator[Clip]:
        for name in names:
            joints = read_skeleton(folder / SKELETONS / f"{name}.txt")
            camera = _CAMERAS[name[-1]]
            yield Clip(key=name, joints_MTJC=joints, layout="ntu25", fps=30.0, split=split, camera=camera)

    return Recordings(from_clips(clips(), classes=CLASSES), CLASSES, events)


def _missing(folder: Path, protocol: str) -> tuple[Missing, ...]:
    """As :attr:`Benchmark.missing`: of the recordings in the protocol's list, all of their files."""
    file = f"{SPLITS}/{SPLIT_FILES[protocol]}"
    names = ["*"]  # without the list, which names the files, any file will do
    if not (lists := missing_files(folder, SOURCE, file)):
        names = sorted(name for part in read_split(folder / file) for name in part)
    return *lists, *missing_files(
        folder, SOURCE, *(f"{kind}/{name}.txt" for name in names for kind in (SKELETONS, LABELS))
    )


def _read(folder: Path, protocol: str) -> FrameParts:
    train, test = read_split(folder / SPLITS / SPLIT_FILES[protocol])
    return FrameParts(_recordings(folder, train, "train"), _recordings(folder, test, "test"))


PKU_MMD = Benchmark(
    name="pku_mmd",
    about="PKU-MMD phase 1, actions in a row in 3D, by events",
    task="events",
    protocols=("CS", "CV"),
    primary_metric="action_0.5",
    clips=1076,
    classes=51,
    missing=_missing,
    read=_read,
)
