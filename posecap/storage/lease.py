"""The lock of a dataset in an object store: a lease, which its holder renews, and which passes on when the holder died.

Leases are objects with ascending numbers under ``.lease``, each created only if there is none of its name; the one with
the highest number holds the dataset. The holder writes its object anew every few seconds. One that was not written for
a minute, by the store's own clock, is that of a dead process, or of one that is cut off from the store: the next number
may be taken. Who was only cut off finds that before its next commit (:meth:`Lease.check`) and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from posecap.storage.base import DatasetLockedError, StorageError
from posecap.storage.remote import LOCK_FOLDER

if TYPE_CHECKING:
    from posecap.storage.remote import RemoteStorage

RENEWED_SECONDS = 10.0
DEAD_AFTER_SECONDS = 60.0
"""Six renewals: a store that is slow, or fails for half a minute, costs no build its lease. Our choice: after a crash,
a minute's wait for the next build."""
_NUMBER = re.compile(rf"{re.escape(LOCK_FOLDER)}/(\d{{8}})\.json")
_MAX_BYTES = 1 << 16
"""Of a lease that is read; those written here have a few hundred."""
_LEFT_AFTER_SECONDS = 600.0
"""After which a small file beside the leases is taken for left by a killed process; its maker needs it for seconds.
Our choice."""
_MOST_TRIES = 10
"""To take a lease. Each is lost to another process that takes it at the same time; ten in a row, our
choice, mean that many try."""


@dataclass
class Lease:
    """A lease that this process holds.

    Args:
        storage: of the dataset.
        number: of its object.
        holder: random digits that a later one of the same number does not have.
    """

    storage: RemoteStorage
    number: int
    holder: str
    _ended: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """See that the dataset is still this process's own; to be called before each commit.

        Raises:
            DatasetLockedError: another process has taken it over.
        """
        found = _leases(self.storage)
        latest = _read(self.storage, max(found)) if found else None
        if not found or max(found) != self.number or latest is None or latest.get("holder") != self.holder:
            raise DatasetLockedError(
                f"{self.storage.location}: another process has taken over this build, since this one did not reach the "
                f"store for {DEAD_AFTER_SECONDS:g} s; what is committed is kept"
            )

    def renew_until_ended(self) -> None:
        """Write the lease anew every ten seconds, until :meth:`end` or until another process has taken it over."""
        while not self._ended.wait(RENEWED_SECONDS):
            # A store that fails for longer than the lease lasts is found by the next check.
            with contextlib.suppress(StorageError):
                try:
                    self.check()
                except DatasetLockedError:
                    return
                self._write("held")

    def end(self) -> None:
        """Give the lease up. Where the store cannot be reached, or another has taken it, it runs out by itself."""
        self._ended.set()
        with contextlib.suppress(StorageError, DatasetLockedError):
            self.check()
            self._write("released")

    def _write(self, state: str) -> None:
        """``held`` or ``released``. Raises StorageError where the store fails."""
        self.storage.write(_name(self.number), _document(self.holder, state))


@contextlib.contextmanager
def lease(storage: RemoteStorage) -> Iterator[Lease]:
    """Hold the dataset's lease in the block. It does not wait for another holder.

    Raises:
        DatasetLockedError: another process holds it, and was heard of in the last minute.
        StorageError: the store fails.
    """
    held = _take(storage)
    thread = threading.Thread(target=held.renew_until_ended, name="posecap-lease", daemon=True)
    thread.start()
    try:
        yield held
    finally:
        held.end()
        # The thread may be in a call to the store, which is not waited for: should it renew the lease once more, that
        # runs out by itself.
        thread.join(timeout=1.0)


def check_unleased(storage: RemoteStorage) -> None:
    """See that no process holds the dataset's lease. Nothing is written: the time is this machine's own.

    Raises:
        DatasetLockedError: one does, and was heard of in the last minute.
        StorageError: the store fails.
    """
    found = _leases(storage)
    latest = _read(storage, max(found)) if found else None
    if latest is not None and latest.get("state") != "released" and not _is_gone(latest):
        _refuse_if_alive(storage, latest, found[max(found)], now=time.time)


def _take(storage: RemoteStorage) -> Lease:
    """Create the lease with the next number, if the last one was released or its holder died; remove the others.

    Raises:
        DatasetLockedError: another process holds the lease, or every try was lost to one.
        StorageError: the store fails.
    """
    holder = secrets.token_hex(12)  # which no other process draws
    for _ in range(_MOST_TRIES):
        found = _leases(storage)
        last = max(found, default=0)
        if last:
            latest = _read(storage, last)
            if latest is None:
                continue  # removed since it was listed
            if latest.get("state") != "released" and not _is_gone(latest):
                _refuse_if_alive(storage, latest, found[last], now=storage.now)
        try:
            storage.create(_name(last + 1), _document(holder, "held"))
        except FileExistsError:
            continue  # another process was faster: look at its lease
        storage.remove(*(_name(number) for number in sorted(found)), *_leftovers(storage))
        return Lease(storage, last + 1, holder)
    raise DatasetLockedError(f"{storage.location}: several processes are trying to lock it; try again in a moment")


def _refuse_if_alive(
    storage: RemoteStorage, latest: dict[str, Any], modified: float | None, *, now: Callable[[], float]
) -> None:
    """Raises DatasetLockedError unless the lease has run out. ``modified`` is when it was last written; None where the
    store does not tell: then it never runs out."""
    age = None if modified is None else now() - modified
    if age is not None and age > DEAD_AFTER_SECONDS:
        return
    process = latest.get("process") or "another process"
    more = (
        f"; if that has died, its lock runs out in {DEAD_AFTER_SECONDS - age:.0f} s"
        if age is not None
        else f"; if that has died, remove {LOCK_FOLDER} there"
    )
    raise DatasetLockedError(
        f"{storage.location} is being built by {process}: wait for it or stop it; a build may also go to another "
        f"--output{more}"
    )


def _leases(storage: RemoteStorage) -> dict[int, float | None]:
    """Numbers of leases with the time at which each was last written; None where the store does not tell."""
    return {
        int(found[1]): file.modified for file in storage.list(LOCK_FOLDER) if (found := _NUMBER.fullmatch(file.name))
    }


def _leftovers(storage: RemoteStorage) -> list[str]:
    """Small files beside the leases that killed processes left, recognized by their age."""
    files = list(storage.list(LOCK_FOLDER))
    now = max((file.modified or 0.0 for file in files), default=0.0)
    return [
        file.name
        for file in files
        if not _NUMBER.fullmatch(file.name) and file.modified is not None and now - file.modified > _LEFT_AFTER_SECONDS
    ]


def _read(storage: RemoteStorage, number: int) -> dict[str, Any] | None:
    """What a lease says; empty where that is damaged, None where there is none."""
    try:
        read = json.loads(storage.read(_name(number), limit=_MAX_BYTES))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _name(number: int) -> str:
    """Of a lease's object."""
    return f"{LOCK_FOLDER}/{number:08d}.json"


def _document(holder: str, state: str) -> bytes:
    """What a lease's object says, as JSON: who holds it, and by what process."""
    process = f"process {os.getpid()} on {socket.gethostname()}"
    return json.dumps({"holder": holder, "state": state, "process": process, **_identity(os.getpid())}).encode()


def _identity(pid: int) -> dict[str, Any]:
    """What names a process among all that this machine has run since it was started; empty where the system does not
    tell.
    """
    try:
        # From the third field on, the state; the 22nd, numbers[18], is when the process began.
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return {
            "boot": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            "namespace": str(Path("/proc/self/ns/pid").readlink()),
            "pid": pid,
            "since": "ended" if state in "ZX" else numbers[18],
        }
    except (OSError, ValueError, IndexError):
        return {}


def _is_gone(latest: dict[str, Any]) -> bool:
    """Whether a lease is of a process of this machine that has ended, which need not be waited for."""
    mine, pid = _identity(os.getpid()), latest.get("pid")
    if not mine or not isinstance(pid, int) or any(latest.get(key) != mine[key] for key in ("boot", "namespace")):
        return False
    return _identity(pid).get("since") != latest.get("since")
