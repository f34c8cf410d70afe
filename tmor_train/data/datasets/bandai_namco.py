"""Reads the two motion sets of Bandai Namco Research: BVH files of three actors who do each of a few contents (walk,
bow, kick …) in several styles (happy, tired, old …), 30 frames per second.

"Motion Capture Dataset for Practical Use of AI-based Motion Editing and Stylization", arXiv 2306.08861. A clip is
``dataset-1_walk_happy_001.bvh``: set, content, style, number. Set 1 has 17 contents in up to 15 styles, 175 clips, set
2 ten contents in seven styles, 2,902 clips. They are under CC BY-NC-ND 4.0, and here for measuring only: clips have no
captions, and training takes no set of that name. Whether an encoder knows what somebody does whatever the style and the
camera is asked of pairs (:func:`content_pairs`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tmor_train.data.dataset import Clip, MotionSet, Numbers, from_clips
from tmor_train.data.datasets.bvh import Capture, read_bvh
from tmor_train.data.datasets.files import DamagedFileError, DatasetSource, as_ntu25

SOURCE = DatasetSource(
    "Bandai-Namco-Research-Motiondataset",
    "https://github.com/BandaiNamcoResearchInc/Bandai-Namco-Research-Motiondataset",
    "dataset/…/data.zip of set 1 or 2",
)

JOINTS = {
    "spine_base": "Hips",
    "spine_mid": "Chest",
    "spine_shoulder": "Neck",  # the joint at the base of the neck, between the shoulders
    "head": "Head",
    **{
        f"{side}_{joint}": f"{bone}_{side[0].upper()}"
        for side in ("left", "right")
        for joint, bone in (
            ("shoulder", "UpperArm"),
            ("elbow", "LowerArm"),
            ("wrist", "Hand"),
            ("hip", "UpperLeg"),
            ("knee", "LowerLeg"),
            ("ankle", "Foot"),
            ("foot", "Toes"),
        )
    },
}
"""Joints as ``ntu25`` names them, and the bones of the files that begin there."""

_NAME = re.compile(r"dataset-([12])_([a-z-]+)_([a-z-]+)_(\d{3})\.bvh")  # set, content, style, number
_CENTIMETRES = 0.01
_IN_CAMERA = np.array([1.0, -1.0, -1.0])  # from x to the right, y up, z towards the viewer


def read(folder: Path) -> MotionSet:
    """All clips in ``folder``, in space, in the layout ``ntu25``; their classes are the contents, in order of the
    alphabet. All are of the split ``test``.

    Raises:
        MissingFilesError: no clip is there.
        DamagedFileError: a file is not as published.
    """
    named = [(path, match) for path in _files(folder) if (match := _NAME.fullmatch(path.name))]
    if not named:
        raise SOURCE.missing(Path(folder) / "dataset-1_walk_normal_001.bvh")
    clips = []
    for path, match in sorted(named, key=lambda one: one[0].name):
        number, content, style, take = match.groups()
        capture = read_bvh(path, source=SOURCE)
        clips.append(
            Clip(
                key=f"bn{number}-{content}_{style}_{take}",
                joints_MTJC=as_ntu25(_metres(capture, path), tuple(JOINTS), path=path),
                layout="ntu25",
                fps=capture.fps,
                label=content,
                split="test",
            )
        )
    return from_clips(clips, classes=sorted({match[2] for _, match in named}))


def style_of(key: str) -> str:
    """The style in the key of a clip of :func:`read`."""
    return key.split("_")[1]


def content_pairs(motions: MotionSet, *, seed: int = 0) -> Numbers:
    """Pairs of clips of one content in two styles: (P, 2) int64 indices, for each clip that has such a partner one,
    drawn by ``seed``. Each is to be seen from a camera of its own (:class:`tmor_train.data.augment.Project` draws one
    for every clip of a batch), so that a pair shares nothing but its content."""
    random = np.random.default_rng(seed)
    label_N, style_N = motions.clips.label_N, _numbers([style_of(key) for key in motions.clips.key_N.tolist()])
    pairs = []
    for clip in range(len(motions)):
        partners = np.flatnonzero((label_N == label_N[clip]) & (style_N != style_N[clip]))
        if len(partners):
            pairs.append((clip, int(random.choice(partners))))
    return np.array(pairs, np.int64).reshape(-1, 2)


def _files(folder: Path) -> list[Path]:
    """What is in a folder; nothing where there is none."""
    return list(Path(folder).iterdir()) if Path(folder).is_dir() else []


def _metres(capture: Capture, path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """The joints of :data:`JOINTS` in a camera's axes: (1, T, J, 3); DamagedFileError where the file lacks one."""
    names = [joint.name for joint in capture.joints]
    if lacking := [bone for bone in JOINTS.values() if bone not in names]:
        raise DamagedFileError(f"{path} lacks the joints {', '.join(lacking)}")
    index = [names.index(bone) for bone in JOINTS.values()]
    return np.asarray(capture.places()[None, :, index] * _CENTIMETRES * _IN_CAMERA, np.float64)


def _numbers(words: Sequence[str]) -> Numbers:
    """A number for each word, equal for equal words: int64."""
    return np.unique(np.array(words, np.str_), return_inverse=True)[1].astype(np.int64)
