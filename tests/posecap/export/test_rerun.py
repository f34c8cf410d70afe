"""Rerun recordings, read back by Rerun's own reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posecap
from posecap.engines.pyav_encoder import PyAVEncoder
from posecap.export import Clips, ExportError, export
from posecap.types import PartName
from tests import building, built

pytest.importorskip("rerun", reason="needs posecap[rerun]")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the first clip, which has video, nobody is seen in frame 1, and one wrist is not in frame 2."""
    path = tmp_path_factory.mktemp("dataset")
    joints = building.walkers(people=2, frames=4)
    joints[:, 1] = 0
    joints[0, 2, 9] = 0
    parts = built.with_another_split()
    row = building.row(row_id="gaps", uri="videos/gaps.mp4", label=None)
    made = building.sample(joints_MTJ3=joints, pts_T=[1.0, 1.1, 1.3, 1.4], seed=9, row=row)
    video = PyAVEncoder().encode(np.zeros((4, 180, 320, 3), np.uint8), made.pts_T)
    parts[built.FIRST][0] = replace(made, video_mp4=video)
    built.build(path, parts)
    return path


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "clips"
    assert export(root, path, form="rerun") == 7
    return path


def samples(root: Path) -> list[dict[str, Any]]:
    return list(posecap.open(root, seed=None, rank=0, world_size=1, split=None))


def columns(path: Path) -> tuple[str, dict[tuple[str, str], list[Any]]]:
    """The recording's id, and the values of all columns by entity and name."""
    from rerun.chunk import RrdReader

    reader = RrdReader(path)
    (recording,) = reader.recordings()
    found: dict[tuple[str, str], list[Any]] = {}
    for chunk in reader.stream():
        batch = chunk.to_record_batch()
        for name in batch.schema.names:
            found[chunk.entity_path, name] = batch.column(name).to_pylist()
    return recording.recording_id, found


def test_every_joint_is_there_with_its_frame_and_time(root: Path, folder: Path) -> None:
    for sample in samples(root):
        key, found = columns(folder / sample["facts"]["split"] / f"{sample['key']}.rrd")
        assert key == sample["key"]
        joints_MTJ3 = np.zeros(sample["joints"].shape, np.float32)
        for person in range(len(joints_MTJ3)):
            entity = f"/video/people/{person}"
            assert found[entity, "frame"] == list(range(joints_MTJ3.shape[1]))
            seconds = [time.total_seconds() for time in found[entity, "time"]]
            np.testing.assert_allclose(seconds, sample["pts"], atol=1e-6)
            names = ("Points2D:keypoint_ids", "Points2D:positions", "score")
            for frame, (numbers, places, scores) in enumerate(zip(*(found[entity, n] for n in names), strict=True)):
                for number, place, score in zip(numbers, places, scores, strict=True):
                    joints_MTJ3[person, frame, number] = (*place, score)
            assert {one for frame in found[entity, "Points2D:class_ids"] for one in frame} == {person}
        np.testing.assert_array_equal(joints_MTJ3, sample["joints"])


def test_boxes_classes_and_facts(root: Path, folder: Path) -> None:
    first, second = samples(root)[:2]
    _, found = columns(folder / "train" / f"{first['key']}.rrd")
    assert [len(boxes) for boxes in found["/video/people/0/box", "Boxes2D:centers"]] == [1, 0, 1, 1]
    (center,), (half,) = (found["/video/people/0/box", f"Boxes2D:{name}"][0] for name in ("centers", "half_sizes"))
    places_J2 = first["joints"][0, 0, :, :2].numpy()
    np.testing.assert_allclose(np.subtract(center, half), places_J2.min(0), atol=1e-3)
    np.testing.assert_allclose(np.add(center, half), places_J2.max(0), atol=1e-3)
    (((people,),),) = [value for (_, name), value in found.items() if name == "AnnotationContext:context"]
    assert [person["class_id"] for person in people] == [0, 1]
    description = people[1]["class_description"]
    assert description["info"]["label"] == "person 1"
    assert description["keypoint_annotations"][9]["label"] == "left_wrist"
    assert {"keypoint0": 7, "keypoint1": 5} in description["keypoint_connections"]
    clip = {name: value for (entity, name), (value, *_) in found.items() if entity == "/__properties/clip"}
    assert (clip["split"], clip["license"]) == (["train"], ["CC0-1.0"])
    assert "label" not in clip
    assert clip["captions"] == first["captions"]
    assert clip["jitter"] == [pytest.approx(first["facts"]["quality"]["jitter"])]
    _, other = columns(folder / "train" / f"{second['key']}.rrd")
    assert other["/__properties", "RecordingInfo:name"] == [[f"walking {second['key']}"]]


def test_video_is_there_where_it_is_stored(root: Path, folder: Path) -> None:
    """Its frames are those of the joints, whose pixels are twice as large."""
    first, second = samples(root)[:2]
    _, found = columns(folder / "train" / f"{first['key']}.rrd")
    assert found["/video", "VideoFrameReference:timestamp"] == [[0], [100_000_000], [300_000_000], [400_000_000]]
    assert found["/video/people", "Transform3D:scale"] == [[[0.5, 0.5, 1.0]]]
    assert len(found["/video", "AssetVideo:blob"]) == 1
    _, other = columns(folder / "train" / f"{second['key']}.rrd")
    assert not [name for _, name in other if "Video" in name or "Transform" in name]


def test_no_recording_is_kept_in_memory(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each that Rerun keeps has two threads."""
    whole, threads = Clips.samples, []

    def counted(self: Clips, fields: Any) -> Any:
        for sample in whole(self, fields):
            yield sample
            threads.append(len(list(Path("/proc/self/task").iterdir())))

    monkeypatch.setattr(Clips, "samples", counted)
    assert export(root, tmp_path / "clips", form="rerun") == 7
    assert threads[-1] <= threads[0] + 2


def test_a_video_that_is_none_or_of_other_frames(tmp_path: Path) -> None:
    for number, (video, says) in enumerate(
        [
            (b"not really an mp4" * 40, "Rerun cannot read its stored video"),
            (PyAVEncoder().encode(np.zeros((3, 36, 64, 3), np.uint8), np.arange(3.0)), "has 3 frames of 24"),
        ]
    ):
        made = building.sample(video_mp4=video)
        built.build(tmp_path / f"dataset-{number}", {PartName("train", 0): [made]})
        with pytest.raises(ExportError, match=f"clip {made.key}: .*{says}"):
            export(tmp_path / f"dataset-{number}", tmp_path / "clips", form="rerun")
        assert not list(tmp_path.glob("*clips*"))
