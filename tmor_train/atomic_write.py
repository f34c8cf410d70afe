"""Files that are written in full or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

Existing = Literal["refuse", "replace"]
"""What becomes of a file that is already there."""


class OutputExistsError(ValueError):
    """There is a file of that name already; the message says how to replace it."""


@contextmanager
def atomic_write(path: Path, *, existing: Existing) -> Iterator[Path]:
    """A file beside ``path`` to write to, which takes its place once the block has ended, and is gone if it fails.

    Raises:
        OutputExistsError: before anything is written; a folder is never replaced.
    """
    if path.is_dir() or (existing == "refuse" and path.exists()):
        remedy = "name a file in it" if path.is_dir() else "choose another --output, or give --overwrite"
        raise OutputExistsError(f"{path} is there already; {remedy}")
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
