"""posecap: from a list of videos to synchronized video, skeleton and text.

``posecap.open`` streams a dataset's samples, ``posecap.index`` gives its index as a table and ``posecap.read`` one
sample by its key; ``posecap.webdataset`` and ``posecap.huggingface`` hand samples to those packages. They load on first
use, so that ``import posecap`` stays light.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec

    from posecap.loaders import huggingface, webdataset
    from posecap.storage import cached
    from posecap.stream import Balance, collate
    from posecap.stream import open_dataset as open
    from posecap.stream import read_index as index
    from posecap.stream import read_sample as read
    from posecap.vector_clusters import clusters

__version__ = "0.1.0"
__all__ = [
    "Balance",
    "__version__",
    "cached",
    "clusters",
    "collate",
    "huggingface",
    "index",
    "open",
    "read",
    "webdataset",
]

_READERS = {
    "Balance": "stream.Balance",
    "cached": "storage.cached",
    "clusters": "vector_clusters.clusters",
    "collate": "stream.collate",
    "huggingface": "loaders.huggingface",
    "index": "stream.read_index",
    "open": "stream.open_dataset",
    "read": "stream.read_sample",
    "webdataset": "loaders.webdataset",
}


class FormerNames:
    """Finds modules of a package by former names, which are in ``MODULES`` of the package's own module ``legacy``.
    Python asks it last, for modules of which there is no file; ``legacy`` is imported then, and no earlier.
    """

    def __init__(self, package: str) -> None:
        self._package = package

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> "ModuleSpec | None":
        """As the import system calls it."""
        if not fullname.startswith(f"{self._package}."):
            return None
        from posecap.legacy import moved_module

        return moved_module(fullname, import_module(f"{self._package}.legacy").MODULES)


sys.meta_path.append(FormerNames("posecap"))


def __getattr__(name: str) -> Any:
    if name in _READERS:
        module, _, reader = _READERS[name].partition(".")
        return getattr(import_module(f"posecap.{module}"), reader)
    raise AttributeError(f"module 'posecap' has no attribute {name!r}")
