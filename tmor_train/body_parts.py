"""Which joints of a layout are the head, the arms, the hips and the legs, and of which kind each joint is.

The four parts are those of PURLS (Zhu et al., CVPR 2024), STAR (Chen et al., ACM MM 2024) and Skeleton-Cache (Zhu et
al., NeurIPS 2025). Here every joint is in one of them, shoulders in the arms, the trunk in the hips; theirs share
joints at the borders.
"""

from __future__ import annotations

from collections.abc import Mapping

from posecap.joints import LAYOUTS, LayoutError

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
    raise LayoutError(f"joint {joint!r} is none of {', '.join(JOINT_KINDS)}; add its name in tmor_train/body_parts.py")


def body_parts(layout: str) -> tuple[tuple[int, ...], ...]:
    """The joints of each of :data:`BODY_PARTS`, by their index in the layout of that name; each joint is in one part.

    Raises:
        LayoutError: there is no such layout, or a joint is of no kind, or a part has no joint.
    """
    if layout not in LAYOUTS:
        raise LayoutError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    parts = [_PART[joint_kind(name)] for name in LAYOUTS[layout].names]
    found = tuple(tuple(at for at, part in enumerate(parts) if part == wanted) for wanted in BODY_PARTS)
    if not all(found):
        raise LayoutError(f"layout {layout!r} has no joint for one of {', '.join(BODY_PARTS)}")
    return found
