"""Joint layouts: names, bones, left/right pairs, mirrors, parts of the body, and the exact maps between layouts.

Joints are float32 (x, y, score): x and y in pixels of the source video, continuous, the image's left edge
at 0 and its right edge at its width; score in [0, 1]. A joint that was not seen is (0, 0, 0), and "missing"
below means: its score is 0.

Orders: ``coco17`` as in COCO keypoints; ``unik17`` as UNIK expands the 13 joints of LCR-Net; ``h36m17`` as in
VideoPose3D and MotionBERT; ``openpose18`` as OpenPose writes its COCO model; ``ntu25`` as Kinect v2 and NTU RGB+D
(bones as in 2s-AGCN); ``penn13`` as in Penn Action; ``halpe26`` as in Halpe-FullBody and RTMPose's body-26 models:
the joints of ``coco17``, then top of the head, neck, middle of the hips, toes and heels.

The four parts of the body, head, arms, hips and legs, are those of PURLS (Zhu et al., CVPR 2024), STAR (Chen et al.,
ACM MM 2024) and Skeleton-Cache (Zhu et al., NeurIPS 2025). Here every joint is in one of them, shoulders in the arms,
the trunk in the hips; theirs share joints at the borders.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


class LayoutError(ValueError):
    """A layout is not known, is malformed, or has no exact map to the one asked for."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A set of joints in a fixed order; a joint is known by its index in ``names``.

    ``bones`` are (child, parent) and form a tree over all joints; ``pairs`` are (left, right) joints that
    :func:`flip` exchanges; joints in no pair lie on the middle line of the body.

    Raises:
        LayoutError: the bones form no tree, or a joint is named or paired twice.
    """

    name: str
    names: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    pairs: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names):
            raise LayoutError(f"layout {self.name!r} names a joint twice")
        paired = [joint for pair in self.pairs for joint in pair]
        if len(set(paired)) != len(paired) or not set(paired) <= set(range(len(self.names))):
            raise LayoutError(f"layout {self.name!r} pairs a joint twice, or one that it does not have")
        parents = dict(self.bones)
        roots = set(range(len(self.names))) - parents.keys()
        if len(parents) != len(self.bones) or len(self.bones) != len(self.names) - 1 or len(roots) != 1:
            raise LayoutError(f"layout {self.name!r}: every joint but one needs exactly one parent")
        reached, grown = set(roots), True
        while grown:
            new = {child for child, parent in self.bones if parent in reached} - reached
            reached, grown = reached | new, bool(new)
        if len(reached) != len(self.names):
            raise LayoutError(f"layout {self.name!r}: the bones form a cycle")

    @property
    def root(self) -> int:
        """The one joint without a parent."""
        return next(iter(set(range(len(self.names))) - {child for child, _ in self.bones}))


def _lay_out(name: str, names: str, bones: str) -> Layout:
    """A layout from words; ``bones`` are ``child>parent``. Pairs follow from the names left_… and right_…."""
    joints = tuple(names.split())
    index_of = {joint: index for index, joint in enumerate(joints)}
    tree = tuple((index_of[child], index_of[parent]) for child, parent in (bone.split(">") for bone in bones.split()))
    pairs = tuple((index_of[j], index_of["right_" + j[5:]]) for j in joints if j.startswith("left_"))
    return Layout(name, joints, tree, pairs)


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _lay_out(
            "coco17",
            "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
            "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
            "left_eye>nose right_eye>nose left_ear>left_eye right_ear>right_eye left_shoulder>nose "
            "right_shoulder>nose left_elbow>left_shoulder right_elbow>right_shoulder left_wrist>left_elbow "
            "right_wrist>right_elbow left_hip>left_shoulder right_hip>right_shoulder left_knee>left_hip "
            "right_knee>right_hip left_ankle>left_knee right_ankle>right_knee",
        ),
        _lay_out(
            "unik17",
            "head mouth neck chest pelvis left_shoulder right_shoulder left_elbow right_elbow left_wrist "
            "right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle",
            "pelvis>chest chest>neck neck>mouth mouth>head left_shoulder>neck left_elbow>left_shoulder "
            "left_wrist>left_elbow right_shoulder>neck right_elbow>right_shoulder right_wrist>right_elbow "
            "left_hip>pelvis left_knee>left_hip left_ankle>left_knee right_hip>pelvis right_knee>right_hip "
            "right_ankle>right_knee",
        ),
        _lay_out(
            "h36m17",
            "pelvis right_hip right_knee right_ankle left_hip left_knee left_ankle spine thorax nose head "
            "left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist",
            "right_hip>pelvis right_knee>right_hip right_ankle>right_knee left_hip>pelvis left_knee>left_hip "
            "left_ankle>left_knee spine>pelvis thorax>spine nose>thorax head>nose left_shoulder>thorax "
            "left_elbow>left_shoulder left_wrist>left_elbow right_shoulder>thorax right_elbow>right_shoulder "
            "right_wrist>right_elbow",
        ),
        _lay_out(
            "openpose18",
            "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip "
            "right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear",
            "nose>neck right_shoulder>neck right_elbow>right_shoulder right_wrist>right_elbow left_shoulder>neck "
            "left_elbow>left_shoulder left_wrist>left_elbow right_hip>neck right_knee>right_hip "
            "right_ankle>right_knee left_hip>neck left_knee>left_hip left_ankle>left_knee right_eye>nose "
            "left_eye>nose right_ear>right_eye left_ear>left_eye",
        ),
        _lay_out(
            "ntu25",
            "spine_base spine_mid neck head left_shoulder left_elbow left_wrist left_hand right_shoulder "
            "right_elbow right_wrist right_hand left_hip left_knee left_ankle left_foot right_hip right_knee "
            "right_ankle right_foot spine_shoulder left_hand_tip left_thumb right_hand_tip right_thumb",
            "spine_base>spine_mid spine_mid>spine_shoulder neck>spine_shoulder head>neck "
            "left_shoulder>spine_shoulder left_elbow>left_shoulder left_wrist>left_elbow left_hand>left_wrist "
            "right_shoulder>spine_shoulder right_elbow>right_shoulder right_wrist>right_elbow "
            "right_hand>right_wrist left_hip>spine_base left_knee>left_hip left_ankle>left_knee "
            "left_foot>left_ankle right_hip>spine_base right_knee>right_hip right_ankle>right_knee "
            "right_foot>right_ankle left_hand_tip>left_thumb left_thumb>left_hand right_hand_tip>right_thumb "
            "right_thumb>right_hand",
        ),
        _lay_out(
            "penn13",
            "head left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_hip right_hip "
            "left_knee right_knee left_ankle right_ankle",
            "left_shoulder>head right_shoulder>head left_elbow>left_shoulder right_elbow>right_shoulder "
            "left_wrist>left_elbow right_wrist>right_elbow left_hip>left_shoulder right_hip>right_shoulder "
            "left_knee>left_hip right_knee>right_hip left_ankle>left_knee right_ankle>right_knee",
        ),
        _lay_out(
            "halpe26",
            "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow "
            "left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle head neck hip "
            "left_big_toe right_big_toe left_small_toe right_small_toe left_heel right_heel",
            "neck>hip head>neck nose>neck left_eye>nose right_eye>nose left_ear>left_eye right_ear>right_eye "
            "left_shoulder>neck right_shoulder>neck left_elbow>left_shoulder right_elbow>right_shoulder "
            "left_wrist>left_elbow right_wrist>right_elbow left_hip>hip right_hip>hip left_knee>left_hip "
            "right_knee>right_hip left_ankle>left_knee right_ankle>right_knee left_big_toe>left_ankle "
            "right_big_toe>right_ankle left_small_toe>left_ankle right_small_toe>right_ankle left_heel>left_ankle "
            "right_heel>right_ankle",
        ),
    )
}

"""By name; the module's docstring names the sources of their orders."""

_SHOULDERS = ("left_shoulder", "right_shoulder")
_HIPS = ("left_hip", "right_hip")

# By target layout and joint: the source joints whose mean it is; a joint that is absent here is the source's joint of
# its own name. A joint named twice counts twice. An empty tuple means that no source has the joint. ``face`` is the
# nose, or the one head joint of a layout without a nose.
_RECIPES: dict[str, dict[str, tuple[str, ...]]] = {
    "coco17": {},
    "penn13": {"head": ("face",)},
    "unik17": {
        "head": ("face",),
        "mouth": ("face", "face", *_SHOULDERS),
        "neck": _SHOULDERS,
        "chest": (*_SHOULDERS, *_HIPS),
        "pelvis": _HIPS,
    },
    "h36m17": {
        "pelvis": _HIPS,
        "spine": (*_SHOULDERS, *_HIPS),
        "thorax": _SHOULDERS,
        "head": ("left_eye", "right_eye"),
    },
    "openpose18": {"neck": _SHOULDERS},
    "ntu25": {
        "spine_base": _HIPS,
        "spine_mid": (*_SHOULDERS, *_HIPS),
        "spine_shoulder": _SHOULDERS,
        "neck": ("face", *_SHOULDERS),
        "head": ("face",),
        **{side + part: () for side in ("left_", "right_") for part in ("hand", "foot", "hand_tip", "thumb")},
    },
}

_FACE = {  # the source joint that ``face`` stands for above, by source layout
    **dict.fromkeys(("coco17", "openpose18", "h36m17", "halpe26"), "nose"),
    **dict.fromkeys(("penn13", "unik17", "ntu25"), "head"),
}

_MAPS: dict[str, tuple[str, ...]] = {  # target layouts by source layout, as :func:`convert` explains
    "coco17": ("penn13", "unik17", "h36m17", "openpose18", "ntu25"),
    "openpose18": ("coco17", "penn13", "unik17", "h36m17", "ntu25"),
    "halpe26": ("coco17", "penn13", "unik17", "h36m17", "openpose18", "ntu25"),
    "h36m17": ("penn13", "unik17"),
    "ntu25": ("penn13", "unik17"),
    "penn13": ("unik17",),
    "unik17": ("penn13",),
}


def layout_named(name: str) -> Layout:
    """The layout of that name in :data:`LAYOUTS`.

    Raises:
        LayoutError: there is none.
    """
    if name not in LAYOUTS:
        raise LayoutError(f"unknown layout {name!r}; known: {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def _checked(joints: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    if joints.ndim < 2 or joints.shape[-2:] != (len(layout.names), 3):
        raise LayoutError(f"layout {layout.name!r} needs joints (..., {len(layout.names)}, 3), got {joints.shape}")
    return joints


def flip_order(layout: str) -> tuple[int, ...]:
    """For each joint of ``layout``, in order, the index of the joint that takes its place in the mirrored image.

    Raises:
        LayoutError: unknown layout.
    """
    order = list(range(len(layout_named(layout).names)))
    for left, right in LAYOUTS[layout].pairs:
        order[left], order[right] = right, left
    return tuple(order)


def flip(joints: NDArray[np.float32], *, layout: str, width: float) -> NDArray[np.float32]:
    """The skeletons of the mirrored image: x becomes ``width`` - x and left and right change places.

    Args:
        joints: (..., J, 3) float32; missing joints come back as (0, 0, 0).
        width: of the image, in the pixels that ``joints`` are in.

    Raises:
        LayoutError: unknown layout, or another number of joints.
    """
    mirrored = _checked(joints, layout_named(layout))[..., list(flip_order(layout)), :].copy()
    mirrored[..., 0] = width - mirrored[..., 0]
    mirrored[mirrored[..., 2] <= 0] = 0
    return mirrored


def convert(joints: NDArray[np.float32], *, source: str, target: str) -> NDArray[np.float32]:
    """The same skeletons in another layout, (..., J, 3) to (..., K, 3) float32.

    The joints listed below are means of source joints, also where the source has a joint of that name, whose place on
    the body may differ; all others are the source's joint of the same name. A mean has the smallest of the scores, and
    is missing, (0, 0, 0), as soon as one of its joints is. The means:

    * ``unik17``: head = nose; mouth = (nose + neck) / 2; neck = mean of the shoulders; chest = mean of the
      shoulders and hips; pelvis = mean of the hips.
    * ``h36m17``: pelvis = mean of the hips; thorax = mean of the shoulders; spine = (pelvis + thorax) / 2;
      head = mean of the eyes.
    * ``openpose18``: neck = mean of the shoulders.
    * ``ntu25``: spine_base = mean of the hips; spine_shoulder = mean of the shoulders; spine_mid = mean of both;
      head = nose; neck = mean of the nose and the shoulders. Hands, hand tips, thumbs and feet are always missing.
    * ``penn13``: head = nose.

    Where the source has one joint for the whole head (``penn13``, ``unik17``, ``ntu25``), it stands for the nose.

    Means are defined by the joints of ``coco17``, so ``halpe26``, whose own head, neck and hip are left out, gives the
    same as its first 17 joints.

    Maps: ``halpe26`` to every layout; ``coco17`` and ``openpose18`` to every layout but ``halpe26``; ``h36m17`` and
    ``ntu25`` to ``unik17`` and ``penn13``; ``unik17`` to ``penn13`` and back; and every layout to itself. There is no
    other, as the source lacks joints of the target (eyes, toes) that would have to be guessed.

    Raises:
        LayoutError: unknown layout, another number of joints, or no exact map between the two.
    """
    have, want = layout_named(source), layout_named(target)
    _checked(joints, have)
    if source != target and target not in _MAPS[source]:
        raise LayoutError(
            f"no exact map from {source!r} to {target!r}; from {source!r} there are maps to {', '.join(_MAPS[source])}"
        )
    if source == target:  # each joint is its own only part, so this is what follows, in one step; a mean has no -0
        return np.where(joints[..., 2:] > 0, joints.astype(np.float32, copy=False) + np.float32(0), np.float32(0))
    converted = np.zeros((*joints.shape[:-2], len(want.names), 3), np.float32)
    for joint, parts in enumerate(_parts(have, want)):
        if not parts:
            continue
        seen = joints[..., parts, :]
        present: NDArray[np.bool_] = np.asarray(seen[..., 2].min(-1) > 0)
        # Summed in float64, so that the result does not depend on the order of the parts (left or right first).
        converted[..., joint, :2] = np.where(present[..., None], seen[..., :2].astype(np.float64).mean(-2), 0)
        converted[..., joint, 2] = np.where(present, seen[..., 2].min(-1), 0)
    return converted


def _parts(source: Layout, target: Layout) -> tuple[list[int], ...]:
    """For each target joint the indices of the source joints whose mean it is; none for one that is always missing."""
    if source.name == target.name:
        return tuple([joint] for joint in range(len(source.names)))
    recipes = _RECIPES[target.name]
    index_of = {joint: index for index, joint in enumerate(source.names)}
    index_of["face"] = source.names.index(_FACE[source.name])
    return tuple([index_of[part] for part in recipes.get(joint, (joint,))] for joint in target.names)


JOINT_KINDS = ("head", "trunk", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
"""What a joint is, left or right: hands count as wrists, feet as ankles, and all between the shoulders and the hips as
the trunk."""

BODY_PARTS = ("head", "arms", "hips", "legs")
"""The four parts, in the order of everything that has one of each."""

_PART: Mapping[str, str] = {
    "head": "head",
    "trunk": "hips",
    "shoulder": "arms",
    "elbow": "arms",
    "wrist": "arms",
    "hip": "hips",
    "knee": "legs",
    "ankle": "legs",
}
# Words in the names of a kind's joints, the trunk before the shoulders for the sake of ntu25's spine_shoulder, which is
# the top of the spine.
_WORDS: Mapping[str, tuple[str, ...]] = {
    "trunk": ("spine", "chest", "thorax", "neck", "pelvis"),
    "head": ("nose", "eye", "ear", "head", "mouth"),
    "shoulder": ("shoulder",),
    "elbow": ("elbow",),
    "wrist": ("wrist", "hand", "thumb"),
    "hip": ("hip",),
    "knee": ("knee",),
    "ankle": ("ankle", "foot", "toe", "heel"),
}


def joint_kind(joint: str) -> str:
    """Which of :data:`JOINT_KINDS` a joint is, by its name in :data:`posecap.joints.LAYOUTS`.

    Raises:
        LayoutError: its name has no word of any.
    """
    for kind, words in _WORDS.items():
        if any(word in joint for word in words):
            return kind
    raise LayoutError(f"joint {joint!r} is none of {', '.join(JOINT_KINDS)}; add its name in posecap/joints.py")


def body_parts(layout: str) -> tuple[tuple[int, ...], ...]:
    """The joints of each of :data:`BODY_PARTS`, by their index in the layout of that name; each joint is in one part.

    Raises:
        LayoutError: there is no such layout, or a joint is of no kind, or a part has no joint.
    """
    parts = [_PART[joint_kind(name)] for name in layout_named(layout).names]
    found = tuple(tuple(at for at, part in enumerate(parts) if part == wanted) for wanted in BODY_PARTS)
    if not all(found):
        raise LayoutError(f"layout {layout!r} has no joint for one of {', '.join(BODY_PARTS)}")
    return found
