from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posecap.joints import (
    BODY_PARTS,
    JOINT_KINDS,
    LAYOUTS,
    Layout,
    LayoutError,
    body_parts,
    convert,
    flip,
    flip_order,
    joint_kind,
)
from tests import DATA

NAMES = tuple(LAYOUTS)
MAPS = {
    "coco17": {"coco17", "unik17", "h36m17", "openpose18", "ntu25", "penn13"},
    "openpose18": {"coco17", "unik17", "h36m17", "openpose18", "ntu25", "penn13"},
    "h36m17": {"h36m17", "unik17", "penn13"},
    "ntu25": {"ntu25", "unik17", "penn13"},
    "unik17": {"unik17", "penn13"},
    "penn13": {"penn13", "unik17"},
    "halpe26": {"coco17", "unik17", "h36m17", "openpose18", "ntu25", "penn13", "halpe26"},
}
PAIRS_OF_LAYOUTS = [(source, target) for source in NAMES for target in sorted(MAPS[source])]
PENN = DATA / "skeletons/penn_action/labels"

seeds = st.integers(0, 2**32 - 1)


def people(layout: str, seed: int) -> np.ndarray:
    """(2, 3, J, 3): whole-number coordinates, so that means and mirrors are exact; a third of the joints missing."""
    rng = np.random.default_rng(seed)
    shape = (2, 3, len(LAYOUTS[layout].names))
    joints = np.stack([rng.integers(0, 640, shape), rng.integers(0, 360, shape), rng.integers(1, 9, shape) / 8], -1)
    joints[rng.random(shape) < 1 / 3] = 0
    return joints.astype(np.float32)


def numbered(layout: str) -> np.ndarray:
    """Joint i at x = 12 i, y = 1000 + 12 i, with score 1 - i / 100."""
    i = np.arange(len(LAYOUTS[layout].names))
    return np.stack([12 * i, 1000 + 12 * i, 1 - i / 100], -1).astype(np.float32)


def test_there_are_seven_layouts() -> None:
    assert {name: len(layout.names) for name, layout in LAYOUTS.items()} == {
        "coco17": 17,
        "unik17": 17,
        "h36m17": 17,
        "openpose18": 18,
        "ntu25": 25,
        "penn13": 13,
        "halpe26": 26,
    }


@pytest.mark.parametrize(
    ("name", "joints"),
    [
        ("coco17", {"nose": 0, "left_eye": 1, "left_shoulder": 5, "left_hip": 11, "right_ankle": 16}),
        ("unik17", {"head": 0, "mouth": 1, "neck": 2, "chest": 3, "pelvis": 4, "left_shoulder": 5, "right_ankle": 16}),
        ("h36m17", {"pelvis": 0, "right_hip": 1, "left_hip": 4, "spine": 7, "nose": 9, "head": 10, "left_wrist": 13}),
        ("openpose18", {"neck": 1, "right_shoulder": 2, "left_shoulder": 5, "right_hip": 8, "right_eye": 14}),
        (
            "ntu25",
            {"spine_base": 0, "neck": 2, "left_hand": 7, "right_foot": 19, "spine_shoulder": 20, "left_thumb": 22},
        ),
        ("penn13", {"head": 0, "left_shoulder": 1, "right_shoulder": 2, "left_hip": 7, "right_ankle": 12}),
        ("halpe26", {"nose": 0, "head": 17, "neck": 18, "hip": 19, "left_big_toe": 20, "right_big_toe": 21}),
        ("halpe26", {"left_small_toe": 22, "right_small_toe": 23, "left_heel": 24, "right_heel": 25}),
    ],
)
def test_joints_stand_in_the_order_of_their_source(name: str, joints: dict[str, int]) -> None:
    assert {joint: LAYOUTS[name].names.index(joint) for joint in joints} == joints


def test_unik_bones_are_those_of_its_bone_stream() -> None:
    one_based = "5>4 4>3 3>2 2>1 6>3 8>6 10>8 7>3 9>7 11>9 12>5 14>12 16>14 13>5 15>13 17>15"
    expected = {tuple(int(end) - 1 for end in bone.split(">")) for bone in one_based.split()}
    assert set(LAYOUTS["unik17"].bones) == expected


def test_ntu_bones_are_those_of_2s_agcn() -> None:
    one_based = (
        "1>2 2>21 3>21 4>3 5>21 6>5 7>6 8>7 9>21 10>9 11>10 12>11 13>1 14>13 15>14 16>15 17>1 18>17 19>18 20>19 "
        "22>23 23>8 24>25 25>12"
    )
    expected = {tuple(int(end) - 1 for end in bone.split(">")) for bone in one_based.split()}
    assert set(LAYOUTS["ntu25"].bones) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_joint_reaches_the_root_along_its_bones(name: str) -> None:
    layout = LAYOUTS[name]
    parents = dict(layout.bones)
    assert len(layout.bones) == len(parents) == len(layout.names) - 1
    for joint in range(len(layout.names)):
        steps = 0
        while joint in parents:
            joint, steps = parents[joint], steps + 1
            assert steps < len(layout.names)
        assert joint == layout.root


@pytest.mark.parametrize("name", NAMES)
def test_pairs_and_bones_are_symmetric(name: str) -> None:
    layout = LAYOUTS[name]
    for left, right in layout.pairs:
        assert layout.names[left].removeprefix("left_") == layout.names[right].removeprefix("right_")
    assert not [joint for joint in layout.names if joint.startswith(("left_", "right_")) and not _paired(layout, joint)]
    order = flip_order(name)
    assert {(order[child], order[parent]) for child, parent in layout.bones} == set(layout.bones)


def _paired(layout: Layout, joint: str) -> bool:
    return layout.names.index(joint) in {end for pair in layout.pairs for end in pair}


@pytest.mark.parametrize(
    ("bones", "pairs", "complaint"),
    [
        (((1, 0),), (), "exactly one parent"),
        (((1, 0), (1, 2)), (), "exactly one parent"),
        (((1, 2), (2, 1)), (), "cycle"),
        (((1, 0), (2, 1)), ((1, 1),), "pairs a joint twice"),
        (((1, 0), (2, 1)), ((1, 3),), "one that it does not have"),
    ],
)
def test_malformed_layouts_are_refused(bones: tuple, pairs: tuple, complaint: str) -> None:
    with pytest.raises(LayoutError, match=complaint):
        Layout("odd", ("a", "b", "c"), bones, pairs)


def test_a_joint_named_twice_is_refused() -> None:
    with pytest.raises(LayoutError, match="names a joint twice"):
        Layout("odd", ("a", "a"), ((1, 0),), ())


def test_flip_order_swaps_left_and_right() -> None:
    assert flip_order("coco17") == (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15)
    assert flip_order("openpose18") == (0, 1, 5, 6, 7, 2, 3, 4, 11, 12, 13, 8, 9, 10, 15, 14, 17, 16)


def test_flip_mirrors_in_pixels_and_leaves_missing_joints_missing() -> None:
    joints = numbered("penn13")
    joints[2] = 0  # right shoulder
    mirrored = flip(joints, layout="penn13", width=640)
    np.testing.assert_array_equal(mirrored[0], joints[0] * [-1, 1, 1] + np.float32([640, 0, 0]))
    np.testing.assert_array_equal(mirrored[1], [0, 0, 0])
    np.testing.assert_allclose(mirrored[2], [640 - 12, 1012, 0.99], rtol=1e-6)
    assert mirrored.dtype == np.float32


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(seed=seeds, width=st.integers(1, 4000))
def test_flip_twice_changes_nothing(name: str, seed: int, width: int) -> None:
    joints = people(name, seed)
    before = joints.copy()
    np.testing.assert_array_equal(flip(flip(joints, layout=name, width=width), layout=name, width=width), before)
    np.testing.assert_array_equal(joints, before)


def test_coco_to_unik() -> None:
    joints = convert(numbered("coco17"), source="coco17", target="unik17")
    # nose 0, shoulders 60 and 72, hips 132 and 144
    np.testing.assert_array_equal(joints[:5, 0], [0, 33, 66, 102, 138])
    np.testing.assert_array_equal(joints[5:, 0], 12 * np.arange(5, 17))
    np.testing.assert_array_equal(joints[:, 1], joints[:, 0] + 1000)
    np.testing.assert_allclose(joints[:5, 2], [1, 0.94, 0.94, 0.88, 0.88], rtol=1e-6)


def test_coco_to_h36m() -> None:
    joints = convert(numbered("coco17"), source="coco17", target="h36m17")
    expected = [138, 144, 168, 192, 132, 156, 180, 102, 66, 0, 18, 60, 84, 108, 72, 96, 120]
    np.testing.assert_array_equal(joints[:, 0], expected)
    np.testing.assert_allclose(joints[[0, 7, 8, 10], 2], [0.88, 0.88, 0.94, 0.98], rtol=1e-6)


def test_coco_to_openpose_and_back() -> None:
    coco = numbered("coco17")
    joints = convert(coco, source="coco17", target="openpose18")
    expected = [0, 66, 72, 96, 120, 60, 84, 108, 144, 168, 192, 132, 156, 180, 24, 12, 48, 36]
    np.testing.assert_array_equal(joints[:, 0], expected)
    np.testing.assert_array_equal(convert(joints, source="openpose18", target="coco17"), coco)


def test_coco_to_ntu_leaves_hands_and_feet_missing() -> None:
    joints = convert(numbered("coco17"), source="coco17", target="ntu25")
    missing = [7, 11, 15, 19, 21, 22, 23, 24]
    np.testing.assert_array_equal(joints[missing], np.zeros((8, 3)))
    there = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 13, 14, 16, 17, 18, 20]
    expected = [138, 102, 44, 0, 60, 84, 108, 72, 96, 120, 132, 156, 180, 144, 168, 192, 66]
    np.testing.assert_array_equal(joints[there, 0], expected)
    assert (joints[there, 2] > 0).all()


def test_coco_to_penn_and_penn_to_unik() -> None:
    coco = numbered("coco17")
    penn = convert(coco, source="coco17", target="penn13")
    np.testing.assert_array_equal(penn, coco[[0, *range(5, 17)]])
    unik = convert(penn, source="penn13", target="unik17")
    np.testing.assert_array_equal(unik, convert(coco, source="coco17", target="unik17"))
    np.testing.assert_array_equal(convert(unik, source="unik17", target="penn13"), penn)


@pytest.mark.parametrize("target", sorted(MAPS["coco17"]))
def test_halpe_gives_what_its_first_seventeen_joints_give(target: str) -> None:
    halpe = people("halpe26", 3)
    got = convert(halpe, source="halpe26", target=target)
    np.testing.assert_array_equal(got, convert(halpe[..., :17, :], source="coco17", target=target))


def test_a_derived_joint_is_missing_as_soon_as_one_of_its_sources_is() -> None:
    coco = numbered("coco17")
    coco[5] = 0  # left shoulder
    unik = convert(coco, source="coco17", target="unik17")
    assert [LAYOUTS["unik17"].names[j] for j in np.flatnonzero(unik[:, 2] == 0)] == [
        "mouth",
        "neck",
        "chest",
        "left_shoulder",
    ]
    assert not unik[[1, 2, 3, 5]].any()


@pytest.mark.parametrize(("source", "target"), list(product(NAMES, NAMES)))
def test_the_maps_are_those_documented(source: str, target: str) -> None:
    if target in MAPS[source]:
        got = convert(people(source, 0), source=source, target=target)
        assert got.shape == (2, 3, len(LAYOUTS[target].names), 3)
        assert got.dtype == np.float32
    else:
        with pytest.raises(LayoutError, match=f"no exact map from '{source}' to '{target}'"):
            convert(people(source, 0), source=source, target=target)


@pytest.mark.parametrize("name", NAMES)
def test_every_layout_maps_to_itself_as_a_copy(name: str) -> None:
    joints = people(name, 1)
    same = convert(joints, source=name, target=name)
    np.testing.assert_array_equal(same, joints)
    assert not np.shares_memory(same, joints)


@pytest.mark.parametrize(("source", "target"), PAIRS_OF_LAYOUTS)
@settings(max_examples=20)
@given(seed=seeds, shift=st.integers(-500, 500), scale=st.sampled_from([0.5, 1.0, 4.0]))
def test_converting_commutes_with_shifting_and_scaling(
    source: str, target: str, seed: int, shift: int, scale: float
) -> None:
    def moved(joints: np.ndarray) -> np.ndarray:
        there = joints[..., 2:] > 0
        return np.where(there, joints * np.float32([scale, scale, 1]) + np.float32([shift, -shift, 0]), 0)

    joints = people(source, seed)
    before = convert(moved(joints), source=source, target=target)
    after = moved(convert(joints, source=source, target=target))
    np.testing.assert_allclose(before, after, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("source", "target"), PAIRS_OF_LAYOUTS)
@settings(max_examples=20)
@given(seed=seeds)
def test_converting_commutes_with_the_mirror(source: str, target: str, seed: int) -> None:
    joints = people(source, seed)
    before = convert(flip(joints, layout=source, width=640), source=source, target=target)
    after = flip(convert(joints, source=source, target=target), layout=target, width=640)
    np.testing.assert_allclose(before, after, rtol=1e-6, atol=1e-3)


@settings(max_examples=30)
@given(seed=seeds)
def test_converting_by_way_of_openpose_or_penn_gives_the_same(seed: int) -> None:
    joints = people("coco17", seed)
    for way, targets in {"openpose18": MAPS["coco17"] - {"openpose18"}, "penn13": {"unik17"}}.items():
        halfway = convert(joints, source="coco17", target=way)
        for target in targets:
            straight = convert(joints, source="coco17", target=target)
            np.testing.assert_array_equal(convert(halfway, source=way, target=target), straight)


def test_messages_name_what_is_wrong() -> None:
    with pytest.raises(LayoutError, match="unknown layout 'coco18'; known: coco17, unik17"):
        flip_order("coco18")
    with pytest.raises(LayoutError, match=r"'coco17' needs joints \(\.\.\., 17, 3\), got \(13, 3\)"):
        convert(numbered("penn13"), source="coco17", target="unik17")
    with pytest.raises(LayoutError, match=r"needs joints \(\.\.\., 13, 3\), got \(13, 2\)"):
        flip(numbered("penn13")[:, :2], layout="penn13", width=4)


@pytest.mark.data
@pytest.mark.skipif(not PENN.is_dir(), reason="needs Penn Action's labels in ../shared/data/skeletons/penn_action")
def test_penn_actions_own_annotations_fit_the_order() -> None:
    """In annotated sequences heads are above hips above ankles, and bones within a side are shorter than across it."""
    scipy_io = pytest.importorskip("scipy.io")
    at = LAYOUTS["penn13"].names.index
    upright, straight = [], []
    for path in sorted(PENN.glob("*.mat"))[:2326:60]:
        labels = scipy_io.loadmat(path)
        xy, seen = np.stack([labels["x"], labels["y"]], -1), labels["visibility"].astype(bool)
        whole = xy[seen.all(1)]
        upright += list(whole[:, at("head"), 1] < whole[:, at("left_hip"), 1])
        upright += list(whole[:, at("right_hip"), 1] < whole[:, at("right_ankle"), 1])
        same = np.linalg.norm(whole[:, at("left_elbow")] - whole[:, at("left_wrist")], axis=-1)
        across = np.linalg.norm(whole[:, at("left_elbow")] - whole[:, at("right_ankle")], axis=-1)
        straight += list(same < across)
    assert len(upright) > 500
    assert np.mean(upright) > 0.8
    assert np.mean(straight) > 0.95


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
