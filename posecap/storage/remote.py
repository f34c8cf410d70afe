"""A dataset in an object store, through fsspec.

Calls are repeated while a store is throttled or fails in another way that may pass, with growing waits.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import random
import re
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from posecap.files import ShardError, Written, scratch_folder
from posecap.storage.base import Lock, Storage, StorageError, StorageFile, StoredFile, attempt_of, cut_short, within
from posecap.storage.presigned import presigned_reader
from posecap.types import FileRange
from posecap.uris import public_uri

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T")

LOCK_FOLDER = ".lease"
"""Folder of leases, and of the small files by which a store is asked for its clock and for what it can do."""
MAX_MAPPED_BYTES = 4 << 30
"""Largest remote file that :meth:`Storage.map` downloads; a local one is mapped, whatever its size."""

_STORES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure"}
_EXTRAS = {**_STORES, "hf": "hub"}
"""Extra of posecap that installs a scheme's back-end."""
_ATOMIC_CREATE = frozenset({*_STORES, "memory"})
"""Schemes whose back-ends put an object only if there is none, in one request."""
_UPLOAD_CHUNK_BYTES = 16 << 20
"""Of a large file, sent in one request; S3 takes 10,000 of them, 160 GB."""
_MOST_BYTES_COPIED_WHOLE = 150 << 20
"""Of a file that S3 copies in one request, as s3fs has it, which copies larger ones piece by piece."""
_COPIED_PIECE_BYTES = 64 << 20
"""Of a larger one, in one request of several at a time. Our choice: larger pieces of a copy, which crosses no
network of ours, than of an upload; S3 takes 10,000 of them, 640 GB."""
_READ_BLOCK_BYTES = 4 << 20
"""Of a file that is read from front to back: a request costs as much as a few MB. Our choice: with 8 MiB only four
requests are under way, and a thread that receives waits for Python's lock while samples are decoded."""
_REQUESTS_AT_A_TIME = 16
"""Of one call. Our choice: waiting for a store is most of a request's time, and 16 are far below what stores allow."""
_MOST_BYTES_IN_MEMORY = 8 << 20
"""Of a scratch file, beyond which it is on disk until it is uploaded. Our choice: a quick row's samples and the
video of most clips are smaller."""
_DELETED_AT_ONCE = 1000
"""Files that S3 deletes in one request, at most (its limit for DeleteObjects)."""
_MOST_BYTES_BETWEEN = 64 << 10
"""Between two ranges that are read in one request. Our choice: a request costs more than so many bytes."""
_MOST_BYTES_AHEAD = 32 << 20
"""Of ranges that were read and not yet asked for; a larger range is read alone. Our choice, a bound
on memory: eight blocks of a file that is read from front to back."""
_SHARDS = "data/"
"""Where shards lie; of the rest of a dataset nothing is large (:mod:`posecap.shards.paths`)."""
_ABANDONED_SECONDS = 3600.0
"""After so long without a byte, a download into a cache is taken for that of a killed process. Our
choice, far above the longest time that a call is repeated, 2 minutes."""
_LONGEST_SECONDS = 120.0
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.2, 15.0
"""How long a call is repeated, and waits between its attempts, each twice the last. Our choices: a store that is
throttled recovers within seconds, one that is down longer is better started again by a person."""
_STALE_CLAIM_SECONDS = 300.0
"""More than twice the time for which the call is repeated that a claim stands before."""
# Errors of the system that another attempt may not meet.
_PASSING_ERRNOS = frozenset(
    {errno.EBUSY, errno.EREMOTEIO, errno.EIO, errno.ETIMEDOUT, errno.ECONNRESET, errno.EPIPE, errno.ECONNREFUSED}
)
_CLIENT_LIBRARIES = frozenset(
    {
        *("aiobotocore", "aiohttp", "azure", "botocore", "gcsfs", "google", "httpcore", "httpx", "httpx2"),
        *("huggingface_hub", "requests", "urllib3"),
    }
)
"""Packages whose errors may pass, where they have no status that says otherwise and are not about credentials."""
# In the names of these packages' errors.
_BAD_CREDENTIALS = re.compile(r"Credential|Token|Profile|Auth|Refresh")
_SLOW_DOWN, _TIMED_OUT = 429, 408
"""Statuses of HTTP that may pass, as all from 500 on."""
_REFUSED = (401, 403)
"""Statuses of HTTP: credentials are missing, or do not suffice."""
_NOT_FOUND, _PRECONDITION_FAILED, _NO_SUCH_RANGE = 404, 412, 416
"""Statuses of HTTP: there is no such thing; what a request was to find, or not to find, was otherwise; a file ends
before a range."""


@dataclass(frozen=True)
class RemoteStorage(Storage):
    """An object store or another file system of fsspec.

    Each call opens the back-end of its own process and thread, so instances may be pickled, and used after a fork.

    Args:
        address: without a slash at its end.
        longest_seconds: how long a call is repeated while the store fails in a way that may pass.
    """

    address: str
    longest_seconds: float = _LONGEST_SECONDS
    _ranges_at_a_time: ClassVar[int] = _REQUESTS_AT_A_TIME

    @property
    def location(self) -> str:
        return shown(self.address)

    def read(self, name: str, *, limit: int) -> bytes:
        # A range, and not the whole file, so that at most `limit` bytes of an endless file are read.
        return within(self._range(name, 0, limit + 1), name, limit)

    def read_each(self, names: Iterable[str], *, limit: int) -> Iterator[tuple[str, bytes]]:
        waiting: deque[tuple[str, Future[bytes]]] = deque()
        readers = _readers(_REQUESTS_AT_A_TIME, os.getpid())
        try:
            for name in names:
                waiting.append((name, readers.submit(self.read, name, limit=limit)))
                if len(waiting) == 2 * _REQUESTS_AT_A_TIME:
                    first, content = waiting.popleft()
                    yield first, content.result()
            while waiting:
                first, content = waiting.popleft()
                yield first, content.result()
        finally:
            for _, content in waiting:
                content.cancel()

    def read_range(self, name: str, start: int, size: int) -> bytearray:
        return bytearray(self._bytes_of(name, start, size))

    def _bytes_of(self, name: str, start: int, size: int) -> bytes | bytearray:
        """As :meth:`read_range`, without a copy."""
        if size == 0:  # which no range of HTTP can say
            return b""
        content = self._range(name, start, start + size)
        if len(content) > size:  # an HTTP server that does not support ranges sends the whole file
            content = content[start : start + size]
        if len(content) != size:
            raise cut_short(name, start, size)
        return content

    def _range(self, name: str, start: int, end: int) -> bytes:
        """Bytes of a file from ``start`` up to, but not including, ``end``, as many of them as it has."""

        def read(fs: Any, path: str) -> bytes:
            content = None
            if _EXTRAS.get(self._scheme) == "s3":
                content = presigned_reader(self.address, fs).read(path, start, end - start)
            return _range_of(fs, path, start, end) if content is None else content

        return self._call("read", name, read)

    def read_ranges(self, ranges: Iterable[FileRange]) -> Iterator[memoryview]:
        waiting: deque[tuple[_Neighbours, Future[memoryview]]] = deque()
        size = 0
        readers = _readers(self._ranges_at_a_time, os.getpid())
        try:
            for wanted in _together(ranges):
                whole = wanted.whole
                while waiting and (size + whole.size > _MOST_BYTES_AHEAD or len(waiting) == 2 * _REQUESTS_AT_A_TIME):
                    first, content = waiting.popleft()
                    size -= first.whole.size
                    yield from self._each(first, content)
                waiting.append((wanted, readers.submit(self._view, whole)))
                size += whole.size
            while waiting:
                yield from self._each(*waiting.popleft())
        finally:
            for _, content in waiting:
                content.cancel()

    def _each(self, found: _Neighbours, content: Future[memoryview]) -> Iterator[memoryview]:
        """The bytes of each of several ranges that were read in one request. Where that failed each is read alone: of a
        file that was cut short, the first ones are still there."""
        try:
            block = content.result()
        except ShardError:
            if len(found.ranges) == 1:
                raise
            yield from map(self._view, found.ranges)
            return
        for one in found.ranges:
            start = one.offset - found.whole.offset
            yield block[start : start + one.size]

    def _view(self, wanted: FileRange) -> memoryview:
        return memoryview(self._bytes_of(wanted.file, wanted.offset, wanted.size))

    def map(self, name: str) -> NDArray[np.uint8]:
        size = self._call("read", name, lambda fs, path: fs.info(path)).get("size")
        if size is None:  # of a web server that does not tell
            return np.frombuffer(bytearray(self.read(name, limit=MAX_MAPPED_BYTES)), np.uint8)
        if size > MAX_MAPPED_BYTES:
            raise ShardError(f"{name} is larger than {MAX_MAPPED_BYTES} bytes, which no such file is")
        content = np.empty(size, np.uint8)
        for start, piece in self._pieces(name, size):
            content[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        return content

    def _pieces(self, name: str, size: int) -> Iterator[tuple[int, memoryview]]:
        """The whole of a file of a known size, in pieces of which several are read ahead, each with its position."""
        starts = range(0, size, _READ_BLOCK_BYTES)
        ranges = [FileRange(name, start, min(_READ_BLOCK_BYTES, size - start)) for start in starts]
        yield from zip(starts, self.read_ranges(ranges), strict=True)

    def open(self, name: str) -> BinaryIO:
        size = self.size(name)
        if size is None:
            raise self._missing(name)
        return io.BufferedReader(_RangeReader(self, name, size), _READ_BLOCK_BYTES)

    def size(self, name: str) -> int | None:
        try:
            info = self._call("read", name, lambda fs, path: fs.info(path))
        except FileNotFoundError:
            return None
        if info.get("type") != "file":
            return None
        if info.get("size") is None:
            raise StorageError(
                f"{self.location}/{name}: the server does not say how large this is (no Content-Length): serve the "
                "dataset with a server for files, or copy it here first"
            )
        return int(info["size"])

    def list(self, folder: str = "") -> Iterator[StoredFile]:
        try:
            found = self._call("list", folder, lambda fs, path: fs.find(path, detail=True))
        except FileNotFoundError:
            return
        root = self._path("").lstrip("/")
        for path, info in sorted(found.items()):
            name = path.lstrip("/").removeprefix(root).lstrip("/")
            if info.get("type") == "file" and name:
                yield StoredFile(name, int(info["size"]), _modified(info))

    def write(self, name: str, content: bytes) -> Written:
        self._call("write", name, lambda fs, path: fs.pipe_file(path, content))
        return Written(hashlib.sha256(content).hexdigest(), len(content))

    @contextlib.contextmanager
    def creating(self, name: str, content: bytes) -> Iterator[Callable[[], None]]:
        yield lambda: self._create(name, content) if self._creates_atomically else self._claim(name, content)

    def writer(self, name: str) -> StorageFile:
        return _RemoteFile(self, name)

    @contextlib.contextmanager
    def scratch_file(self, name: str) -> Iterator[BinaryIO]:
        with _ScratchFile() as file:
            yield file  # type: ignore[misc]  # it has what is asked of a binary file
            path, content = file.complete()
            if path is not None:
                self.upload(path, name)
            else:
                self._call("write", name, lambda fs, path: fs.pipe_file(path, content))

    def publish(self, attempts: Mapping[str, str]) -> None:
        with ThreadPoolExecutor(_REQUESTS_AT_A_TIME, thread_name_prefix="posecap-publish") as copiers:
            deque(copiers.map(self.copy, attempts.values(), attempts.keys()), maxlen=0)
        self.discard(attempts.values())

    def copy(self, name: str, to: str) -> None:
        def copied(fs: Any, path: str) -> None:
            source = self._path(name)
            if _EXTRAS.get(self._scheme) == "s3" and (size := fs.info(source)["size"]) > _MOST_BYTES_COPIED_WHOLE:
                _copy_in_pieces(fs, source, path, size)
            else:
                fs.cp_file(source, path)

        self._call("write", to, copied)

    def remove(self, *names: str) -> None:
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                self._call("delete", name, lambda fs, path: fs.rm_file(path))

    def discard(self, names: Iterable[str]) -> None:
        names = list(names)
        if _EXTRAS.get(self._scheme) == "s3" and len(names) > 1:
            pieces = (names[first : first + _DELETED_AT_ONCE] for first in range(0, len(names), _DELETED_AT_ONCE))
            names = [left for piece in pieces for left in self._delete_together(piece)]
        with ThreadPoolExecutor(_REQUESTS_AT_A_TIME, thread_name_prefix="posecap-remove") as removers:
            deque(removers.map(self.remove, names), maxlen=0)

    def _delete_together(self, names: Sequence[str]) -> Sequence[str]:
        """Delete files of S3 in one request; returns those that are to be deleted one by one: whatever the store did
        not delete, and all where it does not know the request, as some that speak S3."""
        by_key: dict[str, str] = {}
        for name in names:
            bucket, _, key = self._path(name).partition("/")
            by_key[key] = name
        objects = {"Objects": [{"Key": key} for key in by_key], "Quiet": True}
        try:
            fs, _ = _opened(self.address)
            answer = fs.call_s3("delete_objects", Bucket=bucket, Delete=objects)
        except Exception:  # of the back-end's library; one by one they are repeated, and errors named
            return names
        return [by_key[error["Key"]] for error in answer.get("Errors", []) if error.get("Key") in by_key]

    def remove_folder(self, folder: str) -> None:
        self.discard([file.name for file in self.list(folder)])

    def remove_attempts(self, name: str) -> None:
        pass  # finding them takes a listing of the folder, whatever its size

    def lock(self) -> AbstractContextManager[Lock]:
        from posecap.storage.lease import lease

        return lease(self)

    def check_unlocked(self) -> None:
        from posecap.storage.lease import check_unleased

        check_unleased(self)

    def now(self) -> float:
        name = f"{LOCK_FOLDER}/clock-{secrets.token_hex(8)}"
        self.write(name, b"")
        try:
            info = self._call("read", name, lambda fs, path: fs.info(path))
        finally:
            self.remove(name)
        modified = _modified(info)
        return time.time() if modified is None else modified

    @property
    def is_writable(self) -> bool:
        """False for web servers, and for the Hugging Face Hub, where each file would be a commit (:mod:`posecap.push`).
        Whether this user may write is known once something is written."""
        return self._scheme not in ("http", "https", "hf")

    def remove_unfinished_uploads(self) -> None:
        """Let the store forget uploads that killed processes left, which are invisible and are charged for. Only S3
        keeps such; elsewhere nothing happens, nor in stores that speak S3 and do not list them. The caller holds the
        lock.
        """
        if _EXTRAS.get(self._scheme) != "s3":
            return
        bucket, _, root = self._path("").partition("/")
        for upload in self._call("list", "", lambda fs, _: _unfinished_uploads(fs, bucket)):
            if upload["Key"].startswith(f"{root}/" if root else ""):
                self._forget(bucket, upload["Key"], upload["UploadId"])

    def _forget(self, bucket: str, key: str, upload: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self._call("delete", "", lambda fs, _: fs.abort_mpu(bucket, key, upload))

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file, in several requests at a time where it is large; an upload that fails leaves nothing."""
        chunks = {"chunksize": _UPLOAD_CHUNK_BYTES} if _EXTRAS.get(self._scheme) in ("s3", "gcs") else {}
        self._call("write", name, lambda fs, path: fs.put_file(str(source), path, **chunks))

    @property
    def _scheme(self) -> str:
        return self.address.partition("://")[0].lower()

    @cached_property
    def _creates_atomically(self) -> bool:
        """Whether the store refuses to create what is there. Some of those that speak S3 overwrite it."""
        if self._scheme not in _ATOMIC_CREATE:
            return False
        name = f"{LOCK_FOLDER}/probe-{secrets.token_hex(8)}"
        try:
            self._create(name, b"first")
            self._create(name, b"second")
        except FileExistsError:
            return True
        except (NotImplementedError, TypeError):
            return False
        finally:
            self.remove(name)
        return False

    def _create(self, name: str, content: bytes) -> None:
        """Write a file that is not there yet, in one request.

        Raises:
            FileExistsError: it is there, with other bytes.
        """

        def put(fs: Any, path: str) -> None:
            try:
                fs.pipe_file(path, content, mode="create")
            except Exception as error:  # of the back-end's library
                if not _says_that_it_exists(error):
                    raise
                # A request whose answer was lost is repeated, by the back-end too, and then refused by its own file.
                if fs.cat_file(path) != content:
                    raise FileExistsError(errno.EEXIST, "exists already", f"{self.location}/{name}") from error

        self._call("write", name, put)

    def _claim(self, name: str, content: bytes) -> None:
        """Create a file where the store cannot refuse: only one who sees no claim but his own may write.

        Whoever comes later sees the claim, or, once it is gone, the file. It needs listings that show what was written
        before, as every large store gives today.
        """
        path = PurePosixPath(name)
        beginning = str(path.with_name(f".{path.name}.claim-"))
        folder = "" if str(path.parent) == "." else str(path.parent)
        while True:
            claim = f"{beginning}{secrets.token_hex(8)}"
            self.write(claim, b"")
            try:
                claims = {file.name: file.modified for file in self.list(folder) if file.name.startswith(beginning)}
                mine = claims.pop(claim, None)
                others = [at for at in claims.values() if not _is_stale(at, mine)]
                if self.size(name) is not None:
                    raise FileExistsError(errno.EEXIST, "exists already", f"{self.location}/{name}")
                if not others:
                    self.write(name, content)
                    return
            finally:
                self.remove(claim)
            # So that of two who saw each other's claims one comes first.
            time.sleep(random.uniform(0.05, 0.5))  # noqa: S311 - no secret

    def _path(self, name: str) -> str:
        """A file's path for the back-end; of the dataset itself where the name is empty."""
        root = _opened(self.address)[1].rstrip("/")
        return f"{root}/{name}" if name else root

    def _call(self, what: str, name: str, call: Callable[[Any, str], T]) -> T:
        """``call(file system, path of the file)``, repeated while it fails in a way that may pass.

        Args:
            what: for messages; also, nothing is missing for a ``write`` but what it writes to (a bucket).

        Raises:
            FileNotFoundError, FileExistsError: as the store says.
            StorageError: any other failure.
        """
        until = time.monotonic() + self.longest_seconds
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                fs, _ = _opened(self.address)
                return call(fs, self._path(name))
            except (FileExistsError, NotImplementedError, ShardError, StorageError):
                raise
            except Exception as error:  # each back-end raises errors of its own library
                if isinstance(error, FileNotFoundError) and what != "write":
                    raise self._missing(name) from error
                pause = wait * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
                if not _may_pass(error) or time.monotonic() + pause > until:
                    raise self._error(what, name, error) from error
                time.sleep(pause)
                wait = min(2 * wait, _LONGEST_WAIT_SECONDS)

    def _missing(self, name: str) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, "no such file", f"{self.location}/{name}")

    def _error(self, what: str, name: str, error: Exception) -> StorageError:
        """The error for users. The back-end's own words are left out, since they may hold request ids and keys."""
        where = f"{self.location}/{name}" if name else self.location
        kind = type(error).__name__
        code = errno.errorcode.get(error.errno or 0) if isinstance(error, OSError) else None
        kind = f"{kind} {code}" if code else kind
        if isinstance(error, ImportError):
            extra = _EXTRAS.get(self._scheme)
            install = f"pip install 'posecap[{extra}]'" if extra else f"the fsspec back-end for {self._scheme}://"
            return StorageError(f"{where}: {self._scheme}:// needs a package that is not installed: install {install}")
        if isinstance(error, PermissionError) or _is_about_credentials(error) or _status_of(error) in _REFUSED:
            return StorageError(
                f"{where}: the store does not let this user {what} ({kind}): check the credentials in the environment "
                "or the store's configuration files, and the rights to list, read, write and delete"
            )
        if isinstance(error, FileNotFoundError) or _status_of(error) == _NOT_FOUND:
            return StorageError(
                f"{where}: there is no such bucket or container, or a file that was to be published was deleted "
                "meanwhile: create the bucket, or correct the address"
            )
        if _may_pass(error):
            return StorageError(
                f"{where}: the store failed to {what} for {self.longest_seconds:g} s ({kind}): it is throttled, down "
                "or not reachable; run the same command again later, it goes on where it stopped"
            )
        return StorageError(
            f"{where}: the store cannot {what} this ({kind}): check the address, the store's settings and the "
            "version of its fsspec package"
        )


@dataclass(frozen=True)
class CachedStorage(RemoteStorage):
    """An object store of which whole shards are kept on local disk as they are read: for several passes over a remote
    dataset, or for several processes of a machine that read the same.

    A shard is downloaded in pieces, several at a time, when something of it is read first, and then read from disk. Its
    place follows from its address, size, and time of change or ETag, so that a shard that was built anew is downloaded
    anew, unless a web server tells neither.
    Indexes and documents, which are small, are read from the store. Processes that share a folder need not know of each
    other: each shard appears whole, and two that want one at the same moment both download it. To be made by
    :func:`posecap.cached`.

    Args:
        folder: on local disk; made where there is none.
        most_bytes: of the shards in the folder. Before a shard is added, those go that nobody has opened for longest;
            one that is larger is not kept. Removed files stay readable for those who have them open. Processes that
            download at the same moment may go beyond it by a shard each, until the next one is added.
    """

    _ranges_at_a_time: ClassVar[int] = 1  # of one shard, which several would each download

    folder: Path = Path()
    most_bytes: int = 0
    _known: dict[str, Path | None] = field(default_factory=dict, compare=False, repr=False)

    def _bytes_of(self, name: str, start: int, size: int) -> bytes | bytearray:
        while (path := self._kept(name)) is not None:
            try:
                with path.open("rb", buffering=0) as file:
                    file.seek(start)
                    content = bytearray(file.read(size))
            except FileNotFoundError:  # another process has just removed it
                continue
            if len(content) != size:
                raise cut_short(name, start, size)
            return content
        return super()._bytes_of(name, start, size)

    def map(self, name: str) -> NDArray[np.uint8]:
        while (path := self._kept(name)) is not None:
            try:
                return np.memmap(path, np.uint8, "c")
            except FileNotFoundError:
                continue
            except ValueError:  # of an empty file
                break
        return super().map(name)

    def _kept(self, name: str) -> Path | None:
        """Where a shard is on disk, once it is there; None for other files, and for shards that are too large."""
        if not name.startswith(_SHARDS) or name.endswith(".json"):
            return None
        if name not in self._known:
            self._known[name] = self._place(name)
        path = self._known[name]
        if path is None:
            return None
        try:
            os.utime(path)  # the time by which the oldest are found
        except FileNotFoundError:
            self._download(name, path)
        return path

    def _place(self, name: str) -> Path | None:
        """Where a shard is to be on disk; None for one that is too large, or whose size a web server does not tell."""
        info = self._call("read", name, lambda fs, path: fs.info(path))
        size = info.get("size")
        if size is None or size > self.most_bytes:
            return None
        identity = f"{self.address}/{name} {size} {info.get('ETag', '')} {_modified(info)}"
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:40]}-{size}"

    def _download(self, name: str, path: Path) -> None:
        """Bring a shard to its place, whose name ends in its size."""
        size = int(path.name.rpartition("-")[2])
        self.folder.mkdir(parents=True, exist_ok=True)
        self._make_room(size)
        part = path.with_name(f".{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            with part.open("xb") as file:
                for _, piece in RemoteStorage(self.address, self.longest_seconds)._pieces(name, size):
                    file.write(piece)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Remove the shards that nobody has opened for longest, and what killed processes left for an hour."""
        found = []
        for path in self.folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                stat = path.stat()
                if not path.name.startswith("."):
                    found.append((stat.st_mtime, path, stat.st_size))
                elif time.time() - stat.st_mtime > _ABANDONED_SECONDS:
                    path.unlink()
        total = sum(bytes for _, _, bytes in found)
        for _, path, bytes in sorted(found):
            if total + size <= self.most_bytes:
                break
            path.unlink(missing_ok=True)
            total -= bytes


@dataclass(frozen=True)
class _Neighbours:
    """Ranges of one file that are read in one request, and the range from the first of them to the end of the last."""

    ranges: Sequence[FileRange]
    whole: FileRange


def _together(ranges: Iterable[FileRange]) -> Iterator[_Neighbours]:
    """Ranges in their order, those together that follow each other closely in one file, as rows do in a staging file
    and clips in a tar."""
    found: list[FileRange] = []
    for wanted in ranges:
        if found and not (
            wanted.file == found[-1].file
            and 0 <= wanted.offset - (found[-1].offset + found[-1].size) <= _MOST_BYTES_BETWEEN
            and wanted.offset + wanted.size - found[0].offset <= _READ_BLOCK_BYTES
        ):
            yield _joined(found)
            found = []
        found.append(wanted)
    if found:
        yield _joined(found)


def _joined(found: Sequence[FileRange]) -> _Neighbours:
    first, last = found[0], found[-1]
    return _Neighbours(found, FileRange(first.file, first.offset, last.offset + last.size - first.offset))


def _copy_in_pieces(fs: Any, source: str, target: str, size: int) -> None:
    """Copy a large file within S3, in several requests at a time. Where it fails nothing is left."""
    from_bucket, _, from_key = source.partition("/")
    bucket, _, key = target.partition("/")
    upload = fs.call_s3("create_multipart_upload", Bucket=bucket, Key=key)["UploadId"]
    where = {"Bucket": bucket, "Key": key, "UploadId": upload}

    def copy(number: int) -> dict[str, Any]:
        start = number * _COPIED_PIECE_BYTES
        answer = fs.call_s3(
            "upload_part_copy",
            **where,
            PartNumber=number + 1,
            CopySource={"Bucket": from_bucket, "Key": from_key},
            CopySourceRange=f"bytes={start}-{min(start + _COPIED_PIECE_BYTES, size) - 1}",
        )
        return {"PartNumber": number + 1, "ETag": answer["CopyPartResult"]["ETag"]}

    try:
        with ThreadPoolExecutor(_REQUESTS_AT_A_TIME, thread_name_prefix="posecap-copy") as copiers:
            pieces = list(copiers.map(copy, range(-(-size // _COPIED_PIECE_BYTES))))
        fs.call_s3("complete_multipart_upload", **where, MultipartUpload={"Parts": pieces})
    except BaseException:
        with contextlib.suppress(Exception):
            fs.abort_mpu(bucket, key, upload)
        raise


def _unfinished_uploads(fs: Any, bucket: str) -> list[Any]:
    """As S3 lists them, with ``Key`` and ``UploadId``; none from a store that does not know the request."""
    try:
        return list(fs.list_multipart_uploads(bucket))
    except OSError as error:
        if error.errno == errno.ENOSYS:
            return []
        raise


class _RangeReader(io.RawIOBase):
    """A file of a known size, read range by range."""

    def __init__(self, storage: RemoteStorage, name: str, size: int) -> None:
        super().__init__()
        self._storage, self._name, self._size, self._position = storage, name, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._position))
        if wanted:
            view[:wanted] = self._storage.read_range(self._name, self._position, wanted)
            self._position += wanted
        return wanted


class _RemoteFile(StorageFile):
    """Collected on this machine's disk, and uploaded as its attempt when it is finished.

    So an upload that breaks off in the middle can begin again, and the hash is that of what was written.
    """

    def __init__(self, storage: RemoteStorage, name: str) -> None:
        super().__init__(scratch_folder() / secrets.token_hex(8))
        self._remote, self._uploaded = storage, False
        self._prepare(storage, name, attempt_of(name))

    def finish(self) -> Written:
        self._flush_block()
        self._file.close()
        self._uploaded = True
        self._remote.upload(self.temporary, self.attempt)
        stored = self._remote.size(self.attempt)
        if stored != self.size:
            raise StorageError(
                f"{self._remote.location}/{self.attempt}: the store holds {stored} bytes of {self.size} that were "
                "written; run the same command again"
            )
        return Written(self._hash.hexdigest(), self.size)

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.temporary.unlink(missing_ok=True)
        if self._uploaded and not self._left:
            self._remote.remove(self.attempt)

    def __enter__(self) -> Self:
        return self


class _ScratchFile(io.RawIOBase):
    """A file that is being written before it is uploaded: in memory, and on this machine's disk once it is large."""

    def __init__(self) -> None:
        super().__init__()
        self._file: BinaryIO = io.BytesIO()
        self._path: Path | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def truncate(self, size: int | None = None) -> int:
        return self._file.truncate(size)

    def write(self, data: Buffer, /) -> int:
        """
        Raises:
            OSError: the disk is full or fails.
        """
        if self._path is None and self._file.tell() + memoryview(data).nbytes > _MOST_BYTES_IN_MEMORY:
            path = scratch_folder() / secrets.token_hex(8)
            on_disk = path.open("xb")
            self._path, in_memory, self._file = path, self._file, on_disk
            on_disk.write(in_memory.getbuffer())  # type: ignore[attr-defined]
        return self._file.write(data)

    def complete(self) -> tuple[Path | None, bytes]:
        """Where the file is on disk, or (with None) its content; nothing may be written any more."""
        if self._path is None:
            return None, self._file.getvalue()  # type: ignore[attr-defined]
        self._file.close()
        return self._path, b""

    def close(self) -> None:
        super().close()
        self._file.close()
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@lru_cache
def _readers(threads: int, process: int) -> ThreadPoolExecutor:
    """Threads that read, for all calls of a process: each opens a back-end of its own, which takes longer than many
    requests. A process that was forked has none of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix=f"posecap-read-{threads}")


def _opened(address: str) -> tuple[Any, str]:
    """The file system of this process and thread (fsspec keeps them) and the path of the root."""
    if address.lower().startswith(("http://", "https://")):
        # Imported for web servers alone: its client takes as long to import as the rest of a build's start.
        from posecap.storage.http import HttpFiles

        return HttpFiles(), address
    # Listings are not kept: other processes write, too.
    import fsspec  # a tenth of a second, which local datasets do without

    fs, root = fsspec.core.url_to_fs(address, use_listings_cache=False)
    _KEPT[id(fs)] = fs
    return fs, root


_KEPT: dict[int, Any] = {}
"""File systems, which fsspec keeps, too, but lets go of in a process that was forked, where they would close
connections of their parent's event loop: an exception that is printed and not raised."""


def _range_of(fs: Any, path: str, start: int, end: int) -> bytes:
    """Bytes of a file from ``start`` up to, but not including, ``end``, as many of them as it has."""
    try:
        content: bytes = fs.cat_file(path, start=start, end=end)
    except Exception as error:  # of the back-end's library
        if _status_of(error) != _NO_SUCH_RANGE:
            raise
        return b""
    return content


def _says_that_it_exists(error: Exception) -> bool:
    """Whether a store refused to create a file since there is one. Of S3's answer s3fs takes it for that only where the
    answer names the condition that failed, as Amazon's does and SeaweedFS' does not.
    """
    return isinstance(error, FileExistsError) or _status_of(error) == _PRECONDITION_FAILED


def _status_of(error: Exception) -> int | None:
    """The status of the answer of HTTP that an error is about; None where there is none."""
    answer = getattr(error.__cause__, "response", None)  # s3fs raises an error of Python's from that of its library
    if isinstance(answer, Mapping):
        found = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = _own_status(error)
    return found if isinstance(found, int) else None


def _own_status(error: Exception) -> Any:
    """The status that errors of other libraries have: aiohttp's, gcsfs', Azure's and the Hub's, each in a place of its
    own."""
    names = ("status", "code", "status_code")
    own = next((found for name in names if (found := getattr(error, name, None))), None)
    return getattr(getattr(error, "response", None), "status_code", None) if own is None else own


def _may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed: the store is throttled, failed, or was not reached in time."""
    status = _own_status(error)
    if isinstance(status, int):
        return status in (_TIMED_OUT, _SLOW_DOWN) or status >= 500
    if isinstance(error, FileNotFoundError | PermissionError | ImportError) or _is_about_credentials(error):
        return False
    if isinstance(error, TimeoutError | ConnectionError):
        return True
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _PASSING_ERRNOS
    return type(error).__module__.partition(".")[0] in _CLIENT_LIBRARIES


def _is_about_credentials(error: Exception) -> bool:
    library = type(error).__module__.partition(".")[0]
    return library in _CLIENT_LIBRARIES and _BAD_CREDENTIALS.search(type(error).__name__) is not None


def _is_stale(modified: float | None, now: float | None) -> bool:
    """Whether a claim's owner must have died; a claim lasts for a few requests."""
    return modified is not None and now is not None and now - modified > _STALE_CLAIM_SECONDS


def _modified(info: Mapping[str, Any]) -> float | None:
    """When a file was last written, in seconds since 1970, from the entry that a back-end gives, each under a name of
    its own; None where it does not say."""
    for key in ("LastModified", "last_modified", "updated", "mtime", "created"):
        match info.get(key):
            case int() | float() as seconds:
                return float(seconds)
            case datetime() as moment:
                return moment.timestamp()
            case str() as text:
                with contextlib.suppress(ValueError):
                    return datetime.fromisoformat(text).timestamp()
    return None


def shown(location: str) -> str:
    """A location as messages show it: without user, password and query."""
    return public_uri(location).partition("?")[0] if "://" in location else location
