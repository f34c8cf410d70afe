"""Every planted leak is found, and after `split: auto` there is none."""

import json
from pathlib import Path

import pytest

from posecap.cli import main
from posecap.duplicates import SignatureStore, group_clips, read_clips, read_groups, write_groups
from posecap.leakage import audit, audit_recorded
from posecap.manifest.manifest_file import read_manifest
from posecap.plan import make_plan
from posecap.release.card import make_card
from posecap.storage import Location, open_storage
from posecap.types import PartName
from tests import built, planted
from tests.dataset_infos import info


def manifest(folder: Path, *more: str) -> Path:
    lines = ["id,video,start,label,person"]
    for name, known in planted.ROWS.items():
        uri, start = known.get("uri", f"{name}.mp4"), known.get("start", "")
        lines.append(f"{name},{uri},{start},label-{known['seed'] % 2},{known['person']}")
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    path = folder / "manifest.yaml"
    path.write_text(
        "name: planted\nversion: 1.0.0\nlicense: MIT\ncontact: me@example.org\npipeline: default\noutput: data\n"
        "tables:\n  - path: rows.csv\n" + "".join(f"{line}\n" for line in more)
    )
    return path


def splits_of(path: Path, folder: Path, root: Location) -> dict[str, str]:
    plan = make_plan(read_manifest(path), folder / "plan.parquet", near=read_groups(root))
    return {planned.row.row_id: planned.row.split for part in plan.parts() for planned in plan.rows(part)}


def find_duplicates(root: Path) -> None:
    with SignatureStore() as store:
        clips = read_clips(store, root)
        write_groups(root, group_clips(clips, clips.pairs()))


def test_every_planted_leak_is_found(tmp_path: Path) -> None:
    planted.build(tmp_path)
    found = audit(tmp_path, groups={"person": planted.PERSON_BY_URI})
    assert (found.clips, found.splits, found.signed) == (9, ("test", "train"), 9)
    assert {(leak.kind, leak.what) for leak in found.leaks} == {
        ("source_video", "long.mp4"),
        ("source_video", "renamed-too.mp4 and renamed.mp4"),
        ("near_duplicate", ""),
        ("group", "person dan"),
        ("group", "person eve"),
        ("group", "person flo"),
    }
    near = next(leak for leak in found.leaks if leak.kind == "near_duplicate")
    assert near.clips == {"test": 1, "train": 1}
    assert sum(leak.kind == "near_duplicate" for leak in found.leaks) == 2  # the copy, and the file with two names
    assert found.checked == "source videos, column person, near-duplicates by signatures"


def test_a_clip_has_all_values_of_its_video(tmp_path: Path) -> None:
    planted.build(tmp_path)
    pairs = [{"long.mp4": {"gus", "eve"}, "alone.mp4": {"gus"}}, {"long.mp4": {"eve"}, "alone.mp4": {"gus"}}]
    found = [
        {leak.what: leak.clips for leak in audit(tmp_path, groups={"person": values}).leaks if leak.kind == "group"}
        for values in pairs
    ]
    assert found[0] == {"person eve": {"test": 1, "train": 1}, "person gus": {"test": 1, "train": 2}}
    assert found[1] == {"person eve": {"test": 1, "train": 1}}


def test_groups_that_cannot_be_recorded_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.build(tmp_path)
    with open_storage(tmp_path).lock():
        assert main(["duplicates", str(tmp_path), "--keep", "best"]) == 1
    said = capsys.readouterr()
    assert "2 groups of near-duplicates" in said.out
    assert "is being built by process" in said.err
    assert not (tmp_path / "duplicates.parquet").exists()


def test_without_signatures_it_says_what_it_cannot_see(tmp_path: Path) -> None:
    planted.build(tmp_path, signed=False)
    found = audit(tmp_path)
    assert "source_video" in {leak.kind for leak in found.leaks}
    assert found.checked == "source videos, no near-duplicates, as no clip has a signature"


@pytest.mark.parametrize("stratify_by", ["none", "label"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_after_an_automatic_split_there_is_none(tmp_path: Path, seed: int, stratify_by: str) -> None:
    root = tmp_path / "given"
    planted.build(root)
    find_duplicates(root)
    auto = ("split: auto", "split_ratios: 0.5/0.5", f"split_seed: {seed}", "group_by: person")
    auto = (*auto, f"stratify_by: {stratify_by}")
    splits = splits_of(manifest(tmp_path, *auto), tmp_path, root)
    planted.build(tmp_path / "auto", splits)
    assert audit(tmp_path / "auto", groups={"person": planted.PERSON_BY_URI}).leaks == ()


def test_given_splits_can_keep_near_duplicates_together(tmp_path: Path) -> None:
    planted.build(tmp_path / "data")
    find_duplicates(tmp_path / "data")
    text = manifest(tmp_path).with_name("rows.csv").read_text().splitlines()
    text = [f"{line},{planted.SPLITS.get(line.split(',')[0], 'split')}" for line in text]
    (tmp_path / "rows.csv").write_text("\n".join(text) + "\n")
    kept = splits_of(tmp_path / "manifest.yaml", tmp_path, tmp_path / "data")
    assert kept == planted.SPLITS
    with (tmp_path / "manifest.yaml").open("a") as file:
        file.write("near_duplicates: one_split\n")
    moved = splits_of(tmp_path / "manifest.yaml", tmp_path, tmp_path / "data")
    assert moved == {**planted.SPLITS, "copied": "test", "renamed": "test"}


def test_what_is_recorded_is_told_without_comparing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.build(tmp_path)
    unknown = audit_recorded(tmp_path)
    assert {leak.kind for leak in unknown.leaks} == {"source_video"}
    assert unknown.checked == "source videos, no near-duplicates, for which `posecap leakage` looks"
    find_duplicates(tmp_path)
    recorded = audit_recorded(tmp_path)
    assert [leak.kind for leak in recorded.leaks].count("near_duplicate") == 2
    assert recorded.checked == "source videos, near-duplicates that `posecap duplicates` found"
    assert main(["verify", str(tmp_path)]) == 0
    said = "splits test, train: 4 leaks between them, which `posecap leakage` lists; checked: source videos, near"
    assert said in capsys.readouterr().out


def test_that_clips_were_added_since_near_duplicates_were_recorded_is_said(tmp_path: Path) -> None:
    root = tmp_path / "data"
    planted.build(root, {name: split for name, split in planted.SPLITS.items() if name != "copy"})
    find_duplicates(root)
    assert audit_recorded(root).is_complete
    groups = read_groups(root)
    planted.build(tmp_path / "grown")
    write_groups(tmp_path / "grown", groups)
    grown = audit_recorded(tmp_path / "grown")
    assert grown.clips == 9
    assert not grown.is_complete
    assert (
        "near-duplicates that `posecap duplicates` found among 8 clips, before others were added: run it"
        in grown.checked
    )
    write_groups(tmp_path / "grown", groups.replace_schema_metadata({b"posecap.duplicates": b"1"}))
    assert audit_recorded(tmp_path / "grown").is_complete  # as of a version that did not say so


def test_the_card_says_what_was_checked(tmp_path: Path) -> None:
    planted.build(tmp_path)
    card = make_card(info(tmp_path / "other", audit=audit_recorded(tmp_path)))
    assert "Between" not in card  # of one split there is nothing to say
    made = {PartName(split, 0): built.samples(1, first=number) for number, split in enumerate(("test", "train"))}
    card = make_card(info(tmp_path / "two", made, audit=audit_recorded(tmp_path)))
    assert (
        "Between the splits there are 2 leaks, which `posecap leakage` lists. Checked: source videos, no near" in card
    )


def test_the_command_ends_with_4_for_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.build(tmp_path)
    path, found_by = manifest(tmp_path), "source videos, near-duplicates by signatures"
    assert main(["leakage", str(tmp_path), "--group-by", "person", "--manifest", str(path)]) == 4
    said = capsys.readouterr().out
    assert "group  person flo: 1 in test, 1 in train" in said
    assert "leaks between splits test, train of 9 clips; checked: source videos, column person, near" in said
    assert main(["leakage", str(tmp_path), "--json"]) == 4
    assert {leak["kind"] for leak in json.loads(capsys.readouterr().out)["leaks"]} == {"source_video", "near_duplicate"}
    assert main(["leakage", str(tmp_path), "--where", "label == 'label-0'", "--json"]) == 4
    some = json.loads(capsys.readouterr().out)
    assert (some["clips"], some["where"], some["checked"]) == (5, "label == 'label-0'", found_by)
    assert [leak["kind"] for leak in some["leaks"]] == ["near_duplicate"]
    assert main(["leakage", str(tmp_path), "--where", "label == 'label-7'"]) == 1
    assert "no clip of" in capsys.readouterr().err
    assert main(["leakage", str(tmp_path), "--where", "labels == 1"]) == 1
    assert "did you mean label?" in capsys.readouterr().err
    planted.build(tmp_path / "sound", dict.fromkeys(planted.ROWS, "train"))
    assert main(["leakage", str(tmp_path / "sound")]) == 0
    assert capsys.readouterr().out.startswith("no leak between splits train of 9 clips")


def test_datasets_of_any_location_are_looked_at(
    location: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Leaks are found; groups are written beside the dataset, from which the next plan reads them; the worse copies
    are removed there."""
    planted.build(location)
    assert main(["leakage", location, "--group-by", "person", "--manifest", str(manifest(tmp_path))]) == 4
    said = capsys.readouterr().out
    assert "7 leaks between splits test, train of 9 clips" in said
    assert main(["duplicates", location, "--output", str(tmp_path / "sheet.jpg")]) == 0
    assert "2 groups of near-duplicates, 4 of 9 clips" in capsys.readouterr().out
    assert (tmp_path / "sheet.jpg").stat().st_size > 1000
    auto = ("split: auto", "split_ratios: 0.5/0.5", "group_by: person", "stratify_by: label")
    splits = splits_of(manifest(tmp_path, *auto), tmp_path, location)
    assert splits["copied"] == splits["copy"]
    assert main(["duplicates", location, "--keep", "best"]) == 0
    assert "removed 2 clips" in capsys.readouterr().out
    assert main(["leakage", location]) == 4  # files under two names, and spans of one file, are no near-duplicates
    assert "near_duplicate" not in capsys.readouterr().out.replace("near-duplicates", "")


def test_a_column_that_no_table_has_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    planted.build(tmp_path)
    assert main(["leakage", str(tmp_path), "--group-by", "dog", "--manifest", str(manifest(tmp_path))]) == 1
    assert "names 'dog', which is no column of rows.csv" in capsys.readouterr().err
    assert main(["leakage", str(tmp_path), "--group-by", "dog"]) == 1
    assert "--manifest" in capsys.readouterr().err
