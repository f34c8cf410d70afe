"""Reads plain arrays (numbers, logicals, text) out of MATLAB 5 files, compressed or not, after MathWorks' "MAT-File
Format".

A file is a header of 128 bytes and elements: a type, a number of bytes, and these. A variable is an element that holds
elements in turn: its class, its shape, its name and its values. Every size is compared with the bytes that are there
before it is used, and nothing is unpacked that is not asked for. scipy reads such files, too, but one changed byte can
end the process (scipy 1.17): its compiled reader runs beyond its buffers.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

_HEADER = 128
# By the numbers of MathWorks' format: types of elements, then classes of variables and a flag of theirs.
_MATRIX, _COMPRESSED = 14, 15
_OPAQUE, _COMPLEX = 17, 0x800  # a class without a shape, and the flag of an array with an imaginary part
_CLASSES = (  # from 1 on
    *("cell", "struct", "object", "char", "sparse", "double", "single", "int8", "uint8", "int16", "uint16"),
    *("int32", "uint32", "int64", "uint64", "function"),
)
# Types of elements that hold numbers or text, with NumPy's name of the former and the encoding of the latter.
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
_NAMED_WITHIN = 4096
"""Bytes of a compressed variable in which its name must end; a name of MATLAB has up to 63 characters."""
_MOST_VARIABLES = 1000  # free choice: the sets' files have up to ten

Order = Literal["<", ">"]


class Variable(NamedTuple):
    """A variable before its values are read: its class, such as ``double``, ``char`` or ``cell``, its shape as MATLAB
    has it, and ``load``, which reads it.

    ``load()`` gives numbers as they are stored (MATLAB stores doubles that are small whole numbers as such), or the
    rows of a text as an array (rows,) of str. It raises ValueError, LookupError or zlib.error where the file is damaged
    or the variable is of another kind.
    """

    kind: str
    shape: tuple[int, ...]
    load: Callable[[], NDArray[Any]]


def variables(content: bytes) -> dict[str, Variable]:
    """The variables of a file by name.

    Raises:
        ValueError, zlib.error: it is not a MATLAB 5 file, or damaged.
    """
    orders: dict[bytes, Order] = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
    if (order := orders.get(content[124:_HEADER])) is None:
        raise ValueError("its header is not that of MATLAB 5")
    found: dict[str, Variable] = {}
    at = _HEADER
    while at < len(content):
        kind, values, at = _element(memoryview(content), at, order)
        if kind == _COMPRESSED:
            at -= -values.nbytes % 8  # these are not padded to eight bytes
            kind, head, _ = _element(memoryview(_unpacked(values, _NAMED_WITHIN)), 0, order, whole=False)
        else:
            head = values
        if kind != _MATRIX or len(found) == _MOST_VARIABLES:
            raise ValueError(f"an element of type {kind} is no variable, or the {_MOST_VARIABLES + 1}st")
        name, class_name, shape, _ = _described(head, order)
        if name in found:
            raise ValueError(f"it has the variable {name!r} twice")
        packed = head is not values
        load = partial(_unpacked_array, values, shape, order) if packed else partial(_array, values, order)
        found[name] = Variable(class_name, shape, load)
    return found


def _element(buffer: memoryview, at: int, order: Order, *, whole: bool = True) -> tuple[int, memoryview, int]:
    """Type and bytes of the element at ``at``, and where the next begins. Without ``whole``, its end may be lacking."""
    if at + 8 > len(buffer):
        raise ValueError("it is cut off")
    kind, size = np.frombuffer(buffer, f"{order}u4", 2, at).tolist()
    if kind >> 16:  # up to four bytes stand in the place of the size, whose two bytes stand beside the type
        kind, size, begin, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        if size > 4:
            raise ValueError(f"a short element has {size} bytes")
    else:
        begin = at + 8
        after = begin + size + -size % 8
    if whole and begin + size > len(buffer):
        raise ValueError("it is cut off")
    return kind, buffer[begin : begin + size], after


def _described(matrix: memoryview, order: Order) -> tuple[str, str, tuple[int, ...], int]:
    """The name, class and shape of a variable, and where its values begin."""
    _, flags, at = _element(matrix, 0, order)
    if flags.nbytes != 8:
        raise ValueError("a variable's flags are not eight bytes")
    word = int(np.frombuffer(flags, f"{order}u4", 1)[0])
    number, shape = word & 0xFF, ()
    class_name = _CLASSES[number - 1] if 0 < number <= len(_CLASSES) else "of an unknown class"
    if word & _COMPLEX:
        class_name = f"complex {class_name}"
    if number != _OPAQUE:
        _, sides, at = _element(matrix, at, order)
        shape = tuple(np.frombuffer(sides, f"{order}i4").tolist())
    _, name, at = _element(matrix, at, order)
    return bytes(name).decode("latin-1"), class_name, shape, at


def _array(matrix: memoryview, order: Order) -> NDArray[Any]:
    name, class_name, shape, at = _described(matrix, order)
    kind, values, _ = _element(matrix, at, order)
    if class_name == "char":
        encoding = _TEXTS.get(kind, "no text")  # LookupError, which codecs raise for an unknown one
        endian = {"<": "-le", ">": "-be"}[order] if encoding in ("utf-16", "utf-32") else ""
        letters = np.array(list(bytes(values).decode(encoding + endian)), np.str_)
        if letters.size != prod(shape) or len(shape) != 2:
            raise ValueError(f"{name!r} has {letters.size} characters for the shape {shape}")
        return np.array(["".join(row) for row in letters.reshape(shape, order="F")], np.str_)
    if kind not in _NUMBERS:
        raise ValueError(f"{name!r} is {class_name}, stored as type {kind}: no plain numbers")
    stored = np.frombuffer(values, f"{order}{_NUMBERS[kind]}")
    if min(shape, default=-1) < 0 or stored.size != prod(shape):
        raise ValueError(f"{name!r} has {stored.size} numbers for the shape {shape}")
    return stored.reshape(shape, order="F")


def _unpacked(values: memoryview, most: int) -> bytes:
    return zlib.decompressobj().decompress(values, most)


def _unpacked_array(values: memoryview, shape: tuple[int, ...], order: Order) -> NDArray[Any]:
    # Numbers take up to eight bytes each: no more is unpacked than an array of this shape needs.
    _, matrix, _ = _element(memoryview(_unpacked(values, _NAMED_WITHIN + 8 * prod(shape))), 0, order)
    return _array(matrix, order)
