"""Where a dataset lies: a folder (:class:`LocalStorage`) or an object store (:class:`RemoteStorage`), in one interface.

Files have names relative to the dataset's root, such as ``data/train/pose-00042.tar``. A file is written whole or not
at all, and durable once the call returns. Files of any size go through :meth:`Storage.writer`: their bytes lie under
another name, the *attempt*, until :meth:`Storage.publish` gives them their own, also from another process or machine.

A remote location is an address that fsspec opens: ``s3://bucket/poses``, ``gs://…``, ``az://…``. Keys, endpoints and
profiles come from the environment and the configuration files of the store's own tools, on every machine that opens it;
an address that holds a password is refused. Calls are repeated while a store is throttled or fails, with growing waits,
for two minutes at most, and then raise a :class:`StorageError`.
"""

from __future__ import annotations

import os
from pathlib import Path

from posecap.storage.base import (
    DatasetLockedError,
    LocalStorage,
    Location,
    Lock,
    Storage,
    StorageError,
    StorageFile,
    StoredFile,
    is_attempt,
)
from posecap.storage.remote import CachedStorage, RemoteStorage, shown

__all__ = [
    "CachedStorage",
    "DatasetLockedError",
    "LocalStorage",
    "Location",
    "Lock",
    "RemoteStorage",
    "Storage",
    "StorageError",
    "StorageFile",
    "StoredFile",
    "cached",
    "is_attempt",
    "is_remote",
    "open_storage",
    "shown",
]


def open_storage(location: Location) -> Storage:
    """The storage at a folder or address; nothing is read or made yet.

    Raises:
        StorageError: an address holds a password.
    """
    if isinstance(location, Storage):
        return location
    text = os.fspath(location)
    if "://" not in text:
        return LocalStorage(Path(text))
    scheme, _, rest = text.partition("://")
    if scheme.lower() in ("file", "local"):
        import fsspec

        return LocalStorage(Path(fsspec.core.url_to_fs(text)[1]))
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise StorageError(
            f"{shown(text)} holds a password: leave it out, and give it by the environment or the configuration of the "
            "store's own tools, which posecap reads too"
        )
    return RemoteStorage(text.rstrip("/"))


def cached(location: str, folder: str | os.PathLike[str], *, most_bytes: int = 100_000_000_000) -> CachedStorage:
    """A remote dataset whose shards are kept on local disk as they are read, for ``posecap.open`` and other readers:
    ``posecap.open(posecap.cached("s3://bucket/poses", "/scratch/poses"), read="columns")``.

    Args:
        location: an address that fsspec opens.
        folder, most_bytes: as for :class:`CachedStorage`.

    Raises:
        StorageError: the location is a folder, which needs no cache.
    """
    storage = open_storage(location)
    if not isinstance(storage, RemoteStorage):
        raise StorageError(f"{storage.location} is on this machine already: open it without a cache")
    return CachedStorage(storage.address, storage.longest_seconds, Path(folder), most_bytes)


def is_remote(location: str | os.PathLike[str]) -> bool:
    """Whether a location is an address of something else than local disk."""
    scheme, separator, _ = os.fspath(location).partition("://")
    return bool(separator) and scheme.lower() not in ("file", "local")
