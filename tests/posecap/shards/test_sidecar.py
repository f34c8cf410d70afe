"""Sealed documents."""

import hashlib
import json
from pathlib import Path

import pytest

from posecap.cli import main
from posecap.manifest.manifest_file import read_manifest
from posecap.outcomes import ClipOutcome, RowOutcome
from posecap.plan import make_plan
from posecap.shards import ShardError, damaged_files, read_sidecar, sidecars, write_dataset_list
from posecap.shards.sidecar import decode_document, encode_document, is_listed, outcomes_of, read_document
from posecap.verify import verify
from tests import built, small
from tests.built import FIRST, SECOND

SIDECAR = "data/train/pose-00000.json"


def test_a_sealed_document_reads_back_and_seals_to_the_same_bytes() -> None:
    document = {"format": 1, "b": [1.5, None, "ü"], "a": {"x": True}}
    content = encode_document(document)
    assert decode_document(content, name="d") == document
    assert encode_document(decode_document(content, name="d")) == content


@pytest.mark.parametrize(
    "document",
    [
        {"format": 1},
        {"format": 1, "z": 1},
        {"format": 1, "tail": {"seal": "0" * 64}},
        {"format": 1, "keys": {}, "sources": {"seal": "a" * 64, "b": '"seal":"'}},
        {"a": '"seal":"' + "0" * 64 + '"', "format": 1},
    ],
)
def test_the_checksum_is_found_wherever_it_lies(document: dict[str, object]) -> None:
    content = encode_document(document)
    assert decode_document(content, name="d") == document
    for place in range(len(content)):
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        with pytest.raises(ShardError, match="d is damaged"):
            decode_document(damaged, name="d")


def test_a_repeated_key_is_damage_whatever_the_checksum() -> None:
    without = b'{"a":1,"a":2,"format":1'
    checksum = hashlib.sha256(without + b"}").hexdigest()
    for seal in (checksum, hashlib.sha256(without).hexdigest(), hashlib.sha256(without + b"}\n").hexdigest()):
        with pytest.raises(ShardError, match="d is damaged"):
            decode_document(without + b',"seal":"' + seal.encode() + b'"}\n', name="d")


def test_every_flipped_byte_is_found() -> None:
    content = encode_document({"format": 1, "words": ["one", "two"], "number": 12})
    for position in range(len(content)):
        for bit in (1, 0x20, 0x80):
            damaged = bytearray(content)
            damaged[position] ^= bit
            with pytest.raises(ShardError, match="d is damaged"):
                decode_document(bytes(damaged), name="d")


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{}", b"[" * 100_000, b'{"seal": 3}', b"\xff"])
def test_what_is_no_document_is_refused(content: bytes) -> None:
    with pytest.raises(ShardError, match="d is damaged"):
        decode_document(content, name="d")


def test_another_format_is_refused() -> None:
    with pytest.raises(ShardError, match="has format 2, this posecap reads 1; update posecap"):
        decode_document(encode_document({"format": 2}), name="d")


def test_all_sidecars_in_order(tmp_path: Path) -> None:
    built.build(tmp_path)
    assert [(part, document["samples"]) for part, document in sidecars(tmp_path)] == [(FIRST, 3), (SECOND, 2)]


def forge(root: Path, **changes: object) -> None:
    document = {**read_sidecar(root, FIRST), **changes}
    (root / SIDECAR).write_bytes(encode_document(document))


@pytest.mark.parametrize(
    "changes",
    [
        {"part": "train/00001"},
        {"split": "val"},
        {"files": {"../../etc/passwd": {"sha256": "", "size_bytes": 0}}},
        {"files": {"/etc/passwd": {"sha256": "", "size_bytes": 0}}},
        {"files": {"data/train/pose-00001.tar": {"sha256": "", "size_bytes": 0}}},
        {"files": {"data/train/pose-00000.tar": {"sha256": ""}}},
        {"files": []},
        {"samples": "3"},
    ],
)
def test_a_sealed_sidecar_may_name_only_its_own_files(tmp_path: Path, changes: dict[str, object]) -> None:
    built.build(tmp_path)
    forge(tmp_path, **changes)
    with pytest.raises(ShardError, match="is not the sidecar of part train/00000; delete it and run `posecap build`"):
        read_sidecar(tmp_path, FIRST)


ROW = RowOutcome(row_id="r", uri="u", status="failed", clips=(ClipOutcome(status="failed"),)).as_json()


@pytest.mark.parametrize(
    "rows",
    [
        None,
        3,
        "ab",
        [3],
        [{}],
        {"status": "kept"},
        [{**ROW, "more": 1}],
        [{**ROW, "clips": None}],
        [{**ROW, "clips": [3]}],
        [{**ROW, "clips": [{"status": "failed", "start_seconds": "1"}]}],
        *([{**ROW, name: []}] for name in ("row_id", "uri", "status", "stage", "reason", "detail")),
    ],
)
def test_rows_that_are_no_outcomes_are_named_by_their_sidecar(
    tmp_path: Path, rows: object, capsys: pytest.CaptureFixture[str]
) -> None:
    said = f"{SIDECAR}: its rows are not the outcomes of rows; delete it and run `posecap build`"
    with pytest.raises(ShardError, match=said):
        outcomes_of(FIRST, rows)
    samples = built.build(tmp_path)[FIRST]
    make_plan(read_manifest(small.manifest(tmp_path, [{"video": "a.mp4"}])), tmp_path / "plan.parquet")
    forge(tmp_path, rows=rows)
    assert SIDECAR in {problem.file for problem in verify(tmp_path).problems}
    assert main(["status", str(tmp_path), "--failed"]) == 3
    assert said in capsys.readouterr().out
    for command in (["view", "--sheet", "--rejected", str(tmp_path)], ["remove", str(tmp_path), samples[0].key]):
        assert main(command) == 1
        assert said in capsys.readouterr().err


def test_a_sidecar_without_end_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built.build(tmp_path)
    monkeypatch.setattr("posecap.shards.paths.MAX_DOCUMENT_BYTES", 100)
    with pytest.raises(ShardError, match="is larger than 100 bytes"):
        read_sidecar(tmp_path, FIRST)


def test_damage_names_absent_and_resized_files(tmp_path: Path) -> None:
    built.build(tmp_path)
    document = read_sidecar(tmp_path, FIRST)
    assert damaged_files(tmp_path, document) == []
    (tmp_path / "data/train/video-00000.tar").unlink()
    with (tmp_path / "index/train-00000.parquet").open("ab") as file:
        file.write(b"x")
    assert sorted(damaged_files(tmp_path, document)) == ["data/train/video-00000.tar", "index/train-00000.parquet"]


def test_the_list_names_every_part_with_its_sidecar(tmp_path: Path) -> None:
    built.build(tmp_path)
    document = read_document(tmp_path, "dataset.json")
    assert [(entry["part"], entry["samples"]) for entry in document["parts"]] == [
        ("train/00000", 3),
        ("train/00003", 2),
    ]
    assert document["parts"][0]["sidecar"]["size_bytes"] == (tmp_path / SIDECAR).stat().st_size
    before = (tmp_path / "dataset.json").read_bytes()
    write_dataset_list(tmp_path)
    assert (tmp_path / "dataset.json").read_bytes() == before
    assert json.loads(before)["format"] == 1


def test_a_list_is_that_of_the_parts_on_disk(tmp_path: Path) -> None:
    built.build(tmp_path)
    assert is_listed(tmp_path)
    sidecar = tmp_path / SIDECAR
    before = sidecar.read_bytes()
    sidecar.write_bytes(before.replace(b"train", b"trian", 1))
    assert not is_listed(tmp_path)
    sidecar.unlink()
    assert not is_listed(tmp_path)
    sidecar.write_bytes(before)
    assert is_listed(tmp_path)
    (tmp_path / "dataset.json").write_bytes(encode_document({"format": 1}))
    assert not is_listed(tmp_path)
    (tmp_path / "dataset.json").unlink()
    assert not is_listed(tmp_path)
