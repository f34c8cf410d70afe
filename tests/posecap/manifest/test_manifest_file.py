import re
from pathlib import Path

import pytest

from posecap.manifest.manifest_file import Manifest, ManifestError, read_manifest
from tests import ROOT

GOOD = {
    "name": "small",
    "version": "1.10",
    "license": "CC-BY-4.0",
    "contact": "me@example.org",
    "pipeline": "../pipelines/default.py",
    "output": "../datasets/small",
    "tables": "\n  - path: rows.csv",
}


def written(folder: Path, text: str | None = None, **keys: str | None) -> Path:
    path = folder / "m.yaml"
    lines = [f"{key}: {value}" for key, value in {**GOOD, **keys}.items() if value is not None]
    path.write_text("\n".join(lines) if text is None else text, encoding="utf-8")
    return path


def refused(path: Path) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    return str(caught.value)


def test_reads_every_key_and_resolves_paths_against_the_manifest(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    manifest = read_manifest(written(folder))
    assert isinstance(manifest, Manifest)
    assert manifest.version == "1.10"  # as written, not the number 1.1
    assert manifest.pipeline == tmp_path / "pipelines/default.py"
    assert manifest.output == tmp_path / "datasets/small"
    assert manifest.media_root == folder.as_posix()
    assert (manifest.rows_per_part, manifest.store_video, manifest.description) == (1000, "none", "")
    assert manifest.bytes_per_part is None
    assert [t.location for t in manifest.tables] == [(folder / "rows.csv").as_posix()]


def test_tables_with_urls_columns_and_defaults(tmp_path: Path) -> None:
    tables = """
  - path: https://example.org/a/rows.parquet?version=2
    columns: {video: uri, start: null}
    defaults: {split: val, license: CC0-1.0}
  - {path: s3://bucket/rows.jsonl}"""
    one, two = read_manifest(written(tmp_path, tables=tables, media_root="https://example.org/v/")).tables
    assert (one.suffix, two.suffix) == (".parquet", ".jsonl")
    assert one.columns == {"video": "uri", "start": None}
    assert one.defaults == {"split": "val", "license": "CC0-1.0"}


def test_a_table_is_called_by_its_public_address(tmp_path: Path) -> None:
    location = "https://me:5ec4e7@example.org/rows.csv?v=1&sig=5ec4e7"
    (table,) = read_manifest(written(tmp_path, tables=f"\n  - path: {location}")).tables
    assert (table.written, table.location) == ("https://example.org/rows.csv?v=1", location)


def test_a_media_root_may_be_a_url_and_loses_its_last_slash(tmp_path: Path) -> None:
    assert read_manifest(written(tmp_path, media_root="https://example.org/v/")).media_root == "https://example.org/v"


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"license": None}, ["'license' is missing", "CC-BY-4.0"]),
        ({"license": None, "lisense": "MIT"}, ["'license' is missing", "is 'lisense' meant?"]),
        ({"rows_per_prat": "3"}, ["m.yaml:9:", "unknown key 'rows_per_prat'", "did you mean 'rows_per_part'?"]),
        ({"rows_per_part": "0"}, ["m.yaml:9:", "'rows_per_part' is '0'", "from 1 to 100,000"]),
        ({"rows_per_part": "many"}, ["'rows_per_part' is 'many'"]),
        ({"bytes_per_part": "0"}, ["m.yaml:9:", "'bytes_per_part' is '0'", "from 1,000,000 to"]),
        ({"bytes_per_part": "2 GB"}, ["'bytes_per_part' is '2 GB'"]),
        ({"store_video": "all"}, ["'store_video' is 'all'", "none, clip"]),
        ({"filter": "jiter < 0.02"}, ["'filter' is 'jiter < 0.02'", "character 1, jiter", "did you mean jitter?"]),
        (
            {"filter": "label == 'x' and 'a' in captions"},
            ["captions is not known before captions"],
        ),
        ({"contact": "nobody"}, ["'contact' is 'nobody'", "e-mail or web address"]),
        ({"pipeline": "https://example.org/p.py"}, ["'pipeline' is 'https://example.org/p.py'", "never fetched"]),
        ({"output": "s3://bucket/d"}, ["'output' is 's3://bucket/d'", "local directory"]),
        ({"media_root": "ftp://example.org"}, ["'media_root' is 'ftp://example.org'", "https"]),
        ({"media_root": "https://me:5ec4e7@h/v?a=1"}, ["'media_root' is 'https://h/v?a=1'", "without '?' and '#'"]),
        ({"media_root": "'https://[bad/v'"}, ["'media_root' is 'https://[bad/v'", "a name or an address"]),
        ({"tables": "\n  - path: 'https://a]b/rows.csv'"}, ["'tables[0].path' is 'https://a]b/rows.csv'"]),
        ({"name": "a/b"}, ["m.yaml:1:", "'name' is 'a/b'"]),
        ({"name": "[a, b]"}, ["'name' is a list or a mapping"]),
        ({"tables": "[]"}, ["'tables'", "at least one table"]),
        ({"tables": "\n  - path: rows.txt"}, ["'tables[0].path' is 'rows.txt'", ".csv, .jsonl, .parquet"]),
        ({"tables": "\n  - {path: a.csv, colums: {}}"}, ["'tables[0].colums'", "did you mean 'columns'?"]),
        ({"tables": "\n  - {path: a.csv, columns: {vido: u}}"}, ["'tables[0].columns.vido'", "did you mean 'video'?"]),
        ({"tables": "\n  - {path: a.csv, defaults: {split: a b}}"}, ["'tables[0].defaults'", "letters, digits"]),
        ({"tables": "\n  - {path: 'github://a:b@c/rows.csv'}"}, ["'tables[0].path'", "https, http, s3"]),
    ],
)
def test_wrong_keys_name_line_key_value_and_remedy(
    tmp_path: Path, keys: dict[str, str | None], words: list[str]
) -> None:
    message = refused(written(tmp_path, **keys))
    assert str(tmp_path / "m.yaml") in message
    for word in words:
        assert word in message


def test_a_repeated_key_is_refused_with_its_line(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text() + "\nname: other\n")
    assert re.search(r"m\.yaml:9: key 'name' appears a second time", refused(path))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("- a\n- b\n", "must be a mapping"),
        ("a: &x [1]\nb: *x\n", "anchors and aliases"),
        ("a: [1\n", "is not valid YAML"),
        ("a: !!python/object/apply:os.system [ls]\n", "is missing"),
        ("[" * 5000, "nested too deeply"),
        ("# " + "x" * (1 << 20), "larger than"),
    ],
)
def test_hostile_and_broken_files_are_refused(tmp_path: Path, text: str, words: str) -> None:
    assert words in refused(written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\ntables:\n\t- path: rows.csv\n", ":3: is not valid YAML: a tab; indent with spaces instead"),
        ("a: 1\nb: 'x\n", ":3: is not valid YAML: while scanning a quoted scalar; found unexpected end of stream"),
        ("a: 1\nb: c: d\n", ":2: is not valid YAML: mapping values are not allowed here"),
        ("a: \x07\n", ": is not valid YAML: unacceptable character"),
    ],
)
def test_the_line_that_is_no_yaml_is_named_in_one_line(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    said = refused(path)
    assert said.startswith(f"{path}{words}")
    assert "\n" not in said
    assert "unicode string" not in said


def test_bad_utf8_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_bytes(b"name: \xff\n")
    assert "not UTF-8" in refused(tmp_path / "m.yaml")
    assert "cannot be read" in refused(tmp_path / "none.yaml")


def test_the_demo_manifest_is_sound() -> None:
    manifest = read_manifest(ROOT / "manifests" / "demo.yaml")
    assert (manifest.name, manifest.license, manifest.rows_per_part) == ("posecap-demo", "BSD-3-Clause", 3)
    assert manifest.pipeline.name == "default.py"


@pytest.mark.parametrize("name", ["kinetics400", "kinetics600", "kinetics700", "posecap_1m"])
def test_shipped_manifests_take_youtube_ids_as_the_lists_give_them(name: str) -> None:
    manifest = read_manifest(ROOT / "manifests" / f"{name}.yaml")
    assert manifest.pipeline.name == "posecap_1m.py"
    assert manifest.pipeline.is_file()
    for table in manifest.tables:
        assert table.location.startswith("https://s3.amazonaws.com/kinetics/")
        assert table.video_prefix == "https://www.youtube.com/watch?v="
        assert table.columns == {"video": "youtube_id", "start": "time_start", "end": "time_end"}
