"""Lists the names that pickles may use: containers and numbers of Python, arrays and numbers of NumPy.

The functions get arguments from hostile files: each checks them, and none allocates more memory than the file has
bytes; copies of containers, which do, are counted by :mod:`posecap.weights.unpickle`. Every other name becomes an
:class:`Inert` record or raises, there.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

_MAX_KEY_DEPTH, _MAX_KEY_PARTS, _MAX_KEY_BITS, _MAX_DIMENSIONS = 8, 64, 1024, 64
"""Free bounds on keys, far above any that a checkpoint has; arrays have 64 axes at most in NumPy."""
_NUMPY_CODE = re.compile(r"[<>|=]?[biufcSU][1-9][0-9]{0,5}")
"""Codes of dtypes of numbers and of text, of one byte or more; objects (``O``) and records (``V``) are not among
them."""

Names: TypeAlias = Mapping[tuple[str, str], Any]
"""What ``(module, name)`` stands for: a function that checks its arguments, or a constant."""


class UnsafePickleError(ValueError):
    """The bytes are not a complete pickle, or describe something that is not read; the message says what.

    The message is a clause without the file's name ("it is cut off"), which callers add.
    """


@dataclass(eq=False)
class Inert:
    """The record of an object whose class was not loaded: the names, and what the file holds of it.

    A class or function that the file only names, without a call, gives the same kind of record, with ``args`` empty.

    Attributes:
        args: of the call of the class or function.
        state: of the object, usually its attributes by name.
        entries: items of a list or set subclass, ``(key, value)`` pairs of a mapping subclass.
    """

    module: str
    name: str
    args: tuple[Any, ...] = field(default=(), repr=False)
    state: Any = field(default=None, repr=False)
    entries: list[Any] = field(default_factory=list, repr=False)


def plain_key(key: Any) -> Any:
    """``key``, if hashing it and comparing it with another is safe and quick. Hashing a tuple nested a million deep
    would crash the process; and a few hundred bytes make a tuple of the same tuple again and again, eight deep, of
    which hashing takes years, or two frozensets of frozensets that take as long to compare.

    Raises:
        UnsafePickleError: it is nested too deeply, has too many parts, counted as often as they occur, is too large a
            number, or is or holds a container that is no tuple.
    """
    parts, depth = [key], 0
    count = 1
    while parts:
        tuples = [part for part in parts if isinstance(part, tuple)]
        count += sum(map(len, tuples))
        if count > _MAX_KEY_PARTS or (tuples and depth == _MAX_KEY_DEPTH):
            raise UnsafePickleError("a key is nested too deeply, or has too many parts")
        for part in parts:
            if isinstance(part, int) and part.bit_length() > _MAX_KEY_BITS:
                raise UnsafePickleError("a key is too large a number")
            if isinstance(part, list | dict | set | frozenset | bytearray | np.ndarray):
                raise UnsafePickleError(f"a {type(part).__name__} cannot be a key")
        parts, depth = [inner for part in tuples for inner in part], depth + 1
    return key


def lengths(value: Any = ()) -> tuple[int, ...]:
    """``value``, a shape or strides, as a tuple.

    Raises:
        UnsafePickleError: it holds anything but integers from 0 on, or too many of them.
    """
    if not isinstance(value, tuple | list) or len(value) > _MAX_DIMENSIONS:
        raise UnsafePickleError("a shape is malformed")
    if any(type(n) is not int or not 0 <= n < 1 << 63 for n in value):
        raise UnsafePickleError("a shape is malformed")
    return tuple(value)


def _ordered_dict(pairs: Any = ()) -> OrderedDict[Any, Any]:
    ordered = OrderedDict()
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise UnsafePickleError("an OrderedDict is made of something other than pairs")
        ordered[plain_key(pair[0])] = pair[1]
    return ordered


def _collection(kind: Callable[[Iterable[Any]], Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if not isinstance(items, list | tuple):
            raise UnsafePickleError("a set is made of something other than a list")
        return kind(map(plain_key, items))

    return make


def _complex(real: Any = 0.0, imaginary: Any = 0.0) -> complex:
    return complex(float(real), float(imaginary))


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """Bytes, which pickle protocol 2 writes as a call of this function."""
    if not isinstance(text, str) or encoding != "latin1":
        raise UnsafePickleError("bytes are written in an unknown way")
    return text.encode("latin1")


class _DtypeRecord(Inert):
    """A dtype that is not complete yet: its byte order follows later in the pickle, as the record's state."""


def _dtype_record(code: Any, *_flags: Any) -> _DtypeRecord:  # the flags, align and copy, say nothing of numbers
    if not isinstance(code, str) or not _NUMPY_CODE.fullmatch(code):
        raise UnsafePickleError("an array holds something other than numbers")
    return _DtypeRecord("numpy", "dtype", (code,))


def _dtype(record: Any) -> np.dtype[Any]:
    if not isinstance(record, _DtypeRecord):
        raise UnsafePickleError("an array holds something other than numbers")
    state = record.state
    dtype: np.dtype[Any] = np.dtype(record.args[0])
    if state is None:
        return dtype
    if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
        raise UnsafePickleError("an array's dtype is malformed")
    return dtype.newbyteorder(state[1])


def _empty_array(kind: Any, *_rest: Any) -> np.ndarray[Any, Any]:
    if kind is not np.ndarray:
        raise UnsafePickleError("an array is of an unknown class")
    return np.empty(0, np.uint8)


def fill_array(array: np.ndarray[Any, Any], state: Any) -> None:
    """Set an array's content from ``state``: (version, shape, dtype, Fortran order, bytes).

    Raises:
        UnsafePickleError: shape, dtype and bytes disagree.
    """
    _, shape, record, fortran, raw = state
    dtype = _dtype(record)
    if not isinstance(raw, bytes) or math.prod(lengths(shape)) * dtype.itemsize != len(raw):
        raise UnsafePickleError("an array's shape and bytes disagree")
    array.__setstate__((shape, dtype, bool(fortran), raw))  # type: ignore[arg-type]  # wants no np.bool


def _number(record: Any, raw: Any = b"") -> Any:
    dtype = _dtype(record)
    if not isinstance(raw, bytes) or len(raw) != dtype.itemsize:
        raise UnsafePickleError("a number is malformed")
    return np.frombuffer(raw, dtype)[0].item()


ARRAY_NAMES: Names = {
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _dtype_record,
    ("numpy", "ndarray"): np.ndarray,
    **{(f"numpy.{core}.multiarray", "scalar"): _number for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _empty_array for core in ("core", "_core")},
}
"""What arrays and numbers of NumPy are pickled with."""
PLAIN_NAMES: Names = {("collections", "OrderedDict"): _ordered_dict} | {
    (module, name): make
    for module in ("builtins", "__builtin__")
    for name, make in (("set", _collection(set)), ("frozenset", _collection(frozenset)), ("complex", _complex))
}
"""Containers and numbers of Python that have no opcode in every protocol."""
