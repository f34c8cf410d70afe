"""What `posecap select` foretells is what an update does, and it says why it cannot tell anything."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from posecap.build import pipeline_of
from posecap.cli import main
from posecap.manifest.manifest_file import read_manifest
from posecap.selection import KEPT, SelectionError, select, selecting_stages, with_settings
from posecap.shards import Dataset, sidecars
from posecap.shards.paths import RESULTS_FOLDER
from posecap.shards.sidecar import outcomes_of
from tests import cheap, small


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest whose dataset is built; nothing below changes either."""
    manifest: Path = cheap.manifest(tmp_path_factory.mktemp("built"))
    small.build(manifest)
    return manifest


def ends(root: Path) -> Counter[str]:
    """How the clips of a dataset ended, as a selection counts them."""
    outcomes = [row for part, document in sidecars(root) for row in outcomes_of(part, document["rows"])]
    clips = [clip for row in outcomes for clip in row.clips if clip.clip_id is not None]
    return Counter(KEPT if clip.status == "kept" else f"{clip.stage}: {clip.reason}" for clip in clips)


def keys(root: Path) -> set[str]:
    return set(Dataset(root).index().to_table(columns=["key"])["key"].to_pylist())


def test_what_it_foretells_is_what_an_update_does(built: Path, tmp_path: Path) -> None:
    again = cheap.manifest(tmp_path, media=built.parent)
    before = small.build(again)
    there = keys(before.root)
    pipeline = pipeline_of(read_manifest(again))
    found = select(before.root, with_settings(pipeline, ["shortest_seconds=0.55", "people=1"]))
    assert found.today == ends(before.root)
    cheap.manifest(tmp_path, media=built.parent, pipeline='changed("filter_people", shortest_seconds=0.55, people=1)')
    after = small.build(again, on_change="update")
    assert found.then == ends(after.root) != found.today
    lost = {one.key for one in found.changed if one.then != KEPT}
    assert lost == there - keys(after.root)
    assert lost
    back = select(after.root, pipeline)
    assert {one.key for one in back.changed if one.then == KEPT} == lost
    assert back.then == found.today


def test_a_filter_and_a_layout_are_settings_too(built: Path) -> None:
    pipeline = pipeline_of(read_manifest(built))
    found = select(built.parent / "dataset", with_settings(pipeline.filtered('label == "walks"'), ["layout=h36m17"]))
    assert found.then[KEPT] == 1
    assert found.then["filter_clips: filtered"] == found.today[KEPT] - 1
    assert {one.then for one in found.changed} == {"filter_clips: filtered"}
    assert all("label" in one.detail for one in found.changed)


def test_parts_are_looked_at_evenly(built: Path) -> None:
    found = select(built.parent / "dataset", pipeline_of(read_manifest(built)), most_rows=1)
    assert (found.parts, found.parts_in_all) == (1, 3)


def test_joints_of_another_model_are_counted_as_they_are(built: Path, tmp_path: Path) -> None:
    other = cheap.manifest(tmp_path, media=built.parent, pipeline='changed("pose", estimator=Grid(width=0.5))')
    found = select(built.parent / "dataset", pipeline_of(read_manifest(other)))
    assert found.outdated == found.parts == 3
    assert found.today == found.then


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("motion", "write NAME=VALUE"),
        ("persn_presence=1", "did you mean 'person_presence'?"),
        ("motion=-0.1", "filter_people: motion is -0.1; 0 leaves nothing out, so no less"),
        ("shortest_seconds=-1e-3", "shortest_seconds is -0.001"),
        ("fewest_frames=-1", "fewest_frames is -1"),
        ("joint_score=0.1", "several stages have it; .*filter_people.joint_score"),
        ("filter_people.persn=1", "there are 'people'"),
        ("people=0", "keep at least one"),
        ("people=0.5", "it is 2 now, so write a value of that kind"),
        ("people=null", "cannot be left out"),
        ("person_presence.x=1", "it has no fields"),
        ("layout=none", "unknown layout"),
        ("motion=NaN", "a finite number"),
        ("motion=-1e999", "a finite number"),
        ("motion=1" + "0" * 400, "a finite number"),
    ],
)
def test_what_is_no_setting_is_refused(built: Path, setting: str, message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        with_settings(pipeline_of(read_manifest(built)), [setting])


def test_fields_of_fields_are_set(built: Path) -> None:
    from posecap.stages.filter_people import FilterPeople, Prominence

    pipeline = pipeline_of(read_manifest(built))
    stages = tuple(FilterPeople(prominence=Prominence()) if s.name == "filter_people" else s for s in pipeline.stages)
    changed = with_settings(type(pipeline)(stages), ["prominence.size=2", "filter_people.people=3"])
    stage = selecting_stages(changed)[0]
    assert isinstance(stage, FilterPeople)
    assert stage.people == 3
    assert stage.prominence is not None
    assert stage.prominence.size == 2.0


def test_a_stage_that_looks_at_frames_cannot_be_tried(built: Path, tmp_path: Path) -> None:
    looking = """
from typing import ClassVar
from posecap.stage import Stage
from posecap.types import PosedClip
class Looks(Stage):
    name: ClassVar[str] = "looks"
    takes: ClassVar[type] = PosedClip
    gives: ClassVar[type] = PosedClip
    def __call__(self, item):
        np.asarray(item.frames_THW3)
        yield item
Looks = dataclass(frozen=True)(Looks)
pipeline = replace(pipeline, stages=(*pipeline.stages[:5], Looks(), *pipeline.stages[5:]))
"""
    other = cheap.manifest(tmp_path, media=built.parent, pipeline=looking)
    with pytest.raises(SelectionError, match="looks at frames"):
        select(built.parent / "dataset", pipeline_of(read_manifest(other)))


def test_as_people_run_it(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root, sheet = str(built.parent / "dataset"), tmp_path / "changed.jpg"
    assert main(["select", root, "--set", "fewest_frames=1000", "--sheet", str(sheet)]) == 0
    said = capsys.readouterr().out
    assert "0 would be kept that are not" in said
    assert "filter_people: too_short" in said
    with Image.open(sheet) as image:
        assert image.width > 320
    assert main(["select", "--manifest", str(built), "--set", "fewest_frames=1000", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["then"].get(KEPT, 0) == 0
    assert len(found["changed"]) == found["today"][KEPT] > 0
    assert main(["select", root, "--sheet", str(sheet)]) == 1
    assert "no clip changes side" in capsys.readouterr().err
    assert main(["select", root, "--json", "--sheet", str(sheet), "--set", "people=1"]) == 0
    assert main(["select", str(tmp_path)]) == 1
    assert "is not a dataset directory" in capsys.readouterr().err


def test_the_manifest_is_asked_for_only_where_it_would_help(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(built.parent / "dataset", tmp_path / "copy")
    (copy / ".origin.json").unlink()
    assert main(["select", str(copy)]) == 1
    assert "name it with --manifest" in capsys.readouterr().err
    shutil.rmtree(copy / RESULTS_FOLDER)
    assert main(["select", str(copy)]) == 1
    assert "copy has no stored results to select from" in capsys.readouterr().err


def test_without_stored_results_the_remedy_is_named(
    built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = cheap.manifest(tmp_path, cheap.ROWS[:1], keep="none", media=built.parent)
    small.build(manifest)
    assert main(["select", "--manifest", str(manifest)]) == 1
    assert "'keep_intermediates: perception'" in capsys.readouterr().err
