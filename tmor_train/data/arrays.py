"""Reads many slices of flat arrays at once, and vectors of one length that lie in several such arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = NDArray[np.int64]


def slices(values: Floats, start: Numbers, width: int) -> Floats:
    """``values[s : s + width]`` for every s of ``start``: (*start.shape, width).

    Args:
        values: (size,) float32, contiguous; may be mapped from a file, of which only these slices are read.
        start: int64 of any shape, indices of ``values``.
        width: number of values of each slice.

    Raises:
        IndexError: a slice is out of bounds.
    """
    if start.size == 0 or width == 0:
        return np.zeros((*start.shape, width), np.float32)
    if start.min() < 0 or start.max() + width > len(values):
        raise IndexError(f"slices of {width} values are out of bounds of an array of {len(values)}")
    # All slices as overlapping rows, each a float32 (4 bytes) after the one before. A fancy index copies those
    # requested and releases the GIL; np.take would first copy all rows.
    rows = np.ndarray((len(values) - width + 1, width), np.float32, buffer=values, strides=(4, 4))
    taken: Floats = rows[start]
    return taken


@dataclass(frozen=True, eq=False)
class Vectors:
    """R vectors of length ``width`` that lie in several flat arrays, which may be mapped from files.

    Vector r is ``maps[map_R[r]][start_R[r] : start_R[r] + width]``; ``map_R`` and ``start_R`` are int64 (R,).
    """

    maps: tuple[Floats, ...]
    map_R: Numbers
    start_R: Numbers
    width: int

    def __len__(self) -> int:
        return len(self.start_R)

    def rows(self, index: Numbers) -> Floats:
        """The vectors of the given indices (P,) int64, copied: (P, width) float32; index -1 gives zeros.

        Raises:
            IndexError: an index is R or more.
        """
        known = index >= 0
        if not known.all():
            taken = np.zeros((len(index), self.width), np.float32)
            if known.any():
                taken[known] = self.rows(index[known])
            return taken
        if len(self.maps) == 1:
            return slices(self.maps[0], self.start_R[index], self.width)
        taken = np.empty((len(index), self.width), np.float32)
        start, maps = self.start_R[index], self.map_R[index]
        for number in np.flatnonzero(np.bincount(maps)).tolist():
            rows_of_map = np.flatnonzero(maps == number)
            taken[rows_of_map] = slices(self.maps[number], start[rows_of_map], self.width)
        return taken

    def select(self, index: Numbers) -> Vectors:
        """The vectors of the given indices, in that order, without copying values."""
        return Vectors(self.maps, self.map_R[index], self.start_R[index], self.width)


def vectors(values_RD: Floats) -> Vectors:
    """The rows of a matrix (R, D) as :class:`Vectors`, copied unless they are contiguous float32."""
    rows, width = values_RD.shape
    flat = np.ascontiguousarray(values_RD, np.float32).reshape(-1)
    return Vectors((flat,), np.zeros(rows, np.int64), np.arange(rows, dtype=np.int64) * width, width)


def concat_vectors(stores: Sequence[Vectors]) -> Vectors:
    """The vectors of all ``stores``, those of the first one first; no value is copied.

    Raises:
        ValueError: there is no store, or their vectors differ in length.
    """
    widths = {store.width for store in stores}
    if len(widths) != 1:
        raise ValueError(f"vectors of lengths {sorted(widths)} do not fit one set; embed all of them with one model")
    maps = tuple(values for store in stores for values in store.maps)
    first = np.cumsum([0, *(len(store.maps) for store in stores[:-1])])
    return Vectors(
        maps,
        np.concatenate([store.map_R + offset for store, offset in zip(stores, first, strict=True)]),
        np.concatenate([store.start_R for store in stores]),
        widths.pop(),
    )
