"""The pyskl pickle: plain values only, read by mmaction2's dataset, streamed."""

from __future__ import annotations

import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import posecap
from posecap.export import ExportError, export
from posecap.files import OutputExistsError
from posecap.shards import ShardError
from posecap.types import PartName
from posecap.weights.unpickle import ARRAY_NAMES, unpickle
from tests import building, built


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts of three samples and one of another split; labels are squat, wave and none."""
    path = tmp_path_factory.mktemp("dataset")
    labels = ("wave", "squat", None)

    def labelled(number: int, split: str) -> Any:
        row = building.row(row_id=f"row-{number}", split=split, uri=f"videos/{number}.mp4", label=labels[number % 3])
        return building.sample(people=1 + number % 2, frames=5 + number, seed=number, row=row)

    parts = {PartName("train", part): [labelled(3 * part + n, "train") for n in range(3)] for part in range(2)}
    built.build(path, {**parts, PartName("val", 0): [labelled(6, "val")]})
    return path


@pytest.fixture(scope="module")
def file(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("out") / "clips.pkl"
    assert export(root, path, form="pyskl") == 7
    return path


def samples(root: Path, **options: Any) -> list[dict[str, Any]]:
    return list(posecap.open(root, seed=None, rank=0, world_size=1, **{"split": None, **options}))


class TestPyskl:
    def test_holds_nothing_but_containers_and_arrays(self, root: Path, file: Path) -> None:
        with file.open("rb") as opened:
            document = unpickle(opened, names=ARRAY_NAMES)
        assert document.keys() == {"annotations", "split", "label_names"}
        assert document["label_names"] == ["squat", "wave"]
        assert [one["label"] for one in document["annotations"]] == [1, 0, -1, 1, 0, -1, 1]
        for sample, found in zip(samples(root), document["annotations"], strict=True):
            assert found["frame_dir"] == sample["key"]
            assert found["img_shape"] == (sample["facts"]["height"], sample["facts"]["width"]) == (360, 640)
            assert found["total_frames"] == sample["joints"].shape[1]
            joined = np.concatenate([found["keypoint"], found["keypoint_score"][..., None]], -1)
            np.testing.assert_array_equal(joined, sample["joints"].numpy())
            assert joined.dtype == np.float32
        keys = {split: [s["key"] for s in samples(root, split=split)] for split in ("train", "val")}
        assert document["split"] == keys

    def test_is_what_pickle_itself_reads(self, file: Path) -> None:
        ours = pickle.loads(file.read_bytes())
        with file.open("rb") as opened:
            theirs = unpickle(opened, names=ARRAY_NAMES)
        for one, other in zip(ours["annotations"], theirs["annotations"], strict=True):
            for name in ("keypoint", "keypoint_score"):
                np.testing.assert_array_equal(one.pop(name), other.pop(name))
        assert ours == theirs

    def test_names_only_what_numpy_1_has_and_keeps_a_small_memo(self, file: Path) -> None:
        opcodes = [(opcode.name, value) for opcode, value, _ in pickletools.genops(file.read_bytes())]
        assert {value for name, value in opcodes if name == "GLOBAL"} == {
            "numpy.core.multiarray _reconstruct",
            "numpy ndarray",
            "numpy dtype",
        }
        assert max(value for name, value in opcodes if name == "BINPUT") == 102

    def test_many_labels_and_clips_of_one_split(self, tmp_path: Path) -> None:
        names = [f"label {number:03}" for number in range(130)]
        rows = [building.row(row_id=name, label=name, split="val", uri=f"{name}.mp4") for name in names[:2]]
        made = [building.sample(frames=3, seed=number, row=row) for number, row in enumerate(rows)]
        other = [building.sample(frames=3, seed=9 + n, row=building.row(row_id=f"t{n}", label=name, uri=f"t{n}.mp4"))
                 for n, name in enumerate(names[2:])]  # fmt: skip
        built.build(tmp_path / "dataset", {PartName("val", 0): made, PartName("train", 0): other})
        assert export(tmp_path / "dataset", tmp_path / "val.pkl", form="pyskl", split="val") == 2
        document = pickle.loads((tmp_path / "val.pkl").read_bytes())
        # Labels of other splits keep their numbers.
        assert document["label_names"] == names
        assert [one["label"] for one in document["annotations"]] == [0, 1]
        assert list(document["split"]) == ["val"]

    def test_mmaction2_reads_it(self, root: Path, file: Path) -> None:
        reason = "needs mmaction2 (pip install --no-deps mmaction2==1.2.0, beside posecap[mmpose])"
        datasets = pytest.importorskip("mmaction.datasets", reason=reason)
        mmengine = pytest.importorskip("mmengine")
        transforms = [
            {"type": "PreNormalize2D"},
            {"type": "GenSkeFeat", "dataset": "coco", "feats": ["j"]},
            {"type": "UniformSampleFrames", "clip_len": 4, "num_clips": 1},
            {"type": "PoseDecode"},
            {"type": "FormatGCNInput", "num_person": 2},
            {"type": "PackActionInputs"},
        ]
        labels = {"squat": 0, "wave": 1, None: -1}
        with mmengine.registry.DefaultScope.overwrite_default_scope("mmaction"):
            for split, expected in (("train", 6), ("val", 1)):
                data = datasets.PoseDataset(ann_file=str(file), pipeline=transforms, split=split)
                assert len(data) == expected
                for number, sample in enumerate(samples(root, split=split)):
                    item = data[number]
                    assert item["inputs"].shape == (1, 2, 4, 17, 3)
                    assert item["data_samples"].gt_label.item() == labels[sample["facts"]["label"]]

    def test_layouts_are_not_mixed(self, tmp_path: Path) -> None:
        made = [building.sample(seed=n, layout=layout, row=building.row(row_id=layout, uri=f"{n}.mp4"))
                for n, layout in enumerate(("coco17", "h36m17"))]  # fmt: skip
        built.build(tmp_path / "dataset", {PartName("train", 0): made})
        with pytest.raises(ExportError, match="coco17, h36m17: choose one, as with --where"):
            export(tmp_path / "dataset", tmp_path / "clips.pkl", form="pyskl")
        where = 'layout == "h36m17"'
        assert export(tmp_path / "dataset", tmp_path / "clips.pkl", form="pyskl", where=where) == 1

    def test_a_clip_without_a_size_is_named(self, tmp_path: Path) -> None:
        (made,) = built.samples(1, facts={"width": None})
        built.build(tmp_path / "dataset", {PartName("train", 0): [made]})
        with pytest.raises(ExportError, match=f"clip {made.key} has no width and height"):
            export(tmp_path / "dataset", tmp_path / "clips.pkl", form="pyskl")
        assert not list(tmp_path.glob("*clips.pkl*"))


class TestExport:
    def test_unknown_format(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(ExportError, match="there is no format 'pysk': did you mean 'pyskl'"):
            export(root, tmp_path / "clips.pkl", form="pysk")

    def test_no_clips(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(ShardError, match="holds no samples"):
            export(root, tmp_path / "clips.pkl", form="pyskl", split="test")
        assert not list(tmp_path.iterdir())

    def test_a_file_is_replaced_when_asked_to(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "clips.pkl").write_text("mine")
        with pytest.raises(OutputExistsError, match="--overwrite"):
            export(root, tmp_path / "clips.pkl", form="pyskl")
        assert export(root, tmp_path / "clips.pkl", form="pyskl", existing="replace") == 7

    def test_clips_are_written_as_they_are_read(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from posecap.export import Clips

        whole, alive = Clips.samples, []

        def counted(self: Clips, fields: Any) -> Any:
            import weakref

            for sample in whole(self, fields):
                joints = sample["joints"]
                alive.append(weakref.ref(joints))
                del joints
                yield sample
                del sample
                assert sum(known() is not None for known in alive) <= 2

        monkeypatch.setattr(Clips, "samples", counted)
        assert export(root, tmp_path / "clips.pkl", form="pyskl") == 7
