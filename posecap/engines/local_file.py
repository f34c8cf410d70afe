"""Fetches videos that are already on local disk: plain paths and ``file://`` URIs."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine, Reject
from posecap.types import Span


@dataclass(frozen=True)
class LocalFile(Engine):
    """Names the file itself, without a copy.

    Everything without ``://`` is taken for a path, also ``youtube:ID``: an engine for such URIs goes before this one.
    """

    name: ClassVar[str] = "local_file"
    thread_safe: ClassVar[bool] = True

    def accepts(self, uri: str) -> bool:
        """Whether it is a path, or an address of the scheme ``file``."""
        return "://" not in uri or uri.lower().startswith("file://")

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """The file itself; of ``limits`` only the size counts, and ``folder`` and ``span`` are not used.

        Raises:
            Reject: ``bad_uri``, ``not_found``, ``forbidden``, ``not_a_file``, ``empty_file``, ``too_large``. Whether a
                path is found, readable and a file depends on what the machine has mounted.
        """
        path = _path_of(uri)
        try:
            found = path.stat()
            if stat.S_ISREG(found.st_mode):
                path.open("rb").close()
        except PermissionError:
            detail = f"{uri} may not be read; check its permissions and its folder's"
            raise Reject("forbidden", detail, machine_dependent=True) from None
        except (OSError, ValueError) as error:
            detail = f"{uri} cannot be opened ({type(error).__name__}); check the path"
            raise Reject("not_found", detail, machine_dependent=True) from None
        if not stat.S_ISREG(found.st_mode):
            raise Reject("not_a_file", f"{uri} is a folder or a device; name a file", machine_dependent=True)
        if found.st_size == 0:
            raise Reject("empty_file", f"{uri} has no bytes; put the whole video there")
        if found.st_size > limits.size_bytes:
            raise Reject(
                "too_large",
                f"{uri} has {found.st_size} bytes, more than {limits.size_bytes}; raise "
                "limits.size_bytes, or cut the video",
            )
        return Fetched(path, "borrowed")


def _path_of(uri: str) -> Path:
    """The path that a URI names; rejects ``bad_uri``."""
    if "://" not in uri:
        return Path(uri)
    try:
        split = urlsplit(uri)
    except ValueError:
        raise Reject("bad_uri", f"{uri} is not a valid URI; write file:///absolute/path") from None
    if split.netloc not in ("", "localhost") or split.query or split.fragment:
        raise Reject("bad_uri", f"{uri} names a host, a query or a fragment; write file:///absolute/path")
    return Path(unquote(split.path))
