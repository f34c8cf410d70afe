"""Readers on files in the owners' formats, and on damaged ones; real sets where they are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from tmor_train.benchmarks import (
    BENCHMARKS,
    Events,
    FrameParts,
    NoBenchmark,
    Parts,
    Recordings,
    benchmark,
    smarthome,
    tsu,
    uav_human,
)
from tmor_train.data import Clip, from_clips
from tmor_train.data.sets.files import DamagedFile

DATA = Path(__file__).parents[3] / "../shared/data"
real = pytest.mark.skipif(not (DATA / "skeletons").is_dir(), reason="the real sets are not at hand")


def _recording(bounds: str) -> Recordings:
    clip = Clip(key="a", joints_MTJC=np.ones((1, 6, 13, 3), np.float32), layout="penn13", width=9, height=9)
    one, two = np.array([0, 0]), np.array([0, 1])
    events = Events(one, two, np.array([1.0, 5.0]), np.array([4.0, 2.0]), bounds)  # type: ignore[arg-type]
    return Recordings(from_clips([clip]), ("x", "y"), events)


def test_labels_are_strict_or_closed_and_an_inverted_event_has_none() -> None:
    assert np.flatnonzero(_recording("strict").labels(0)[:, 0]).tolist() == [2, 3]
    assert np.flatnonzero(_recording("closed").labels(0)[:, 0]).tolist() == [1, 2, 3, 4]
    assert not _recording("closed").labels(0)[:, 1].any()


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(NoBenchmark, match="did you mean smarthome"):
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
    with pytest.raises(DamagedFile, match="Walk_p03"):
        smarthome.read_poses(path)


def test_uav_human_reads_two_people_and_names_a_cut_file(tmp_path: Path) -> None:
    body = [
        "72057594037944738 0 1 1 1 1 0 0.0 0.0 2",
        "17",
        *(f"{j + 1}.0 {j + 2}.0 0 0 0 0 0 0 0 0 0 2" for j in range(17)),
    ]
    path = tmp_path / "P001S00G10B10H50UC022000LC021000A007R0_08241716.skeleton"
    path.write_text("\n".join(["2", "1", *body, "2", *body, *body]))
    joints = uav_human.read_skeleton(path)
    assert joints.shape == (2, 2, 17, 3)
    assert joints[1, :, 0].tolist() == [[0, 0, 0], [1, 2, 1]]
    path.write_text("\n".join(["2", "1", *body]))
    with pytest.raises(DamagedFile, match="P001S00"):
        uav_human.read_skeleton(path)


def test_uav_human_has_the_published_numbers_of_subjects() -> None:
    assert [len(uav_human.TRAIN_SUBJECTS[p]) for p in ("CSv1", "CSv2")] == [89, 89]


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
