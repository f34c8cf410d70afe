"""UAV-Human as a benchmark of clips: 155 actions of 119 people seen from a drone, 17 joints of COCO in 2D.

T. Li et al., "UAV-Human", CVPR 2021. A clip is a file ``P000S00G10B10H10UC022000LC021000A000R0_08241716.txt`` (P is
the person, A the action), or of such a name with ``.skeleton``, in NTU's text format: the number of frames; for each
frame the number of people, and for each of them a line that begins with the person's id, the number of joints, and a
line per joint, which begins with x and y in pixels of a picture of 1920 x 1080. Files of other names, such as readmes,
are left out.
The protocols CSv1 and CSv2 train on the people of ``TRAIN_SUBJECTS`` and test on the others. Classes are named by their
published codes, A000 to A154. The frame rate is not published in the files and stays unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tmor_train.benchmarks.base import Benchmark, Parts, check_for, with_scores
from tmor_train.data import Clip, from_clips
from tmor_train.data.arrays import Floats
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, parsing, read_text
from tmor_train.data.datasets.ntu_text import bodies_by_id

SOURCE = DatasetSource("UAV-Human", "https://github.com/sutdcv/UAV-Human", "the skeletons")
WIDTH, HEIGHT = 1920.0, 1080.0
CLASSES = tuple(f"A{number:03d}" for number in range(155))
MAX_FRAMES, MAX_PEOPLE = 10_000, 32
"""Of a clip, and in a frame and in a clip; free choices far above clips of some seconds with one or two people, against
damaged files."""

_NAME = re.compile(r"P(\d{3})S\d+G\d+B\d+H\d+UC\d+LC\d+A(\d{3})R\d+_\d+\.(?:txt|skeleton)")


def _numbers(written: str) -> frozenset[int]:
    """The numbers of a list such as ``0 2 5-8``; a range includes both its ends."""
    ranges = [[int(number) for number in part.split("-")] for part in written.split()]
    return frozenset(number for ends in ranges for number in range(ends[0], ends[-1] + 1))


TRAIN_SUBJECTS = {
    "CSv1": _numbers(
        "0 2 5-8 10-21 25-30 32-40 42-53 55-57 59 61-65 67-71 73 76-90 98 100 102 103 105 106 110-112 114-118"
    ),
    "CSv2": _numbers(
        "0 3-6 8 10-12 14 16 18-22 24 26 29-32 35-40 43-47 49 52 54 56 57 59-64 66 67 69-75 77-81 83 84 86-89 91-97 "
        "99-104 106-115 117 118"
    ),
}
"""The people that each protocol trains on; it tests on all others."""


def read_skeleton(path: Path) -> Floats:
    """Joints (M, T, 17, 3) float32 of a clip in the layout ``coco17``: x and y in pixels, and the score 1 or 0.

    People are told apart by the ids of the file, the one in most frames first
    (:func:`~tmor_train.data.datasets.ntu_text.bodies_by_id`); M is the number of ids, from 1 to :data:`MAX_PEOPLE`. The
    joints of absent people, and joints at (0, 0), have the score 0.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    lines = read_text(path, source=SOURCE).splitlines()
    with parsing(path, "skeleton file of UAV-Human"):
        xy_MTJ2 = bodies_by_id(lines, joints=17, values=2, max_frames=MAX_FRAMES, max_people=MAX_PEOPLE)
    return with_scores(xy_MTJ2, path)


def _clips(folder: Path, protocol: str) -> Iterator[Clip]:
    matched = [(path, _NAME.fullmatch(path.name)) for path in sorted(folder.iterdir() if folder.is_dir() else ())]
    files = [(path, int(match[1]), int(match[2])) for path, match in matched if match]
    if not files:
        raise SOURCE.missing(folder / "P*A*R*.txt")
    for path, subject, action in files:
        if action >= len(CLASSES):
            raise DamagedFileError(f"{path}: action {action} is not one of the published 0 to {len(CLASSES) - 1}")
        yield Clip(
            key=path.stem,
            joints_MTJC=read_skeleton(path),
            layout="coco17",
            width=WIDTH,
            height=HEIGHT,
            label=CLASSES[action],
            split="train" if subject in TRAIN_SUBJECTS[protocol] else "test",
            subject=subject,
        )


UAV_HUMAN = Benchmark(
    name="uav_human",
    about="UAV-Human, actions seen from a drone in 2D",
    protocols=("CSv1", "CSv2"),
    clips=22476,
    classes=155,
    reading=2,  # 1 took people in the order of the file, frame by frame
    missing=check_for(SOURCE, "P*A*R*_*.*"),
    read=lambda folder, protocol: Parts.by_split(from_clips(_clips(folder, protocol), classes=CLASSES)),
)
