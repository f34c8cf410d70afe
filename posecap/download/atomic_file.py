"""Files that are written whole or not at all, locks, and a scratch folder for each process."""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import functools
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import urlsplit

_PREFIX = "posecap-scratch-"
_LOCK = "in-use"
_held: list[int] = []
"""Descriptors of locks that mark this process's scratch folders as in use; closed by the system at its end."""


@contextlib.contextmanager
def atomic_file(target: Path) -> Iterator[BinaryIO]:
    """A file open for writing that becomes ``target`` when the block ends, and is removed if the block raises.

    The folder is made. Readers and other processes never see a partial ``target``; the last writer wins.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(8)}.part")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file at ``path``, waiting for other threads and processes. Even SIGKILL releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def unused_path(folder: Path, uri: str) -> Path:
    """A path in ``folder`` that no other fetch uses, with the suffix of ``uri``'s path when it has a plain one."""
    try:
        suffix = PurePosixPath(urlsplit(uri).path).suffix.lower()
    except ValueError:
        suffix = ""
    plain = suffix[1:].isascii() and suffix[1:].isalnum() and len(suffix) <= 8
    return folder / f"{secrets.token_hex(12)}{suffix if plain else ''}"


def scratch_folder() -> Path:
    """This process's folder for scratch files; removed at its end, or by a later process when it was killed."""
    return _scratch_folder_of(os.getpid())


@functools.cache
def _scratch_folder_of(pid: int) -> Path:
    root = Path(tempfile.gettempdir())
    _remove_stale(root)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{pid}-", dir=root))
    # Locked before it gets its name: a process that cleans up and finds the lock file finds it held.
    unnamed = folder / f"{_LOCK}.new"
    descriptor = os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    unnamed.rename(folder / _LOCK)
    _held.append(descriptor)
    atexit.register(_remove, folder, pid)
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale(root: Path) -> None:
    """Remove scratch folders of this user's processes that ended without removing them."""
    for folder in root.glob(f"{_PREFIX}*"):
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or not yet locked
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(descriptor)
