"""Reads SBU Kinect Interaction: 282 clips of two people in 8 kinds of interaction, 15 joints each in space.

K. Yun et al., "Two-person Interaction Detection Using Body-Pose Features", CVPR-W 2012. A clip is
``s01s02/01/001/skeleton_pos.txt`` (subjects, class, trial): a line for each frame with its number and, for both people
in turn, x, y and z of 15 joints; x and y are from 0 to 1 over the sensor's picture, y down; 15 frames per second.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tmor_train.data.dataset import Clip, MotionSet, from_clips
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, as_ntu25, read_numbers

SOURCE = DatasetSource(
    "SBU Kinect Interaction",
    "https://www3.cs.stonybrook.edu/~kyun/research/kinect_interaction/index.html",
    "the clean version of all subject pairs",
)

CLASSES = (
    "one person approaching another",
    "one person departing from another",
    "one person kicking another",
    "one person pushing another",
    "two people shaking hands",
    "two people hugging",
    "one person handing an object to another",
    "one person punching another",
)
"""Folders 01 to 08 in readable words; they serve as captions, too."""

FOLDS = (
    ("s01s02", "s03s04", "s05s02", "s06s04"),
    ("s02s03", "s02s07", "s03s05", "s05s03"),
    ("s01s03", "s01s07", "s07s01", "s07s03"),
    ("s02s01", "s02s06", "s03s02", "s03s06"),
    ("s04s02", "s04s03", "s04s06", "s06s02", "s06s03"),
)
"""The authors' five folds, by pairs of subjects."""

JOINTS = (
    *("head", "neck", "spine_mid", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_shoulder", "right_elbow", "right_wrist"),
    *("left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle"),
)
"""The joints of a person in the order of the files, as ``ntu25`` names them."""

_CLIP = re.compile(r"(s\d\ds\d\d)/(\d{2,3})/(\d{2,3})")  # pair of subjects, class, trial
_FOLD_OF = {pair: f"fold{number}" for number, pairs in enumerate(FOLDS, 1) for pair in pairs}


def read(folder: Path) -> MotionSet:
    """All clips under ``folder``, in space, in the layout ``ntu25``; splits ``fold1`` to ``fold5``.

    ``subject`` is the one who acts. Coordinates are brought back to metres as the authors say: x spans 2.56, y 1.92,
    and z 1.28 for each unit; x and y are 0 in the middle of the picture and keep its directions, which the authors'
    formulas turn round.

    Raises:
        MissingFilesError: no clips there.
        DamagedFileError: a file is not as published.
    """
    clips, folder = [], Path(folder)
    for clip_folder in sorted(folder.glob("*/*/*")):
        names = _CLIP.fullmatch(clip_folder.relative_to(folder).as_posix())
        if names is None or not clip_folder.is_dir():
            continue
        pair, action, trial = names.groups()
        path = clip_folder / "skeleton_pos.txt"
        rows = read_numbers(path, columns=1 + 2 * 15 * 3, source=SOURCE, separator=",")
        if not 1 <= int(action) <= len(CLASSES) or pair not in _FOLD_OF:
            raise DamagedFileError(f"{path}: class {action} of the pair {pair} is not in the published set")
        joints = rows[:, 1:].reshape(-1, 2, 15, 3).transpose(1, 0, 2, 3)
        tracked = (joints != 0).any(-1).astype(np.float64)  # the sensor gives zeros for a joint that it has not found
        clips.append(
            Clip(
                key=f"sbu-{pair}-{action}-{trial}",
                joints_MTJC=as_ntu25((joints - [0.5, 0.5, 0]) * [2.56, 1.92, 1.28], JOINTS, tracked, path=path),
                layout="ntu25",
                fps=15.0,
                label=CLASSES[int(action) - 1],
                captions=(CLASSES[int(action) - 1],),
                split=_FOLD_OF[pair],
                subject=int(pair[1:3]),
            )
        )
    if not clips:
        raise SOURCE.missing(folder / "s01s02/01/001/skeleton_pos.txt")
    return from_clips(clips, classes=CLASSES)
