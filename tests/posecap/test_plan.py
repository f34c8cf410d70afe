import random
from collections import Counter
from contextlib import closing
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from posecap.manifest.manifest_file import AutoSplit, Manifest, ManifestError, StoreVideo, Table
from posecap.plan import (
    PLAN_SCHEMA,
    PartSize,
    Plan,
    PlanError,
    PlannedRow,
    PlanWriter,
    estimate,
    find_duplicates,
    make_plan,
    open_plan,
    rows_digest,
)
from posecap.plan_check import show_summary, summarise
from posecap.plan_store import work_folder
from posecap.types import PartName
from tests.damage import damaged

HEADER = "video,start,end,label,split,license,id\n"


def manifest(folder: Path, *tables: str, rows_per_part: int = 2, media_root: str | None = None) -> Manifest:
    for number, text in enumerate(tables):
        (folder / f"t{number}.csv").write_text(text)
    return Manifest(
        path=folder / "m.yaml",
        name="small",
        version="1",
        license="MIT",
        contact="me@example.org",
        description="",
        pipeline=folder / "p.py",
        output=folder / "out",
        media_root=media_root or folder.as_posix(),
        tables=tuple(
            Table(location=(folder / f"t{n}.csv").as_posix(), written=f"t{n}.csv") for n in range(len(tables))
        ),
        rows_per_part=rows_per_part,
    )


def planned(folder: Path, *lines: str, rows_per_part: int = 2) -> Plan:
    text = HEADER + "".join(f"{line}\n" for line in lines)
    return make_plan(manifest(folder, text, rows_per_part=rows_per_part), folder / "plan.parquet")


def all_rows(plan: Plan) -> list[PlannedRow]:
    return [row for part in plan.parts() for row in plan.rows(part)]


def test_parts_are_numbered_by_split_in_manifest_order(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a,,,,train,,", "b,,,,val,,", "c,,,,train,,", "d,,,,train,,", "e,,,,val,,")
    assert [(str(p.name), p.rows, p.row_group) for p in plan.parts()] == [
        ("train/00000", 2, 0),
        ("train/00001", 1, 1),
        ("val/00000", 2, 2),
    ]
    names = [[Path(r.row.uri).name for r in plan.rows(part)] for part in plan.parts()]
    assert names == [["a", "c"], ["d"], ["b", "e"]]
    first = plan.rows(plan.parts()[1])[0].row
    assert (first.uri, first.place, first.split) == ("d", "t0.csv:5", "train")
    assert first.location == f"{tmp_path.as_posix()}/d"
    assert not (tmp_path / "plan.parquet.spool").exists()


def test_the_list_of_parts_is_read_once_however_many_parts_are_asked_for(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a,,,,train,,", "b,,,,val,,", "c,,,,train,,")
    rows = all_rows(plan)
    plan.path.write_bytes(plan.path.read_bytes()[:-8] + bytes(8))  # where the footer is, and how long
    assert all_rows(plan) == rows
    assert plan.columns(["id"], plan.parts()[1])["id"].to_pylist() == [rows[2].row.row_id]


def test_a_row_comes_back_whole(tmp_path: Path) -> None:
    text = 'id,video,start,end,label,captions,license,source\nr,https://x.org/a.mp4,1.5,2,run,"one|two",MIT,web\n'
    (row,) = all_rows(make_plan(manifest(tmp_path, text), tmp_path / "plan.parquet"))
    assert row.duplicate_of is None
    assert (row.row.row_id, row.row.uri, row.row.start_seconds, row.row.end_seconds) == (
        "r",
        "https://x.org/a.mp4",
        1.5,
        2.0,
    )
    assert (row.row.label, row.row.captions, row.row.license, row.row.source) == ("run", ("one", "two"), "MIT", "web")


def test_repeats_are_kept_marked_and_given_ids_of_their_own(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "a,1,2,run,train,,x",
        "./a,1.0,2,run,val,,y",  # the same video, span and label
        "a,1,2,jump,train,,z",  # another label
        "a,1,2,run,train,,x",  # the same row again, its id included
        "b,,,,train,,",
        "b,,,,train,,",
        "b,,,,train,,",
        rows_per_part=10,
    )
    found = {(r.row.place, r.row.row_id, r.duplicate_of) for r in all_rows(plan)}
    b = next(r.row.row_id for r in all_rows(plan) if r.row.place == "t0.csv:6")
    assert found == {
        ("t0.csv:2", "x", None),
        ("t0.csv:3", "y", "x"),
        ("t0.csv:4", "z", None),
        ("t0.csv:5", "x~2", "x"),
        ("t0.csv:6", b, None),
        ("t0.csv:7", f"{b}~2", b),
        ("t0.csv:8", f"{b}~3", b),
    }
    assert len({r.row.row_id for r in all_rows(plan)}) == 7


def test_a_wrong_row_is_planned_with_its_problem_and_changes_no_other(tmp_path: Path) -> None:
    good = planned(tmp_path, "a,,,run,train,,", "c,,,run,train,,", rows_per_part=1)
    before = [part.rows_digest for part in good.parts()]
    plan = planned(
        tmp_path, "a,,,run,train,,x", "a,x,,run,train,,x", "a,x,,run,train,,", "c,,,run,train,,", rows_per_part=1
    )
    rows = all_rows(plan)
    assert [row.problem for row in rows] == [None, "column 'start' is 'x': no number; write seconds, as 12.5"] * 1 + [
        "column 'start' is 'x': no number; write seconds, as 12.5", None
    ]  # fmt: skip
    assert [row.duplicate_of for row in rows] == [None, None, rows[1].row.row_id, None]
    assert len({row.row.row_id for row in rows}) == 4
    assert plan.parts()[3].rows_digest == before[1]


def test_the_later_of_two_different_rows_with_one_id_is_rejected(tmp_path: Path) -> None:
    tables = HEADER + "a,1,2,,train,,same\n", HEADER + "b,,,,val,,other\nc,1,2,,val,,same\na,1,2,,val,,same\n"
    rows = all_rows(make_plan(manifest(tmp_path, *tables), tmp_path / "plan.parquet"))
    assert [(r.row.place, r.row.row_id, r.duplicate_of) for r in rows] == [
        ("t0.csv:2", "same", None),
        ("t1.csv:2", "other", None),
        ("t1.csv:3", "same~2", None),
        ("t1.csv:4", "same~3", "same"),
    ]
    assert [r.problem for r in rows] == [
        None,
        None,
        "column 'id' is 'same': an earlier row has it and uri 'a', not 'c'; give this row another id "
        "(the earlier row is t0.csv:2)",
        None,
    ]


def test_no_row_is_a_duplicate_of_one_whose_id_is_taken(tmp_path: Path) -> None:
    rows = all_rows(planned(tmp_path, "a,,,,train,,x", "b,,,,train,,x", "b,,,,train,,y", "b,,,,train,,x"))
    assert [(r.row.row_id, r.duplicate_of, r.problem is None) for r in rows] == [
        ("x", None, True),
        ("x~2", None, False),
        ("y", None, True),
        ("x~3", None, False),
    ]


def test_the_digest_of_a_row_whose_id_is_taken_does_not_follow_places(tmp_path: Path) -> None:
    digests = []
    for name, first in (("one", ""), ("two", "video,label,id\nz,,z\n")):
        (tmp_path / name).mkdir()
        tables = [*([first] if first else []), HEADER + "a,,,,val,,x\nb,,,,test,,x\n"]
        plan = make_plan(manifest(tmp_path / name, *tables), tmp_path / name / "plan.parquet")
        digests.append({p.name.split: p.rows_digest for p in plan.parts()}["test"])
    assert digests[0] == digests[1]


def test_default_ids_do_not_depend_on_order_or_on_where_the_media_root_is(tmp_path: Path) -> None:
    lines = [f"v{n}.mp4,{n},{n + 1},run,,," for n in range(20)]
    shuffled = random.Random(3).sample(lines, len(lines))
    ids = []
    for name, rows in (("one", lines), ("two", shuffled)):
        (tmp_path / name).mkdir()
        ids.append({Path(r.row.uri).name: r.row.row_id for r in all_rows(planned(tmp_path / name, *rows))})
    assert ids[0] == ids[1]
    assert len(set(ids[0].values())) == 20
    assert all(len(each) == 20 for each in ids[0].values())


def test_the_same_tables_give_the_same_bytes_wherever_they_lie(tmp_path: Path) -> None:
    lines = [f"v{n % 7}.mp4,{n},{n + 1},run,{'val' if n % 3 else 'train'},MIT," for n in range(50)]
    plans = []
    for name in ("one", "two/deeper"):
        (tmp_path / name).mkdir(parents=True)
        plans.append(planned(tmp_path / name, *lines).path.read_bytes())
    assert plans[0] == plans[1]
    assert str(tmp_path).encode() not in plans[0]


def test_a_part_digest_follows_its_rows_and_not_their_places(tmp_path: Path) -> None:
    lines = ["a,1,2,run,train,,", "b,1,2,run,train,,", "c,1,2,run,train,,", "d,1,2,run,train,,"]
    before = planned(tmp_path, *lines).parts()
    moved = planned(tmp_path, "x,,,,val,,", *lines).parts()
    edited = planned(tmp_path, *lines[:3], "d,1,2,jump,train,,").parts()
    assert [p.rows_digest for p in moved][:2] == [p.rows_digest for p in before]
    assert edited[0].rows_digest == before[0].rows_digest
    assert edited[1].rows_digest != before[1].rows_digest


def planned_table(**changed: object) -> pa.Table:
    row = {
        "id": "i", "uri": "u", "start": 1.0, "end": 2.0, "label": "ab", "captions": ["c", ""], "split": "s",
        "license": "l", "source": None, "table": "t", "row": 1, "duplicate_of": None,
    }  # fmt: skip
    return pa.Table.from_pylist([row, {**row, **changed}], PLAN_SCHEMA)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "j"}, {"uri": ""}, {"start": None}, {"end": 2.5}, {"label": None}, {"label": ""}, {"captions": None},
        {"captions": []}, {"captions": ["c"]}, {"captions": ["", "c"]}, {"split": "t"}, {"license": None},
        {"source": ""}, {"duplicate_of": "i"}, {"problem": "wrong"}, {"uri": "ua", "label": "b"},
    ],
)  # fmt: skip
def test_every_field_counts_in_the_digest(changed: dict[str, object]) -> None:
    assert rows_digest(planned_table(**changed)) != rows_digest(planned_table())


def test_the_digest_sees_neither_batches_nor_places() -> None:
    table = planned_table()
    split = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert rows_digest(split) == rows_digest(table) == rows_digest(planned_table(table="other", row=9))


def test_a_plan_is_opened_again(tmp_path: Path) -> None:
    plan = planned(tmp_path, "a,,,,train,,", "./clip:1.mp4,,,,train,,")
    moved = tmp_path / "moved.parquet"
    plan.path.replace(moved)
    again = open_plan(moved, media_root="/elsewhere")
    assert again.parts() == plan.parts()
    assert [r.row.uri for r in all_rows(again)] == ["a", "./clip:1.mp4"]
    assert [r.row.location for r in all_rows(again)] == ["/elsewhere/a", "/elsewhere/clip:1.mp4"]
    assert [r.row.location for r in all_rows(open_plan(moved, media_root=""))] == ["a", "./clip:1.mp4"]


def test_a_file_that_is_no_plan_is_refused(tmp_path: Path) -> None:
    pa.parquet.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    plan = planned(tmp_path, "a,,,,train,,")
    plan.path.write_bytes(plan.path.read_bytes()[:-9])
    for path in (tmp_path / "other.parquet", plan.path, tmp_path / "none.parquet"):
        with pytest.raises(PlanError, match="delete it and plan again"):
            open_plan(path, media_root="")


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / "plan.parquet.spool").mkdir()
    (tmp_path / "plan.parquet.spool" / "train.arrows").write_bytes(b"torn")
    assert len(all_rows(planned(tmp_path, "a,,,,train,,"))) == 1
    assert not (tmp_path / "plan.parquet.spool").exists()


def test_nothing_to_plan_too_many_splits_and_too_many_parts_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ManifestError, match="have no rows"):
        planned(tmp_path)
    with pytest.raises(ManifestError, match=r"t0.csv row 66: split 's64' is one more than the 64"):
        planned(tmp_path, *(f"a,,,,s{n},," for n in range(65)))
    monkeypatch.setattr("posecap.plan.MOST_PARTS", 3)
    with pytest.raises(ManifestError, match=r"makes 5 parts of 5 rows, more than 3; write at least 3"):
        planned(tmp_path, *(f"a{n},,,,,," for n in range(5)), rows_per_part=1)


SPANS = [f"v{n},0,{seconds},,train,," for n, seconds in enumerate([10, 10, 30, 10, 1000, 10, 10])]


def sizes(plan: Plan) -> list[int]:
    return [part.rows for part in plan.parts()]


def limited(folder: Path, limit: int | None, *, store_video: StoreVideo = "clip", rows: int = 3, **known: Any) -> Plan:
    text = HEADER + "".join(f"{line}\n" for line in SPANS)
    found = replace(manifest(folder, text, rows_per_part=rows), bytes_per_part=limit, store_video=store_video)
    return make_plan(found, folder / "plan.parquet", **known)


def test_a_part_ends_before_the_row_with_which_it_would_be_too_large(tmp_path: Path) -> None:
    first_three = estimate(clips=3, seconds=50, store_video="clip")
    assert sizes(limited(tmp_path, first_three, rows=100)) == [3, 1, 1, 2]
    assert sizes(limited(tmp_path, first_three - 1, rows=100)) == [2, 2, 1, 2]
    assert sizes(limited(tmp_path, first_three, rows=2)) == [2, 2, 1, 2]
    assert sizes(limited(tmp_path, first_three, rows=1)) == [1] * 7
    assert sizes(limited(tmp_path, 100_000_000, rows=100, store_video="none")) == [7]
    names = [str(part.name) for part in limited(tmp_path, first_three, rows=100).parts()]
    assert names == [f"train/{n:05d}" for n in range(4)]


def test_rows_that_are_rejected_anyway_take_no_bytes(tmp_path: Path) -> None:
    text = HEADER + "v,0,10,,train,,\n" * 5 + "w,1:30,,,train,,\n"
    found = replace(manifest(tmp_path, text, rows_per_part=100), bytes_per_part=2_000_000, store_video="clip")
    assert sizes(make_plan(found, tmp_path / "plan.parquet")) == [6]


def test_what_is_stratified_keeps_the_splits_of_the_earlier_plan(tmp_path: Path) -> None:
    def splits(rows: list[str], *, seed: int = 0) -> dict[str, str]:
        text = "id,video,label\n" + "".join(f"{row}\n" for row in rows)
        rule = AutoSplit(ratios=(("train", 0.5), ("test", 0.5)), seed=seed, stratify_by="label")
        found = replace(manifest(tmp_path, text), auto_split=rule)
        path = tmp_path / "plan.parquet"
        return {one.row.row_id: one.row.split for one in all_rows(make_plan(found, path, built=path))}

    rows = [f"{number},{number}.mp4,{'ab'[number % 2]}" for number in range(20)]
    first = splits(rows)
    assert Counter(first.values()) == {"train": 10, "test": 10}
    more = splits([f"x{number},x{number}.mp4,a" for number in range(10)] + rows)
    assert {name: more[name] for name in first} == first
    assert splits([row.replace("a", "c") for row in rows]) == first  # a label is edited
    assert splits(rows, seed=1) != first


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_where_parts_end_does_not_depend_on_how_rows_are_read(batch: int) -> None:
    each, size = np.array([3, 0, 4, 9, 1, 1, 1, 0, 6, 2]), PartSize(3, 7, "none")
    found, pending = [], each[:0]
    for at in range(0, len(each), batch):
        pending = np.concatenate([pending, each[at : at + batch]])
        while count := size.whole_part(pending[: size.rows + 1]):
            found.append(pending[:count].tolist())
            pending = pending[count:]
    assert [*found, pending.tolist()] == [[3, 0, 4], [9], [1, 1, 1], [0, 6], [2]]


def test_a_dataset_keeps_the_limit_it_was_planned_with(tmp_path: Path) -> None:
    first_three = estimate(clips=3, seconds=50, store_video="clip")
    fresh = limited(tmp_path, None, rows=100, built=tmp_path / "nothing there")
    assert (sizes(fresh), fresh.bytes_per_part) == ([7], 2_000_000_000)
    small = tmp_path / "small.parquet"
    limited(tmp_path, first_three, rows=100).path.rename(small)
    kept = limited(tmp_path, None, rows=100, built=small)
    assert (sizes(kept), kept.bytes_per_part) == ([3, 1, 1, 2], first_three)
    assert sizes(limited(tmp_path, 40 * first_three, rows=100, built=small)) == [7]
    old = tmp_path / "old.parquet"
    with closing(PlanWriter(old, bytes_per_part=None)) as writer:
        writer.write(PartName("train", 0), pyarrow.parquet.read_table(kept.path))
    assert limited(tmp_path, None, rows=100, built=old).bytes_per_part is None
    old.write_bytes(b"no plan")
    assert limited(tmp_path, None, rows=100, built=old).bytes_per_part == 2_000_000_000


def test_too_small_a_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posecap.plan.MOST_PARTS", 6)
    with pytest.raises(ManifestError, match="'bytes_per_part' is 1,000,000, which makes more than 6 parts"):
        limited(tmp_path, 1_000_000)


def test_part_names_order_and_print() -> None:
    assert str(PartName("train", 42)) == "train/00042"
    assert PartName("train", 42).stem == "pose-00042"


@given(st.lists(st.integers(0, 6), max_size=40))
def test_repeats_agree_with_a_dictionary(values: list[int]) -> None:
    found = find_duplicates(np.array([[value % 3, value] for value in values], np.uint64).reshape(-1, 2))
    seen: dict[int, list[int]] = {}
    expected = []
    for ordinal, value in enumerate(values):
        if value in seen:
            expected.append((ordinal, seen[value][0], len(seen[value])))
        seen.setdefault(value, []).append(ordinal)
    assert list(zip(found.later, found.first, found.nth, strict=True)) == expected


def test_a_summary_counts(tmp_path: Path) -> None:
    plan = planned(
        tmp_path,
        "a.mp4,1,3.5,run,train,MIT,",
        "a.mp4,1,3.5,run,train,MIT,",
        "https://x.org/b,,,,val,,",
        "https://x.org/b,7,,run,val,,",
        "pypi://p/1/c,0,1,run,train,CC0-1.0,",
    )
    found = summarise(plan, store_video="clip")
    assert (found.rows, found.parts, found.shards, found.duplicates) == (5, 3, 6, 1)
    assert (found.rows_by_split, found.parts_by_split) == ({"train": 3, "val": 2}, {"train": 2, "val": 1})
    assert found.rows_by_license == {"MIT": 2, "not stated": 2, "CC0-1.0": 1}
    assert found.rows_by_scheme == {"local path": 2, "https": 2, "pypi": 1}
    assert (found.rows_without_text, found.rows_without_span, found.span_seconds) == (1, 1, 6.0)
    # four clips of 2.5, 10 and 10 (assumed) and 1 seconds: 2 x (80 kB + 23.5 x 30 x 314) + 23.5 x 150 kB
    assert found.estimated_bytes == estimate(clips=4, seconds=23.5, store_video="clip") == 4_127_740


def test_a_summary_is_shown(tmp_path: Path) -> None:
    text = StringIO()
    show_summary(summarise(planned(tmp_path, "a,,,,train,[bold]odd,", "b,,,,val,,")), Console(file=text, width=100))
    for word in ("rows", "2", "train", "val", "[bold]odd", "not stated", "local path", "457 kB"):
        assert word in text.getvalue()


def test_a_plan_has_public_uris_and_its_rows_are_fetched_from_the_others(tmp_path: Path) -> None:
    signed = "https://me:5ec4e7@h/a.mp4?v=1&X-Amz-Signature="
    table = HEADER + f"{signed}5ec4e7,,,,,,\nb.mp4,,,,,,\n{signed}5ec4e71,,,run,,,\n{signed}5ec4e72,,,run,,,\n"
    plan = make_plan(manifest(tmp_path, table), tmp_path / "plan.parquet")
    rows = all_rows(plan)
    assert [r.row.uri for r in rows] == ["https://h/a.mp4?v=1", "b.mp4", "https://h/a.mp4?v=1", "https://h/a.mp4?v=1"]
    assert [r.row.location for r in rows] == [
        f"{signed}5ec4e7",
        f"{tmp_path.as_posix()}/b.mp4",
        f"{signed}5ec4e71",
        f"{signed}5ec4e72",
    ]
    assert "5ec4e7" not in repr(rows)
    assert rows[3].duplicate_of == rows[2].row.row_id
    assert "5ec4e7" not in str(pa.parquet.read_table(plan.path).to_pylist())
    # Signed anew, by another user or not at all, they are the same rows.
    again = make_plan(manifest(tmp_path, table.replace("me:5ec4e7@", "").replace("5ec4e7", "n")), tmp_path / "again")
    assert [p.rows_digest for p in again.parts()] == [p.rows_digest for p in plan.parts()]
    assert all_rows(open_plan(plan.path, media_root=""))[0].row.location == "https://h/a.mp4?v=1"


def test_a_media_root_with_a_password_is_not_planned(tmp_path: Path) -> None:
    found = manifest(tmp_path, HEADER + "a.mp4,,,,,,\n", media_root="https://me:5ec4e7@h/v")
    (planned_row,) = all_rows(make_plan(found, tmp_path / "plan.parquet"))
    assert (planned_row.row.uri, planned_row.row.location) == ("https://h/v/a.mp4", "https://me:5ec4e7@h/v/a.mp4")


def test_a_damaged_plan_is_named(tmp_path: Path) -> None:
    plan = planned(tmp_path, *(f"v{n}.mp4,{n},{n + 1},lä{n % 3},train,MIT,r{n}" for n in range(20)), rows_per_part=7)
    whole = plan.path.read_bytes()
    for content in damaged(whole, count=300, seed=4):
        plan.path.write_bytes(content)
        try:
            all_rows(open_plan(plan.path, media_root="/m"))
        except PlanError as error:
            assert str(plan.path) in str(error)  # noqa: PT017


@pytest.mark.parametrize("written", ['{"format": 1, "format": 2}', "[" * 100_000])
def test_a_plan_whose_own_json_is_hostile_is_damaged(tmp_path: Path, written: str) -> None:
    plan = planned(tmp_path, "v.mp4,0,1,walk,train,MIT,r0")
    table = pq.read_table(plan.path)
    (key,) = (key for key in table.schema.metadata if key.startswith(b"posecap"))
    pq.write_table(table.replace_schema_metadata({key: written}), plan.path)
    with pytest.raises(PlanError, match="cannot be read as a plan"):
        open_plan(plan.path, media_root="/m")


def test_the_same_address_at_another_server_has_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSECAP_CACHE", str(tmp_path))
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    folders = [work_folder("s3://bucket/poses")]
    for server in ("http://127.0.0.1:9000", "http://127.0.0.1:9001"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", server)
        folders.append(work_folder("s3://bucket/poses"))
    assert len(set(folders)) == 3
