"""Reads pickles of plain values, arrays and tensors without running anything that they name.

This is CPython's pickle machine, in its pure Python form, with an allow-list of opcodes: names become functions of a
table that the caller gives, or :class:`Inert` records; only functions of the table are called, and only records and
arrays take a state. Tables for containers and numbers of Python and NumPy are here (:data:`PLAIN_NAMES`,
:data:`ARRAY_NAMES`). Their functions get arguments from hostile files: each checks them, and none allocates more memory
than the file has bytes, but for copies of containers, which are counted.

Why no existing reader is used: ``torch.load(weights_only=True)`` reads neither pickle protocols above 2 nor objects of
unknown classes, and a pickle of 179 bytes keeps it hashing one key for minutes, twice as long with every five bytes
more. A subclass of the C ``pickle.Unpickler`` allocates 4 GB for a pickle of nine bytes that names a large memo index.
This module rejects such files at once.
"""

from __future__ import annotations

import math
import pickle
import pickletools
import re
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, BinaryIO, Literal, TypeAlias

import numpy as np

MAX_OPCODES = 5_000_000
"""A bound on the time for one pickle; checkpoints have thousands of opcodes."""
MAX_COPIED_BYTES = 1 << 28
"""A bound on copies by calls: a list that is turned into a set a million times would fill the memory."""
_ITEM_BYTES = 64
"""Counted for each item of a copied container: about what a set of Python takes for one."""
_MAX_NAME = 200
"""Most characters of a module's and a class's name together. Our bound: the name is in messages."""
_MAX_KEY_DEPTH, _MAX_KEY_PARTS, _MAX_KEY_BITS, _MAX_DIMENSIONS = 8, 64, 1024, 64
"""Our bounds on keys, far above any that a checkpoint has; arrays have 64 axes at most in NumPy."""
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
    """The dtype of a record, whose state is (version, byte order, …), or None for that of its code."""
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


UnknownClasses: TypeAlias = Literal["refuse", "inert"]
"""What happens to a class or function outside the table: an error, or an :class:`Inert` record in its place."""


def unpickle(
    file: BinaryIO,
    *,
    names: Names,
    persistent_load: Callable[[Any], Any] | None = None,
    unknown_classes: UnknownClasses = "refuse",
    max_opcodes: int | None = None,
    max_copied_bytes: int | None = None,
) -> Any:
    """The value of the pickle that begins at the current position of ``file``; the position is then just after it.

    Args:
        file: ``read(n)`` must not allocate more memory than there are bytes (as ``BytesIO`` and ``mmap`` do).
        names: functions and constants by ``(module, name)``. Only functions written in Python are ever called, with
            positional arguments out of the file that they must check; a class or a builtin is a constant.
        persistent_load: gives the value of a persistent id; by default a persistent id is an error.
        max_opcodes: a bound on the time; None is :data:`MAX_OPCODES`, and data sets may need more.
        max_copied_bytes: a bound on the memory; None is :data:`MAX_COPIED_BYTES`.

    Raises:
        UnsafePickleError: it is cut off, malformed, too long, or with ``refuse`` names something unknown.
    """
    unpickler = _Unpickler(file, names, persistent_load, unknown_classes)
    unpickler.dispatch = _Dispatch(MAX_OPCODES if max_opcodes is None else max_opcodes)  # type: ignore[misc]
    unpickler.max_copied_bytes = MAX_COPIED_BYTES if max_copied_bytes is None else max_copied_bytes
    try:
        return unpickler.load()
    except UnsafePickleError:
        raise
    except (
        *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError),
        *(pickle.UnpicklingError, struct.error),
    ) as error:
        # Whatever error a malformed pickle causes, the file is at fault; nothing of it has been run.
        raise UnsafePickleError(f"it is cut off or malformed ({type(error).__name__}: {str(error)[:200]})") from error


class _Unpickler(pickle._Unpickler):
    """Own handlers of the opcodes for which those of CPython are not safe."""

    # Of the base class, where the type stubs leave them out:
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]
    read: Callable[[int], bytes]

    max_copied_bytes: int

    def __init__(
        self,
        file: BinaryIO,
        names: Names,
        persistent_load: Callable[[Any], Any] | None,
        unknown_classes: UnknownClasses,
    ) -> None:
        super().__init__(file, encoding="latin-1")
        self._names, self._persistent_load, self._unknown_classes = names, persistent_load, unknown_classes
        self._copied_bytes = 0

    def find_class(self, module: str, name: str) -> Any:
        if len(module) + len(name) > _MAX_NAME or not f"{module}{name}".isprintable():
            raise UnsafePickleError("it is malformed: a name is too long or not printable")
        if (module, name) in self._names:
            return self._names[module, name]
        if self._unknown_classes == "refuse":
            raise UnsafePickleError(f"it names {module}.{name}, which is neither a tensor nor a plain value")
        return Inert(module, name)

    def persistent_load(self, pid: Any) -> Any:
        if self._persistent_load is None:
            raise UnsafePickleError("it refers to something outside itself")
        return self._persistent_load(pid)

    def load_bytearray8(self) -> None:  # CPython's allocates the stated size before it reads
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({})
        self._set_items(items)

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._set_items([key, value])

    def load_setitems(self) -> None:
        self._set_items(self.pop_mark())

    def _set_items(self, items: list[Any]) -> None:
        """Set keys and values, which alternate, of the dict or record on top of the stack."""
        target = self.stack[-1]
        pairs = zip(items[::2], items[1::2], strict=True)
        if isinstance(target, dict):
            target.update((plain_key(key), value) for key, value in pairs)
        elif isinstance(target, Inert):
            target.entries.extend(pairs)
        else:
            raise UnsafePickleError(f"it sets items of a {type(target).__name__}")

    def load_frozenset(self) -> None:
        items = self.pop_mark()
        self.append(frozenset(map(plain_key, items)))

    def load_append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def load_appends(self) -> None:
        self._extend(self.pop_mark())

    load_additems = load_appends

    def _extend(self, items: list[Any]) -> None:
        """Add items to the list, set or record on top of the stack."""
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(map(plain_key, items))
        elif isinstance(target, Inert):
            target.entries.extend(items)
        else:
            raise UnsafePickleError(f"it appends to a {type(target).__name__}")

    def load_reduce(self) -> None:
        args, called = self.stack.pop(), self.stack.pop()
        self.append(self._call(called, args))

    load_newobj = load_reduce

    def load_newobj_ex(self) -> None:
        keywords, args, called = self.stack.pop(), self.stack.pop(), self.stack.pop()
        if not isinstance(called, Inert) or not isinstance(keywords, dict):
            raise UnsafePickleError("it calls a function with keyword arguments")
        record = self._call(called, args)
        self._count_copies(keywords)
        record.entries.extend(keywords.items())
        self.append(record)

    def _instantiate(self, called: Any, args: list[Any]) -> None:  # of INST and OBJ
        self.append(self._call(called, tuple(args)))

    def _call(self, called: Any, args: Any) -> Any:
        """The value of a function of the table, or a record of the call of anything else that the pickle names."""
        if not isinstance(args, tuple):
            raise UnsafePickleError("it is malformed: a call without arguments")
        if type(called) is Inert:
            return Inert(called.module, called.name, args)
        if isinstance(called, FunctionType):  # only the functions of the table come onto the stack
            self._count_copies(*args)
            return called(*args)
        raise UnsafePickleError(f"it calls a {type(called).__name__}")

    def load_build(self) -> None:
        """Give the record or array on the stack its state, which is above it."""
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Inert):
            target.state = state
        elif isinstance(target, np.ndarray):
            self._count_copies(*(state if isinstance(state, tuple) else ()))
            fill_array(target, state)
        elif not isinstance(target, OrderedDict):  # attributes of one, as a state dict's _metadata, are not kept
            raise UnsafePickleError(f"it fills a {type(target).__name__}")

    def _count_copies(self, *values: Any) -> None:
        """Count what a call may copy, and raise UnsafePickleError once it is too much."""
        for value in values:
            if isinstance(value, list | tuple | dict | set | frozenset):
                self._copied_bytes += _ITEM_BYTES * len(value)
            elif isinstance(value, str | bytes | bytearray):
                self._copied_bytes += len(value)
        if self._copied_bytes > self.max_copied_bytes:
            raise UnsafePickleError(f"it copies more than {self.max_copied_bytes} bytes of itself")


# Opcodes, by their names in the module pickle: those that CPython's own methods handle, and those handled above.
_AS_CPYTHON = """
    PROTO FRAME MARK STOP POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8 UNICODE BINUNICODE SHORT_BINUNICODE
    BINUNICODE8 EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET TUPLE TUPLE1 TUPLE2 TUPLE3 LIST PUT BINPUT LONG_BINPUT GET
    BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL INST OBJ BINPERSID
"""
_OWN = "BYTEARRAY8 DICT SETITEM SETITEMS FROZENSET APPEND APPENDS ADDITEMS REDUCE NEWOBJ NEWOBJ_EX BUILD"
_HANDLERS: dict[int, Callable[[Any], None]] = {
    **{code: pickle._Unpickler.dispatch[code] for op in _AS_CPYTHON.split() for code in getattr(pickle, op)},
    **{code: getattr(_Unpickler, f"load_{op.lower()}") for op in _OWN.split() for code in getattr(pickle, op)},
}


class _Dispatch(dict[int, Callable[[Any], None]]):
    """The allowed opcodes. Each look-up counts as a step."""

    def __init__(self, max_opcodes: int) -> None:
        super().__init__(_HANDLERS)
        self._left = self._max_opcodes = max_opcodes

    def __getitem__(self, opcode: int) -> Callable[[Any], None]:
        self._left -= 1
        if self._left < 0:
            raise UnsafePickleError(f"it has more than {self._max_opcodes} steps")
        return super().__getitem__(opcode)

    def __missing__(self, opcode: int) -> Callable[[Any], None]:
        name = next(
            (op.name for op in pickletools.opcodes if op.code == chr(opcode)), f"the byte {opcode} as an opcode"
        )
        raise UnsafePickleError(f"it uses {name}, which no checkpoint needs")
