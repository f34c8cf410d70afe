"""Atomic writes: a temporary file is synced to disk, read back and compared, then renamed."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from posecap.hashing import file_sha256

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """Hash and size of a written file."""

    sha256: str
    size_bytes: int


class AtomicFile(io.RawIOBase):
    """A file that appears under its name when :meth:`publish` renames it; it is hashed as it is written.

    Small writes are collected into blocks of 1 MiB. As a context manager it deletes the temporary file if
    :meth:`publish` was not called.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
        make_folder(path.parent)
        self._file = self.temporary.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self._pieces: list[Buffer] = []
        self._waiting = 0
        self.size = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.size

    def write(self, data: Buffer, /) -> int:
        """Write bytes, which must not change before :meth:`finish`.

        Raises:
            OSError: e.g. the disk is full.
        """
        length = memoryview(data).nbytes
        self.extend([data], length)
        return length

    def extend(self, pieces: Iterable[Buffer], size: int) -> None:
        """Write ``pieces``, of ``size`` bytes in all, as :meth:`write` does."""
        self._pieces.extend(pieces)
        self._waiting += size
        self.size += size
        if self._waiting >= _BLOCK_BYTES:
            self._flush_block()

    def finish(self) -> Written:
        """Flush to disk and read everything back.

        Raises:
            OSError: the disk is full, or the bytes read back are not those written.
        """
        self._flush_block()
        os.fsync(self._file.fileno())
        self._file.close()
        written = Written(self._hash.hexdigest(), self.size)
        if file_sha256(self.temporary) != written.sha256:
            raise OSError(f"{self.path}: reading back gives other bytes than were written; check the disk")
        return written

    def _flush_block(self) -> None:
        block = b"".join(self._pieces)
        self._pieces, self._waiting = [], 0
        self._hash.update(block)
        rest = memoryview(block)
        while rest:
            rest = rest[self._file.write(rest) :]

    def publish(self) -> None:
        self.temporary.replace(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        finally:
            self.temporary.unlink(missing_ok=True)  # a published file no longer has this name


def write_file(path: Path, content: bytes) -> Written:
    """Write one whole file, durably."""
    with AtomicFile(path) as file:
        file.write(content)
        written = file.finish()
        file.publish()
    sync_folder(path.parent)
    return written


def make_folder(folder: Path) -> None:
    """Create a folder durably, with its parents."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(path: Path) -> None:
    """Delete temporary files that killed processes left beside ``path``."""
    if path.parent.is_dir():
        for leftover in path.parent.glob(f".{path.name}.tmp-*"):
            leftover.unlink()
