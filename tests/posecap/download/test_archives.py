from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

from posecap.download.package_index import take
from posecap.stage import Reject


def zipped(members: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def taken(content: bytes, tmp_path: Path, *steps: str, size_bytes: int = 1000, inner_bytes: int = 1000) -> bytes:
    archive, target = tmp_path / "a.zip", tmp_path / "out" / "file"
    archive.write_bytes(content)
    take(archive, steps, target, size_bytes=size_bytes, inner_bytes=inner_bytes, name="the wheel")
    return target.read_bytes()


def refusal(content: bytes, tmp_path: Path, *steps: str, size_bytes: int = 1000, inner_bytes: int = 1000) -> Reject:
    with pytest.raises(Reject) as caught:
        taken(content, tmp_path, *steps, size_bytes=size_bytes, inner_bytes=inner_bytes)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "a.zip"]
    assert str(tmp_path) not in caught.value.detail
    return caught.value


def test_member_and_member_of_an_inner_zip(tmp_path: Path) -> None:
    inner = zipped({"models/net.bin": b"weights"})
    outer = zipped({"pkg/a.txt": b"text", "pkg/model.nfd": inner})
    assert taken(outer, tmp_path, "pkg/a.txt") == b"text"
    assert taken(outer, tmp_path, "pkg/model.nfd", "models/net.bin", size_bytes=7) == b"weights"


def test_missing_members_are_named(tmp_path: Path) -> None:
    outer = zipped({"a.zip": zipped({"b": b"1"}), "folder/": b""})
    assert refusal(outer, tmp_path, "b").reason == "not_found"
    assert refusal(outer, tmp_path, "folder/").reason == "not_found"
    trouble = refusal(outer, tmp_path, "a.zip", "c")
    assert (trouble.reason, "the wheel!/a.zip holds no file 'c'" in trouble.detail) == ("not_found", True)


def test_names_in_archives_never_become_paths(tmp_path: Path) -> None:
    evil = zipped({"../../escaped": b"gone", "/absolute": b"gone too"})
    assert taken(evil, tmp_path, "../../escaped") == b"gone"
    assert taken(evil, tmp_path, "/absolute") == b"gone too"
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.zip", "file"]
    assert not (tmp_path.parent / "escaped").exists()


def test_bombs_stop_at_the_bound(tmp_path: Path) -> None:
    bomb = zipped({"big": bytes(50_000_000)})
    assert len(bomb) < 100_000
    assert refusal(bomb, tmp_path, "big", size_bytes=49_999_999).reason == "too_large"
    nested = zipped({"inner.zip": zipped({"big": bytes(100)}, method=zipfile.ZIP_STORED)})
    assert refusal(nested, tmp_path, "inner.zip", "big", inner_bytes=50).reason == "too_large"
    assert refusal(nested, tmp_path, "inner.zip", "big", size_bytes=99).reason == "too_large"
    assert taken(nested, tmp_path, "inner.zip", "big", size_bytes=100) == bytes(100)


def test_a_size_that_lies_does_not_help(tmp_path: Path) -> None:
    """The header claims 10 bytes, the stream holds 5,000: no more than claimed is believed, and the CRC is wrong."""
    honest = zipped({"big": bytes(5000)})
    lying = honest.replace((5000).to_bytes(4, "little"), (10).to_bytes(4, "little"))
    assert lying != honest
    assert refusal(lying, tmp_path, "big", size_bytes=100).reason == "bad_archive"


def test_broken_archives(tmp_path: Path) -> None:
    whole = zipped({"a": bytes(range(256)) * 3}, method=zipfile.ZIP_STORED)
    flipped = whole.replace(b"\x10\x11", b"\x10\x12", 1)
    for content in (b"", b"no zip at all", whole[:-10], flipped):
        assert refusal(content, tmp_path, "a").reason == "bad_archive"
    assert refusal(zipped({"a": b"x" * 99}, method=zipfile.ZIP_LZMA), tmp_path, "a").reason == "bad_archive"


def test_a_step_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="steps is empty"):
        taken(zipped({"a": b""}), tmp_path)
