"""NTU from small pickles in PYSKL's form, and from damaged and hostile ones. Only the tests use pickle, to write."""

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tmor_train.benchmarks import BENCHMARKS, Parts, ntu
from tmor_train.data.datasets.files import DamagedFileError, MissingFilesError

NAMES = ("S001C001P001R001A001", "S001C002P003R002A060", "S017C003P008R001A013")


def annotation(name: str, **changed: Any) -> dict[str, Any]:
    place = np.arange(1, 2 * 5 * 17 * 2 + 1, dtype=np.float16).reshape(2, 5, 17, 2)
    place[1, 2:] = 0
    return {
        "frame_dir": name,
        "label": int(name[-3:]) - 1,
        "img_shape": (1080, 1920),
        "original_shape": (1080, 1920),
        "total_frames": 5,
        "keypoint": place,
        "keypoint_score": np.full((2, 5, 17), 0.5, np.float16),
        **changed,
    }


def content(*annotations: dict[str, Any]) -> dict[str, Any]:
    split = {"xsub_train": list(NAMES[:2]), "xsub_val": [NAMES[2]], "xview_train": [NAMES[1]], "xview_val": [NAMES[0]]}
    return {"split": split, "annotations": list(annotations) or [annotation(name) for name in NAMES]}


def written(folder: Path, found: Any, *, protocol: int = 4) -> Path:
    path = folder / "ntu60_hrnet.pkl"
    path.write_bytes(pickle.dumps(found, protocol=protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_it_reads_the_split_of_the_file(protocol: int, tmp_path: Path) -> None:
    written(tmp_path, content(), protocol=protocol)
    assert BENCHMARKS["ntu60"].missing(tmp_path, "xsub") == ()
    parts = BENCHMARKS["ntu60"].read(tmp_path, "xsub")
    assert isinstance(parts, Parts)
    assert parts.train.clips.key_N.tolist() == list(NAMES[:2])
    assert parts.test.clips.key_N.tolist() == [NAMES[2]]
    assert (parts.train.splits, parts.test.splits) == (("train",), ("test",))
    assert parts.train.clips.label_N.tolist() == [0, 59]
    assert parts.train.clips.subject_N.tolist() == [1, 3]
    assert parts.train.clips.camera_N.tolist() == [1, 2]
    clip = parts.train.clip(0)
    assert (clip.width, clip.height) == (1920, 1080)
    assert clip.joints_MTJC[0, 0, :2].tolist() == [[1, 2, 0.5], [3, 4, 0.5]]
    assert not clip.joints_MTJC[1, 2:].any()  # at (0, 0) nothing was found


def test_a_clip_of_no_part_is_left_out(tmp_path: Path) -> None:
    written(tmp_path, content())
    parts = BENCHMARKS["ntu60"].read(tmp_path, "xview")
    assert isinstance(parts, Parts)
    assert (len(parts.train), len(parts.test)) == (1, 1)


def test_numbers_of_numpy_are_labels_too(tmp_path: Path) -> None:
    written(tmp_path, content(*(annotation(name, label=np.int64(int(name[-3:]) - 1)) for name in NAMES)))
    assert len(BENCHMARKS["ntu60"].read(tmp_path, "xsub").train) == 2  # type: ignore[arg-type]


def test_what_is_missing_is_named() -> None:
    (lacking,) = BENCHMARKS["ntu120"].missing(Path("nowhere"), "xset")
    assert lacking.path == Path("nowhere/ntu120_hrnet.pkl")
    assert "pyskl" in lacking.page
    with pytest.raises(MissingFilesError, match="ntu120_hrnet"):
        BENCHMARKS["ntu120"].read(Path("nowhere"), "xset")


class Hostile:
    """Unpickled by Python itself, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_nothing_in_a_hostile_file_is_run(protocol: int, tmp_path: Path) -> None:
    mark = tmp_path / "run"
    found = content()
    found["annotations"][0]["keypoint"] = Hostile(mark)
    path = written(tmp_path, found, protocol=protocol)
    with pytest.raises(DamagedFileError, match=r"ntu60_hrnet.*names"):
        ntu.read_annotations(path)
    assert not mark.exists()
    pickle.loads(path.read_bytes())
    assert mark.exists()  # so the file was one that does harm


def test_a_list_that_doubles_itself_is_no_bomb(tmp_path: Path) -> None:
    # Names of collections are refused, so a file has no way to copy what it holds.
    path = tmp_path / "ntu60_hrnet.pkl"
    path.write_bytes(b"\x80\x04ccollections\nOrderedDict\n)R.")
    with pytest.raises(DamagedFileError, match=r"collections\.OrderedDict"):
        ntu.read_annotations(path)


def test_copies_are_bounded_by_the_size_of_the_file(tmp_path: Path) -> None:
    # One text of a mebibyte, made bytes again and again out of the memo.
    encode = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R0"
    text = b"X" + (1 << 20).to_bytes(4, "little") + b"a" * (1 << 20) + b"q\x000"
    path = tmp_path / "ntu60_hrnet.pkl"
    path.write_bytes(b"\x80\x02" + text + encode * 20 + b"N.")
    with pytest.raises(DamagedFileError, match="copies more than"):
        ntu.read_annotations(path)


@pytest.mark.parametrize("cut", [0, 1, 40, -1])
def test_a_cut_file_is_named(cut: int, tmp_path: Path) -> None:
    path = written(tmp_path, content())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DamagedFileError, match="ntu60_hrnet"):
        ntu.read_annotations(path)


@pytest.mark.parametrize(
    "found",
    [[], {"split": {}}, {"split": [], "annotations": []}, {"split": {"xsub_train": [1]}, "annotations": []}, None],
)
def test_another_content_is_refused(found: Any, tmp_path: Path) -> None:
    path = written(tmp_path, found)
    with pytest.raises(DamagedFileError, match="ntu60_hrnet"):
        ntu.read_annotations(path)


@pytest.mark.parametrize(
    "changed",
    [
        {"label": 5},
        {"label": None},
        {"frame_dir": "../../etc/passwd"},
        {"frame_dir": 7},
        {"img_shape": (0, 1920)},
        {"img_shape": 3},
        {"keypoint": np.zeros((2, 5, 16, 2), np.float16)},
        {"keypoint": np.zeros((0, 5, 17, 2), np.float16), "keypoint_score": np.zeros((0, 5, 17), np.float16)},
        {"keypoint": np.zeros((2, 5, 17, 2), np.int16)},
        {"keypoint": [1, 2]},
        {"keypoint": np.full((2, 5, 17, 2), np.inf, np.float16)},
        {"keypoint_score": np.zeros((2, 4, 17), np.float16)},
    ],
)
def test_a_damaged_annotation_is_named_with_its_number(changed: dict[str, Any], tmp_path: Path) -> None:
    written(tmp_path, content(annotation(NAMES[0]), annotation(NAMES[1], **changed), annotation(NAMES[2])))
    with pytest.raises(DamagedFileError, match=r"ntu60_hrnet\.pkl, annotation 1"):
        BENCHMARKS["ntu60"].read(tmp_path, "xsub")


def test_an_annotation_without_joints_is_named(tmp_path: Path) -> None:
    bare = annotation(NAMES[0])
    del bare["keypoint"]
    written(tmp_path, content(bare))
    with pytest.raises(DamagedFileError, match="annotation 0 is not a valid annotation"):
        BENCHMARKS["ntu60"].read(tmp_path, "xsub")


def test_a_clip_in_both_parts_or_an_empty_part_is_refused(tmp_path: Path) -> None:
    both, empty = content(), content()
    both["split"]["xsub_val"] = [NAMES[0]]
    empty["split"]["xsub_val"] = []
    for found, words in ((both, "in common"), (empty, "no clips of")):
        written(tmp_path, found)
        with pytest.raises(DamagedFileError, match=words):
            BENCHMARKS["ntu60"].read(tmp_path, "xsub")


def test_a_clip_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    written(tmp_path, content(*(annotation(name) for name in (*NAMES, NAMES[0]))))
    with pytest.raises(DamagedFileError, match="1 clips more than once"):
        BENCHMARKS["ntu60"].read(tmp_path, "xsub")


def test_steps_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, content())
    monkeypatch.setattr(ntu, "MAX_CLIPS", 1)
    monkeypatch.setattr(ntu, "_MAX_OPCODES_PER_CLIP", 50)
    with pytest.raises(DamagedFileError, match="more than 50 steps"):
        ntu.read_annotations(path)
