"""A dataset comes back from the FiftyOne dataset that was exported of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from posecap.export import export, fiftyone
from posecap.imports import ImportFileError, import_dataset
from posecap.shards import ShardError
from posecap.types import PartName
from posecap.verify import verify
from tests import building, built
from tests.posecap.imports.test_parquet import members


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """In the first clip nobody is seen in a frame, a wrist is not in another, and somebody never."""
    joints = building.walkers(people=2, frames=4)
    joints[:, 1] = 0
    joints[0, 2, 9] = 0
    joints[1] = 0
    parts = built.with_another_split()
    row = building.row(row_id="gaps", uri="videos/gaps.mp4", label=None)
    parts[built.FIRST][0] = building.sample(joints_MTJ3=joints, frames=4, seed=9, row=row)
    built.build(tmp_path / "dataset", parts)
    return tmp_path / "dataset"


@pytest.fixture
def source(root: Path, tmp_path: Path) -> Path:
    assert export(root, tmp_path / "clips", form="fiftyone") == 7
    return tmp_path / "clips"


@pytest.mark.parametrize("at_once", [100, 1 << 16])
def test_every_byte_of_the_samples_comes_back(
    root: Path, source: Path, tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fiftyone, "_READ_CHARACTERS", at_once)
    assert import_dataset(source, tmp_path / "copy") == 7
    assert members(tmp_path / "copy") == members(root)
    assert not verify(tmp_path / "copy").problems


def test_all_float32_come_back(tmp_path: Path) -> None:
    """Of any size: near the corner, at the far edge, and outside of the picture."""
    rng = np.random.default_rng(0)
    joints = building.walkers(people=1, frames=50)
    joints[..., :2] = rng.standard_normal((*joints.shape[:-1], 2)) * 10.0 ** rng.integers(-6, 5, (1, 50, 17, 1))
    joints[..., 2] = rng.random(joints.shape[:-1])
    facts = {"width": 1918, "height": 1078}
    made = building.sample(joints_MTJ3=joints, facts=facts)
    built.build(tmp_path / "dataset", {PartName("train", 0): [made]})
    export(tmp_path / "dataset", tmp_path / "clips", form="fiftyone")
    ((found, _),) = fiftyone.samples(tmp_path / "clips")
    np.testing.assert_array_equal(found.joints_MTJ3, made.joints_MTJ3)


def rewritten(source: Path, change: Callable[[list[Any], list[Any]], None]) -> None:
    """Change samples and frames, and write them as FiftyOne does: on one line, with spaces."""
    lists = [json.loads((source / f"{name}.json").read_text())[name] for name in ("samples", "frames")]
    change(*lists)
    for name, documents in zip(("samples", "frames"), lists, strict=True):
        (source / f"{name}.json").write_text(json.dumps({name: documents}))


def test_what_was_changed_in_fiftyone_comes_back_changed(root: Path, source: Path, tmp_path: Path) -> None:
    def change(samples: list[Any], frames: list[Any]) -> None:
        gone = samples.pop(1)["_id"]
        frames[:] = [frame for frame in frames if frame["_sample_id"] != gone]
        samples[0]["label"] = {"_cls": "Classification", "label": "jumping"}
        samples[1]["split"] = "val"
        frames[0]["keypoints"]["keypoints"][0]["points"][0] = [0.5, {"$numberDouble": "0.25"}]

    before = [sample for sample, _ in fiftyone.samples(source)]
    rewritten(source, change)
    assert import_dataset(source, tmp_path / "copy") == 6
    after = [sample for sample, _ in fiftyone.samples(source)]
    assert [sample.key for sample in after] == [sample.key for sample in (before[0], *before[2:])]
    assert (after[0].facts["label"], after[1].facts["split"]) == ("jumping", "val")
    np.testing.assert_array_equal(after[0].joints_MTJ3[0, 0, 0, :2], (320, 90))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda samples, frames: samples.clear(), "frames of samples that are not in samples.json"),
        (lambda samples, frames: (samples.clear(), frames.clear()), "it holds no clips"),
        (lambda samples, frames: frames.reverse(), "does not have its frames next"),
        (lambda samples, frames: frames.pop(0), "not numbered from 1 on"),
        (lambda samples, frames: samples[0].pop("key"), "has no key"),
        (lambda samples, frames: samples[0].pop("facts"), "not as an export writes it: KeyError"),
        (lambda samples, frames: samples[0].update(facts="[]"), "clip "),
        (lambda samples, frames: samples[0].update(video_vector={"$binary": {"base64": "AAAA"}}), "Error -3"),
        (lambda samples, frames: samples[0].update(text_vectors=samples[0]["video_vector"]), "with 2 axes"),
        (lambda samples, frames: samples[0].update(split="../up"), "split '../up' must be"),
        (lambda samples, frames: frames[0]["keypoints"]["keypoints"][0].update(index=9), "has the person 9, of 2"),
        (lambda samples, frames: frames[0]["keypoints"]["keypoints"][0]["points"].pop(), "points|shape|dimension"),
        (lambda samples, frames: frames[0].update(seconds={"$oid": "1"}), "is no number"),
        (lambda samples, frames: frames.insert(0, [1]), "a document is no object"),
    ],
)
def test_lists_of_others_are_checked(
    source: Path, tmp_path: Path, change: Callable[[list[Any], list[Any]], None], says: str
) -> None:
    rewritten(source, change)
    with pytest.raises(ImportFileError, match=says) as raised:
        import_dataset(source, tmp_path / "copy")
    assert str(raised.value).startswith(f"{source}: ")
    assert not list(tmp_path.glob("*copy*"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"samples":[' + "[" * 100_000, "nested too deeply"),
        ('{"samples":[{"key":"a', "a document is damaged"),
        ('{"samples":[', "samples.json is cut short"),
        ('{"frames":[]}', "does not begin with the list samples"),
        ('{"samples":[{"key":"' + "a" * 3_000, "more than 1000 characters"),
    ],
)
def test_damaged_lists(source: Path, tmp_path: Path, content: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fiftyone, "_READ_CHARACTERS", 100)
    monkeypatch.setattr(fiftyone, "MAX_DOCUMENT_CHARACTERS", 1000)
    (source / "samples.json").write_text(content)
    with pytest.raises(ImportFileError, match=says):
        import_dataset(source, tmp_path / "copy")


def test_arrays_that_are_larger_than_any(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fiftyone, "MAX_MEMBER_BYTES", 100)
    with pytest.raises(ShardError, match="are none, or too many"):
        next(fiftyone.samples(source))
    vector = json.loads((source / "samples.json").read_text())["samples"][0]["video_vector"]
    with pytest.raises(ShardError, match="takes more than 100 bytes"):
        fiftyone._read_array(vector, axes=1)
