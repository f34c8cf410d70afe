"""Who may change a dataset: one process at a time, and the next one once it has died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from posecap.storage import DatasetLockedError, RemoteStorage, lease, open_storage
from posecap.storage import lease as module

HOLDER = """
import sys, time
from posecap.storage import open_storage
with open_storage(sys.argv[1]).lock():
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(bucket: str) -> RemoteStorage:
    storage = open_storage(f"{bucket}/poses")
    assert isinstance(storage, RemoteStorage)
    return storage


def of_elsewhere(store: RemoteStorage) -> None:
    """Make the lease look like that of another machine."""
    (name,) = [file.name for file in store.list(".lease")]
    document = json.loads(store.read(name, limit=10_000))
    store.write(name, json.dumps({**document, "boot": "of another machine", "process": "process 7 on far"}).encode())


def test_one_at_a_time(location: str) -> None:
    storage = open_storage(location)
    storage.write("a", b"")  # a folder must exist
    with open_storage(location).lock() as lock:
        lock.check()
        with pytest.raises(DatasetLockedError, match=f"is being built by process {os.getpid()}"), storage.lock():
            pytest.fail("it was locked twice")
        lock.check()
    with storage.lock() as lock:
        lock.check()


def test_numbers_ascend_and_old_leases_go(store: RemoteStorage) -> None:
    for number in (1, 2, 3):
        with store.lock():
            assert [file.name for file in store.list(".lease")] == [f".lease/{number:08d}.json"]


def test_what_killed_processes_left_beside_it_goes(store: RemoteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(".lease/clock-0", b"")
    with store.lock():
        assert store.size(".lease/clock-0") == 0
    monkeypatch.setattr(module, "_LEFT_AFTER_SECONDS", -1.0)
    with store.lock():
        assert store.size(".lease/clock-0") is None


def test_a_killed_process_of_this_machine_is_not_waited_for(store: RemoteStorage) -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER, store.address], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(DatasetLockedError, match=f"built by process {process.pid}"), store.lock():
            pytest.fail("it was locked twice")
        process.send_signal(signal.SIGKILL)
        process.wait(30)
        with store.lock() as lock:
            lock.check()
    finally:
        process.kill()


@pytest.mark.slow
def test_a_dead_holder_elsewhere_is_waited_for_and_then_broken(
    store: RemoteStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.lock() as first:
        of_elsewhere(store)
        with pytest.raises(DatasetLockedError, match=r"process 7 on far.*runs out in \d+ s"), store.lock():
            pytest.fail("it was locked twice")
        monkeypatch.setattr(module, "DEAD_AFTER_SECONDS", 1.0)
        time.sleep(2.5)
        with store.lock() as second:
            second.check()
            with pytest.raises(DatasetLockedError, match="another process has taken over this build"):
                first.check()
            second.check()
    with store.lock() as third:
        third.check()


@pytest.mark.slow
def test_a_holder_that_lives_is_heard_of(store: RemoteStorage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWED_SECONDS", 0.3)
    monkeypatch.setattr(module, "DEAD_AFTER_SECONDS", 2.0)
    with store.lock() as lock:
        time.sleep(4.0)
        lock.check()
        with pytest.raises(DatasetLockedError), store.lock():
            pytest.fail("it was locked twice")


@pytest.mark.parametrize("content", [b"{", b"[" * 60_000])
def test_a_damaged_lease_holds_until_it_runs_out(
    store: RemoteStorage, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    store.write(lease._name(4), content)
    with pytest.raises(DatasetLockedError, match="built by another process"), store.lock():
        pytest.fail("it was locked")
    monkeypatch.setattr(module, "DEAD_AFTER_SECONDS", -5.0)
    with store.lock() as lock:
        lock.check()
        assert [file.name for file in store.list(".lease")] == [lease._name(5)]


# A folder's lock belongs to a living process.


def test_a_second_holder_is_told_who_is_first(tmp_path: Path) -> None:
    with (
        open_storage(tmp_path).lock(),
        pytest.raises(DatasetLockedError, match=f"by process {os.getpid()}: wait for it"),
        open_storage(tmp_path).lock(),
    ):
        pass


def test_it_is_free_again_afterwards_even_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), open_storage(tmp_path).lock():
        _ = 1 / 0
    with open_storage(tmp_path).lock():
        assert (tmp_path / ".lease").read_text() == str(os.getpid())


def test_two_directories_do_not_hinder_each_other(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with open_storage(tmp_path / "a").lock(), open_storage(tmp_path / "b").lock():
        pass


def test_a_killed_holder_leaves_nothing_held(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(DatasetLockedError, match=f"by process {holder.pid}:"), open_storage(tmp_path).lock():
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    with open_storage(tmp_path).lock():
        pass
