"""Hashes, and the writing of files: whole or not at all, durably in a dataset; also locks and scratch folders.

Identifiers are hashes of content and of what a manifest says of a row, never of a place on this machine or of a row's
number. :class:`AtomicFile` is for the files of a dataset: hashed, forced to disk, read back, and published with
others. :func:`atomic_file` is for downloads and caches, which can be made again, :func:`atomic_path` for what commands
write.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, Self
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from posecap.types import Span

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BLOCK_BYTES = 1 << 20
"""Of small writes that are collected before they are hashed and written. Our choice: far above what a call of the
system costs, and little memory for each open file."""
_PREFIX = "posecap-scratch-"
"""Of scratch folders' names, before the number of their process."""
_LOCK = "in-use"
"""File of a scratch folder that its process holds locked."""
_lock_descriptors: list[int] = []
"""Descriptors of locks that mark this process's scratch folders as in use; closed by the system at its end."""


class ShardError(ValueError):
    """A file of a dataset breaks the schema; the message names the file, the sample and the remedy."""


_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces: equal values give equal bytes. NaN raises ValueError."""
    return _ENCODER.encode(value).encode()


def parse_json(content: str | bytes) -> Any:
    """The value of a JSON text in which no object has a key twice, so that no two readers take different values.

    Raises:
        ValueError: it is no JSON, or a key is repeated, which the message names.
        RecursionError: it is nested too deeply.
    """
    return json.loads(content, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; ValueError where a key is repeated."""
    found = dict(pairs)
    if len(found) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise ValueError(f"key {counts.most_common(1)[0][0]!r} appears twice in one object")
    return found


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of a JSON-able value, over :func:`canonical_json`."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def clip_id(source_id: str, row_id: str, span: Span) -> str:
    """24 hex digits for one span of one row of one source; times are taken to the microsecond. At a billion clips two
    have the same by chance once in a hundred billion datasets.

    The row is part of it, so that two rows with the same footage (two labels of one span, a copy of a file under
    another name) are two samples in whatever order they finish; ``source_id`` in the index shows such duplicates.
    """
    start, end = round(span.start_seconds * 1e6), round(span.end_seconds * 1e6)
    return digest([source_id, row_id, start, end])[:24]


@dataclass(frozen=True, slots=True)
class Written:
    """SHA-256 (64 hex digits) and size of a written file."""

    sha256: str
    size_bytes: int


class AtomicFile(io.RawIOBase):
    """A file of a dataset: hashed as it is written, and under its name only once :meth:`publish` has renamed it.

    Small writes are collected into blocks of 1 MiB. As a context manager it deletes the temporary file if
    :meth:`publish` or :meth:`leave` was not called. The temporary file lies beside ``path`` under a name of its own,
    whatever other processes and machines write.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
        self._left = False
        make_folder(path.parent)
        self._file = self.temporary.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self._pieces: list[Buffer] = []
        self._waiting = 0  # bytes in the pieces
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
        """Write ``pieces``, of ``size`` bytes in all (not counted again), as :meth:`write` does."""
        self.size += size
        if size < _BLOCK_BYTES:
            self._pieces.extend(pieces)
            self._waiting += size
            if self._waiting >= _BLOCK_BYTES:
                self._flush_block()
            return
        self._flush_block()
        for piece in pieces:
            self._write(piece)

    def finish(self) -> Written:
        """Force the file to disk and read everything back; nothing can be written afterwards.

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
        if self._pieces:
            block = b"".join(self._pieces)
            self._pieces, self._waiting = [], 0
            self._write(block)

    def _write(self, block: Buffer) -> None:
        self._hash.update(block)
        rest = memoryview(block)
        rest = rest.cast("B") if rest.nbytes else rest[:0]  # what has an axis of length 0 cannot be cast
        while rest.nbytes:
            rest = rest[self._file.write(rest) :]

    def publish(self) -> None:
        """Give the file its name, replacing an older one, after :meth:`finish`; durable after :func:`sync_folder`."""
        self.temporary.replace(self.path)

    def leave(self) -> Path:
        """Keep the temporary file, after :meth:`finish`, for another process to rename; returns its path."""
        self._left = True
        return self.temporary

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        finally:
            if not self._left:
                self.temporary.unlink(missing_ok=True)  # a published file no longer has this name


def write_file(path: Path, content: bytes) -> Written:
    """Write one whole file durably, replacing an older one: it is on disk when the call returns.

    Raises:
        OSError: the disk is full or fails; an older file is left as it was.
    """
    with AtomicFile(path) as file:
        file.write(content)
        written = file.finish()
        file.publish()
    sync_folder(path.parent)
    return written


def make_folder(folder: Path) -> None:
    """Create a folder durably, with its parents; one that is there is left as it is."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file a second name, which nothing has yet, without reading it; copy it where the disk knows no links.

    Raises:
        OSError: neither is possible, or the disk is full.
    """
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def sync_folder(folder: Path) -> None:
    """Make renames and removals in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def map_file(path: Path) -> NDArray[np.uint8]:
    """A file's bytes as copy-on-write memory: pages are read on use, and the file never changes.

    Of a file without bytes, which no system maps, it is an empty array.
    """
    return np.memmap(path, np.uint8, mode="c") if path.stat().st_size else np.zeros(0, np.uint8)


def remove_leftovers(path: Path) -> None:
    """Delete temporary files of :class:`AtomicFile` that killed processes left beside ``path``."""
    if path.parent.is_dir():
        for leftover in path.parent.glob(f".{path.name}.tmp-*"):
            leftover.unlink()


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[BinaryIO]:
    """A file open for writing that becomes ``target`` when the block ends, and is removed if the block raises.

    The folder is created. Readers and other processes never see a partial ``target``; of two writers at a time, the one
    that ends last determines its content.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


Existing = Literal["refuse", "replace"]
"""What happens when an output file already exists: an error before anything is written, or it is replaced."""


class OutputExistsError(ValueError):
    """The output file already exists, or its path is a folder; the message says what to do."""


@contextlib.contextmanager
def atomic_path(target: Path, *, existing: Existing) -> Iterator[Path]:
    """A temporary path beside ``target``, for the block to write a file to: as :func:`atomic_file`, for libraries that
    open a path themselves (ONNX, Parquet), and for files that are replaced only when asked to.

    When the block ends, that file is flushed to disk and renamed to ``target``; if the block raises, it is deleted.
    Missing parent folders are created. Whether ``target`` exists is checked before the block alone: a file that appears
    there meanwhile is replaced.

    Raises:
        OutputExistsError: ``target`` is a folder, or it exists and ``existing`` is ``"refuse"``.
        FileNotFoundError: the block wrote no file.
    """
    if target.is_dir():
        raise OutputExistsError(f"{target} is a folder; name a file in it")
    if existing == "refuse" and target.exists():
        raise OutputExistsError(f"{target} already exists; choose another --output, or give --overwrite")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside ``target``, for the block to write files into, which is renamed to ``target`` when the
    block ends; if it raises, the folder is removed with all that is in it.

    Missing parent folders are created. What an earlier process that was killed has left is removed first, so two
    processes cannot write one ``target`` at a time. Folders are never replaced: nothing says that all that is in one
    was written here.

    Raises:
        OutputExistsError: ``target`` exists, and is no empty folder.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise OutputExistsError(f"{target} already exists; remove it, or choose another --output")
    partial = target.with_name(f".{target.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        os.sync()  # once, for any number of files
        partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path`` in the block; waits while another thread or process holds it.

    The kernel releases it when the process ends, however it ends.

    Raises:
        OSError: the file cannot be created, or its file system has no locks.
        ModuleNotFoundError: the system is not a POSIX one.
    """
    import fcntl  # only a build locks: datasets are read where there is no such module, too

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unused_path(folder: Path, uri: str) -> Path:
    """A path in ``folder`` that no other fetch uses, with the suffix of ``uri``'s path when it has a plain one."""
    try:
        suffix = PurePosixPath(urlsplit(uri).path).suffix.lower()
    except ValueError:
        suffix = ""
    plain = suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 8  # with the dot, longer than any of video
    return folder / f"{secrets.token_hex(12)}{suffix if plain else ''}"


def scratch_folder() -> Path:
    """This process's folder for scratch files; removed at its end, or by a later process when it was killed."""
    return _scratch_folder_of(os.getpid())


@functools.cache
def _scratch_folder_of(pid: int) -> Path:
    """The folder of this process; its number is the key, so that a forked process makes one of its own."""
    import fcntl

    root = Path(tempfile.gettempdir())
    _remove_stale(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{pid}-", dir=root))
    # Locked before it gets its name: a process that cleans up and finds the lock file finds it held.
    unnamed = folder / f"{_LOCK}.new"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(folder / _LOCK)
    _lock_descriptors.append(descriptor)
    atexit.register(_remove, folder, pid)
    return folder


def _remove(folder: Path, owner: int) -> None:
    """Remove a scratch folder at the end of the process that made it, not of one that was forked from it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(root: Path) -> None:
    """Remove scratch folders of this user's processes that ended without removing them."""
    import fcntl

    for folder in root.glob(f"{_PREFIX}*"):
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or not yet locked; one whose process was killed before it locked stays
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # its process lives
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
