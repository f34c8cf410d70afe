"""Which joints are which part of the body."""

import pytest

from posecap.joints import LAYOUTS, LayoutError
from tmor_train.body_parts import BODY_PARTS, JOINT_KINDS, body_parts, joint_kind


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_joint_is_in_one_part_and_left_as_right(layout: str) -> None:
    parts, names = body_parts(layout), LAYOUTS[layout].names
    assert len(parts) == len(BODY_PARTS)
    assert sorted(joint for part in parts for joint in part) == list(range(len(names)))
    part_of = {joint: at for at, part in enumerate(parts) for joint in part}
    assert all(part_of[left] == part_of[right] for left, right in LAYOUTS[layout].pairs)
    assert all(joint_kind(names[left]) == joint_kind(names[right]) for left, right in LAYOUTS[layout].pairs)
    assert set(JOINT_KINDS) - {joint_kind(name) for name in names} <= {"trunk"}


def test_parts_of_penns_joints() -> None:
    assert body_parts("penn13") == ((0,), (1, 2, 3, 4, 5, 6), (7, 8), (9, 10, 11, 12))


def test_the_top_of_the_spine_is_none_of_the_shoulders() -> None:
    assert joint_kind("spine_shoulder") == "trunk"
    assert LAYOUTS["ntu25"].names.index("spine_shoulder") in body_parts("ntu25")[BODY_PARTS.index("hips")]


def test_unknown_layouts_and_joints_are_errors() -> None:
    with pytest.raises(LayoutError, match="unknown layout 'penn14'"):
        body_parts("penn14")
    with pytest.raises(LayoutError, match="joint 'left_wing' is none of head, trunk"):
        joint_kind("left_wing")
