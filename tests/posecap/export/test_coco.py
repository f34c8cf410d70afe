"""COCO keypoints: read and evaluated by pycocotools, and read by mmpose's dataset."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posecap
from posecap.export import Clips, ExportError, export
from posecap.shards import remove_samples
from posecap.types import PartName
from tests import building, built


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts, five clips; in the first clip nobody is seen in frame 1, and a wrist is not in frame 2."""
    path = tmp_path_factory.mktemp("dataset")
    joints = building.walkers(people=2, frames=4)
    joints[:, 1] = 0
    joints[0, 2, 9] = 0
    parts = built.parts()
    row = building.row(row_id="gaps", uri="videos/gaps.mp4", label="wave")
    parts[built.FIRST][0] = building.sample(joints_MTJ3=joints, frames=4, seed=9, row=row)
    built.build(path, parts)
    return path


@pytest.fixture(scope="module")
def file(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "clips.json"
    assert export(root, path, form="coco") == 5
    return path


def samples(root: Path) -> list[dict[str, Any]]:
    return list(posecap.open(root, seed=None, rank=0, world_size=1, split=None))


class TestCoco:
    def test_pycocotools_reads_every_joint(self, root: Path, file: Path) -> None:
        coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools").COCO(str(file))
        (category,) = coco.loadCats(coco.getCatIds(catNms=["person"]))
        assert category["keypoints"][9:11] == ["left_wrist", "right_wrist"]
        assert [6, 8] in category["skeleton"]  # left shoulder to left elbow, numbered from 1
        for video, sample in zip(coco.dataset["videos"], samples(root), strict=True):
            assert (video["name"], video["label"]) == (sample["key"], sample["facts"]["label"])
            images = [image for image in coco.dataset["images"] if image["video_id"] == video["id"]]
            assert [image["seconds"] for image in images] == sample["pts"].tolist()
            joints_MTJ3 = np.zeros(sample["joints"].shape)
            for annotation in coco.loadAnns(coco.getAnnIds([image["id"] for image in images])):
                frame = coco.imgs[annotation["image_id"]]["frame_id"]
                found = np.array(annotation["keypoints"]).reshape(-1, 3)
                seen = found[:, 2] == 2
                assert seen.sum() == annotation["num_keypoints"] > 0
                found[:, 2] = annotation["keypoint_scores"]
                joints_MTJ3[annotation["track_id"], frame] = found
                left, top, width, height = annotation["bbox"]
                np.testing.assert_allclose(found[seen, :2].min(0), (left, top))
                np.testing.assert_allclose(found[seen, :2].max(0), (left + width, top + height))
                assert annotation["area"] == pytest.approx(width * height, abs=0.01)
            np.testing.assert_allclose(joints_MTJ3[..., :2], sample["joints"][..., :2], atol=0.0051)
            np.testing.assert_allclose(joints_MTJ3[..., 2], sample["joints"][..., 2], atol=0.00051)

    def test_frames_in_which_nobody_is_seen_are_images_without_annotations(self, file: Path) -> None:
        document = json.loads(file.read_text())
        people = [sum(a["image_id"] == image for a in document["annotations"]) for image in (1, 2, 3, 4)]
        assert people == [2, 0, 2, 2]
        third = [a for a in document["annotations"] if a["image_id"] == 3]
        assert [a["num_keypoints"] for a in third] == [16, 17]
        assert third[0]["keypoints"][27:30] == [0, 0, 0]
        ids = [a["id"] for a in document["annotations"]]
        assert ids == list(range(1, len(ids) + 1))

    def test_pycocotools_evaluates_it_as_equal_to_itself(self, file: Path) -> None:
        coco = pytest.importorskip("pycocotools.coco", reason="needs pycocotools").COCO(str(file))
        from pycocotools.cocoeval import COCOeval

        words = ("image_id", "category_id", "keypoints", "score")
        found = coco.loadRes([{word: one[word] for word in words} for one in coco.dataset["annotations"]])
        evaluation = COCOeval(coco, found, "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        assert evaluation.stats[0] == pytest.approx(1)

    @pytest.mark.slow
    def test_mmpose_reads_it(self, root: Path, file: Path) -> None:
        pytest.importorskip("mmpose", reason="needs posecap[mmpose]")
        from posecap.inference.package_compat import ensure_mmpose

        ensure_mmpose()
        from mmpose.datasets import CocoDataset

        data = CocoDataset(ann_file=str(file), data_prefix={"img": ""}, pipeline=[], test_mode=False)
        seen = [
            joints_J3
            for sample in samples(root)
            for joints_MJ3 in sample["joints"].numpy().transpose(1, 0, 2, 3)
            for joints_J3 in joints_MJ3
            if joints_J3.any()
        ]
        assert len(data) == len(seen)
        for item, joints_J3 in zip(map(data.get_data_info, range(len(data))), seen, strict=True):
            np.testing.assert_allclose(item["keypoints"][0], joints_J3[:, :2], atol=0.0051)
            np.testing.assert_array_equal(item["keypoints_visible"][0], joints_J3[:, 2] > 0)

    def test_each_layout_is_a_category(self, tmp_path: Path) -> None:
        made = [
            building.sample(seed=n, frames=3, layout=layout, row=building.row(row_id=layout, uri=f"{n}.mp4"))
            for n, layout in enumerate(("h36m17", "coco17"))
        ]
        built.build(tmp_path / "dataset", {PartName("train", 0): made})
        export(tmp_path / "dataset", tmp_path / "clips.json", form="coco")
        document = json.loads((tmp_path / "clips.json").read_text())
        assert [(one["id"], one["layout"]) for one in document["categories"]] == [(1, "coco17"), (2, "h36m17")]
        assert [one["category_id"] for one in document["annotations"]] == [2, 2, 2, 1, 1, 1]

    def test_a_dataset_that_changes_meanwhile(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        made = built.build(tmp_path / "dataset")
        whole = Clips.samples

        def then_remove(self: Clips, fields: Any) -> Any:
            yield from whole(self, fields)
            if "pts" in fields:
                remove_samples(tmp_path / "dataset", [made[built.SECOND][0].key], "on request")

        monkeypatch.setattr(Clips, "samples", then_remove)
        with pytest.raises(ExportError, match="came or went"):
            export(tmp_path / "dataset", tmp_path / "clips.json", form="coco")
        assert not list(tmp_path.glob("*clips.json*"))
