"""Arrays as npy version 1 bytes, C order, and back without pickle, copies or trust."""

from __future__ import annotations

import re
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posecap.shards.layout import ShardError

_MAGIC = b"\x93NUMPY\x01\x00"
_GROWTH_DIGITS = 21  # numpy leaves room for the first axis to grow in place; kept, so that bytes equal np.save's
_WRITTEN = re.compile(rb"\{'descr': '(<f[48])', 'fortran_order': False, 'shape': \(((?:\d{1,12},? ?){0,8})\), \} *\n")


@lru_cache(maxsize=4096)
def header(descr: str, shape: tuple[int, ...]) -> bytes:
    """The npy header of a C-order array, equal to what ``np.save`` writes."""
    text = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape!r}, }}"
    if shape:
        text += " " * max(0, _GROWTH_DIGITS - len(str(shape[0])))
    padding = -(len(_MAGIC) + 2 + len(text) + 1) % 64
    written = text.encode("latin-1") + b" " * padding + b"\n"
    return _MAGIC + len(written).to_bytes(2, "little") + written


@lru_cache(maxsize=4096)
def _read_header(written: bytes) -> tuple[str, tuple[int, ...]]:
    found = _WRITTEN.fullmatch(written[len(_MAGIC) + 2 :])
    if found is None:
        raise ShardError("npy header is not one that posecap writes")
    descr, shape = found[1].decode(), tuple(int(n) for n in re.findall(rb"\d+", found[2]))
    if header(descr, shape) != written:
        raise ShardError("npy header is not one that posecap writes")
    return descr, shape


def array_in(member: memoryview, *, descr: str, axes: int) -> NDArray[Any]:
    """The array of an npy member, as a view of the member's bytes.

    Raises:
        ShardError: not such an npy, or its header promises another size than the member has.
    """
    start = len(_MAGIC) + 2 + int.from_bytes(member[8:10], "little")
    if bytes(member[:8]) != _MAGIC or start > len(member):
        raise ShardError("not an npy member of version 1")
    found, shape = _read_header(bytes(member[:start]))
    if found != descr or len(shape) != axes:
        raise ShardError(f"npy holds {found} with shape {shape}, expected {descr} with {axes} axes")
    items = prod(shape)
    if items * int(descr[2]) != len(member) - start:
        raise ShardError(f"npy header promises {items} items of {descr}, the member holds {len(member) - start} bytes")
    return np.frombuffer(member, descr, items, start).reshape(shape)
