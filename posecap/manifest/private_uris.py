"""URIs of rows with the secrets that a plan leaves out, for as long as a build runs."""

from __future__ import annotations

import hashlib
import os
import tempfile
import weakref
from array import array
from typing import IO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_SEPARATOR = "\x1f"  # checked cells hold no control characters
_BLOCK_BYTES = 1 << 12
"""Read at a time of the file, whose lines are shorter but for odd ones: a cell of 4096 characters may take 16 kB, and a
public URI several times as much where it is quoted once more than the cell was."""


class PrivateUris:
    """The URIs to fetch of those rows whose public URI (:mod:`posecap.uris`) lacks something.

    They are in an unnamed temporary file of this machine, which the system deletes with the process, however it ends;
    16 bytes a row are in memory, and 32 once one is looked for. :meth:`add` is for planning, :meth:`find` may be called
    by several threads afterwards.
    """

    def __init__(self) -> None:
        self._opened: IO[bytes] | None = None
        self._hashes, self._offsets = array("Q"), array("q")
        self._sorted: tuple[NDArray[np.uint64], NDArray[np.int64]] | None = None

    @property
    def _file(self) -> IO[bytes]:
        if self._opened is None:  # most manifests have no secrets
            self._opened = tempfile.TemporaryFile("w+b")  # noqa: SIM115 - for as long as the plan is used
            weakref.finalize(self, self._opened.close)
        return self._opened

    def add(self, table: str, numbers: NDArray[np.int64], *, public: pa.Array, whole: pa.Array) -> None:
        """Keep those of N rows whose ``whole`` URI is not the ``public`` one.

        A row's name is its table, its number in it and its public URI: two tables whose addresses differ in secrets
        alone have one name, and :meth:`find` must not give a row the URI of another video.

        Args:
            table: as messages name it.
            numbers: of the N rows, int64.
        """
        for number, shown, uri in zip(numbers.tolist(), public.to_pylist(), whole.to_pylist(), strict=True):
            if shown != uri:
                name = _name(table, number, shown)
                self._hashes.append(_hash(name))
                self._offsets.append(self._file.tell())
                self._file.write(f"{name}{_SEPARATOR}{uri}\n".encode())
        self._sorted = None

    def find(self, table: str, number: int, *, public: str) -> str | None:
        """The URI to fetch of a row; None where :meth:`add` was given no other one than the public one, or no row of
        this table, number and public URI.

        Of several rows with all three in common, it is the first one's.
        """
        if not self._hashes:
            return None
        if self._sorted is None:
            self._file.flush()
            hashes = np.array(self._hashes, np.uint64)
            order = np.argsort(hashes, kind="stable")
            self._sorted = hashes[order], np.array(self._offsets, np.int64)[order]
        hashes, offsets = self._sorted
        name = _name(table, number, public)
        wanted = np.uint64(_hash(name))
        for at in range(int(np.searchsorted(hashes, wanted)), len(hashes)):
            if hashes[at] != wanted:
                break
            found, _, uri = self._line(int(offsets[at])).rpartition(_SEPARATOR)
            if found == name:
                return uri
        return None

    def _line(self, offset: int) -> str:
        """The line at a position of the file, read without moving the file's own position, which threads share."""
        line = b""
        while b"\n" not in line and (block := os.pread(self._file.fileno(), _BLOCK_BYTES, offset + len(line))):
            line += block
        return line.partition(b"\n")[0].decode()


def _name(table: str, number: int, public: str) -> str:
    return _SEPARATOR.join((table, str(number), public))


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
