from __future__ import annotations

import base64
import gzip
import json
import math
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import posecap.manifest.tables
from posecap.manifest.manifest_file import Manifest, ManifestError, Table
from posecap.manifest.rows import Problems
from posecap.manifest.tables import fetch_table, read_table, read_tables, unread_columns
from tests.damage import damaged

ROOT = "/media"
MANIFEST = Manifest(
    path=Path("m.yaml"),
    name="small",
    version="1",
    license="MIT",
    contact="me@example.org",
    description="",
    pipeline=Path("p.py"),
    output=Path("out"),
    media_root=ROOT,
    tables=(),
)


def read(path: Path, *, media_root: str = ROOT, **table: Any) -> list[dict[str, Any]]:
    problems = Problems()
    described = Table(location=path.as_posix(), written=path.name, **table)
    batches = list(read_table(described, media_root=media_root, problems=problems))
    problems.raise_any()
    return [row for batch in batches for row in batch.to_pylist()]


def read_csv(folder: Path, text: str | bytes, **table: Any) -> list[dict[str, Any]]:
    path = folder / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read(path, **table)


def refused(folder: Path, text: str | bytes, name: str = "t.csv", **table: Any) -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ManifestError) as caught:
        read(path, **table)
    return str(caught.value)


def test_a_whole_csv_row(tmp_path: Path) -> None:
    text = (
        "\ufeffid,video,start,end,label,caption,captions,split,license,source\r\n"
        'a1, x.mp4 ,1.5,2e1,run,"he, runs","they run |  she\n runs",val,MIT,web\r\n'
    )
    assert read_csv(tmp_path, text) == [
        {
            "id": "a1",
            "uri": "x.mp4",
            "start": 1.5,
            "end": 20.0,
            "label": "run",
            "captions": ["he, runs", "they run", "she runs"],
            "split": "val",
            "license": "MIT",
            "source": "web",
            "table": "t.csv",
            "row": 2,
            "problem": None,
        }
    ]


def test_only_a_video_is_needed_and_defaults_fill_empty_cells(tmp_path: Path) -> None:
    rows = read_csv(tmp_path, "video,license\na.mp4,\nb.mp4,MIT\n", defaults={"license": "CC0-1.0", "split": "test"})
    assert [(r["license"], r["split"], r["id"], r["start"], r["captions"]) for r in rows] == [
        ("CC0-1.0", "test", None, None, None),
        ("MIT", "test", None, None, None),
    ]
    assert read_csv(tmp_path, "video\na.mp4\n")[0]["split"] == "train"


def test_json_captions_in_a_cell(tmp_path: Path) -> None:
    rows = read_csv(tmp_path, 'video,captions\na,"[""one | two"", ""three""]"\nb,four\nc,\n')
    assert [r["captions"] for r in rows] == [["one | two", "three"], ["four"], []]


def test_a_span_may_be_open_at_one_end(tmp_path: Path) -> None:
    rows = read_csv(tmp_path, "video,start,end\na,1,\nb,,2\nc,-0,1\n")
    assert [(r["start"], r["end"]) for r in rows] == [(1.0, None), (None, 2.0), (0.0, 1.0)]
    assert math.copysign(1, rows[2]["start"]) == 1


def test_columns_are_mapped_and_null_leaves_one_unread(tmp_path: Path) -> None:
    rows = read_csv(
        tmp_path, "uri,start,action\na,oops,run\n", columns={"video": "uri", "label": "action", "start": None}
    )
    assert (rows[0]["uri"], rows[0]["label"], rows[0]["start"]) == ("a", "run", None)


def test_a_prefix_makes_videos_of_ids(tmp_path: Path) -> None:
    text = "label,youtube_id,time_start,time_end,split\nabseiling,-q_M1PMw2hY,38,48,val\n"
    columns = {"video": "youtube_id", "start": "time_start", "end": "time_end"}
    (row,) = read_csv(tmp_path, text, columns=columns, video_prefix="https://www.youtube.com/watch?v=")
    assert row["uri"] == "https://www.youtube.com/watch?v=-q_M1PMw2hY"
    assert (row["start"], row["end"], row["label"], row["split"]) == (38.0, 48.0, "abseiling", "val")
    assert "column 'youtube_id' is None" in refused(
        tmp_path, text.replace("-q_M1PMw2hY", ""), columns=columns, video_prefix="https://h/"
    )


@pytest.mark.parametrize(
    ("video", "media_root", "uri"),
    [
        ("a//b/./c.mp4", ROOT, "a/b/c.mp4"),
        ("a/../b.mp4", ROOT, "b.mp4"),
        ("/media/a/b.mp4", ROOT, "a/b.mp4"),
        ("/other/a.mp4", ROOT, "/other/a.mp4"),
        ("./clip:1.mp4", ROOT, "./clip:1.mp4"),
        ("youtube:abc", ROOT, "youtube:abc"),
        ("pypi://p/1.0/a/../b.mp4?sha256=00", ROOT, "pypi://p/1.0/a/../b.mp4?sha256=00"),
        ("a/b.mp4", "https://example.org/v", "https://example.org/v/a/b.mp4"),
        ("/a.mp4", "https://example.org/v", "/a.mp4"),
        ("s3://bucket/a.mp4", "https://example.org/v", "s3://bucket/a.mp4"),
    ],
)
def test_where_a_video_is(tmp_path: Path, video: str, media_root: str, uri: str) -> None:
    assert read_csv(tmp_path, f"video\n{video}\n", media_root=media_root)[0]["uri"] == uri


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (",1,2,,", ["t.csv row 3: column 'video' is None", "write a path or a URI"]),
        ("../a,1,2,,", ["row 3: column 'video' is '../a'", "media_root"]),
        ("a,-1,2,,", ["row 3: column 'start' is -1.0", "between 0 and"]),
        ("a,5,5,,", ["row 3: column 'end' is 5.0", "not after the start"]),
        ("a,nan,5,,", ["row 3: column 'start' is 'nan'", "no number"]),
        ("a,1,1e999,,", ["row 3: column 'end' is inf"]),
        ("a,1:30,95,,", ["row 3: column 'start' is '1:30'", "90 for 1:30"]),
        ("a,,0,,", ["row 3: column 'end' is 0.0", "not after the start"]),
        ("a,1,2,tr/ain,", ["row 3: column 'split' is 'tr/ain'", "letters, digits"]),
        ("a,1,2,,x\x07y", ["row 3: column 'id' is 'x\\x07y'", "control character"]),
        ("a,1,2,,x~2", ["row 3: column 'id' is 'x~2'", "another id"]),
        ("a,1,2,," + "x" * 257, ["row 3: column 'id'", "at most 256 characters"]),
        ("a,1,2", ["row 3: has 3 cells where the header has 5", "'a,1,2'", "quote cells"]),
        ("a,1,2,,,,", ["row 3: has 7 cells"]),
    ],
)
def test_a_wrong_row_names_table_row_column_value_and_remedy(tmp_path: Path, line: str, words: list[str]) -> None:
    message = refused(tmp_path, f"video,start,end,split,id\ngood.mp4,1,2,train,g\n{line}\ngood.mp4,1,2,train,h\n")
    assert "\n" not in message  # one problem, and only one
    for word in words:
        assert word in message


def test_bad_utf8_is_a_problem_of_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    message = refused(tmp_path, b"video,label\na,x\nb,caf\xe9\n")
    assert "t.csv row 3: column 'label' is 'caf\\x1a': not UTF-8 where \\x1a stands; save the table as UTF-8" in message
    assert "t.csv row 3: has 1 cells" in refused(tmp_path, b"video,label\na,x\n\xff\n")  # ragged as well
    assert "not UTF-8" in refused(tmp_path, b"video,label\na,x\nb,\xc3")  # cut within a character
    (tmp_path / "t.csv").write_bytes("video,label,note\na,é,ü\n".encode() + b"b,x,\xfc\nc,\xe9\xe9,\n")
    manifest = replace(MANIFEST, tables=(Table(location=str(tmp_path / "t.csv"), written="t.csv"),))
    for block in (1 << 20, 24, 25, 26, 27):
        monkeypatch.setattr(posecap.manifest.tables, "CSV_BLOCK_BYTES", block)
        rows = [row for batch in read_tables(manifest) for row in batch.to_pylist()]
        assert [(row["uri"], row["label"], row["problem"] is None) for row in rows] == [
            ("a", "é", True), ("b", "x", True), ("c", None, False)
        ]  # fmt: skip


def test_row_numbers_hold_after_blank_and_ragged_lines_and_across_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posecap.manifest.tables, "CSV_BLOCK_BYTES", 64)
    lines = ["video,start,end"]
    lines += ["" if n == 5 else ",," if n == 6 else "short" if n == 40 else f"v{n},1,2" for n in range(2, 80)]
    lines += ["v80,1,0"]
    message = refused(tmp_path, "\n".join(lines))
    assert "t.csv row 40: has 1 cells" in message
    assert "t.csv row 80: column 'end' is 0.0" in message
    assert message.startswith("2 problems")


def test_a_wrong_row_leaves_the_others_and_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        "id,video,start,end,label,split\n"
        f"a,a.mp4,1,2,run,val\nb,b.mp4,x,-1,run,v/al\nshort\nd,,,,{'l' * 513},\ne,e.mp4,,,run,\n"
    )
    (tmp_path / "t.jsonl").write_text('{"video": "f.mp4"}\nno json\n[]\n{"video": 3.5}\n')
    manifest = replace(
        MANIFEST, tables=tuple(Table(location=str(tmp_path / n), written=n) for n in ("t.csv", "t.jsonl"))
    )
    rows = {(r["table"], r["row"]): r for batch in read_tables(manifest) for r in batch.to_pylist()}
    assert [where for where, row in rows.items() if row["problem"] is None] == [
        ("t.csv", 2), ("t.csv", 6), ("t.jsonl", 1)
    ]  # fmt: skip
    b, short, d = (rows["t.csv", number] for number in (3, 4, 5))
    assert b["problem"] == (
        "column 'split' is 'v/al': use only letters, digits, '_' and '-', as train; column 'start' is 'x': no number; "
        "write seconds, as 12.5; column 'end' is -1.0: write seconds between 0 and 10,000,000"
    )
    assert [b[field] for field in ("id", "uri", "start", "end", "split")] == [None, "b.mp4", None, None, "train"]
    assert (short["uri"], short["problem"].split(":")[0]) == ("", "has 1 cells where the header has 6")
    assert (d["label"], "at most 512 characters" in d["problem"]) == (None, True)
    assert "no JSON" in rows["t.jsonl", 2]["problem"]
    assert "no JSON object" in rows["t.jsonl", 3]["problem"]
    assert "is 3.5" in rows["t.jsonl", 4]["problem"]


def test_columns_that_nothing_reads_are_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("video,klass,license,source\na,b,c,d\n")
    (tmp_path / "t.jsonl").write_text('{"video": "a"}\n{"video": "b", "fps": 3}\n')
    pa.parquet.write_table(pa.table({"video": ["a"], "label": ["b"]}), tmp_path / "t.parquet")
    tables = (
        Table(location=str(tmp_path / "t.csv"), written="t.csv", columns={"license": None}),
        *(Table(location=str(tmp_path / name), written=name) for name in ("t.jsonl", "t.parquet")),
    )
    assert list(unread_columns(replace(MANIFEST, tables=tables))) == [("t.csv", ["klass"]), ("t.jsonl", ["fps"])]


def test_tables_without_a_good_row_are_refused(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("video,start\n" + "a.mp4,1:30\n" * 3)
    manifest = replace(MANIFEST, tables=(Table(location=str(tmp_path / "t.csv"), written="t.csv"),))
    with pytest.raises(ManifestError, match=r"3 problems in the manifest's tables:\n  t\.csv row 2: column 'start'"):
        list(read_tables(manifest))


def test_twenty_problems_are_enough(tmp_path: Path) -> None:
    message = refused(tmp_path, "video,start,end\n" + "a,2,1\n" * 50)
    assert message.startswith("the first 20 problems")
    assert message.count("\n") == 20


@pytest.mark.parametrize(
    ("text", "table", "words"),
    [
        ("uri\na\n", {}, ["no column 'video'", "'uri'", "columns: {video"]),
        ("video\na\n", {"columns": {"label": "class"}}, ["no column 'class'", "'label'"]),
        ("video;label\na;b\n", {}, ["t.csv: no column 'video'", "separated by semicolons; save it with commas"]),
        ("video\tlabel\na\tb\n", {}, ["separated by tabs"]),
        ("video,video\na,b\n", {}, ["'video' appears twice"]),
        ("video,lisense\na,b\n", {}, ["'lisense' is nearly 'license'", "columns: {license: lisense}"]),
        ("", {}, ["t.csv: cannot be read", "Empty CSV"]),
        (b"\xff\xfev\x00i\x00d\x00e\x00o\x00\n\x00", {}, ["t.csv line 1: ", "is not UTF-8"]),
        ('video,label\na,"never closed\nb,c\n', {}, ["quote"]),
    ],
)
def test_a_wrong_table_is_explained(tmp_path: Path, text: str | bytes, table: dict[str, Any], words: list[str]) -> None:
    message = refused(tmp_path, text, **table)
    for word in words:
        assert word in message


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"none\.csv: no such table"):
        read(tmp_path / "none.csv")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def test_tables_are_read_over_http(tmp_path: Path, server: str) -> None:
    (tmp_path / "t.csv").write_text("video\na.mp4\n")
    (tmp_path / "t.jsonl").write_text('{"video": "b.mp4"}\n')
    pq.write_table(pa.table({"video": ["c.mp4"]}), tmp_path / "t.parquet")
    for name, uri in (("t.csv", "a.mp4"), ("t.jsonl", "b.mp4"), ("t.parquet", "c.mp4")):
        table = Table(location=f"{server}/{name}", written=f"{server}/{name}")
        (batch,) = read_table(table, media_root=ROOT, problems=Problems())
        assert batch.column("uri").to_pylist() == [uri]
    with pytest.raises(ManifestError, match=r"none\.csv: no such table"):
        list(read_table(Table(location=f"{server}/none.csv", written="none.csv"), media_root=ROOT, problems=Problems()))


def test_jsonl_rows(tmp_path: Path) -> None:
    lines = [
        {"video": "a.mp4", "start": 1, "end": 2.5, "captions": ["one", " two "], "id": 7, "other": [1]},
        {"video": "b.mp4", "captions": "three", "caption": "zero", "label": None},
    ]
    (tmp_path / "t.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n")
    rows = read(tmp_path / "t.jsonl")
    assert [(r["id"], r["start"], r["end"], r["captions"], r["row"]) for r in rows] == [
        ("7", 1.0, 2.5, ["one", "two"], 1),
        (None, None, None, ["zero", "three"], 3),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ["row 2: no JSON"]),
        ("[1]", ["row 2: no JSON object: b'[1]"]),
        ('{"video": "a", "video": "b"}', ["row 2: no JSON (key 'video' appears twice in one object)"]),
        ('{"video": ["a"]}', ["row 2: column 'video' is ['a']: no text"]),
        ('{"video": "a", "start": true, "end": 2}', ["row 2: column 'start' is True: no number"]),
        ('{"video": "a", "start": NaN, "end": 2}', ["row 2: column 'start' is 'nan'"]),
        ('{"video": "a", "captions": [1]}', ["row 2: column 'captions' is [1]: no list of sentences"]),
        ('{"video": "a", "label": "\\ud800"}', ["row 2: column 'label'"]),
        ('{"video": "a", "lable": "x"}', ["'lable' is nearly 'label'"]),
    ],
)
def test_a_wrong_jsonl_line_is_explained(tmp_path: Path, line: str, words: list[str]) -> None:
    message = refused(tmp_path, f'{{"video": "good"}}\n{line}\n', "t.jsonl")
    for word in words:
        assert word in message


def test_parquet_rows(tmp_path: Path) -> None:
    table = pa.table(
        {
            "video": pa.array(["a.mp4", "b.mp4"]).dictionary_encode(),
            "start": pa.array([1, None], pa.int32()),
            "end": pa.array([2.5, None], pa.float32()),
            "captions": [["one", ""], None],
            "id": pa.array([4, 5]),
            "picture": pa.array([b"\xff", b""]),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    rows = read(tmp_path / "t.parquet")
    assert [(r["id"], r["uri"], r["start"], r["end"], r["captions"], r["row"]) for r in rows] == [
        ("4", "a.mp4", 1.0, 2.5, ["one"], 1),
        ("5", "b.mp4", None, None, [], 2),
    ]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"video": pa.array([1.5])}, "'video' holds double, no text"),
        ({"video": pa.array(["a"]), "captions": pa.array([[1]])}, "'captions' holds list"),
        (
            {"video": pa.array(["a"]), "start": pa.array([math.nan]), "end": pa.array([1.0])},
            "row 1: column 'start' is nan",
        ),
        ({"video": pa.array([b"\xff"]).view(pa.string())}, "row 1: column 'video' is b'\\xff': not UTF-8"),
    ],
)
def test_a_wrong_parquet_table_is_explained(tmp_path: Path, columns: dict[str, pa.Array], words: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(ManifestError) as caught:
        read(tmp_path / "t.parquet")
    assert words in str(caught.value)


def test_what_is_no_parquet_is_explained(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path, "video\na\n", "t.parquet")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".jsonl", ".parquet"]))
def test_any_bytes_are_read_or_refused_but_never_crash(tmp_path: Path, data: bytes, suffix: str) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(b"video,label\n" * (suffix == ".csv") + data)
    try:
        rows = read(path)
    except ManifestError:
        return
    assert all(row["uri"] for row in rows)


def test_a_sentence_that_is_too_long_is_named_by_its_own_column(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(f"video,caption,captions\na.mp4,{'x' * 9999},short|fine\nb.mp4,fine,\n")
    manifest = replace(MANIFEST, tables=(Table(location=str(tmp_path / "t.csv"), written="t.csv"),))
    problems = [row["problem"] for batch in read_tables(manifest) for row in batch.to_pylist()]
    assert problems[0].startswith("column 'caption' is 'xxx")
    assert problems[1] is None


def test_a_path_with_two_slashes_in_front_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("video\n/data/a.mp4\n//data/a.mp4\n")
    manifest = replace(MANIFEST, tables=(Table(location=str(tmp_path / "t.csv"), written="t.csv"),))
    uris = [row["uri"] for batch in read_tables(manifest) for row in batch.to_pylist()]
    assert uris[0] == uris[1]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "video,label\nhttps://me:5ec4e7@h/a.mp4?sig=5ec4e7,a,b\n"),
        ("t.csv", f"video\nhttps://me:5ec4e7@h/a.mp4?sig=5ec4e7{'a' * 5000}\n"),
        ("t.csv", "video,start\na.mp4,https://me:5ec4e7@h/a.mp4?sig=5ec4e7\n"),
        ("t.csv", b"video\nhttps://me:5ec4e7\xff@h/a.mp4?sig=5ec4e7\n"),
        ("t.jsonl", '{"video": "https://me:5ec4e7@h/a.mp4?sig=5ec4e7"\n'),
        ("t.jsonl", '{"video": "https:\\/\\/me:5ec4e7@h/a.mp4?sig=5ec4e7"\n'),
        ("t.jsonl", '{"video": "https:\\u002f\\u002fme:5ec4e7@h/a.mp4?sig=5ec4e7"\n'),
        ("t.jsonl", '["https://me:5ec4e7@h/a.mp4?sig=5ec4e7"]\n'),
        ("t.jsonl", '{"video": {"url": "https://me:5ec4e7@h/a.mp4?sig=5ec4e7"}}\n'),
        ("t.jsonl", '{"video": "a.mp4", "captions": [{"at": "https://me:5ec4e7@h/a.mp4?sig=5ec4e7"}]}\n'),
    ],
)
def test_what_is_wrong_with_a_row_is_told_without_secrets(tmp_path: Path, name: str, text: str | bytes) -> None:
    message = refused(tmp_path, text, name)
    assert f"{name} row" in message
    assert "5ec4e7" not in message


def whole_tables(folder: Path) -> dict[str, bytes]:
    columns = {
        "video": [f"v{number}.mp4" for number in range(40)],
        "start": [float(number) for number in range(40)],
        "label": pa.array([f"l{number % 3}" for number in range(40)]).dictionary_encode(),
        "captions": [["one", "zwölf"]] * 40,
    }
    pq.write_table(pa.table(columns), folder / "a.parquet", row_group_size=15)
    pq.write_table(pa.table(columns), folder / "b.parquet", compression="none", use_dictionary=False)
    found = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    found["c.csv"] = b"video,start,label\n" + b"".join(b'v%d.mp4,%d,"a, b"\n' % (n, n) for n in range(30))
    found["d.jsonl"] = b"".join(b'{"video": "v%d.mp4", "captions": ["a", "b\\u00fc"]}\n' % n for n in range(30))
    return found


@pytest.mark.parametrize("name", ["a.parquet", "b.parquet", "c.csv", "d.jsonl"])
def test_a_damaged_table_gives_good_rows_or_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    whole, path = whole_tables(tmp_path)[name], tmp_path / f"t{Path(name).suffix}"
    for content in damaged(whole, count=120, seed=3):
        path.write_bytes(content)
        table = Table(location=path.as_posix(), written=path.name)
        try:
            for batch in read_table(table, media_root=ROOT, problems=Problems()):
                batch.validate(full=True)
            list(unread_columns(replace(MANIFEST, tables=(table,))))
        except ManifestError as error:
            assert str(error).startswith(path.name)  # noqa: PT017


def test_captions_of_parquet_that_are_not_utf_8_are_those_of_a_row(tmp_path: Path) -> None:
    captions = pa.array([[b"one"], None, [b"two", b"\xff"]]).cast(pa.list_(pa.binary()))
    offsets, values = captions.offsets, captions.values.view(pa.string())
    lists = pa.ListArray.from_arrays(offsets, values, mask=pa.array([False, True, False]))
    pq.write_table(pa.table({"video": ["a", "b", "c"], "captions": lists}), tmp_path / "t.parquet")
    problems = Problems()
    table = Table(location=(tmp_path / "t.parquet").as_posix(), written="t.parquet")
    (batch,) = read_table(table, media_root=ROOT, problems=problems)
    assert batch.column("captions").to_pylist() == [["one"], [], None]
    assert batch.column("problem").to_pylist()[:2] == [None, None]
    with pytest.raises(ManifestError, match=r"t\.parquet row 3: column 'captions' is .*: not UTF-8"):
        problems.raise_any()


def bomb(folder: Path, **columns: pa.Array) -> Path:
    """A Parquet file that repeats long texts, in a few hundred bytes; its metadata do not show the repetition."""
    path = folder / "bomb.parquet"
    pq.write_table(pa.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 200_000
    return path


def repeated(text: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(times, np.int32)), pa.array([text]))


def test_a_small_parquet_file_does_not_become_gigabytes(tmp_path: Path) -> None:
    rows = 8_000
    names = pa.array([str(number) for number in range(rows)])
    lists = pa.ListArray.from_arrays(pa.array(np.arange(rows + 1), pa.int32()), repeated("b" * 100_000, rows))
    lists = pa.ListArray.from_arrays(lists.offsets, lists.values, mask=pa.array(np.arange(rows) == 5))
    path = bomb(tmp_path, video=repeated("a" * 100_000, rows), id=names, captions=lists)
    problems, before = Problems(), pa.total_allocated_bytes()
    found = read_table(Table(location=path.as_posix(), written=path.name), media_root=ROOT, problems=problems)
    (batch,) = found
    assert pa.total_allocated_bytes() - before < 1 << 28
    problem = batch.column("problem").to_pylist()
    assert "column 'video' is 'aaa" in problem[0]
    assert "shorten it to at most 4096 characters" in problem[0]
    assert "column 'captions' is" in problem[4]
    assert "captions" not in problem[5]


def test_more_captions_than_any_row_has_are_refused_unread(tmp_path: Path) -> None:
    many = pa.ListArray.from_arrays(pa.array([0, 1 << 20], pa.int32()), repeated("x", 1 << 20))
    path = bomb(tmp_path, video=pa.array(["a"]), captions=many)
    with pytest.raises(ManifestError, match=r"bomb\.parquet: column 'captions' of row group 0 has 1,048,576 values"):
        list(read_table(Table(location=path.as_posix(), written=path.name), media_root=ROOT, problems=Problems()))


def test_long_lines_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posecap.manifest.tables, "_JSONL_BATCH_BYTES", 10_000)
    lines = [{"video": f"v{number}.mp4", "other": "x" * 1500} for number in range(50)]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, lines)))
    table = Table(location=(tmp_path / "t.jsonl").as_posix(), written="t.jsonl")
    batches = list(read_table(table, media_root=ROOT, problems=Problems()))
    assert max(batch.num_rows for batch in batches) == 7
    assert [row for batch in batches for row in batch.column("row").to_pylist()] == list(range(1, 51))


def test_a_header_without_end_is_refused(tmp_path: Path) -> None:
    since = time.process_time()
    assert "columns, more than 2,000" in refused(tmp_path, "video" + ",lable" * 100_000 + "\n")
    assert time.process_time() - since < 20


BODY = b"video\na.mp4\n"
ASKED: list[dict[str, str]] = []


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append({"path": self.path, **self.headers})
        answers = {
            "/t.csv": lambda: self.give(BODY),
            "/moved.csv": lambda: self.give(b"", status=302, Location=f"http://localhost:{PORT[0]}/t.csv"),
            "/out.csv": lambda: self.give(b"", status=302, Location="file:///etc/hostname"),
            "/short.csv": lambda: self.give(BODY, Content_Length=len(BODY) + 9),
            "/bomb.csv": lambda: self.give(gzip.compress(bytes(1 << 20)), Content_Encoding="gzip"),
            "/endless.csv": self.endless,
            "/secret.csv": lambda: self.give(b"", status=403),
        }
        answers.get(self.path.partition("?")[0], lambda: self.give(b"", status=404))()

    def give(self, body: bytes, *, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": len(body)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"a.mp4\n" * 10_000)
        except ConnectionError:
            pass

    def log_message(self, *_: object) -> None:
        pass


PORT: list[int] = []


@pytest.fixture(scope="module")
def web_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as http:
        http.daemon_threads = True
        PORT[:] = [http.server_address[1]]
        threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{PORT[0]}"
        http.shutdown()


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    ASKED.clear()


def table(location: str) -> Table:
    return Table(location=location, written="t.csv")


def refused_at(location: str) -> str:
    with pytest.raises(ManifestError) as caught:
        fetch_table(table(location))
    return str(caught.value)


def test_bytes_are_asked_for_uncompressed(web_server: str) -> None:
    with fetch_table(table(f"http://{web_server}/t.csv")) as file:
        assert file.read() == BODY
    assert ASKED[0]["Accept-Encoding"] == "identity"


def test_user_and_password_go_to_the_host_alone(web_server: str) -> None:
    fetch_table(table(f"http://me:pass%2Fword@{web_server}/moved.csv")).close()
    first, second = ASKED
    assert first["Authorization"] == f"Basic {base64.b64encode(b'me:pass/word').decode()}"
    assert "Authorization" not in second


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("none.csv", "no such table"),
        ("secret.csv?sig=5ec4e7", "answered 403"),
        ("short.csv", "sent less than it announced"),
        ("bomb.csv", "encoded as gzip"),
        ("out.csv", "answered 302"),
    ],
)
def test_other_answers_are_errors_of_the_table(web_server: str, path: str, words: str) -> None:
    message = refused_at(f"http://me:5ec4e7@{web_server}/{path}")
    assert message.startswith("t.csv: ")
    assert words in message
    assert message.count("t.csv") == 1  # no error of its own is taken for one of the network
    assert "5ec4e7" not in message


def test_an_endless_answer_is_cut_off(web_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(posecap.manifest.tables, "MOST_TABLE_BYTES", 1 << 20)
    assert "more than 1,048,576 bytes" in refused_at(f"http://{web_server}/endless.csv")


@pytest.mark.parametrize("address", ["http://me:5ec4e7@127.0.0.1:1/t.csv?sig=5ec4e7", "http://me:5ec4e7@[bad/t.csv"])
def test_an_address_that_does_not_answer(address: str) -> None:
    message = refused_at(address)
    assert "cannot be fetched" in message
    assert "5ec4e7" not in message


def test_a_table_is_fetched_once(web_server: str) -> None:
    (batch,) = read_table(table(f"http://{web_server}/t.csv"), media_root="", problems=Problems())
    assert batch.column("uri").to_pylist() == ["a.mp4"]
    assert len(ASKED) == 1
