"""Files that appear whole or not at all."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from posecap.shards import atomic_commit


def test_a_file_appears_with_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    pieces = [b"one", bytearray(b"x" * 3_000_000), memoryview(b"three")]
    with atomic_commit.AtomicFile(path) as staged:
        for piece in pieces:
            staged.write(piece)
        written = staged.finish()
        assert not path.exists()
        staged.publish()
    content = b"".join(pieces)
    assert path.read_bytes() == content
    assert written == atomic_commit.Written(hashlib.sha256(content).hexdigest(), 3_000_008)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_commit.AtomicFile(path) as staged:  # noqa: PT012  (the block's failure is the subject)
        staged.write(b"new")
        staged.write(3)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_told_to_the_writer(tmp_path: Path) -> None:
    with atomic_commit.AtomicFile(tmp_path / "file") as staged:
        with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
            os.dup2(full.fileno(), staged._file.fileno())
        staged.write(b"few")
        with pytest.raises(OSError, match="No space left") as caught:
            staged.write(b"x" * 2_000_000)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_other_bytes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic_commit, "file_sha256", lambda path: "0" * 64)
    with pytest.raises(OSError, match="check the disk"):
        atomic_commit.write_file(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_one_file_are_removed(tmp_path: Path) -> None:
    for name in (".a.tmp-1", ".a.tmp-22", ".ab.tmp-1", "a"):
        (tmp_path / name).touch()
    atomic_commit.remove_leftovers(tmp_path / "a")
    assert {p.name for p in tmp_path.iterdir()} == {".ab.tmp-1", "a"}
    atomic_commit.remove_leftovers(tmp_path / "no-such-folder" / "a")
