"""Reads UTD-MHAD: 861 clips of 27 actions by 8 people, 20 joints of a Kinect in space.

C. Chen, R. Jafari, N. Kehtarnavaz, "UTD-MHAD", ICIP 2015. A clip is ``a1_s1_t1_skeleton.mat`` (action, subject, trial)
with ``d_skel`` (20 joints, 3 coordinates in metres, T frames), 30 frames per second.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from tmor_train.data.dataset import Clip, MotionSet, from_clips
from tmor_train.data.datasets.files import (
    KINECT_LIMBS,
    DamagedFileError,
    DatasetSource,
    as_ntu25,
    from_kinect,
    matching,
    read_matlab,
)

SOURCE = DatasetSource(
    "UTD-MHAD", "https://personal.utdallas.edu/~kehtar/UTD-MHAD.html", "the skeleton data (Skeleton.zip)"
)

CLASSES = (
    "swiping to the left with the right arm",
    "swiping to the right with the right arm",
    "waving the right hand",
    "clapping both hands in front",
    "throwing with the right arm",
    "crossing arms on the chest",
    "shooting a basketball",
    "drawing an x with the right hand",
    "drawing a circle clockwise with the right hand",
    "drawing a circle counter-clockwise with the right hand",
    "drawing a triangle",
    "bowling with the right hand",
    "boxing to the front",
    "swinging a baseball bat from the right",
    "hitting a tennis forehand with the right hand",
    "curling both arms",
    "serving in tennis",
    "pushing with both hands",
    "knocking on a door with the right hand",
    "catching an object with the right hand",
    "picking up and throwing with the right hand",
    "jogging in place",
    "walking in place",
    "standing up from sitting",
    "sitting down from standing",
    "lunging forward with the left foot",
    "squatting with both arms stretched out",
)
"""Actions 1 to 27 in readable words; they serve as captions, too."""

TRAIN_SUBJECTS = frozenset((1, 3, 5, 7))
"""Subjects of the train part in the authors' split; the others are the test part."""

JOINTS = ("head", "spine_shoulder", "spine_mid", "spine_base", *KINECT_LIMBS)
"""The joints of a frame in the order of the files, as ``ntu25`` names them."""

_NAME = re.compile(r"a(\d{1,2})_s(\d{1,2})_t(\d{1,2})_skeleton\.mat")  # action, subject, trial


def read(folder: Path) -> MotionSet:
    """All clips under ``folder``, in space, in the layout ``ntu25``.

    Raises:
        MissingFilesError: no clips there.
        DamagedFileError: a file is not as published.
    """
    clips = []
    files = matching(Path(folder), _NAME, source=SOURCE, example="a1_s1_t1_skeleton.mat")
    for path, (action, subject, trial) in files:
        joints = read_matlab(path, ("d_skel",), source=SOURCE)["d_skel"]
        numbers = joints.dtype.kind in "fiu"
        if not numbers or joints.ndim != 3 or joints.shape[:2] != (20, 3) or not 1 <= action <= len(CLASSES):
            raise DamagedFileError(
                f"{path}: action {action} with joints {joints.shape} {joints.dtype}, expected 1 to 27 and (20, 3, T) "
                "of numbers"
            )
        metres_MTJ3 = joints.transpose(2, 0, 1)[None].astype(np.float64)
        clips.append(
            Clip(
                key=f"utd-a{action:02d}-s{subject}-t{trial}",
                joints_MTJC=as_ntu25(from_kinect(metres_MTJ3), JOINTS, path=path),
                layout="ntu25",
                fps=30.0,
                label=CLASSES[action - 1],
                captions=(CLASSES[action - 1],),
                split="train" if subject in TRAIN_SUBJECTS else "test",
                subject=subject,
            )
        )
    return from_clips(clips, classes=CLASSES)
