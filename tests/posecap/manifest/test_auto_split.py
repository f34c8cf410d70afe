"""Splits that follow from hashes: nothing that belongs together is divided, and rows that are added move no others."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from posecap.manifest.auto_split import row_splits, split_of
from posecap.manifest.manifest_file import AutoSplit, ManifestError, read_manifest, split_ratios
from posecap.manifest.tables import read_tables

RULE = AutoSplit(ratios=(("train", 0.7), ("val", 0.15), ("test", 0.15)))


def divided(
    folder: Path,
    rows: list[str],
    *more: str,
    near: object = None,
    known: dict[str, str] | None = None,
    header: str = "video,person",
) -> list[str]:
    """The split of each row of a table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.csv").write_text("\n".join([header, *rows]) + "\n")
    (folder / "m.yaml").write_text(
        "name: m\nversion: 1.0.0\nlicense: MIT\ncontact: me@example.org\npipeline: default\noutput: data\n"
        "tables:\n  - path: rows.csv\nsplit: auto\n" + "".join(f"{line}\n" for line in more)
    )
    manifest = read_manifest(folder / "m.yaml")
    splits = row_splits(manifest, near, known)
    return [split for batch in read_tables(manifest) for split in splits(batch).column("split").to_pylist()]


def test_shares_are_those_asked_for() -> None:
    counts = Counter(split_of(f"{number}.mp4", RULE) for number in range(20_000))
    for name, share in RULE.ratios:
        assert counts[name] / 20_000 == pytest.approx(share, abs=0.012)


def test_rows_of_one_video_stay_together_and_another_seed_divides_otherwise(tmp_path: Path) -> None:
    rows = [f"{number // 3}.mp4," for number in range(90)]
    found = divided(tmp_path, rows)
    assert all(len(set(found[at : at + 3])) == 1 for at in range(0, 90, 3))
    assert len(set(found)) == 3
    assert divided(tmp_path, rows, "split_seed: 1") != found


@pytest.mark.parametrize("more", [(), ("group_by: person",)])
def test_adding_rows_anywhere_moves_no_other(tmp_path: Path, more: tuple[str, ...]) -> None:
    rows = [f"{number}.mp4,p{number % 7}" for number in range(60)]
    before = dict(zip(rows, divided(tmp_path, rows, *more), strict=True))
    mixed = [row for pair in zip([f"new-{n}.mp4,p{n % 9}" for n in range(60)], rows, strict=True) for row in pair]
    after = dict(zip(mixed, divided(tmp_path, mixed, *more), strict=True))
    assert {row: after[row] for row in rows} == before


def test_values_of_columns_join_rows_and_empty_cells_do_not(tmp_path: Path) -> None:
    header = "video,person,camera"
    rows = ["a.mp4,ann,", "b.mp4,,roof", "c.mp4,ann,roof", *(f"{n}.mp4,," for n in range(40))]
    for seed in range(8):
        found = divided(tmp_path, rows, "group_by: person, camera", f"split_seed: {seed}", header=header)
        assert len(set(found[:3])) == 1
        assert len(set(found[3:])) == 3


def test_near_duplicates_join_their_videos(tmp_path: Path) -> None:
    near = pa.table({"group": [0, 0, 1, 1], "uri": ["a.mp4", "b.mp4", "b.mp4", "c.mp4"]})
    for seed in range(8):
        assert len(set(divided(tmp_path, ["a.mp4,", "b.mp4,", "c.mp4,"], f"split_seed: {seed}", near=near))) == 1


STRATIFIED = ("stratify_by: label", "split_ratios: 0.6/0.2/0.2")


def labelled(labels: str, *, first: int = 0) -> list[str]:
    return [f"{first + number}.mp4,{label}" for number, label in enumerate(labels)]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_label_has_its_share_of_each_split(tmp_path: Path, seed: int) -> None:
    rows = labelled("a" * 30 + "b" * 10 + "c" * 5 + "." * 20)
    found = divided(tmp_path, rows, *STRATIFIED, f"split_seed: {seed}", header="video,label")
    counts = Counter(zip((row[-1] for row in rows), found, strict=True))
    for label, number in (("a", 30), ("b", 10), ("c", 5), (".", 20)):
        for split, share in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs(counts[label, split] - share * number) <= 1


def test_with_an_earlier_plan_added_rows_move_none_and_fill_what_lacks(tmp_path: Path) -> None:
    rows = labelled("ab" * 10)
    before = dict(zip(rows, divided(tmp_path, rows, *STRATIFIED, header="video,label"), strict=True))
    known = {row.split(",")[0]: split for row, split in before.items()}
    mixed = [row for pair in zip(labelled("ba" * 10, first=100), rows, strict=True) for row in pair]
    after = dict(zip(mixed, divided(tmp_path, mixed, *STRATIFIED, known=known, header="video,label"), strict=True))
    assert {row: after[row] for row in rows} == before
    counts = Counter((row[-1], split) for row, split in after.items())
    assert all(abs(counts[label, "val"] - 4) <= 1 and abs(counts[label, "test"] - 4) <= 1 for label in "ab")


def test_stratified_groups_stay_whole_and_go_where_their_first_row_is_known(tmp_path: Path) -> None:
    rows = [f"{number}.mp4,{'ab'[number % 2]},p{number // 4}" for number in range(40)]
    more = (*STRATIFIED, "group_by: person")
    found = divided(tmp_path, rows, *more, header="video,label,person")
    assert all(len(set(found[at : at + 4])) == 1 for at in range(0, 40, 4))
    near = pa.table({"group": [0, 0], "uri": ["0.mp4", "39.mp4"]})
    known = {f"{number}.mp4": split for number, split in enumerate(found)} | {"0.mp4": "val", "39.mp4": "test"}
    joined = divided(tmp_path, rows, *more, known=known, near=near, header="video,label,person")
    assert joined[:4] == joined[36:] == ["val"] * 4
    assert joined[4:36] == found[4:36]


def test_a_column_that_a_table_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"'group_by' names 'dog', which is no column of rows\.csv"):
        divided(tmp_path, ["a.mp4,ann"], "group_by: dog")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("80/20", (("train", 0.8), ("test", 0.2))),
        ("0.5/0.25/0.25", (("train", 0.5), ("val", 0.25), ("test", 0.25))),
        ("train 3/dev 1", (("train", 0.75), ("dev", 0.25))),
        ("all 1", (("all", 1.0),)),
    ],
)
def test_ratios_are_read(text: str, found: object) -> None:
    assert split_ratios(text) == found


@pytest.mark.parametrize(
    "text", ["", "1", "0.5/0.5/0.1/0.1", "a 1/a 2", "0/1", "nan/1", "a b c/1", "train 1/2", "x,y 1/z 2"]
)
def test_what_is_no_ratio_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"split ratios are|could not convert"):
        split_ratios(text)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("split_ratios: much",), "'split_ratios'"),
        (("split: maybe",), "given, auto"),
        (("split: auto", "stratify_by: person"), "none, label"),
        (("near_duplicates: none",), "keep_all, one_split"),
    ],
)
def test_wrong_keys_are_named(tmp_path: Path, more: tuple[str, ...], words: str) -> None:
    (tmp_path / "m.yaml").write_text(
        "name: m\nversion: 1.0.0\nlicense: MIT\ncontact: me@example.org\npipeline: default\noutput: data\n"
        "tables:\n  - path: rows.csv\n" + "".join(f"{line}\n" for line in more)
    )
    with pytest.raises(ManifestError, match=words):
        read_manifest(tmp_path / "m.yaml")


@pytest.mark.parametrize("line", ["split_ratios: 0.5/0.5", "stratify_by: label"])
def test_keys_of_auto_without_it_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "m.yaml").write_text(
        "name: m\nversion: 1.0.0\nlicense: MIT\ncontact: me@example.org\npipeline: default\noutput: data\n"
        f"tables:\n  - path: rows.csv\n{line}\n"
    )
    with pytest.raises(ManifestError, match="'split: auto' as well"):
        read_manifest(tmp_path / "m.yaml")
