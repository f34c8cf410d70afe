"""Output files of commands, written in full or not at all, that replace an earlier file only when asked to.

:func:`posecap.files.atomic_file` gives an open file and always replaces; here the libraries that write (ONNX, Parquet)
open a path themselves.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Existing = Literal["refuse", "replace"]
"""What happens when the output file already exists: an error before anything is written, or it is replaced."""


class OutputExistsError(ValueError):
    """The output file already exists, or its path is a folder; the message says what to do."""


@contextmanager
def atomic_write(path: Path, *, existing: Existing) -> Iterator[Path]:
    """A temporary path beside ``path``, named by the process, for the block to write a file to.

    When the block ends, that file is flushed to disk and renamed to ``path``; if the block raises, it is deleted.
    Missing parent folders are created. Whether ``path`` exists is checked before the block alone: a file that appears
    there meanwhile is replaced.

    Raises:
        OutputExistsError: ``path`` is a folder, or it exists and ``existing`` is ``"refuse"``.
        FileNotFoundError: the block wrote no file.
    """
    if path.is_dir():
        raise OutputExistsError(f"{path} is a folder; name a file in it")
    if existing == "refuse" and path.exists():
        raise OutputExistsError(f"{path} already exists; choose another --output, or give --overwrite")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
