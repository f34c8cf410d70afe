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
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from tmor_train.benchmarks.base import Benchmark, Parts, check_for, with_scores
from tmor_train.data import Clip, from_clips
from tmor_train.data.dataset import Floats
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, parsing, read_text

SOURCE = DatasetSource("UAV-Human", "https://github.com/sutdcv/UAV-Human", "the skeletons")
WIDTH, HEIGHT = 1920.0, 1080.0
"""Of the picture, in pixels."""
CLASSES = tuple(f"A{number:03d}" for number in range(155))
MAX_FRAMES, MAX_PEOPLE = 10_000, 32
"""Of a clip, and in a frame and in a clip; our choices, far above clips of some seconds with one or two people, against
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


Body = tuple[str, int]
"""An id, and the how-manieth body of that id it is in its frame, from 0."""


def bodies_by_id(lines: Iterable[str], *, joints: int, values: int, max_frames: int, max_people: int) -> Floats:
    """Positions (M, T, J, C) float32 of a file in NTU's text format, one M for each body; 0 where it is not in a frame.

    A. Shahroudy et al., "NTU RGB+D", CVPR 2016; the owners' MATLAB reader describes the format
    (https://github.com/shahroudy/NTURGB-D/blob/master/Matlab/read_skeleton_file.m). The id is what the sensor or
    tracker calls one person for as long as it follows them; the place of a body within its frame says nothing: when a
    person leaves, those behind move up.

    The body that is in the most frames comes first, and of equal ones the one that appears first. Ids are compared as
    they are written. Where one id stands several times in a frame, it does not tell those bodies apart: the first of
    them in each frame is one body, the second another, and so on. Sensors give a new id to who comes back, and to
    reflections and furniture: of more than ``max_people`` bodies those in the fewest frames are left out. M is 1, and
    all is 0, where no frame has a body. Lines after the last frame are ignored.

    Args:
        lines: of the file.
        joints, values: J, the number of joints of every body, and C, how many values of each joint's line are read.
        max_frames: most frames of a file.
        max_people: most bodies in one frame, and in the result.

    Raises:
        ValueError: a number is no number or out of its range, or an id is missing.
        EOFError: the file ends too early.
    """
    rest = chain(lines, _cut_off())
    frames = _count(next(rest), f"1 to {max_frames} frames", 1, max_frames)
    seen: Counter[Body] = Counter()  # in the order in which bodies appear
    found: list[tuple[Body, int, Floats]] = []
    for frame in range(frames):
        for body, position_JC in _frame(rest, frame, joints=joints, values=values, max_people=max_people):
            seen[body] += 1
            found.append((body, frame, position_JC))
    place = {body: number for number, (body, _) in enumerate(seen.most_common(max_people))}
    position_MTJC = np.zeros((max(1, len(place)), frames, joints, values), np.float32)
    for body, frame, position_JC in found:
        if body in place:
            position_MTJC[place[body], frame] = position_JC
    return position_MTJC


def _frame(
    lines: Iterator[str], frame: int, *, joints: int, values: int, max_people: int
) -> Iterator[tuple[Body, Floats]]:
    """The bodies of the next frame in ``lines``, each with its positions (J, C); raises as :func:`bodies_by_id`."""
    ids: Counter[str] = Counter()
    for _ in range(_count(next(lines), f"0 to {max_people} bodies in frame {frame}", 0, max_people)):
        words = next(lines).split(maxsplit=1)
        if not words:
            raise ValueError(f"a body of frame {frame} has no id")
        _count(next(lines), f"{joints} joints of a body in frame {frame}", joints, joints)
        rows = [next(lines).split(maxsplit=values)[:values] for _ in range(joints)]
        yield (words[0], ids[words[0]]), np.array(rows, np.float32)
        ids[words[0]] += 1


def _cut_off() -> Iterator[str]:
    """What follows the last line: EOFError, since a generator may not let StopIteration out."""
    raise EOFError("it is cut off")
    yield ""


def _count(line: str, expected: str, least: int, most: int) -> int:
    """The number in a line; ValueError for one that is not ``least`` to ``most``, as ``expected`` says in words."""
    number = int(line)
    if not least <= number <= most:
        raise ValueError(f"{number} where {expected} are expected")
    return number


def read_skeleton(path: Path) -> Floats:
    """Joints (M, T, 17, 3) float32 of a clip in the layout ``coco17``: x and y in pixels, and the score 1 or 0.

    People are told apart by the ids of the file, the one in most frames first
    (:func:`~tmor_train.benchmarks.uav_human.bodies_by_id`); M is the number of ids, from 1 to :data:`MAX_PEOPLE`. The
    joints of absent people, and joints at (0, 0), have the score 0.

    Raises:
        MissingFilesError, DamagedFileError: the file is not there, or not as published.
    """
    lines = read_text(path, source=SOURCE).splitlines()
    with parsing(path, "skeleton file of UAV-Human"):
        xy_MTJ2 = bodies_by_id(lines, joints=17, values=2, max_frames=MAX_FRAMES, max_people=MAX_PEOPLE)
    return with_scores(xy_MTJ2, path)


def _clips(folder: Path, protocol: str) -> Iterator[Clip]:
    """All clips in ``folder``, with the split of ``protocol``; MissingFilesError where there is none, DamagedFileError
    for an unknown action."""
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
