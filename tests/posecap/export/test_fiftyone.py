"""FiftyOne's dataset format: its files, and what FiftyOne itself reads of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecap.export import ExportError, export
from posecap.types import PartName
from tests import building, built


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In the first clip, which has no label, nobody is seen in frame 1, and a wrist is not in frame 2; the second part
    has video."""
    path = tmp_path_factory.mktemp("dataset")
    joints = building.walkers(people=2, frames=4)
    joints[:, 1] = 0
    joints[0, 2, 9] = 0
    parts = built.with_another_split()
    row = building.row(row_id="gaps", uri="videos/gaps.mp4", label=None)
    parts[built.FIRST][0] = building.sample(joints_MTJ3=joints, frames=4, seed=9, row=row, video_mp4=b"an mp4" * 9)
    built.build(path, parts)
    return path


@pytest.fixture(scope="module")
def folder(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "clips"
    assert export(root, path, form="fiftyone") == 7
    return path


def documents(folder: Path, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / f"{name}.json").read_text())[name]
    return found


def test_videos_lie_where_samples_say(folder: Path) -> None:
    samples = documents(folder, "samples")
    there = [sample["filepath"] for sample in samples if (folder / sample["filepath"]).is_file()]
    assert there == [samples[0]["filepath"]] == [f"data/train/{samples[0]['key']}.mp4"]
    assert (folder / there[0]).read_bytes() == b"an mp4" * 9
    assert samples[-1]["filepath"].startswith("data/val/")


def test_a_document_is_a_line_and_ids_are_their_own(folder: Path) -> None:
    for name, count in (("samples", 7), ("frames", 4 + 6 + 7 + 8 + 9 + 10 + 11)):
        lines = (folder / f"{name}.json").read_text().splitlines()
        assert len(lines) == 1 + count
        assert len({one["_id"]["$oid"] for one in documents(folder, name)}) == count
    labels = [
        label["_id"]["$oid"]
        for frame in documents(folder, "frames")
        for kind in ("keypoints", "detections")
        for label in frame[kind][kind]
    ]
    assert len(set(labels)) == len(labels)


def test_clips_with_other_layouts_or_without_a_size(tmp_path: Path) -> None:
    rows = [building.row(row_id=f"row-{n}", uri=f"{n}.mp4") for n in range(3)]
    made = [building.sample(seed=n, row=row, layout=layout) for n, (row, layout)
            in enumerate(zip(rows, ("coco17", "h36m17"), strict=False))]  # fmt: skip
    made.append(building.sample(seed=2, row=rows[2], facts={"width": None}))
    built.build(tmp_path / "dataset", {PartName("train", 0): made})
    with pytest.raises(
        ExportError, match="a FiftyOne dataset has one layout of joints, and the clips have coco17, h36"
    ):
        export(tmp_path / "dataset", tmp_path / "clips", form="fiftyone")
    with pytest.raises(ExportError, match=f"clip {made[2].key} has no width and height"):
        export(tmp_path / "dataset", tmp_path / "clips", form="fiftyone", where='layout == "coco17"')
    assert not list(tmp_path.glob("*clips*"))


@pytest.fixture(scope="module")
def peer() -> Iterator[Any]:
    """FiftyOne with a database in memory: its own needs the binary of MongoDB, which pip cannot always bring."""
    mongomock = pytest.importorskip("mongomock", reason="needs fiftyone and mongomock")
    pytest.importorskip("fiftyone.core.config", reason="needs fiftyone and mongomock")
    with pytest.MonkeyPatch.context() as patch:
        client = mongomock.MongoClient()
        client._closed = False  # which pymongo's has
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        import fiftyone
        from fiftyone.core.odm import database

        connect = database.mongoengine.connect
        patch.setattr(fiftyone.config, "database_uri", "mongodb://localhost")
        patch.setattr(fiftyone.config, "database_validation", False)
        patch.setattr(fiftyone.config, "show_progress_bars", False)
        patch.setattr(database.pymongo, "MongoClient", lambda *_, **__: client)
        patch.setattr(
            database.mongoengine, "connect", lambda name, **_: connect(name, mongo_client_class=lambda **_: client)
        )
        yield fiftyone


def test_fiftyone_reads_everything(root: Path, folder: Path, peer: Any, tmp_path: Path) -> None:
    import posecap

    data = peer.Dataset.from_dir(str(folder), dataset_type=peer.types.FiftyOneDataset)
    assert data.media_type == "video"
    assert data.default_classes == ["walking"]
    assert data.default_skeleton.labels[9] == "left_wrist"
    assert [7, 5] in data.default_skeleton.edges  # left elbow, left shoulder
    samples = list(posecap.open(root, seed=None, rank=0, world_size=1, split=None))
    assert data.values("key") == [sample["key"] for sample in samples]
    for found, sample in zip(data, samples, strict=True):
        facts = sample["facts"]
        assert (found.id, found.tags, found.split) == (sample["key"], [facts["split"]], facts["split"])
        assert found.filepath == str(folder / "data" / facts["split"] / f"{sample['key']}.mp4")
        assert (found.label and found.label.label) == facts["label"]
        assert (found.captions, found.license) == (sample["captions"], facts["license"])
        assert (found.jitter, found.identity_switches) == (facts["quality"]["jitter"], 0)
        assert (found.metadata.frame_rate, found.metadata.total_frame_count) == (facts["fps"], facts["frames"])
        np.testing.assert_array_equal(found.video_vector, sample["video"])
        np.testing.assert_array_equal(found.text_vectors, sample["text"])
        joints_MTJ3 = np.zeros(sample["joints"].shape, np.float32)
        for number, frame in found.frames.items():
            assert frame.seconds == sample["pts"][number - 1]
            for keypoint, box in zip(frame.keypoints.keypoints, frame.detections.detections, strict=True):
                assert (keypoint.label, keypoint.index) == (box.label, box.index) == ("person", box.index)
                points_J3 = np.column_stack([np.array(keypoint.points) * (640, 360), keypoint.confidence])
                joints_MTJ3[keypoint.index - 1, number - 1] = np.nan_to_num(points_J3)
                left, top, width, height = np.multiply(box.bounding_box, (640, 360, 640, 360))
                np.testing.assert_allclose(np.nanmin(points_J3[:, :2], 0), (left, top), atol=1e-4)
                np.testing.assert_allclose(np.nanmax(points_J3[:, :2], 0), (left + width, top + height), atol=1e-4)
        np.testing.assert_array_equal(joints_MTJ3, sample["joints"])
    seen = [len(frame.keypoints.keypoints) for frame in data.first().frames.values()]
    assert seen == [2, 0, 2, 2]


def test_what_fiftyone_exports_comes_back(root: Path, folder: Path, peer: Any, tmp_path: Path) -> None:
    from posecap.imports import import_dataset
    from tests.posecap.imports.test_parquet import members

    data = peer.Dataset.from_dir(str(folder), dataset_type=peer.types.FiftyOneDataset)
    gone = data.skip(1).first()
    data.delete_samples([gone.id])
    data.export(str(tmp_path / "again"), dataset_type=peer.types.FiftyOneDataset, export_media=False)
    assert import_dataset(tmp_path / "again", tmp_path / "copy") == 6
    assert members(tmp_path / "copy") == [one for one in members(root) if one[0] != gone.key]
