"""One build at a time in one dataset directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DirectoryBusy(RuntimeError):
    """Another build holds the directory; the message names its process."""


@contextmanager
def lease(root: Path) -> Iterator[None]:
    """Hold ``root`` until the block ends, or the process dies: the kernel then lets go by itself.

    Raises:
        DirectoryBusy: another process holds it.
    """
    path = root / ".lease"
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise DirectoryBusy(
                f"{root} is being built by process {holder}: wait for it, stop it, or name another --output"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        yield
