"""A dataset in a folder."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

import numpy as np
from numpy.typing import NDArray

from posecap.files import (
    AtomicFile,
    Written,
    link_or_copy,
    make_folder,
    map_file,
    remove_leftovers,
    sync_folder,
    write_file,
)
from posecap.storage.base import (
    DatasetLockedError,
    Lock,
    Storage,
    StorageFile,
    StoredFile,
    attempt_of,
    cut_short,
    within,
)

_LOCK: Final = ".lease"
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
"""Errors of file systems without hard links, where two who create a file at a time may both succeed."""


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
        return map_file(self.root / name)

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

    @contextlib.contextmanager
    def creating(self, name: str, content: bytes) -> Iterator[Callable[[], None]]:
        with AtomicFile(self.root / name) as file:
            file.write(content)
            file.finish()

            def create() -> None:
                _give_name(file.temporary, file.path, replacing="nothing")
                sync_folder(file.path.parent)

            yield create

    def writer(self, name: str) -> StorageFile:
        return _LocalFile(self, name)

    @contextlib.contextmanager
    def scratch_file(self, name: str) -> Iterator[BinaryIO]:
        path = self.root / name
        with path.open("xb") as file:
            try:
                yield file
                file.flush()
            except BaseException:
                path.unlink(missing_ok=True)
                raise

    def publish(self, attempts: Mapping[str, str]) -> None:
        for name, attempt in attempts.items():
            make_folder((self.root / name).parent)
            _give_name(self.root / attempt, self.root / name, replacing="older")
        for folder in dict.fromkeys((self.root / name).parent for name in attempts):
            sync_folder(folder)

    def copy(self, name: str, to: str) -> None:
        source, target = self.root / name, self.root / to
        make_folder(target.parent)
        temporary = self.root / attempt_of(to)
        link_or_copy(source, temporary)
        temporary.replace(target)
        temporary.unlink(missing_ok=True)  # which a rename leaves where both are links to one file

    def remove(self, *names: str) -> None:
        for path in (self.root / name for name in names):
            if path.exists():
                path.unlink(missing_ok=True)
                sync_folder(path.parent)

    def discard(self, names: Iterable[str]) -> None:
        for name in names:
            (self.root / name).unlink(missing_ok=True)

    def remove_folder(self, folder: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # there is none
            shutil.rmtree(self.root / folder)
            sync_folder((self.root / folder).parent)

    def remove_attempts(self, name: str) -> None:
        remove_leftovers(self.root / name)

    @contextlib.contextmanager
    def lock(self) -> Iterator[Lock]:
        import fcntl  # only what changes a dataset locks: they are read where there is no such module, too

        with (self.root / _LOCK).open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise DatasetLockedError(
                    f"{self.root} is being built by process {holder}: wait for it or stop it; a build may also go to "
                    "another --output"
                ) from error
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield _Held()

    def now(self) -> float:
        return time.time()


class _Held:
    """The lock of a folder, which the kernel keeps."""

    def check(self) -> None:
        pass


def _give_name(temporary: Path, path: Path, *, replacing: Literal["older", "nothing"]) -> None:
    """Rename a file; ``nothing`` raises FileExistsError where the name is taken, which a rename would not do."""
    if replacing == "older":
        temporary.replace(path)
        return
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
        temporary.replace(path)


class _LocalFile(StorageFile):
    """Beside its target, under a name of this process."""

    def __init__(self, storage: LocalStorage, name: str) -> None:
        super().__init__(storage.root / name)
        self._prepare(storage, name, self.temporary.relative_to(storage.root).as_posix())
