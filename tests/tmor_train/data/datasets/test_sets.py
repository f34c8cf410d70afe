"""Each set: tiny files in the published format, what they give, what is refused; and the real set where it is."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
import torch

from posecap.joints import LAYOUTS
from tests import DATA
from tmor_train.data import Batching, Clip, Loader, MotionSet, Sampling, combined
from tmor_train.data.datasets import (
    SETS,
    DamagedFileError,
    MissingFilesError,
    msr_action3d,
    penn_action,
    sbu,
    utd_mhad,
    utkinect,
)
from tmor_train.data.datasets.files import DatasetSource, read_matlab, read_numbers

torch.set_num_threads(1)

REAL = DATA / "skeletons"
SOURCE = DatasetSource("A set", "https://example.org", "set.zip")


def real(name: str) -> MotionSet:
    if not (REAL / name).is_dir():
        pytest.skip(f"the published files of {name} are not at {REAL.parent}; see the module for where to get them")
    return SETS[name](REAL / name)


def at(clip: Clip, joint: str) -> Any:
    return clip.joints_MTJC[:, :, LAYOUTS[clip.layout].names.index(joint)]


def penn(path: Path, **changes: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    x = np.arange(26, dtype=np.uint16).reshape(2, 13) + 100
    visible = np.ones((2, 13), np.uint8)
    visible[1, 12] = 0
    known = {
        "action": "golf_swing",
        "pose": "left",
        "x": x,
        "y": x + 50,
        "visibility": visible,
        "train": np.int32([[-1]]),
        "bbox": np.zeros((2, 4)),
        "dimensions": np.uint16([[270, 480, 2]]),
        "nframes": np.uint8([[2]]),
    }
    scipy.io.savemat(path, {**known, **changes}, do_compression=True)


def test_penn_action(tmp_path: Path) -> None:
    penn(tmp_path / "labels/0001.mat")
    penn(tmp_path / "labels/0002.mat", train=np.int32([[1]]), action="bowl")
    motions = penn_action.read(tmp_path)
    clip = motions.clip(0)
    assert motions.classes == tuple(penn_action.CAPTIONS)
    assert (clip.width, clip.height, clip.layout) == (480, 270, "penn13")
    assert (clip.label, clip.captions, clip.split) == ("golf_swing", ("swinging a golf club",), "test")
    assert clip.joints_MTJC[0, 0, 0].tolist() == [99.5, 149.5, 1]
    assert at(clip, "left_ankle")[0, 1].tolist() == [124.5, 174.5, 0]  # not visible, where the annotators left it
    assert at(clip, "right_ankle")[0, 1].tolist() == [123.5, 173.5, 1]  # listed as the left one
    _, seen = motions.gather(np.array([0]), frame_NT=np.array([[0, 1]]), person_NM=np.array([[0]]), layout="penn13")
    assert (~seen).nonzero().tolist() == [[0, 0, 1, 11]]
    assert motions.clip(1).split == "train"


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "knitting"},
        {"x": np.zeros((2, 12))},
        {"y": np.zeros((3, 13))},
        {"train": np.int32([[0]])},
        {"visibility": np.array([[{"a": 1}]], object)},
        {"dimensions": {"h": 1}},
        {"dimensions": np.uint16([[0, 480, 2]])},
        {"x": np.full((2, 13), np.nan)},
        {"y": np.full((2, 13), 1e300)},
        {"dimensions": np.array([[np.inf, 480, 2]])},
        {"x": "twenty-six numbers"},
    ],
)
def test_penn_files_of_another_kind_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    penn(tmp_path / "labels/0007.mat", **changes)
    with pytest.raises(DamagedFileError, match=r"0007\.mat"):
        penn_action.read(tmp_path)


def kinect(frames: int, joints: int) -> np.ndarray[Any, Any]:
    """Joint j of frame t at (j, 100 + j, t) metres."""
    values = np.zeros((frames, joints, 3))
    values[..., 0], values[..., 1] = np.arange(joints), 100 + np.arange(joints)
    values[..., 2] = np.arange(frames)[:, None]
    return values


def test_utd_mhad(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a27_s2_t4_skeleton.mat", {"d_skel": kinect(3, 20).transpose(1, 2, 0)})
    scipy.io.savemat(tmp_path / "a3_s1_t1_skeleton.mat", {"d_skel": kinect(4, 20).transpose(1, 2, 0)})
    motions = utd_mhad.read(tmp_path)
    assert motions.clips.key_N.tolist() == ["utd-a03-s1-t1", "utd-a27-s2-t4"]
    assert motions.clips.split_N.tolist() == ["train", "test"]
    assert motions.clips.label_N.tolist() == [2, 26]
    clip = motions.clip(1)
    assert clip.captions == ("squatting with both arms stretched out",)
    # Joint 4 is the left shoulder; the sensor's left is the picture's left, and its up is against the picture's down.
    assert at(clip, "left_shoulder")[0, 2].tolist() == [-4, -104, 2, 1]
    assert at(clip, "neck")[0, 2].tolist() == [0, 0, 0, 0]
    assert motions.dimensions == 3


@pytest.mark.parametrize(
    "joints",
    [
        np.full((20, 3, 4), np.nan),
        np.full((20, 3, 4), 1e300),
        np.full((20, 3, 4), 1j),
        np.full((20, 3, 4), "a"),
        np.zeros((20, 3, 0)),
        np.zeros((20, 2, 4)),
    ],
)
def test_damaged_utd_files_are_named(joints: np.ndarray[Any, Any], tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a27_s2_t4_skeleton.mat", {"d_skel": joints})
    with pytest.raises(DamagedFileError, match=r"a27_s2_t4_skeleton\.mat"):
        utd_mhad.read(tmp_path)


def test_coordinates_out_of_reach_are_named(tmp_path: Path) -> None:
    (tmp_path / "a02_s02_e01_skeleton3D.txt").write_text("1e300 2 3 1\n" * 20)
    with pytest.raises(DamagedFileError, match=r"a02_s02_e01_skeleton3D\.txt.* at most 10,000 m"):
        msr_action3d.read(tmp_path)
    path = tmp_path / "s04s06/08/002/skeleton_pos.txt"
    path.parent.mkdir(parents=True)
    path.write_text(",".join(["1"] + ["1e300"] * 90))
    with pytest.raises(DamagedFileError, match=r"skeleton_pos\.txt.* at most 10,000 m"):
        sbu.read(tmp_path)


def test_msr_action3d(tmp_path: Path) -> None:
    rows = np.concatenate([kinect(2, 20), np.zeros((2, 20, 1))], -1).reshape(-1, 4)
    rows[1::2, 3] = 1
    rows[12::20] = 0
    for name in ("a01_s02_e01", "a20_s09_e03"):
        np.savetxt(tmp_path / f"{name}_skeleton3D.txt", rows)
    (tmp_path / msr_action3d.USED).write_text("a20_s09_e03\n")
    motions = msr_action3d.read(tmp_path)
    assert motions.clips.split_N.tolist() == ["test", "train"]
    assert [motions.clip(n).label for n in range(2)] == ["waving an arm high", "picking up and throwing"]
    clip = motions.clip(0)
    np.testing.assert_allclose(at(clip, "left_shoulder")[0, 1], [0, -100, 1, 0.1])  # a guess keeps a low score
    np.testing.assert_allclose(at(clip, "head")[0, 1], [-19, -119, 1, 1])
    assert at(clip, "right_hand")[0, :, 3].tolist() == [0, 0]  # joint 12 was not found
    assert len(msr_action3d.read(tmp_path, clips="used")) == 1
    (tmp_path / "a02_s02_e01_skeleton3D.txt").write_text("1 2 3 4\n")
    with pytest.raises(DamagedFileError, match="20 for each frame"):
        msr_action3d.read(tmp_path)


def test_sbu(tmp_path: Path) -> None:
    joints = np.full((2, 2, 15, 3), 0.5)
    joints[:, 1, 0] = [0.75, 0.25, 2]
    joints[1, 0, 3] = 0
    rows = np.concatenate([[[1], [2]], joints.reshape(2, -1)], 1)
    path = tmp_path / "s04s06/08/002/skeleton_pos.txt"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(",".join(f"{value:.5g}" for value in row) + "," for row in rows))
    motions = sbu.read(tmp_path)
    clip = motions.clip(0)
    assert (clip.key, clip.split, clip.subject) == ("sbu-s04s06-08-002", "fold5", 4)
    assert clip.captions == ("one person punching another",)
    np.testing.assert_allclose(at(clip, "head")[1, 0], [0.64, -0.48, 2.56, 1], rtol=1e-6)
    assert at(clip, "left_shoulder")[0, :, 3].tolist() == [1, 0]
    assert sorted(pair for fold in sbu.FOLDS for pair in fold) == sorted(set(sum(sbu.FOLDS, ())))


def test_utkinect(tmp_path: Path) -> None:
    folder = tmp_path / "joints"
    folder.mkdir()
    numbers = [10, 10, 12, 14, 20]
    rows = np.concatenate([np.array(numbers)[:, None], kinect(5, 20).reshape(5, -1)], 1)
    np.savetxt(folder / "joints_s03_e02.txt", rows, delimiter="  ")
    lines = "s03_e02", "walk: 10 12", "sitDown: 14 18 ", "carry: NaN NaN", "push: 20 NaN", "throw: 30 40"
    (folder / "actionLabel.txt").write_text("\n".join(lines))
    motions = utkinect.read(tmp_path)
    assert motions.clips.key_N.tolist() == ["utkinect-s03-e02-walk", "utkinect-s03-e02-sitDown"]
    assert motions.clips.frames_N.tolist() == [2, 1]
    assert at(motions.clip(0), "head")[0, :, 2].tolist() == [0, 2]  # frame 10 was written twice
    recording = utkinect.recordings(tmp_path)[0]
    assert recording.frame_T.tolist() == [10, 12, 14, 20]
    found = [(segment.action, segment.first, segment.last) for segment in recording.segments]
    assert found == [("walk", 10, 12), ("sitDown", 14, 18), ("throw", 30, 40)]
    for damaged in ("ten twelve", "10 1²", f"10 {'9' * 5000}"):
        (folder / "actionLabel.txt").write_text(f"s03_e02\nwalk: {damaged}\n")
        with pytest.raises(DamagedFileError, match="line 2"):
            utkinect.read(tmp_path)
    for lines in ("s03_e02\n", "s03_e02\nwalk: 30 40\n", "s03_e02\nwalk: 10 12\nwalk: 14 20\n"):
        (folder / "actionLabel.txt").write_text(lines)
        with pytest.raises(DamagedFileError, match=r"actionLabel\.txt is not a valid list of actions"):
            utkinect.read(tmp_path)


@pytest.mark.parametrize("name", sorted(SETS))
def test_missing_files_say_which_whence_and_where(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingFilesError) as caught:
        SETS[name](tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert re.search(r"Get .+ from https?://.+ and unpack it so that .+ exists", str(caught.value))


def test_nothing_but_plain_arrays_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"cell": np.array([[1, "a"]], object), "fine": np.ones(3)})
    assert read_matlab(path, ("fine",), source=SOURCE)["fine"].tolist() == [[1, 1, 1]]
    with pytest.raises(DamagedFileError, match="'cell' is cell"):
        read_matlab(path, ("cell",), source=SOURCE)
    with pytest.raises(DamagedFileError, match="'gone' is missing"):
        read_matlab(path, ("gone",), source=SOURCE)


def test_an_array_that_promises_too_much_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.mat"
    scipy.io.savemat(path, {"x": np.zeros((17 << 20), np.uint8)}, do_compression=True)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(DamagedFileError, match="expected a plain array"):
        read_matlab(path, ("x",), source=SOURCE)


@pytest.mark.parametrize("content", [b"", b"MATLAB 5.0 MAT-file" + b" " * 300, b"\x80\x04cos\nsystem\n(S'true'\ntR."])
def test_files_that_are_no_matlab_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mat"
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"x\.mat"):
        read_matlab(path, ("x",), source=SOURCE)


def test_a_cut_matlab_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    scipy.io.savemat(path, {"x": np.random.default_rng(0).random((50, 50))}, do_compression=True)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DamagedFileError, match=r"x\.mat"):
        read_matlab(path, ("x",), source=SOURCE)


@pytest.mark.parametrize("content", ["1 2\n", "1 2 x\n", "1 2 nan\n", "", "1 2 3\n4 5\n"])
def test_rows_that_are_not_numbers_are_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.txt").write_text(content)
    with pytest.raises(DamagedFileError, match=r"x\.txt"):
        read_numbers(tmp_path / "x.txt", columns=3, source=SOURCE)


def test_sensors_give_joints_of_the_layout_and_each_once() -> None:
    for names, count in ((utkinect.JOINTS, 20), (utd_mhad.JOINTS, 20), (msr_action3d.JOINTS, 20), (sbu.JOINTS, 15)):
        assert len(names) == len(set(names)) == count
        assert set(names) <= set(LAYOUTS["ntu25"].names)


REAL_SETS = {
    "penn_action": (2326, 15, {"train": 1258, "test": 1068}, 163_841),
    "utd_mhad": (861, 27, {"train": 431, "test": 430}, 58_299),
    "msr_action3d": (567, 20, {"train": 292, "test": 275}, 23_478),
    "sbu": (282, 8, {"fold1": 55, "fold2": 52, "fold3": 56, "fold4": 54, "fold5": 65}, 6_822),
    "utkinect": (199, 10, {"train": 199}, 6_053),
}


@pytest.mark.data
@pytest.mark.parametrize("name", sorted(REAL_SETS))
def test_the_real_set(name: str) -> None:
    motions = real(name)
    clips, classes, splits, frames = REAL_SETS[name]
    assert len(motions) == clips
    assert len(motions.classes) == len(set(motions.clips.label_N.tolist())) == classes
    assert Counter(motions.clips.split_N.tolist()) == splits
    assert int(motions.clips.frames_N.sum()) == frames
    assert set(motions.clips.people_N.tolist()) == {2 if name == "sbu" else 1}
    sampling = Sampling(frames=16, people=2, draw="deterministic")
    for batch in Loader(motions, sampling=sampling, batching=Batching(order="stored", last="keep")):
        assert batch.motion_NCTVM.isfinite().all()
        assert batch.people[:, 0].float().mean() > 0.95  # Penn clips may show no whole torso in 16 frames
        assert (batch.text_id_N >= 0).all()


@pytest.mark.data
@pytest.mark.parametrize("name", ["utd_mhad", "msr_action3d", "utkinect"])
def test_left_is_left_in_space(name: str) -> None:
    """(left shoulder - right shoulder) x up points to where the feet point, in a camera's axes."""
    motions = real(name)
    forward = []
    for number in range(0, len(motions), 7):
        clip = motions.clip(number)
        place = {joint: at(clip, joint)[0, :, :3].astype(np.float64) for joint in LAYOUTS["ntu25"].names}
        across = place["left_shoulder"] - place["right_shoulder"]
        up = place["head"] - place["spine_base"]
        feet = sum(place[f"{side}_foot"] - place[f"{side}_ankle"] for side in ("left", "right"))
        forward.append(np.mean(np.sum(np.cross(across, up) * feet, -1)) > 0)
        found = at(clip, "head")[0, :, 3] > 0
        assert not found.any() or np.median(up[found, 1]) < 0  # y points down
    assert np.mean(forward) > 0.95


@pytest.mark.data
def test_left_of_penn_is_the_persons_own() -> None:
    motions = real("penn_action")
    of_label: dict[str, list[bool]] = {"jumping_jacks": [], "strum_guitar": [], "bowl": []}
    for number in range(len(motions)):
        clip = motions.clip(number)
        if clip.label in of_label:
            left, right = (at(clip, f"{side}_shoulder")[0] for side in ("left", "right"))
            both = (left[:, 2] > 0) & (right[:, 2] > 0)
            of_label[clip.label] += [float((left[both, 0] - right[both, 0]).mean()) > 0] if both.any() else []
    on_the_right = {label: np.mean(found) for label, found in of_label.items()}
    assert min(on_the_right["jumping_jacks"], on_the_right["strum_guitar"]) > 0.95  # seen from the front
    assert on_the_right["bowl"] < 0.1  # seen from behind


@pytest.mark.data
def test_people_of_sbu_face_each_other_when_they_meet() -> None:
    motions = real("sbu")
    facing = []
    for number in np.flatnonzero(motions.clips.label_N != 1).tolist():
        clip = motions.clip(number)
        place = {
            j: at(clip, j)[..., :3].astype(np.float64) for j in ("left_shoulder", "right_shoulder", "head", "spine_mid")
        }
        ahead = np.cross(place["left_shoulder"] - place["right_shoulder"], place["head"] - place["spine_mid"])
        facing.append(((place["spine_mid"][1] - place["spine_mid"][0]) * ahead[0]).sum(-1).mean() > 0)
    assert np.mean(facing) > 0.95


@pytest.mark.data
def test_msr_clips_that_papers_use() -> None:
    real("msr_action3d")
    assert len(msr_action3d.read(REAL / "msr_action3d", clips="used")) == 557


@pytest.mark.data
def test_sets_in_pictures_and_in_space_train_together() -> None:
    both = combined([real("utkinect"), real("sbu")])
    assert len(both) == 199 + 282
    assert len(both.classes) == len(both.sentences) == 18
    sizes = [len(batch) for batch in Loader(both, sampling=Sampling(frames=8, people=2), batching=Batching(size=100))]
    assert sizes == [100] * 4
