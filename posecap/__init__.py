"""posecap: from a list of videos to synchronized video, skeleton and text.

``posecap.open`` streams a dataset's samples, ``posecap.index`` gives its index as a table and ``posecap.read`` one
sample by its key. They load on first use, so that ``import posecap`` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from posecap.stream import Balance, collate
    from posecap.stream import open_dataset as open
    from posecap.stream import read_index as index
    from posecap.stream import read_sample as read

__version__ = "0.1.0"
__all__ = ["Balance", "__version__", "collate", "index", "open", "read"]

_READERS = {
    "Balance": "Balance",
    "collate": "collate",
    "index": "read_index",
    "open": "open_dataset",
    "read": "read_sample",
}


def __getattr__(name: str) -> Any:
    if name in _READERS:
        return getattr(import_module("posecap.stream"), _READERS[name])
    raise AttributeError(f"module 'posecap' has no attribute {name!r}")
