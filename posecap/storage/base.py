"""What a storage can do, what its two kinds share, and the one of them that is a folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import secrets
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, Literal, Protocol, TextIO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from posecap.files import (
    AtomicFile,
    ShardError,
    Written,
    link_or_copy,
    make_folder,
    map_file,
    remove_leftovers,
    sync_folder,
    write_file,
)
from posecap.types import FileRange

Location: TypeAlias = "str | os.PathLike[str] | Storage"
"""A folder, an address that fsspec opens, or either of them opened."""

ATTEMPT = ".tmp-"
"""Stands in the name of every attempt, which begins with a full stop."""
_LOCK: Final = ".lease"
"""File of a folder that is locked while a process changes the dataset; it holds that process's id."""
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
"""Errors of file systems without hard links, where two who create a file at a time may both succeed."""


class StorageError(OSError):
    """A location cannot be opened, read or written; the message names it and the remedy, and no credentials."""


class DatasetLockedError(RuntimeError):
    """Another process builds or changes the dataset; the message names it."""


class Lock(Protocol):
    """A dataset that this process alone may change."""

    def check(self) -> None:
        """See that this is still so; to be called before each commit.

        Raises:
            DatasetLockedError: another process has taken over, since this one did not reach the store for a minute.
        """


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a storage.

    Args:
        name: relative to the storage's root.
        modified: by the clock of the disk or store, in seconds since 1970; None where the store does not tell.
    """

    name: str
    size_bytes: int
    modified: float | None


class StorageFile(AtomicFile):
    """A file that is being written: bytes go in by :meth:`write` and :meth:`extend`, and :meth:`finish` ends it.

    As a context manager it deletes its bytes at the end of the block, unless they were published or kept.

    Attributes:
        name: which the file gets when it is published.
        attempt: under which its bytes lie from :meth:`finish` on.
    """

    name: str
    attempt: str

    def publish(self) -> None:
        """Give the finished file its name, replacing an older one; durable when the call returns."""
        self._storage.publish({self.name: self.attempt})

    def keep(self) -> str:
        """Let the finished bytes lie under :attr:`attempt` after the block, to be published later; returns it."""
        self.leave()
        return self.attempt

    def _prepare(self, storage: Storage, name: str, attempt: str) -> None:
        self._storage, self.name, self.attempt = storage, name, attempt


class Storage(ABC):
    """A place for the files of one dataset. Picklable: workers open it by themselves.

    Every method may raise :class:`StorageError` or, on local disk, another :class:`OSError`. Names are relative to the
    root, with ``/``. A file that is missing raises FileNotFoundError.
    """

    @property
    @abstractmethod
    def location(self) -> str:
        """The folder or address, as messages show it."""

    @abstractmethod
    def read(self, name: str, *, limit: int) -> bytes:
        """A whole file.

        Raises:
            ShardError: it has more than ``limit`` bytes, of which no more are read.
        """

    def read_each(self, names: Iterable[str], *, limit: int) -> Iterator[tuple[str, bytes]]:
        """Names and contents of many small files, in order, read several at a time where that is faster.

        Raises:
            ShardError, FileNotFoundError: as :meth:`read`, when the file's turn comes.
        """
        for name in names:
            yield name, self.read(name, limit=limit)

    @abstractmethod
    def read_range(self, name: str, start: int, size: int) -> bytearray:
        """``size`` bytes from ``start``.

        Raises:
            ShardError: the file ends before.
        """

    def read_ranges(self, ranges: Iterable[FileRange]) -> Iterator[memoryview]:
        """The bytes of many ranges, in order, several of them read ahead where that is faster (32 MiB or one range).

        They may be read-only, and part of a larger block: whoever keeps a few of them copies them.

        Raises:
            ShardError, FileNotFoundError: as :meth:`read_range`, when the range's turn comes.
        """
        for wanted in ranges:
            yield memoryview(self.read_range(wanted.file, wanted.offset, wanted.size))

    @abstractmethod
    def map(self, name: str) -> NDArray[np.uint8]:
        """A whole file as memory that can be written without changing the file; a remote one is downloaded."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A file for reading from front to back; it can seek."""

    @abstractmethod
    def size(self, name: str) -> int | None:
        """A file's bytes; None where there is no such file."""

    @abstractmethod
    def list(self, folder: str = "") -> Iterator[StoredFile]:
        """Every file in a folder and in the folders in it, attempts included; none where there is no such folder."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> Written:
        """Write a small file, replacing an older one."""

    def create(self, name: str, content: bytes) -> Written:
        """Write a small file that is not there yet; of several callers with different bytes one succeeds.

        Raises:
            FileExistsError: it is there: in an object store with other bytes, on local disk with any.
        """
        with self.creating(name, content) as create:
            create()
        return Written(hashlib.sha256(content).hexdigest(), len(content))

    @abstractmethod
    def creating(self, name: str, content: bytes) -> AbstractContextManager[Callable[[], None]]:
        """As :meth:`create`, in two steps: what may fail for want of space does so before the block, which gets the
        call that makes the file appear. Without this call nothing is left after the block.
        """

    @abstractmethod
    def writer(self, name: str) -> StorageFile:
        """A file of any size that is about to be written."""

    @abstractmethod
    def scratch_file(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A new file of any size by which processes pass on what can be made again: it is complete after the block, but
        neither forced to disk nor read back. A folder for it must be there, where there are folders. If the block
        raises, nothing is left.
        """

    @abstractmethod
    def publish(self, attempts: Mapping[str, str]) -> None:
        """Give finished files their names, replacing older ones; durable when the call returns.

        Args:
            attempts: name → attempt of its bytes, as :meth:`StorageFile.keep` gave it.
        """

    @abstractmethod
    def copy(self, name: str, to: str) -> None:
        """Give a file's bytes a second name, under which they stay when the first is replaced or removed. They are not
        read where disk or store can do without. What has the second name already is replaced.
        """

    @abstractmethod
    def remove(self, *names: str) -> None:
        """Delete files, in this order; those that are not there are passed over."""

    @abstractmethod
    def discard(self, names: Iterable[str]) -> None:
        """Delete many files, in any order, which a crash may undo; those that are not there are passed over."""

    @abstractmethod
    def remove_folder(self, folder: str) -> None:
        """Delete every file in a folder and in the folders in it; nothing happens where there is none."""

    @abstractmethod
    def remove_attempts(self, name: str) -> None:
        """Delete attempts of a file that killed processes left. Of a remote file they stay until
        :meth:`leftovers` finds them.
        """

    def leftovers(self, folder: str, *, older_than_seconds: float) -> Iterator[str]:
        """Attempts in a folder that nothing has written to for some time, by the clock of the disk or store."""
        now = self.now()
        for file in self.list(folder):
            old = file.modified is not None and now - file.modified > older_than_seconds
            if is_attempt(file.name) and old:
                yield file.name

    @abstractmethod
    def lock(self) -> AbstractContextManager[Lock]:
        """Let no other process change the dataset in the block. It does not wait, and holds within a process too. A
        folder must exist.

        On local disk the kernel ends it when the process dies, however it dies. In an object store it is a lease, which
        others may take over a minute after its holder was last heard of, or at once if that was on this machine and is
        gone.

        Raises:
            DatasetLockedError: another process holds it.
        """

    @abstractmethod
    def check_unlocked(self) -> None:
        """See that no process changes the dataset at this moment. Nothing is written, so that it works where that is
        not allowed; a process may begin right after.

        Raises:
            DatasetLockedError: one does.
        """

    @abstractmethod
    def now(self) -> float:
        """The time by the clock that :attr:`StoredFile.modified` is measured with."""


def is_attempt(name: str) -> bool:
    """Whether a file is one that was being written, by its name."""
    last = PurePosixPath(name).name
    return last.startswith(".") and ATTEMPT in last


def attempt_of(name: str) -> str:
    """A name for an attempt of a file, beside it, that no other process or machine uses."""
    path = PurePosixPath(name)
    return str(path.with_name(f".{path.name}{ATTEMPT}{os.getpid()}-{secrets.token_hex(4)}"))


def within(content: bytes, name: str, limit: int) -> bytes:
    """The content of a file of that name, of which at most one byte more than ``limit`` was read.

    Raises:
        ShardError: it is more than ``limit``.
    """
    if len(content) > limit:
        raise ShardError(f"{name} is larger than {limit} bytes, which no such file is")
    return content


def cut_short(name: str, start: int, size: int) -> ShardError:
    """The error of a file that ends before the range that was asked for."""
    return ShardError(f"{name} ends before byte {start + size}, to which its index points: run `posecap verify`")


@dataclass(frozen=True)
class LocalStorage(Storage):
    """A dataset in the folder ``root``, which need not be there before something is written."""

    root: Path

    @property
    def location(self) -> str:
        return str(self.root)

    def read(self, name: str, *, limit: int) -> bytes:
        with (self.root / name).open("rb") as file:
            return within(file.read(limit + 1), name, limit)

    def read_range(self, name: str, start: int, size: int) -> bytearray:
        with (self.root / name).open("rb", buffering=0) as file:
            return _range_of(file, name, start, size)

    def read_ranges(self, ranges: Iterable[FileRange]) -> Iterator[memoryview]:
        for name, of_file in groupby(ranges, key=lambda wanted: wanted.file):
            with (self.root / name).open("rb", buffering=0) as file:
                for wanted in of_file:
                    yield memoryview(_range_of(file, name, wanted.offset, wanted.size))

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

        with self._lock_file() as file:
            self._flock(file, fcntl.LOCK_EX)
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
            yield _Held()

    def check_unlocked(self) -> None:
        import fcntl

        with contextlib.suppress(FileNotFoundError), self._lock_file("r") as file:  # without it nobody has ever built
            self._flock(file, fcntl.LOCK_SH)

    def _flock(self, file: TextIO, kind: int) -> None:
        """Take the kernel's lock of the lock file; DatasetLockedError where another process has it."""
        import fcntl

        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DatasetLockedError(
                f"{self.root} is being built by process {holder}: wait for it or stop it; a build may also go to "
                "another --output"
            ) from error

    def _lock_file(self, mode: Literal["a+", "r"] = "a+") -> TextIO:
        def opener(path: str, flags: int) -> int:
            return os.open(path, flags | os.O_NOFOLLOW, 0o666)

        path = self.root / _LOCK
        try:
            return open(path, mode, opener=opener)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            # The process id would be written over the file that it leads to.
            raise StorageError(f"{path} is a symbolic link, which posecap does not make: delete it") from error

    def now(self) -> float:
        return time.time()


def _range_of(file: BinaryIO | io.FileIO, name: str, start: int, size: int) -> bytearray:
    """Bytes of an open file of that name; ShardError where it ends before."""
    if start + size > os.fstat(file.fileno()).st_size:
        raise cut_short(name, start, size)
    content, got = bytearray(size), 0
    while got < size and (n := os.preadv(file.fileno(), [memoryview(content)[got:]], start + got)):
        got += n
    if got != size:
        raise cut_short(name, start, size)
    return content


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
