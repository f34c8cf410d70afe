"""Which joints of a layout are the head, the arms, the hips and the legs.

These four parts are those of PURLS (Zhu et al., CVPR 2024), STAR (Chen et al., ACM MM 2024) and Skeleton-Cache (Zhu et
al., NeurIPS 2025). Here every joint is in one of them, shoulders in the arms, spine and neck in the hips; theirs share
joints at the borders.
"""

from __future__ import annotations

from collections.abc import Mapping

from posecap.joints import LAYOUTS, LayoutError

BODY_PARTS = ("head", "arms", "hips", "legs")
"""The four parts, in the order of everything that has one of each."""

_WORDS: Mapping[str, tuple[str, ...]] = {
    "head": ("nose", "eye", "ear", "head", "mouth"),
    "arms": ("shoulder", "elbow", "wrist", "hand", "thumb"),
    "hips": ("hip", "pelvis", "spine", "chest", "thorax", "neck"),
    "legs": ("knee", "ankle", "foot", "toe", "heel"),
}
"""Words in the names of a part's joints."""

_BETWEEN_THE_SHOULDERS = "spine_shoulder"  # of ntu25: the top of the spine, although its name has a word of the arms


def body_parts(layout: str) -> tuple[tuple[int, ...], ...]:
    """The joints of each of :data:`BODY_PARTS`, by their index in the layout of that name; each joint is in one part.

    Raises:
        LayoutError: there is no such layout, or a part or a joint is left over.
    """
    if layout not in LAYOUTS:
        raise LayoutError(f"unknown layout {layout!r}; known: {', '.join(LAYOUTS)}")
    parts = [_part(name) for name in LAYOUTS[layout].names]
    found = tuple(tuple(at for at, part in enumerate(parts) if part == wanted) for wanted in BODY_PARTS)
    if not all(found):
        raise LayoutError(f"layout {layout!r} has no joint for one of {', '.join(BODY_PARTS)}")
    return found


def _part(joint: str) -> str:
    """The part that a joint is in; LayoutError where its name has no word of any."""
    if joint == _BETWEEN_THE_SHOULDERS:
        return "hips"
    for part, words in _WORDS.items():
        if any(word in joint for word in words):
            return part
    raise LayoutError(
        f"joint {joint!r} is in none of {', '.join(BODY_PARTS)}; add its name in tmor_train/body_parts.py"
    )
