"""Reads the files of a dataset from a folder or any URL that fsspec supports."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
from numpy.typing import NDArray

from posecap.shards.arrow_file import map_columns
from posecap.shards.index import index_rows
from posecap.shards.paths import (
    DATASET_LIST,
    MAX_DOCUMENT_BYTES,
    MAX_TABLE_BYTES,
    ShardError,
    committed,
    index_path,
    part_named,
)
from posecap.shards.sidecar import decode_document
from posecap.types import PartName


@dataclass(frozen=True)
class Folder:
    """A dataset on local disk. Files are named relative to it; missing ones raise ``FileNotFoundError``."""

    root: Path

    def parts(self) -> list[tuple[PartName, int]]:
        """Committed parts with their number of samples, in order."""
        found = []
        for part in committed(self.root):
            path = self.root / index_path(part)
            found.append((part, index_rows(path) if path.is_file() else 0))
        return found

    def read(self, relative: str, *, limit: int) -> bytes:
        """A whole file of at most ``limit`` bytes; a larger one raises ShardError."""
        with (self.root / relative).open("rb") as file:
            return _within(file.read(limit + 1), relative, limit)

    def read_range(self, relative: str, start: int, size: int) -> bytearray:
        """``size`` bytes from ``start``; a file that ends earlier raises ShardError."""
        with (self.root / relative).open("rb", buffering=0) as file:
            if start + size > os.fstat(file.fileno()).st_size:
                raise _cut_short(relative, start, size)
            content, got = bytearray(size), 0
            while got < size and (n := os.preadv(file.fileno(), [memoryview(content)[got:]], start + got)):
                got += n
        if got != size:
            raise _cut_short(relative, start, size)
        return content

    def map(self, relative: str) -> NDArray[np.uint8]:
        """A whole file as copy-on-write memory."""
        return map_columns(self.root / relative)


@dataclass(frozen=True)
class Remote:
    """A dataset at a URL, with the methods of :class:`Folder`; its ``dataset.json`` lists the parts."""

    filesystem: Any
    root: str

    def parts(self) -> list[tuple[PartName, int]]:
        try:
            content = self.read(DATASET_LIST, limit=MAX_DOCUMENT_BYTES)
        except FileNotFoundError:
            raise ShardError(
                f"no {DATASET_LIST} under {self.root}: is it a dataset, and is its build complete?"
            ) from None
        document = decode_document(content, name=DATASET_LIST, remedy="copy the dataset again")
        try:
            return sorted((part_named(entry["part"]), int(entry["samples"])) for entry in document["parts"])
        except (KeyError, TypeError) as error:
            raise ShardError(f"{DATASET_LIST} does not list parts: {error!r}") from error

    def read(self, relative: str, *, limit: int) -> bytes:
        # A range, and not the whole file, so that at most `limit` bytes of an endless file are read.
        content = self.filesystem.cat_file(self._url(relative), start=0, end=limit + 1)
        return _within(content, relative, limit)

    def read_range(self, relative: str, start: int, size: int) -> bytearray:
        content = self.filesystem.cat_file(self._url(relative), start=start, end=start + size)
        if len(content) > size:  # an HTTP server that does not support ranges sends the whole file
            content = content[start : start + size]
        if len(content) != size:
            raise _cut_short(relative, start, size)
        return bytearray(content)

    def map(self, relative: str) -> NDArray[np.uint8]:
        return np.frombuffer(bytearray(self.read(relative, limit=MAX_TABLE_BYTES * 4)), np.uint8)

    def _url(self, relative: str) -> str:
        return f"{self.root.rstrip('/')}/{relative}"


def source_at(location: str | os.PathLike[str]) -> Folder | Remote:
    """The dataset at a path or URL.

    Raises:
        ShardError: a local path that is no folder.
    """
    text = os.fspath(location)
    if "://" in text:
        filesystem, root = fsspec.core.url_to_fs(text)
        if "file" not in filesystem.protocol:
            return Remote(filesystem, root)
        text = root
    if not Path(text).is_dir():
        raise ShardError(f"no dataset at {text}: there is no such folder")
    return Folder(Path(text))


def _within(content: bytes, relative: str, limit: int) -> bytes:
    if len(content) > limit:
        raise ShardError(f"{relative} is larger than {limit} bytes, which no such file is")
    return content


def _cut_short(relative: str, start: int, size: int) -> ShardError:
    return ShardError(f"{relative} ends before byte {start + size}, to which its index points: run `posecap verify`")
