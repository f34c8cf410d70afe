"""The files that data came from, and its clips, are recorded by their hashes, and what differs later is named."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from posecap.shards import write_dataset_list, write_part
from posecap.types import PartName
from tests import built
from tmor_train.data import Clip, MotionSet, from_clips, read_shards
from tmor_train.data.datasets.files import DatasetSource, read_text
from tmor_train.data.provenance import MOST_FILES, Inputs, Recorder, SeenClips, class_in_caption, recording

SOURCE = DatasetSource("a set", "https://example.org", "set.zip")


def read(place: Path, *, how: str = "auto") -> Inputs:
    with recording() as recorder:
        read_shards(place, read=how)  # type: ignore[arg-type]
    return recorder.inputs


def test_a_dataset_is_its_parts_files_and_what_made_them(tmp_path: Path) -> None:
    built.build(tmp_path)
    inputs = read(tmp_path)
    names = [name.removeprefix(f"{tmp_path}/") for name in inputs.as_json()["files"]]
    assert names == [
        "data/train/pose-00000.columns",
        "data/train/pose-00003.columns",
        "index/train-00000.parquet",
        "index/train-00003.parquet",
    ]
    for name, sha256 in inputs.files.items():
        assert hashlib.sha256(Path(name).read_bytes()).hexdigest() == sha256
    assert inputs.about[f"{tmp_path}: model made-up"] == "ab" * 32
    assert any(name.endswith("pose-00000.tar") for name in read(tmp_path, how="tar").files)


def test_another_pose_model_under_the_same_keys_is_named(tmp_path: Path) -> None:
    part = PartName("train", 0)
    samples = built.samples(2)
    built.build(tmp_path, {part: samples})
    before = read(tmp_path)
    moved = [replace(sample, joints_MTJ3=sample.joints_MTJ3 + np.float32(1)) for sample in samples]
    record = built.record(moved) | {"lineage": {"packages": {}, "weights": {"another": "cd" * 32}}}
    write_part(tmp_path, part, moved, record=record)
    write_dataset_list(tmp_path)
    now = read(tmp_path)
    found = before.differences(now)
    columns = f"{tmp_path}/data/train/pose-00000.columns"
    assert found.startswith(
        f"{tmp_path}: model another (cdcdcdcdcdcd) is new; {tmp_path}: model made-up (abababababab) is not there now; "
        f"{columns} was {before.files[columns][:12]} and is {now.files[columns][:12]}"
    )
    assert before.differences(before) == ""


def test_the_same_files_in_another_place_are_the_same() -> None:
    assert Inputs({"here/a": "1", "here/b": "2"}).differences(Inputs({"there/a": "1", "there/b": "2"})) == ""
    assert "here/b (2) is not there now" in Inputs({"here/a": "1", "here/b": "2"}).differences(Inputs({"there/a": "1"}))


def test_files_of_published_sets_are_recorded_as_they_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    read_text(tmp_path / "a.txt", source=SOURCE)  # nobody records
    with recording() as recorder:
        read_text(tmp_path / "a.txt", source=SOURCE)
    assert recorder.inputs.files == {(tmp_path / "a.txt").as_posix(): hashlib.sha256(b"words").hexdigest()}


def test_many_files_of_a_folder_are_one_entry() -> None:
    one, other = Recorder(), Recorder()
    for number in range(MOST_FILES + 1):
        one.add(f"set/{number}", "aa")
        other.add(f"set/{number}", "aa" if number else "bb")
    assert list(one.inputs.files) == [f"set/ ({MOST_FILES + 1:,} files)"]
    assert f"set/ ({MOST_FILES + 1:,} files) was" in one.inputs.differences(other.inputs)


@pytest.mark.parametrize("values", [None, {"files": {}}, {"files": {"a": 1}, "about": {}}, {"files": [], "about": {}}])
def test_a_damaged_record_is_named(values: object) -> None:
    with pytest.raises(ValueError, match="record of the data's files is damaged"):
        Inputs.from_json(values)
    whole = Inputs({"a": "b"}, {"c": "d"})
    assert Inputs.from_json(json.loads(json.dumps(whole.as_json()))) == whole


def clip(key: str, label: str | None, *captions: str, frames: int = 3) -> Clip:
    joints = np.ones((1, frames, 17, 3), np.float32)
    return Clip(key=key, joints_MTJC=joints, layout="coco17", width=9, height=9, label=label, captions=captions)


@pytest.fixture
def motions() -> MotionSet:
    return from_clips(
        [
            clip("a", "jumpingJacks", "somebody moves", "A person is doing jumping jacks."),
            clip("b", "squat", "bends the knees and stands up again"),
            clip("c", "squat", "bends the knees and stands up again"),
            clip("d", "squat", "a person in a park"),
            clip("e", "wave", "a person at home"),
            clip("f", "clap", "a person at home"),
            clip("g", None, "a person at home"),
            clip("h", "bow"),
        ]
    )


def test_a_caption_says_the_class_by_its_words_or_by_being_that_of_the_class_alone(motions: MotionSet) -> None:
    assert motions.clips.key_N[class_in_caption(motions)].tolist() == ["a", "b", "c"]
    assert class_in_caption(motions.select([7, 6, 2, 0])).tolist() == [False, False, False, True]


def test_clips_are_known_again_and_others_are_not(motions: MotionSet) -> None:
    seen = SeenClips.of(motions.select([0, 1, 3]), captions=True)
    assert seen.count(motions) == (3, 1)  # of b, whose sentence no other clip of the set has, nothing is known
    assert SeenClips.of(motions.select([0, 1, 3]), captions=False).count(motions) == (3, 0)
    for other in (clip("a", "jumpingJacks", frames=4), clip("a", "squat"), clip("x", "jumpingJacks")):
        assert seen.count(from_clips([other])) == (0, 0)
    both = seen.joined(SeenClips.of(motions.select([3, 4]), captions=True))
    assert both.count(motions) == (4, 1)
    assert SeenClips.from_state(both.state()).count(motions) == (4, 1)


@pytest.mark.parametrize(
    "state",
    [
        3,
        {},
        {"clips": torch.zeros(2, dtype=torch.int64)},
        {"clips": torch.zeros(2), "named": torch.zeros(2)},
        {"clips": torch.zeros(2, dtype=torch.int64), "named": torch.zeros(2, dtype=torch.bfloat16)},
    ],
)
def test_a_damaged_record_of_clips_is_named(state: object) -> None:
    with pytest.raises(ValueError, match="record of the clips that were trained on is damaged"):
        SeenClips.from_state(state)
