"""A dataset in a folder."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from posecap.files import AtomicFile, Written, remove_leftovers, sync_folder, write_file
from posecap.storage.base import Storage, StorageFile, StoredFile, cut_short, within


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A folder."""

    root: Path

    @property
    def location(self) -> str:
        return str(self.root)

    def read(self, name: str, *, limit: int) -> bytes:
        with (self.root / name).open("rb") as file:
            return within(file.read(limit + 1), name, limit)

    def read_range(self, name: str, start: int, size: int) -> bytearray:
        with (self.root / name).open("rb", buffering=0) as file:
            if start + size > os.fstat(file.fileno()).st_size:
                raise cut_short(name, start, size)
            content, got = bytearray(size), 0
            while got < size and (n := os.preadv(file.fileno(), [memoryview(content)[got:]], start + got)):
                got += n
        if got != size:
            raise cut_short(name, start, size)
        return content

    def map(self, name: str) -> NDArray[np.uint8]:
        return np.memmap(self.root / name, np.uint8, mode="c")

    def open(self, name: str) -> BinaryIO:
        return (self.root / name).open("rb")

    def size(self, name: str) -> int | None:
        path = self.root / name
        return path.stat().st_size if path.is_file() else None

    def list(self, folder: str = "") -> Iterator[StoredFile]:
        for inner, folders, names in os.walk(self.root / folder):
            folders.sort()
            within = Path(inner).relative_to(self.root)
            for name in sorted(names):
                with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                    found = (Path(inner) / name).stat()
                    yield StoredFile((within / name).as_posix(), found.st_size, found.st_mtime)

    def write(self, name: str, content: bytes) -> Written:
        return write_file(self.root / name, content)

    def create(self, name: str, content: bytes) -> Written:
        with AtomicFile(self.root / name) as file:
            file.write(content)
            written = file.finish()
            os.link(file.temporary, file.path)  # unlike a rename, it fails where the name is taken
        sync_folder(file.path.parent)
        return written

    def writer(self, name: str) -> StorageFile:
        return _LocalFile(self, name)

    def publish(self, attempts: Mapping[str, str]) -> None:
        for name, attempt in attempts.items():
            (self.root / attempt).replace(self.root / name)
        for folder in dict.fromkeys((self.root / name).parent for name in attempts):
            sync_folder(folder)

    def remove(self, *names: str) -> None:
        for path in (self.root / name for name in names):
            if path.exists():
                path.unlink(missing_ok=True)
                sync_folder(path.parent)

    def remove_attempts(self, name: str) -> None:
        remove_leftovers(self.root / name)

    def now(self) -> float:
        return time.time()


class _LocalFile(StorageFile):
    """Beside its target, under a name of this process."""

    def __init__(self, storage: LocalStorage, name: str) -> None:
        super().__init__(storage.root / name)
        self._prepare(storage, name, self.temporary.relative_to(storage.root).as_posix())

    def __exit__(self, *error: object) -> None:
        if self._kept:
            self._file.close()
        else:
            super().__exit__(*error)
