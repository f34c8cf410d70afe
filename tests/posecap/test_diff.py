"""What a build notices between the dataset on disk and what is asked for."""

from dataclasses import replace
from pathlib import Path

import pytest

from posecap.diff import Change, compare, explain
from posecap.pipeline import Pipeline, load_pipeline
from posecap.shards import write_part
from posecap.types import PartName
from tests import ROOT, built

DEMO = ROOT / "pipelines" / "demo.py"
PART, OTHER = PartName("train", 0), PartName("train", 1)


@pytest.fixture
def pipeline() -> Pipeline:
    return load_pipeline(DEMO)


def write(root: Path, part: PartName, pipeline: Pipeline, fingerprint: str) -> None:
    kept = built.samples(1, first=part.number)
    made_by = {"pipeline": pipeline.configuration(), "lineage": pipeline.lineage()}
    write_part(root, part, kept, record={**built.record(kept), "fingerprint": fingerprint, **made_by})


def changed(pipeline: Pipeline, stage: str, **parameters: object) -> Pipeline:
    stages = tuple(replace(s, **parameters) if s.name == stage else s for s in pipeline.stages)
    return replace(pipeline, stages=stages)


def found(root: Path, pipeline: Pipeline, fingerprints: dict[PartName, str]) -> Change:
    return compare(root, None, fingerprints, pipeline)  # type: ignore[arg-type]  # the parts are all that is asked of it


def test_nothing_on_disk_needs_no_consent(tmp_path: Path, pipeline: Pipeline) -> None:
    change = found(tmp_path, pipeline, {PART: "a"})
    assert change == Change({}, (), (), ())
    assert not change.needs_consent


def test_an_equal_fingerprint_is_built(tmp_path: Path, pipeline: Pipeline) -> None:
    write(tmp_path, PART, pipeline, "a")
    change = found(tmp_path, pipeline, {PART: "a", OTHER: "b"})
    assert (change.built, change.changed, change.gone) == ({PART: "a"}, (), ())
    assert not change.needs_consent


def test_a_changed_parameter_is_named_with_both_values(tmp_path: Path, pipeline: Pipeline) -> None:
    write(tmp_path, PART, pipeline, "a")
    change = found(tmp_path, changed(pipeline, "filter_people", people=3), {PART: "b"})
    assert change.changed == (PART,)
    assert change.reasons == ("pipeline.filter_people.people: 2 → 3",)
    told = explain(change, tmp_path)
    assert "1 of its parts (train/00000)" in told
    assert "--update" in told
    assert "--output" in told


def test_other_package_versions_and_weights_are_named(tmp_path: Path, pipeline: Pipeline) -> None:
    kept = built.samples(1)
    lineage = pipeline.lineage()
    before = {
        "packages": {**lineage["packages"], "numpy": "1.0"},
        "weights": {**lineage["weights"], "retired": "ab" * 32},
    }
    record = {**built.record(kept), "fingerprint": "a", "pipeline": pipeline.configuration(), "lineage": before}
    write_part(tmp_path, PART, kept, record=record)
    change = found(tmp_path, pipeline, {PART: "b"})
    assert f"packages.numpy: '1.0' → '{lineage['packages']['numpy']}'" in change.reasons
    assert any(reason.startswith("weights.retired is gone") for reason in change.reasons)
    assert len(change.reasons) == 2


def test_a_stage_that_is_new_or_gone_is_named(tmp_path: Path, pipeline: Pipeline) -> None:
    shorter = replace(
        pipeline, stages=tuple(s for s in pipeline.stages if s.name != "filter_people"), expected_rejections={}
    )
    write(tmp_path, PART, shorter, "a")
    assert found(tmp_path, pipeline, {PART: "b"}).reasons[0].startswith("pipeline.filter_people is new: ")


def test_changed_rows_are_what_is_left_when_the_pipeline_is_the_same(tmp_path: Path, pipeline: Pipeline) -> None:
    write(tmp_path, PART, pipeline, "a")
    change = found(tmp_path, pipeline, {PART: "b"})
    assert change.reasons == ("the manifest's rows changed (added, removed, edited or reordered)",)


def test_a_part_that_is_no_longer_planned_is_gone(tmp_path: Path, pipeline: Pipeline) -> None:
    write(tmp_path, PART, pipeline, "a")
    write(tmp_path, OTHER, pipeline, "b")
    change = found(tmp_path, pipeline, {PART: "a"})
    assert (change.built, change.gone) == ({PART: "a"}, (OTHER,))
    assert change.needs_consent
    assert "fewer rows" in explain(change, tmp_path)


@pytest.mark.parametrize("harm", ["tear the sidecar", "remove the tar", "cut the index"])
def test_a_damaged_part_is_not_built(tmp_path: Path, pipeline: Pipeline, harm: str) -> None:
    write(tmp_path, PART, pipeline, "a")
    sidecar, index = tmp_path / "data/train/pose-00000.json", tmp_path / "index/train-00000.parquet"
    if harm == "tear the sidecar":
        sidecar.write_bytes(sidecar.read_bytes()[:-9])
    elif harm == "remove the tar":
        sidecar.with_suffix(".tar").unlink()
    else:
        index.write_bytes(index.read_bytes()[:-1])
    assert found(tmp_path, pipeline, {PART: "b"}) == Change({}, (), (), ())


def test_a_long_list_is_cut(tmp_path: Path) -> None:
    parts = tuple(PartName("train", n) for n in range(12))
    told = explain(Change({}, parts, (), tuple(f"reason {n}" for n in range(10))), tmp_path)
    assert "12 of its parts" in told
    assert "train/00007 …)" in told
    assert "train/00008" not in told
    assert "… and 2 more" in told
