"""Hashes, files that appear whole or not at all, locks, and scratch folders."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posecap import files
from posecap.files import (
    OutputExistsError,
    atomic_file,
    atomic_path,
    canonical_json,
    clip_id,
    digest,
    file_sha256,
    locked,
    parse_json,
    unused_path,
)
from posecap.types import Span


def test_canonical_json_sorts_keys_and_wastes_no_space() -> None:
    assert canonical_json({"b": [1, 2.5, None], "a": "é"}) == '{"a":"é","b":[1,2.5,null]}'.encode()


def test_what_is_no_number_has_no_name() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json([float("nan")])


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "c": 2, "a": 3}}]'])
def test_a_repeated_key_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="key 'a' appears twice"):
        parse_json(text)
    assert parse_json('{"a": {"a": [1, {"a": 2}]}}') == {"a": {"a": [1, {"a": 2}]}}


def test_a_digest_is_the_sha256_of_the_canonical_form() -> None:
    assert digest({"b": 1, "a": 2}) == hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
    assert digest({"a": 2, "b": 1}) == digest({"b": 1, "a": 2})


def test_a_file_is_hashed_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert file_sha256(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(st.floats(0, 1e5), st.floats(1e-3, 1e3))
def test_a_clips_name_follows_from_source_row_and_span_alone(start: float, length: float) -> None:
    name = clip_id("s" * 64, "row", Span(start, start + length))
    assert len(name) == 24
    assert set(name) <= set("0123456789abcdef")
    assert name == clip_id("s" * 64, "row", Span(start, start + length))
    assert name != clip_id("t" * 64, "row", Span(start, start + length))
    assert name != clip_id("s" * 64, "other", Span(start, start + length))
    assert name != clip_id("s" * 64, "row", Span(start, start + length + 1e-3))


def test_times_count_to_the_microsecond() -> None:
    assert clip_id("s", "r", Span(0.1 + 0.2, 1)) == clip_id("s", "r", Span(0.3, 1))
    assert clip_id("s", "r", Span(0.300001, 1)) != clip_id("s", "r", Span(0.3, 1))


def test_a_file_appears_with_its_hash(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    pieces = [b"one", bytearray(b"x" * 3_000_000), memoryview(b"three")]
    with files.AtomicFile(path) as staged:
        for piece in pieces:
            staged.write(piece)
        written = staged.finish()
        assert not path.exists()
        staged.publish()
    content = b"".join(pieces)
    assert path.read_bytes() == content
    assert written == files.Written(hashlib.sha256(content).hexdigest(), 3_000_008)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), files.AtomicFile(path) as staged:  # noqa: PT012  (the block's failure is the subject)
        staged.write(b"new")
        staged.write(3)  # type: ignore[arg-type]
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


def test_a_full_disk_is_told_to_the_writer(tmp_path: Path) -> None:
    with files.AtomicFile(tmp_path / "file") as staged:
        with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123
            os.dup2(full.fileno(), staged._file.fileno())
        staged.write(b"few")
        with pytest.raises(OSError, match="No space left") as caught:
            staged.write(b"x" * 2_000_000)
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_gives_back_other_bytes_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "file_sha256", lambda path: "0" * 64)
    with pytest.raises(OSError, match="check the disk"):
        files.write_file(tmp_path / "file", b"content")
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_one_file_are_removed(tmp_path: Path) -> None:
    for name in (".a.tmp-1", ".a.tmp-22", ".ab.tmp-1", "a"):
        (tmp_path / name).touch()
    files.remove_leftovers(tmp_path / "a")
    assert {p.name for p in tmp_path.iterdir()} == {".ab.tmp-1", "a"}
    files.remove_leftovers(tmp_path / "no-such-folder" / "a")


def test_a_file_lands_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "file.bin"
    with atomic_file(target) as file:
        file.write(b"abc")
        assert not target.exists()
    assert target.read_bytes() == b"abc"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_file(target) as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file.bin", b"old")]


@pytest.mark.parametrize(
    ("uri", "suffix"),
    [
        ("https://h/a/Clip.MP4?x=1", ".mp4"),
        ("https://h/clip", ""),
        ("s3://b/clip.mp4.", ""),
        ("https://h/x.%2e%2e", ""),
        ("https://h/x.averylongsuffix", ""),
        ("http://[", ""),
    ],
)
def test_unused_paths_keep_plain_suffixes_only(tmp_path: Path, uri: str, suffix: str) -> None:
    first, second = unused_path(tmp_path, uri), unused_path(tmp_path, uri)
    assert first != second
    assert (first.parent, first.suffix) == (tmp_path, suffix)


def test_one_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    lock, order = tmp_path / "a" / "lock", []
    entered = threading.Event()

    def second() -> None:
        entered.set()
        with locked(lock):
            order.append("second")

    with locked(lock):
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait(5)
        order.append("first")
    thread.join(5)
    assert order == ["first", "second"]


SCRATCH = """
import sys, tempfile
tempfile.tempdir = sys.argv[1]
from posecap.files import scratch_folder
folder = scratch_folder()
assert folder == scratch_folder()
(folder / "clip.mp4").write_bytes(b"x")
print(folder, flush=True)
if sys.argv[2] == "wait":
    sys.stdin.read()
"""


def scratch_process(root: Path, how: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRATCH, str(root), how]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_scratch_folders_end_with_their_process_and_killed_ones_are_swept(tmp_path: Path) -> None:
    killed, alive = scratch_process(tmp_path, "wait"), scratch_process(tmp_path, "wait")
    try:
        left, used = (Path(p.stdout.readline().strip()) for p in (killed, alive) if p.stdout)
        killed.send_signal(signal.SIGKILL)
        killed.wait(10)
        assert (left / "clip.mp4").exists()
        with scratch_process(tmp_path, "end") as third:
            third.communicate(timeout=20)
        assert third.returncode == 0
        assert list(tmp_path.iterdir()) == [used]
        assert (used / "clip.mp4").exists()
        alive.communicate("", timeout=20)
        assert list(tmp_path.iterdir()) == []
    finally:
        for process in (killed, alive):
            process.kill()
            process.communicate()


def test_an_output_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.bin"
    with atomic_path(path, existing="refuse") as part:
        part.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert [file.name for file in path.parent.iterdir()] == ["a.bin"]


def test_an_output_is_replaced_only_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with (
        pytest.raises(OutputExistsError, match=r"a.bin already exists; choose another --output, or give --overwrite"),
        atomic_path(path, existing="refuse"),
    ):
        pass
    with atomic_path(path, existing="replace") as part:
        part.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    with pytest.raises(OutputExistsError, match="name a file in it"), atomic_path(tmp_path, existing="replace"):
        pass


def test_a_failed_output_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def stopped() -> None:
        with atomic_path(path, existing="replace") as part:
            part.write_bytes(b"half of")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]
