"""Fetches videos from object stores, through fsspec: ``s3://``, ``gs://`` and others."""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, ClassVar

from posecap.download.retry import RetryPolicy, retry, with_timeout
from posecap.files import atomic_file, unused_path
from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine, Reject, TransientError
from posecap.types import Span
from posecap.uris import public_uri

_BLOCK = 1 << 20
"""Bytes that are read at once; time and size are checked after each. Our choice."""
_SMALLER = "raise limits.size_bytes, or cut the video"
_RETRIED = frozenset({"timeout", "disk_full", "object_store"})
"""Reasons of errors after which another attempt may succeed; a missing package stays missing."""


@dataclass(frozen=True)
class ObjectStore(Engine):
    """Copies an object, as a whole, to local disk. Credentials come from where fsspec's back-ends look for them.

    Args:
        schemes: the only ones accepted, in lower case, since a manifest must not reach everything that fsspec can open.
        retry_policy: for ``timeout``, ``disk_full`` and ``object_store``; every attempt starts from the first byte.
    """

    name: ClassVar[str] = "object_store"
    thread_safe: ClassVar[bool] = True  # fsspec keeps a client for each thread
    schemes: tuple[str, ...] = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "hf")
    retry_policy: RetryPolicy = field(default_factory=RetryPolicy)

    def accepts(self, uri: str) -> bool:
        scheme, separator, rest = uri.partition("://")
        return bool(separator) and scheme.lower() in self.schemes and "::" not in rest

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """Copy the object into ``folder``.

        Raises:
            Reject: ``bad_uri``, ``not_found``, ``forbidden``, ``not_a_file``, ``empty_file``, ``too_large``.
            TransientError: ``missing_package``, ``timeout``, ``disk_full``, ``object_store`` (any other error of the
                store or its client).
        """
        target = unused_path(folder, uri)
        until = time.monotonic() + limits.seconds
        with atomic_file(target) as file:
            with_timeout(
                limits.seconds,
                lambda: retry(
                    lambda: _copy(uri, file, size_bytes=limits.size_bytes, until=until),
                    policy=self.retry_policy,
                    until=until,
                    reasons=_RETRIED,
                ),
                what=public_uri(uri),
            )
        return Fetched(target, "temporary")


def _copy(location: str, file: BinaryIO, *, size_bytes: int, until: float) -> None:
    """Write the object into ``file``, from the first byte on; raises what :meth:`ObjectStore.fetch` does."""
    uri = public_uri(location)
    file.seek(0)
    file.truncate()
    try:
        import fsspec  # a tenth of a second, which builds from local files do without

        store, path = fsspec.url_to_fs(location)
        info = store.info(path)
        if info.get("type") != "file":
            raise IsADirectoryError
        if (size := info.get("size")) is not None and size > size_bytes:
            raise Reject("too_large", f"{uri} has {size} bytes, more than {size_bytes}; {_SMALLER}")
        with store.open(path, "rb") as source:
            while block := source.read(_BLOCK):
                if time.monotonic() > until:
                    raise TransientError("timeout", f"{uri}: not finished in time")
                if file.tell() + len(block) > size_bytes:
                    raise Reject("too_large", f"{uri} has more than {size_bytes} bytes; {_SMALLER}")
                file.write(block)
    except Exception as error:  # each back-end raises errors of its own library
        raise _translated(uri, error) from error
    if file.tell() == 0:
        raise Reject("empty_file", f"{uri} has no bytes; put the whole video there")


def _translated(uri: str, error: Exception) -> Reject:
    """The error as an outcome; back-ends' own words are left out, since they may hold request ids and keys."""
    kind = type(error).__name__
    match error:
        case Reject():
            return error
        case ImportError():
            scheme = uri.partition("://")[0]
            return TransientError(
                "missing_package", f"{uri}: install the fsspec back-end for {scheme}:// and run again"
            )
        case FileNotFoundError():
            return Reject("not_found", f"{uri} does not exist; check bucket and key")
        case PermissionError():
            return Reject("forbidden", f"{uri} may not be read; check the credentials", machine_dependent=True)
        case IsADirectoryError():
            return Reject("not_a_file", f"{uri} is a folder; name an object")
        case TimeoutError():
            return TransientError("timeout", f"{uri}: the store did not answer in time")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT):
            return TransientError("disk_full", f"{uri}: no space for the copy; free some and run again")
        case ValueError():
            return Reject("bad_uri", f"{uri} is not an address of this store ({kind})")
    return TransientError("object_store", f"{uri}: the store could not give it ({kind})")
