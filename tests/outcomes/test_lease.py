"""One build at a time: the lease belongs to a living process and to nobody else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from posecap.outcomes.lease import DirectoryBusy, lease

_HOLDER = """
import sys, time
from pathlib import Path
from posecap.outcomes.lease import lease
with lease(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_holder_is_told_who_is_first(tmp_path: Path) -> None:
    with lease(tmp_path), pytest.raises(DirectoryBusy, match=f"by process {os.getpid()}: wait for it"), lease(tmp_path):
        pass


def test_it_is_free_again_afterwards_even_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), lease(tmp_path):
        _ = 1 / 0
    with lease(tmp_path):
        assert (tmp_path / ".lease").read_text() == str(os.getpid())


def test_two_directories_do_not_hinder_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with lease(tmp_path / "a"), lease(tmp_path / "b"):
        pass


def test_a_killed_holder_leaves_nothing_held(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DirectoryBusy, match=f"by process {holder.pid}:"), lease(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with lease(tmp_path):
        pass
