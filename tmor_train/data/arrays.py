"""Values of many clips in a few flat arrays, and stretches taken out of them many at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


def stretches(values: Floats, start: Numbers, width: int) -> Floats:
    """``values[s : s + width]`` for every s of ``start``: (*start.shape, width).

    Args:
        values: flat and contiguous; may be mapped from a file, of which only these stretches are read.

    Raises:
        IndexError: a stretch begins before the array or reaches beyond its end.
    """
    if start.size == 0 or width == 0:
        return np.zeros((*start.shape, width), np.float32)
    if start.min() < 0 or start.max() + width > len(values):
        raise IndexError(f"stretches of {width} values reach out of an array of {len(values)}")
    # Every stretch there is, as rows that overlap. One fancy index copies those asked for, with Python's lock free;
    # np.take would first copy all rows.
    rows = np.ndarray((len(values) - width + 1, width), np.float32, buffer=values, strides=(4, 4))
    taken: Floats = rows[start]
    return taken


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of one length that lie in several flat arrays: row r at ``maps[map_R[r]][start_R[r] : … + width]``."""

    maps: tuple[Floats, ...]
    map_R: Numbers
    start_R: Numbers
    width: int

    def __len__(self) -> int:
        return len(self.start_R)

    def take(self, rows: Numbers) -> Floats:
        """Some rows, (len(rows), width) float32; a row of -1 gives zeros."""
        known = rows >= 0
        if not len(self) or not known.all():
            taken = np.zeros((len(rows), self.width), np.float32)
            if known.any():
                taken[known] = self.take(rows[known])
            return taken
        if len(self.maps) == 1:
            return stretches(self.maps[0], self.start_R[rows], self.width)
        taken = np.empty((len(rows), self.width), np.float32)
        start, maps = self.start_R[rows], self.map_R[rows]
        for number in np.flatnonzero(np.bincount(maps)).tolist():
            here = np.flatnonzero(maps == number)
            taken[here] = stretches(self.maps[number], start[here], self.width)
        return taken

    def pick(self, rows: Numbers) -> Vectors:
        """The same store with only these rows, in this order."""
        return Vectors(self.maps, self.map_R[rows], self.start_R[rows], self.width)


def vectors(values_RD: Floats) -> Vectors:
    """Rows of a matrix as :class:`Vectors`."""
    rows, width = values_RD.shape
    flat = np.ascontiguousarray(values_RD, np.float32).reshape(-1)
    return Vectors((flat,), np.zeros(rows, np.int64), np.arange(rows, dtype=np.int64) * width, width)


def joined(stores: Sequence[Vectors]) -> Vectors:
    """The rows of all stores, one store after another.

    Raises:
        ValueError: their vectors differ in length.
    """
    widths = {store.width for store in stores}
    if len(widths) != 1:
        raise ValueError(f"vectors of lengths {sorted(widths)} do not fit one set; embed all of them with one model")
    maps = tuple(values for store in stores for values in store.maps)
    first = np.cumsum([0, *(len(store.maps) for store in stores)])
    return Vectors(
        maps,
        np.concatenate([store.map_R + offset for store, offset in zip(stores, first, strict=False)]),
        np.concatenate([store.start_R for store in stores]),
        widths.pop(),
    )
