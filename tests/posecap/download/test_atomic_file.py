from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from posecap.download.atomic_file import atomic_file, locked, unused_path


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
from posecap.download.atomic_file import scratch_folder
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
