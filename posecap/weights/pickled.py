"""What a pickle describes, read without running any of it.

Python's own unpickler calls what the file names. This one is an interpreter of its own over the opcodes that
:mod:`pickletools` parses: it imports nothing, calls nothing that the file chooses and sets no attribute of any
object that exists outside the reading. A name in the file is looked up in a table of builders; every other name
becomes an :class:`~posecap.weights.pickled_values.Inert` record, or ends the reading.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal

from posecap.weights.pickled_values import BadPickle, Builder, Constant, Filled, Inert, Known, Ordered, plain_key

MOST_OPCODES = 5_000_000
"""A bound on the time that one pickle may take; checkpoints have thousands."""
MOST_COPIED_BYTES = 1 << 28
"""A bound on what builders may copy: a list that is made a set of a million times would fill any memory."""
_ITEM_BYTES = 64
_LONGEST_NAME = 200


def read_pickle(
    file: BinaryIO,
    *,
    known: Mapping[tuple[str, str], Builder | Constant],
    persistent: Callable[[Any], Any],
    strangers: Literal["refuse", "inert"],
    most_opcodes: int | None = None,
    most_copied_bytes: int | None = None,
) -> Any:
    """The value of the pickle that begins where ``file`` stands; the file stands behind it afterwards.

    Args:
        file: a ``read(n)`` of it must not set aside more memory than there are bytes (as of ``BytesIO`` and ``mmap``).
        known: what ``(module, name)`` stands for.
        persistent: gives the value of a persistent id.
        most_opcodes: a bound on its steps, in place of MOST_OPCODES: data sets have more than checkpoints.
        most_copied_bytes: a bound on what builders copy, in place of MOST_COPIED_BYTES.

    Raises:
        BadPickle: it is cut off, malformed, too long, or with ``refuse`` names something unknown.
    """
    steps = MOST_OPCODES if most_opcodes is None else most_opcodes
    copies = MOST_COPIED_BYTES if most_copied_bytes is None else most_copied_bytes
    reading = _Reading(known, persistent, strangers, copies)
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= steps:
                raise BadPickle(f"it has more than {steps} steps")
            if opcode.name == "STOP":
                return reading.pop()
            reading.step(opcode.name, argument)
    except BadPickle:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, RuntimeError) as error:
        # Whatever a malformed pickle trips over is the file's fault; nothing of it has been run.
        raise BadPickle(f"it is cut off or malformed ({type(error).__name__}: {str(error)[:200]})") from error
    raise BadPickle("it is cut off")


_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict, "EMPTY_SET": set}
_LITERALS = frozenset(
    {
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_PUT, _GET = frozenset({"PUT", "BINPUT", "LONG_BINPUT"}), frozenset({"GET", "BINGET", "LONG_BINGET"})
_SILENT = frozenset({"PROTO", "FRAME"})


@dataclass
class _Reading:
    """The pickle machine: a stack, the stacks below its marks, and a memo."""

    known: Mapping[tuple[str, str], Builder | Constant]
    persistent: Callable[[Any], Any]
    strangers: Literal["refuse", "inert"]
    most_copied_bytes: int
    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    copied: int = 0

    def step(self, name: str, argument: Any) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _PUT:
            self.memo[int(argument)] = self.stack[-1]
        elif name in _GET:
            self.stack.append(self.memo[int(argument)])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self.stack.append(_EMPTY[name]())
        elif name in _SHORT_TUPLES:
            self.stack.append(self._pop_many(_SHORT_TUPLES[name]))
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in _SILENT:
            raise BadPickle(f"it uses {name}, which no checkpoint needs")

    def pop(self) -> Any:
        return self.stack.pop()

    def _pop_many(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise BadPickle("it is malformed: it takes more than it gave")
        taken = tuple(self.stack[-count:])
        del self.stack[-count:]
        return taken

    def mark(self, _argument: Any) -> None:
        self.below.append(self.stack)
        self.stack = []

    def _pop_to_mark(self) -> list[Any]:
        taken, self.stack = self.stack, self.below.pop()
        return taken

    def memoize(self, _argument: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def duplicate(self, _argument: Any) -> None:
        self.stack.append(self.stack[-1])

    def drop(self, _argument: Any) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self._pop_to_mark()

    def drop_to_mark(self, _argument: Any) -> None:
        self._pop_to_mark()

    def make_tuple(self, _argument: Any) -> None:
        taken = tuple(self._pop_to_mark())
        self.stack.append(taken)

    def make_list(self, _argument: Any) -> None:
        taken = self._pop_to_mark()
        self.stack.append(taken)

    def make_dict(self, _argument: Any) -> None:
        taken, made = self._pop_to_mark(), {}
        for key, value in zip(taken[::2], taken[1::2], strict=True):
            made[plain_key(key)] = value
        self.stack.append(made)

    def make_frozenset(self, _argument: Any) -> None:
        taken = frozenset(map(plain_key, self._pop_to_mark()))
        self.stack.append(taken)

    def append(self, _argument: Any) -> None:
        self._extend([self.pop()])

    def append_many(self, _argument: Any) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, set):
            target.update(map(plain_key, items))
        elif isinstance(target, Inert):
            target.entries.extend(items)
        else:
            raise BadPickle(f"it appends to a {type(target).__name__}")

    def set_item(self, _argument: Any) -> None:
        self._set(list(self._pop_many(2)))

    def set_many(self, _argument: Any) -> None:
        self._set(self._pop_to_mark())

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(target, dict):
                target[plain_key(key)] = value
            elif isinstance(target, Inert):
                target.entries.append((key, value))
            else:
                raise BadPickle(f"it sets items of a {type(target).__name__}")

    def named(self, argument: Any) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(self._meaning(module, name))

    def named_on_stack(self, _argument: Any) -> None:
        module, name = self._pop_many(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise BadPickle("it is malformed: a name is no text")
        self.stack.append(self._meaning(module, name))

    def _meaning(self, module: str, name: str) -> Any:
        if len(module) + len(name) > _LONGEST_NAME or not f"{module}{name}".isprintable():
            raise BadPickle("it is malformed: a name is too long or not printable")
        found = self.known.get((module, name))
        if isinstance(found, Constant):
            return found.value
        if found is not None:
            return Known(module, name, found)
        if self.strangers == "refuse":
            raise BadPickle(f"it names {module}.{name}, which is neither a tensor nor a plain value")
        return Inert(module, name)

    def call(self, _argument: Any) -> None:
        called, args = self._pop_many(2)
        self.stack.append(self._made(called, args))

    def call_with_words(self, _argument: Any) -> None:
        called, args, words = self._pop_many(3)
        if not isinstance(called, Inert) or not isinstance(words, dict):
            raise BadPickle("it makes something plain with keyword arguments")
        made = self._made(called, args)
        self._pay(words)
        made.entries.extend(words.items())
        self.stack.append(made)

    def call_named(self, argument: Any) -> None:
        args = tuple(self._pop_to_mark())
        module, _, name = argument.partition(" ")
        self.stack.append(self._made(self._meaning(module, name), args))

    def call_on_stack(self, _argument: Any) -> None:
        called, *args = self._pop_to_mark()
        self.stack.append(self._made(called, tuple(args)))

    def _made(self, called: Any, args: Any) -> Any:
        if not isinstance(args, tuple):
            raise BadPickle("it is malformed: a call without arguments")
        if isinstance(called, Known):
            self._pay(*args)
            return called.build(*args)
        if isinstance(called, Inert):
            return Inert(called.module, called.name, args)
        raise BadPickle(f"it calls a {type(called).__name__}")

    def _pay(self, *taken: Any) -> None:
        """Count what a builder may copy of its arguments."""
        for value in taken:
            if isinstance(value, list | tuple | dict | set | frozenset):
                self.copied += _ITEM_BYTES * len(value)
            elif isinstance(value, str | bytes | bytearray):
                self.copied += len(value)
        if self.copied > self.most_copied_bytes:
            raise BadPickle(f"it copies more than {self.most_copied_bytes} bytes of itself")

    def fill(self, _argument: Any) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, Inert):
            target.state = state
        elif isinstance(target, Filled):
            self._pay(*(state if isinstance(state, tuple) else ()))
            target.fill(state)
        elif not isinstance(target, Ordered):
            raise BadPickle(f"it fills a {type(target).__name__}")

    def persistent_value(self, _argument: Any) -> None:
        self.stack.append(self.persistent(self.pop()))


_STEPS: dict[str, Callable[[_Reading, Any], None]] = {
    "MARK": _Reading.mark,
    "MEMOIZE": _Reading.memoize,
    "DUP": _Reading.duplicate,
    "POP": _Reading.drop,
    "POP_MARK": _Reading.drop_to_mark,
    "TUPLE": _Reading.make_tuple,
    "LIST": _Reading.make_list,
    "DICT": _Reading.make_dict,
    "FROZENSET": _Reading.make_frozenset,
    "APPEND": _Reading.append,
    "APPENDS": _Reading.append_many,
    "ADDITEMS": _Reading.append_many,
    "SETITEM": _Reading.set_item,
    "SETITEMS": _Reading.set_many,
    "GLOBAL": _Reading.named,
    "STACK_GLOBAL": _Reading.named_on_stack,
    "REDUCE": _Reading.call,
    "NEWOBJ": _Reading.call,
    "NEWOBJ_EX": _Reading.call_with_words,
    "INST": _Reading.call_named,
    "OBJ": _Reading.call_on_stack,
    "BUILD": _Reading.fill,
    "BINPERSID": _Reading.persistent_value,
}

__all__ = ["MOST_COPIED_BYTES", "MOST_OPCODES", "read_pickle"]
