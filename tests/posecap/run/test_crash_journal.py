"""A crash of native code is laid to the rows that were under way."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from posecap.run.crash_journal import CrashJournal

PROGRAM = """
import ctypes, os, signal, sys, threading
from pathlib import Path
from posecap.run.crash_journal import CrashJournal

journal, ready = CrashJournal(Path(sys.argv[1])), threading.Barrier(2)

def work():
    with journal.working_on("b"):
        ready.wait()
        threading.Event().wait()

with journal.kept():
    threading.Thread(target=work, daemon=True).start()
    with journal.working_on("done"):
        pass
    with journal.working_on("a"):
        ready.wait()
        match sys.argv[2]:
            case "crash":
                ctypes.string_at(0)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "error":
                raise ValueError
"""


@pytest.mark.parametrize(("end", "rows"), [("crash", {"a", "b"}), ("kill", None), ("error", None)])
def test_rows_under_way_are_known_after_a_crash_and_only_then(tmp_path: Path, end: str, rows: set[str] | None) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), end], check=False, capture_output=True)
    assert done.returncode
    journal = CrashJournal(tmp_path)
    crash = journal.take()
    if rows is None:
        assert crash is None
    else:
        assert crash is not None
        assert (set(crash.rows), crash.said) == (rows, "Segmentation fault")
    assert journal.take() is None
    assert list(tmp_path.iterdir()) == []


def test_a_row_in_doubt_is_worked_on_alone(tmp_path: Path) -> None:
    journal, together, most = CrashJournal(tmp_path, in_doubt={"doubt"}), [0], {"doubt": 0, "other": 0}
    lock = threading.Lock()

    def work(row_id: str) -> None:
        with journal.working_on(row_id):
            with lock:
                together[0] += 1
                most[row_id] = max(most[row_id], together[0])
            time.sleep(0.02)
            with lock:
                together[0] -= 1

    with journal.kept():
        rows = ["other", "other", "doubt", "other", "doubt", "other"]
        threads = [threading.Thread(target=work, args=(row,)) for row in rows]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert most["doubt"] == 1
    assert most["other"] > 1
    assert list(tmp_path.iterdir()) == []
    with journal.working_on(None), journal.working_on("late"):
        pass
