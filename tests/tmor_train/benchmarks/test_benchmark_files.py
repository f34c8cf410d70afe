"""Readers on files in the owners' formats, and on damaged ones; real sets where they are at hand."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from posecap.outcomes import RowOutcome
from posecap.shards import write_dataset_list, write_part
from posecap.types import PartName, Sample, Span
from tests import DATA, building, built
from tmor_train.benchmarks import (
    BENCHMARKS,
    Events,
    FrameParts,
    Parts,
    Recordings,
    UnknownBenchmarkError,
    benchmark,
    charades,
    smarthome,
    tsu,
    uav_human,
)
from tmor_train.data import Clip, from_clips
from tmor_train.data.datasets.files import DamagedFileError
from tmor_train.metrics.average_precision import OVERLAPS


def real(test: Callable[..., None]) -> Callable[..., None]:
    """A test on the real sets."""
    there = pytest.mark.skipif(not (DATA / "skeletons").is_dir(), reason=f"the real sets are not at {DATA}")
    return pytest.mark.data(there(test))


def _recording(bounds: str) -> Recordings:
    clip = Clip(key="a", joints_MTJC=np.ones((1, 6, 13, 3), np.float32), layout="penn13", width=9, height=9)
    one, two = np.array([0, 0]), np.array([0, 1])
    events = Events(one, two, np.array([1.0, 5.0]), np.array([4.0, 2.0]), bounds)  # type: ignore[arg-type]
    return Recordings(from_clips([clip]), ("x", "y"), events)


def test_labels_are_strict_or_closed_and_an_inverted_event_has_none() -> None:
    assert np.flatnonzero(_recording("strict").labels(0)[:, 0]).tolist() == [2, 3]
    assert np.flatnonzero(_recording("closed").labels(0)[:, 0]).tolist() == [1, 2, 3, 4]
    assert not _recording("closed").labels(0)[:, 1].any()


def test_the_metric_of_the_papers_is_one_of_the_results() -> None:
    names = {
        "clips": {"top1", "mean_per_class"},
        "frames": {"nonzero", "all_classes"},
        "events": {f"action_{overlap:g}" for overlap in OVERLAPS},
    }
    for one in BENCHMARKS.values():
        assert one.primary_metric in names[one.task]


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownBenchmarkError, match="did you mean smarthome"):
        benchmark("smarthom")


@pytest.mark.parametrize("name", sorted(BENCHMARKS))
def test_each_says_what_an_empty_folder_lacks(name: str, tmp_path: Path) -> None:
    for protocol in BENCHMARKS[name].protocols:
        missing = BENCHMARKS[name].missing(tmp_path, protocol)
        assert missing
        assert all(str(tmp_path) in str(entry) for entry in missing)


def _smarthome(folder: Path, clip: str, people: list[list[float]]) -> None:
    (folder / f"{clip}.json").write_text(json.dumps({"njts": 13, "frames": [[{"pose2d": p} for p in people]]}))


def test_smarthome_reads_lcrnet_order(tmp_path: Path) -> None:
    pose = [float(n) for n in range(1, 27)]
    for clip in ("Walk_p03_r01_v16_c06", "Walk_p02_r01_v16_c02", "Pour.Fromcup_p03_r00_v01_c01"):
        _smarthome(tmp_path, clip, [pose])
    parts = smarthome.SMARTHOME.read(tmp_path, "CS")
    assert isinstance(parts, Parts)
    assert parts.validation is None
    assert (len(parts.train), len(parts.test)) == (1, 1)
    joints = parts.train.clip(0).joints_MTJC[0, 0]
    assert joints[0].tolist() == [13, 26, 1]  # the head is LCR-Net's last
    assert joints[11].tolist() == [2, 15, 1]  # the left ankle its second


@pytest.mark.parametrize("content", ["{", "[]", '{"frames": []}', '{"frames": [[{"pose2d": [1]}]]}', '{"frames": 3}'])
def test_damaged_smarthome_files_are_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "Walk_p03_r01_v16_c06.json"
    path.write_text(content)
    with pytest.raises(DamagedFileError, match="Walk_p03"):
        smarthome.read_poses(path)


def test_uav_human_reads_two_people_and_names_a_cut_file(tmp_path: Path) -> None:
    body = [
        "72057594037944738 0 1 1 1 1 0 0.0 0.0 2",
        "17",
        *(f"{j + 1}.0 {j + 2}.0 0 0 0 0 0 0 0 0 0 2" for j in range(17)),
    ]
    path = tmp_path / "P001S00G10B10H50UC022000LC021000A007R0_08241716.txt"
    path.write_text("\n".join(["2", "1", *body, "2", *body, *body]))
    joints = uav_human.read_skeleton(path)
    assert joints.shape == (2, 2, 17, 3)
    assert joints[1, :, 0].tolist() == [[0, 0, 0], [1, 2, 1]]
    path.write_text("\n".join(["2", "1", *body]))
    with pytest.raises(DamagedFileError, match="P001S00"):
        uav_human.read_skeleton(path)


def test_uav_human_follows_people_by_their_ids(tmp_path: Path) -> None:
    def body(identity: str, x: int) -> list[str]:
        return [f"{identity} 0 1", "17", *[f"{x} {x} 0 0"] * 17]

    path = tmp_path / "P001S00G10B10H50UC022000LC021000A007R0_08241716.txt"
    path.write_text("\n".join(["2", "2", *body("5", 10), *body("6", 20), "2", *body("6", 21), *body("5", 11)]))
    assert uav_human.read_skeleton(path)[:, :, 0, 0].tolist() == [[10, 11], [20, 21]]
    assert uav_human.UAV_HUMAN.reading == 2  # files read by place gave other clips


def test_uav_human_has_the_published_subjects() -> None:
    subjects = [uav_human.TRAIN_SUBJECTS[p] for p in ("CSv1", "CSv2")]
    assert [len(found) for found in subjects] == [89, 89]
    assert [sum(found) for found in subjects] == [5005, 5604]  # of the lists in the owners' README, written out
    assert all(max(found) == 118 and min(found) == 0 for found in subjects)
    assert len(subjects[0] & subjects[1]) == 64


@pytest.mark.parametrize("ending", ["txt", "skeleton"])
def test_uav_human_parts_follow_from_the_subject_in_the_name(ending: str, tmp_path: Path) -> None:
    joints = "\n".join(f"{j + 1}.0 {j + 2}.0 0 0 0 0 0 0 0 0 0 2" for j in range(17))
    for subject in (0, 1, 2, 3):  # CSv1 trains on 0 and 2, CSv2 on 0 and 3
        name = f"P{subject:03d}S00G10B10H10UC022000LC021000A{150 + subject}R0_08241716.{ending}"
        (tmp_path / name).write_text(f"1\n1\n7 0 1 1 1 1 0 0 0 2\n17\n{joints}\n")
    (tmp_path / "readme.txt").write_text("not a clip")
    for protocol, train, test in (("CSv1", [0, 2], [1, 3]), ("CSv2", [0, 3], [1, 2])):
        assert BENCHMARKS["uav_human"].missing(tmp_path, protocol) == ()
        parts = BENCHMARKS["uav_human"].read(tmp_path, protocol)
        assert isinstance(parts, Parts)
        assert parts.train.clips.subject_N.tolist() == train
        assert parts.test.clips.subject_N.tolist() == test
        assert parts.test.clips.label_N.tolist() == [150 + subject for subject in test]


def _tsu(folder: Path, *, frames: int, **changed: object) -> None:
    (folder / "poses").mkdir(exist_ok=True)
    for name in ("P11T13C03", "P03T01C01"):
        np.savez(folder / "poses" / f"{name}_LCRNet2d.npz", kpts=np.ones((frames, 17, 2), np.float32))
    entry = {"subset": "training", "duration": 40, "actions": [[17, 10, 20]], **changed}
    known = {"P03T01C01": entry, "P11T13C03": {**entry, "subset": "testing"}}
    (folder / "smarthome_CS_51.json").write_text(json.dumps(known))


@pytest.mark.parametrize(("frames", "positive"), [(40, list(range(11, 20))), (20, [6, 7, 8, 9])])
def test_tsu_times_follow_the_rate_of_the_poses(frames: int, positive: list[int], tmp_path: Path) -> None:
    _tsu(tmp_path, frames=frames)
    parts = tsu.TSU.read(tmp_path, "CS")
    assert isinstance(parts, FrameParts)
    assert np.flatnonzero(parts.test.labels(0)[:, 17]).tolist() == positive
    assert parts.train.motions.clips.key_N.tolist() == ["P03T01C01"]


@pytest.mark.parametrize(
    "changed",
    [
        {"duration": 0},
        {"duration": 10**9},
        {"duration": "long"},
        {"subset": "validation"},
        {"actions": [[51, 1, 2]]},
        {"actions": [[1, 2]]},
        {"actions": [[1, "NaN", 2]]},
    ],
)
def test_damaged_tsu_annotations_are_named(changed: dict[str, object], tmp_path: Path) -> None:
    _tsu(tmp_path, frames=4, **changed)
    with pytest.raises(DamagedFileError, match="smarthome_CS_51"):
        tsu.read_annotations(tmp_path / "smarthome_CS_51.json")


HEADER = "id,actions,length"


@pytest.mark.parametrize(
    "line",
    [
        "A,c157 1 2,3",
        "A,c001 1,3",
        "A,c001 1 nan,3",
        "A,c001 1 2,0",
        "A,c001 1 2,",
        "A,c001 1 1e9,3",
        "A,drink 1 2,3",
        "A,c001 1 2,3\nA,c002 1 2,3",
    ],
)
def test_damaged_charades_annotations_are_named(line: str, tmp_path: Path) -> None:
    path = tmp_path / "Charades_v1_test.csv"
    path.write_text(f"{HEADER}\nB,,5\nC,c001 0 2;c002 1.5 3,5\n")
    assert charades.actions(path) == {"B": [], "C": [(1, 0, 2), (2, 1.5, 3)]}
    path.write_text(f"{HEADER}\n{line}\n")
    with pytest.raises(DamagedFileError, match="Charades_v1_test"):
        charades.actions(path)


def _charades(folder: Path, samples: list[Sample], lost: Sequence[RowOutcome] = ()) -> None:
    """A folder of Charades: A and B to train on, C to test, with poses of these samples, and rows without any."""
    (folder / "Charades_v1_train.csv").write_text(f"{HEADER}\nA,c001 0.1 0.19,3\nB,,5\n")
    (folder / "Charades_v1_test.csv").write_text(f"{HEADER}\nC,c000 0.1 9,3\n")
    (folder / "Charades_v1_classes.txt").write_text("".join(f"c{n:03d} Action {n}\n" for n in range(157)))
    write_part(folder / "shards", PartName("train", 0), samples, record=built.record(samples, more=lost))
    write_dataset_list(folder / "shards")


def _video(name: str, seed: int, first_seconds: float = 0.0) -> Sample:
    span = Span(first_seconds, first_seconds + 0.4)
    pts_T = first_seconds + np.arange(10) / 25
    return building.sample(row=building.row(row_id=name), span=span, seed=seed, frames=10, people=1, pts_T=pts_T)


def test_charades_that_posecap_built_is_found_by_its_row_ids(tmp_path: Path) -> None:
    _charades(tmp_path, [_video("C", 1), _video("A", 2, 0.12), _video("B", 3), _video("elsewhere", 4)])
    parts = charades.CHARADES.read(tmp_path, "official")
    assert isinstance(parts, FrameParts)
    train, test = parts.train, parts.test
    assert (len(train.motions), len(test.motions)) == (2, 1)
    times = [0.12 + frame / 25 for frame in range(10)]  # of video A's frames: its clip begins there
    assert np.flatnonzero(train.labels(0)[:, 1]).tolist() == [n for n, time in enumerate(times) if 0.1 < time < 0.19]
    assert not train.labels(1).any()
    assert np.flatnonzero(test.labels(0)[:, 0]).tolist() == list(range(3, 10))


def test_charades_whose_videos_were_split_or_left_out_is_refused(tmp_path: Path) -> None:
    one, other = tmp_path / "split", tmp_path / "lacking"
    for folder in (one, other):
        folder.mkdir()
    _charades(one, [_video("A", 2), _video("A", 5, 2.0), _video("B", 3), _video("C", 1)])
    with pytest.raises(DamagedFileError, match=r"1 videos are several clips, such as A \(2\); .*start_seconds: 0"):
        charades.CHARADES.read(one, "official")
    _charades(other, [_video("A", 2), _video("C", 1)])
    with pytest.raises(DamagedFileError, match="lacks 1 of the 2 train videos, such as B"):
        charades.CHARADES.read(other, "official")


def test_charades_without_the_videos_that_were_rejected_is_read(tmp_path: Path) -> None:
    lost = [
        RowOutcome(row_id=name, uri=f"{name}.mp4", status="rejected", stage="track", reason="no_person_found")
        for name in ("B", "elsewhere")
    ]
    _charades(tmp_path, [_video("C", 1), _video("A", 2)], lost)
    parts = charades.CHARADES.read(tmp_path, "official")
    assert isinstance(parts, FrameParts)
    assert (len(parts.train.motions), len(parts.test.motions)) == (1, 1)
    assert parts.notes == (
        "1 train videos and 0 test videos are left out, of which the dataset has no clip (no_person_found 1)",
    )


@pytest.mark.parametrize("word", ["val", "valid", "validation", "dev"])
def test_a_dataset_is_split_by_its_own_splits_whatever_the_word_for_validation(word: str, tmp_path: Path) -> None:
    counts = {"train": 3, word: 2, "test": 1, "extra": 1}
    parts = {PartName(split, 0): built.samples(count, split=split) for split, count in counts.items()}
    built.build(tmp_path, parts)
    found = benchmark("shards").read(tmp_path, "own")
    assert isinstance(found, Parts)
    assert found.validation is not None
    assert (len(found.train), len(found.validation), len(found.test)) == (3, 2, 1)


@real
@pytest.mark.parametrize(
    ("name", "protocol", "train", "test"),
    [("penn_action", "official", 1258, 1068), ("utd_mhad", "cross_subject", 431, 430), ("sbu", "fold1", None, None)],
)
def test_real_sets_have_their_official_parts(name: str, protocol: str, train: int | None, test: int | None) -> None:
    folder = DATA / "skeletons" / name
    assert not BENCHMARKS[name].missing(folder, protocol)
    parts = BENCHMARKS[name].read(folder, protocol)
    assert isinstance(parts, Parts)
    if train is None:
        assert len(parts.train) + len(parts.test) == 282
    else:
        assert (len(parts.train), len(parts.test)) == (train, test)


@real
def test_utkinect_recordings_have_their_segments() -> None:
    parts = BENCHMARKS["utkinect"].read(DATA / "skeletons/utkinect", "subjects")
    assert isinstance(parts, FrameParts)
    assert (len(parts.train.motions), len(parts.test.motions)) == (10, 10)
    assert len(parts.train.events.class_E) + len(parts.test.events.class_E) == 199


@real
def test_the_tsu_recording_is_one_clip(tmp_path: Path) -> None:
    (tmp_path / "poses").mkdir()
    name = "P11T13C03_LCRNet2d.npz"
    (tmp_path / "poses" / name).symlink_to((DATA / "skeletons/tsu_sample" / name).resolve())
    (tmp_path / "smarthome_CS_51.json").symlink_to((DATA / "benchmarks/tsu/smarthome_CS_51.json").resolve())
    parts = tsu.SAMPLE.read(tmp_path, "itself")
    assert isinstance(parts, FrameParts)
    assert parts.test.motions.clips.frames_N.tolist() == [34520]
    assert parts.test.labels(0).shape == (34520, 51)
    assert parts.test.labels(0).any()
