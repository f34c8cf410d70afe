"""PKU-MMD from small files in the published form, and from damaged ones."""

import json
from pathlib import Path

import numpy as np
import pytest

from posecap.joints import LAYOUTS
from tests import DATA
from tmor_train.benchmarks import BENCHMARKS, FrameParts, pku_mmd
from tmor_train.data.datasets.files import DamagedFileError, MissingFilesError
from tmor_train.metrics.average_precision import event_ap

CLASS_LISTS = DATA / "benchmarks/class_lists.json"
BENCHMARK = BENCHMARKS["pku_mmd"]
SPLIT = "Training videos: \n0002-L, 0002-M, \nValidataion videos: \n0003-R, \n"


def line(people: int) -> str:
    return " ".join(f"{value:.4f}" for value in [*(n / 100 for n in range(1, 75 * people + 1)), *[0.0] * 150][:150])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (pku_mmd.SKELETONS, pku_mmd.LABELS, pku_mmd.SPLITS):
        (tmp_path / name).mkdir()
    for file in pku_mmd.SPLIT_FILES.values():
        (tmp_path / pku_mmd.SPLITS / file).write_text(SPLIT)
    for name, people in (("0002-L", 1), ("0002-M", 2), ("0003-R", 1)):
        (tmp_path / pku_mmd.SKELETONS / f"{name}.txt").write_text("\n".join([line(people)] * 12) + "\n")
        (tmp_path / pku_mmd.LABELS / f"{name}.txt").write_text("51,2,5,2\n1,7,11,1\n")
    return tmp_path


@pytest.mark.parametrize("protocol", ["CS", "CV"])
def test_it_reads_both_parts(protocol: str, folder: Path) -> None:
    assert BENCHMARK.missing(folder, protocol) == ()
    parts = BENCHMARK.read(folder, protocol)
    assert isinstance(parts, FrameParts)
    assert parts.train.motions.clips.key_N.tolist() == ["0002-L", "0002-M"]
    assert parts.test.motions.clips.key_N.tolist() == ["0003-R"]
    assert parts.train.motions.clips.people_N.tolist() == [1, 2]
    assert parts.train.motions.clips.camera_N.tolist() == [1, 2]
    assert parts.test.motions.clips.fps_N.tolist() == [30]
    assert parts.test.motions.dimensions == 3


def test_joints_are_turned_into_the_axes_of_a_camera(folder: Path) -> None:
    joints = pku_mmd.read_skeleton(folder / pku_mmd.SKELETONS / "0002-M.txt")
    assert joints.shape == (2, 12, 25, 4)
    assert joints[0, 0, 1] == pytest.approx([-0.04, -0.05, 0.06, 1])
    assert joints[1, 0, 0] == pytest.approx([-0.76, -0.77, 0.78, 1])
    assert LAYOUTS["ntu25"].names[20] == "spine_shoulder"


def test_labels_count_from_one_and_their_end_is_not_included(folder: Path) -> None:
    parts = BENCHMARK.read(folder, "CS")
    assert isinstance(parts, FrameParts)
    label_TK = parts.test.labels(0)
    assert label_TK.shape == (12, 51)
    assert np.flatnonzero(label_TK[:, 50]).tolist() == [2, 3, 4]
    assert np.flatnonzero(label_TK[:, 0]).tolist() == [7, 8, 9, 10]
    truths = [parts.test.timelines.truths(0)]
    assert [(one.begin, one.end, one.label) for one in truths[0]] == [(2, 5, 50), (7, 11, 0)]
    assert event_ap(truths, truths, classes=51)[0].map_action == 1


def test_each_missing_file_is_named_with_its_place(folder: Path) -> None:
    (folder / pku_mmd.LABELS / "0002-M.txt").unlink()
    (lacking,) = BENCHMARK.missing(folder, "CS")
    assert lacking.path == folder / pku_mmd.LABELS / "0002-M.txt"
    assert "PKUMMD" in lacking.page
    with pytest.raises(MissingFilesError, match="0002-M"):
        BENCHMARK.read(folder, "CS")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("Training videos:\n0002-L\n", "2 lines"),
        ("a\n0002-L, ../../etc/passwd\nb\n0003-R\n", "passwd.* is not the name of a recording"),
        ("a\n0002-L\nb\n\n", "no recording"),
        ("a\n0002-L, 0003-R\nb\n0003-R\n", "named twice"),
    ],
)
def test_a_damaged_split_is_refused(content: str, words: str, folder: Path) -> None:
    path = folder / pku_mmd.SPLITS / "cross-subject.txt"
    path.write_text(content)
    with pytest.raises(DamagedFileError, match=words):
        pku_mmd.read_split(path)


@pytest.mark.parametrize("content", ["0,1,2,1", "52,1,2,1", "1,5,2,1", "1,-3,2,1", "1,2,3", "one,2,3,1", "1,2,1e9,1"])
def test_a_damaged_label_is_named_with_its_line(content: str, folder: Path) -> None:
    path = folder / pku_mmd.LABELS / "0002-L.txt"
    path.write_text(f"1,0,5,1\n{content}\n")
    with pytest.raises(DamagedFileError, match=r"0002-L.txt, line 2"):
        pku_mmd.read_labels(path)


NOT_A_NUMBER, FAR_AWAY = (line(1).replace("0.0100", value) for value in ("nan", "1e30"))


@pytest.mark.parametrize("content", ["", "1 2 3\n", NOT_A_NUMBER, FAR_AWAY])
def test_a_damaged_skeleton_is_named(content: str, folder: Path) -> None:
    path = folder / pku_mmd.SKELETONS / "0002-L.txt"
    path.write_text(content)
    with pytest.raises(DamagedFileError, match="0002-L"):
        pku_mmd.read_skeleton(path)


@pytest.mark.data
def test_classes_are_the_official_ones() -> None:
    if not CLASS_LISTS.is_file():
        pytest.skip(f"the official lists are not at {CLASS_LISTS}")
    assert list(pku_mmd.CLASSES) == json.loads(CLASS_LISTS.read_text())["pku_mmd"]["classes"]
