"""Lays a crash of native code, which ends the whole process, to the rows that its threads worked on.

Threads do not isolate such a crash, and the next run would meet the same row again. So each thread notes the row that
it works on, and Python's :mod:`faulthandler` notes that the process was ended by a signal such as SIGSEGV: the next run
counts it against the rows under way, and works on each of them alone. A process that is killed from outside (SIGKILL,
also by the kernel for want of memory, SIGTERM) or loses its power leaves rows under way and no such note, and nothing
is counted.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_ROWS_FILE, _CRASH_FILE = ".rows-under-way", ".crash"
_SLOT_BYTES = 1024
"""Of a thread's note: the 256 characters that an id of a row may have, in UTF-8 at most."""
_LONGEST_NOTE_BYTES = 1 << 20
"""As much is read of what a crash left: the notes of a thousand threads."""


@dataclass(frozen=True)
class Crash:
    """How an earlier run ended: the rows that were under way, and what was said, such as ``Segmentation fault``."""

    rows: tuple[str, ...]
    said: str


@dataclass
class CrashJournal:
    """The notes of the threads of one process.

    Args:
        folder: in which the notes lie, on a local disk; the caller holds the dataset's lock.
        in_doubt: ids of rows that were under way when an earlier run crashed: no other row is worked on meanwhile.
    """

    folder: Path
    in_doubt: Collection[str] = ()
    _rows: int = -1
    _slots: dict[int, int] = field(default_factory=dict)
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _gate: _Gate = field(default_factory=lambda: _Gate())

    def take(self) -> Crash | None:
        """What the last run left if it crashed in native code; it is forgotten with this call."""
        said, rows = "", list[str]()
        try:
            with (self.folder / _CRASH_FILE).open("rb") as file:
                said = file.read(_LONGEST_NOTE_BYTES).decode(errors="replace")
            content = (self.folder / _ROWS_FILE).read_bytes()[:_LONGEST_NOTE_BYTES]
            slots = (content[at : at + _SLOT_BYTES] for at in range(0, len(content), _SLOT_BYTES))
            rows = [slot.rstrip(b"\0").decode(errors="replace") for slot in slots if slot.strip(b"\0")]
        except FileNotFoundError:
            pass
        self._remove()
        return (
            Crash(tuple(dict.fromkeys(rows)), said.partition("\n")[0].removeprefix("Fatal Python error: "))
            if said
            else None
        )

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the journal in the block, whose end removes it, unless the process ends before."""
        was_enabled = faulthandler.is_enabled()
        self._rows = os.open(self.folder / _ROWS_FILE, os.O_CREAT | os.O_RDWR | os.O_TRUNC, 0o644)
        try:
            with (self.folder / _CRASH_FILE).open("wb") as crash:
                faulthandler.enable(file=crash)
                try:
                    yield
                finally:
                    faulthandler.disable()
                    # Where it wrote before cannot be asked for; the standard is stderr.
                    if was_enabled and sys.__stderr__ is not None:
                        faulthandler.enable(file=sys.__stderr__)
        finally:
            with self._writing:
                os.close(self._rows)
                self._rows = -1
            self._remove()

    @contextmanager
    def working_on(self, row_id: str | None) -> Iterator[None]:
        """Note that this thread works on a row in the block, alone if the row is in doubt. None is noted as nothing."""
        if row_id is None:
            yield
            return
        with self._gate.passed(alone=row_id in self.in_doubt):
            self._note(row_id)
            try:
                yield
            finally:
                self._note("")

    def _note(self, row_id: str) -> None:
        """Write to the page cache, which outlives the process; a thread that outlives the journal notes nothing."""
        with self._writing:
            if self._rows < 0:
                return
            slot = self._slots.setdefault(threading.get_ident(), len(self._slots))
            os.pwrite(self._rows, row_id.encode()[:_SLOT_BYTES].ljust(_SLOT_BYTES, b"\0"), slot * _SLOT_BYTES)

    def _remove(self) -> None:
        for name in (_CRASH_FILE, _ROWS_FILE):
            (self.folder / name).unlink(missing_ok=True)


class _Gate:
    """Lets any number of threads through together, or one alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = False

    @contextmanager
    def passed(self, *, alone: bool) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            if alone:
                self._alone = True
                self._changed.wait_for(lambda: self._together == 0)
            else:
                self._together += 1
        try:
            yield
        finally:
            with self._changed:
                if alone:
                    self._alone = False
                else:
                    self._together -= 1
                self._changed.notify_all()
