"""Reads Penn Action: 2,326 clips of 15 sports, 13 joints annotated by hand in pixels, and the official split.

W. Zhang, M. Zhu, K. G. Derpanis, "From Actemes to Action", ICCV 2013. A sequence is ``labels/0001.mat``: ``x``, ``y``,
``visibility`` (T, 13), ``dimensions`` (height, width, frames), ``action``, ``train`` (1 or -1).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from posecap.joints import flip_order
from tmor_train.data.dataset import Clip, MotionSet, from_clips
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, matching, parsing, read_matlab

SOURCE = DatasetSource(
    "Penn Action", "http://dreamdragon.github.io/PennAction/", "Penn_Action.tar.gz (its folder labels/)"
)

CAPTIONS = {
    "baseball_pitch": "pitching a baseball",
    "baseball_swing": "swinging a baseball bat",
    "bench_press": "bench pressing a barbell",
    "bowl": "bowling",
    "clean_and_jerk": "lifting a barbell, clean and jerk",
    "golf_swing": "swinging a golf club",
    "jump_rope": "jumping rope",
    "jumping_jacks": "doing jumping jacks",
    "pullup": "doing pull-ups",
    "pushup": "doing push-ups",
    "situp": "doing sit-ups",
    "squat": "squatting with a barbell",
    "strum_guitar": "strumming a guitar",
    "tennis_forehand": "hitting a tennis forehand",
    "tennis_serve": "serving in tennis",
}
"""By class, as the files name it, a caption. The order is that of the class indices."""

_NAME = re.compile(r"(\d{4})\.mat")
_OWN_SIDES = list(flip_order("penn13"))  # the order that exchanges left and right joints
_READ = ("x", "y", "visibility", "dimensions", "action", "train")
_LARGEST = np.finfo(np.float32).max  # of a number; a clip's are float32


def read(folder: Path) -> MotionSet:
    """All clips under ``folder/labels``, splits ``train`` and ``test`` by the files' own flag.

    A joint that the annotators marked as not visible has the score 0. Its coordinates, mostly near the picture's first
    corner, stay in the clip: batches never show them, but the raw baseline, which ignores visibility, uses them.
    MATLAB gives the centre of the first pixel the coordinate 1, here it is 0.5, so 0.5 is subtracted from both.

    The files' left and right are exchanged, so that they are the person's own, as in every other layout and set. The
    shoulder that is listed as left lies on the left of the picture in 98 % of the jumping jacks, 97 % of the rope
    jumpers and all of the guitarists, nearly all of them seen from the front, and on the right in 94 % of the
    bowlers, nearly all of them seen from behind; and in three of four bowls, pitches and tennis strokes the wrist
    listed as left is the faster one.

    Raises:
        MissingFilesError: no labels there.
        DamagedFileError: a file is not as published.
    """
    clips = []
    for path, _ in matching(Path(folder) / "labels", _NAME, source=SOURCE, example="0001.mat"):
        labels = read_matlab(path, _READ, source=SOURCE)
        with parsing(path, "label file of Penn Action"):
            x, y, visible = (labels[name].astype(np.float64) for name in ("x", "y", "visibility"))
            size = labels["dimensions"].reshape(-1).astype(np.float64)
        action, flag = "".join(labels["action"].astype(str).flat), labels["train"].reshape(-1)
        whole = x.ndim == 2 and x.shape == y.shape == visible.shape and x.shape[0] > 0 and x.shape[1] == 13
        whole = whole and bool((np.abs([x, y, visible]) <= _LARGEST).all()) and len(size) >= 2
        whole = whole and bool(((size[:2] > 0) & (size[:2] <= _LARGEST)).all())
        if not whole or action not in CAPTIONS or flag.tolist() not in ([1], [-1]):
            raise DamagedFileError(
                f"{path}: joints {x.shape} (or a coordinate that is not a number), dimensions {size.tolist()}, action "
                f"{action!r} and flag {flag.tolist()} are not Penn's"
            )
        joints = np.stack([x - 0.5, y - 0.5, visible > 0], -1)[:, _OWN_SIDES]
        clips.append(
            Clip(
                key=f"penn-{path.stem}",
                joints_MTJC=joints[None].astype(np.float32),
                layout="penn13",
                height=float(size[0]),
                width=float(size[1]),
                label=action,
                captions=(CAPTIONS[action],),
                split="train" if flag[0] == 1 else "test",
            )
        )
    return from_clips(clips, classes=tuple(CAPTIONS))
