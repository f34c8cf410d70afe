"""Reads MSR Action3D: 567 clips of 20 actions by 10 people, 20 joints of a depth camera in space.

W. Li, Z. Zhang, Z. Liu, "Action recognition based on a bag of 3D points", CVPR-W 2010. A clip is
``a01_s01_e01_skeleton3D.txt`` (action, subject, trial): a line ``x y z confidence`` for each of the 20 joints of each
frame, in metres; 15 frames per second.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import numpy as np

from tmor_train.data.dataset import Clip, MotionSet, from_clips
from tmor_train.data.datasets.files import (
    DamagedFileError,
    DatasetSource,
    as_ntu25,
    from_kinect,
    matching,
    read_numbers,
    read_text,
)

SOURCE = DatasetSource(
    "MSR Action3D",
    "https://sites.google.com/view/wanqingli/data-sets/msr-action3d",
    "the skeletons in real-world coordinates (MSRAction3DSkeletonReal3D)",
)

CLASSES = (
    "waving an arm high",
    "waving an arm sideways",
    "hammering",
    "catching with a hand",
    "punching forward",
    "throwing high",
    "drawing an x",
    "drawing a tick",
    "drawing a circle",
    "clapping hands",
    "waving both hands",
    "boxing to the side",
    "bending down",
    "kicking forward",
    "kicking to the side",
    "jogging",
    "swinging a tennis racket",
    "serving in tennis",
    "swinging a golf club",
    "picking up and throwing",
)
"""Actions 1 to 20 in readable words; they serve as captions, too."""

TRAIN_SUBJECTS = frozenset((1, 3, 5, 7, 9))
"""Subjects of the train part in the usual cross-subject split; the others are the test part."""

USED = "files_used_in_cvpr12_paper.txt"
"""Names of the 557 clips that J. Wang et al., CVPR 2012, kept: ten others have joints that are missing or far off."""

INFERRED = 0.1
"""Lowest score of a joint. The sensor gives inferred joints a confidence of 0, but their position is useful, and a
score of 0 would mean that there is none. Any value above 0 would do; loaders read no more of a score."""

JOINTS = (
    *("left_shoulder", "right_shoulder", "spine_shoulder", "spine_mid", "left_hip", "right_hip", "spine_base"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle", "left_foot", "right_foot", "head"),
)
"""The joints of a frame in the order of the files, as ``ntu25`` names them."""

_NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_skeleton3D\.txt")  # action, subject, trial


def read(folder: Path, *, clips: Literal["all", "used"] = "all") -> MotionSet:
    """The clips under ``folder``, in space, in the layout ``ntu25``: all 567, or the 557 that most papers use (those in
    the file :data:`USED` there).

    Raises:
        MissingFilesError: no clips there, or for ``used`` no list of them.
        DamagedFileError: a file is not as published.
    """
    wanted = None if clips == "all" else set(read_text(Path(folder) / USED, source=SOURCE).split())
    chosen = []
    files = matching(Path(folder), _NAME, source=SOURCE, example="a01_s01_e01_skeleton3D.txt")
    for path, (action, subject, _) in files:
        name = path.name.removesuffix("_skeleton3D.txt")
        if wanted is not None and name not in wanted:
            continue
        rows = read_numbers(path, columns=4, source=SOURCE)
        if len(rows) % 20 or not 1 <= action <= len(CLASSES):
            raise DamagedFileError(
                f"{path}: action {action} with {len(rows)} lines, expected 1 to 20 and 20 for each frame"
            )
        joints = rows.reshape(1, -1, 20, 4)
        score_MTJ = np.clip(joints[..., 3], INFERRED, 1)
        chosen.append(
            Clip(
                key=f"msr-{name.replace('_', '-')}",
                joints_MTJC=as_ntu25(from_kinect(joints[..., :3]), JOINTS, score_MTJ, path=path),
                layout="ntu25",
                fps=15.0,
                label=CLASSES[action - 1],
                captions=(CLASSES[action - 1],),
                split="train" if subject in TRAIN_SUBJECTS else "test",
                subject=subject,
            )
        )
    return from_clips(chosen, classes=CLASSES)
