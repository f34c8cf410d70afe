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

import fsspec

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
from posecap.storage.remote import RemoteStorage, shown

__all__ = [
    "DatasetLockedError",
    "LocalStorage",
    "Location",
    "Lock",
    "RemoteStorage",
    "Storage",
    "StorageError",
    "StorageFile",
    "StoredFile",
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
        return LocalStorage(Path(fsspec.core.url_to_fs(text)[1]))
    user, at, _ = rest.partition("/")[0].rpartition("@")
    if at and ":" in user:
        raise StorageError(
            f"{shown(text)} holds a password: leave it out, and give it by the environment or the configuration of the "
            "store's own tools, which posecap reads too"
        )
    return RemoteStorage(text.rstrip("/"))


def is_remote(location: str | os.PathLike[str]) -> bool:
    """Whether a location is an address of something else than local disk."""
    scheme, separator, _ = os.fspath(location).partition("://")
    return bool(separator) and scheme.lower() not in ("file", "local")
