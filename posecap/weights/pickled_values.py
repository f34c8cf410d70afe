"""What comes out of a pickle that is read without being run: plain values, and records of everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_DEEPEST_KEY, _WIDEST_KEY, _LARGEST_KEY_BITS = 8, 64, 1024


class BadPickle(ValueError):
    """The bytes are no whole pickle, or describe something that is not read here; the message says what."""


@dataclass(eq=False)
class Inert:
    """An object of a class that was not loaded: its class by name, and what the file says of it.

    Attributes:
        args: what the class, or the function that ``name`` is, would have been called with.
        state: what the object would have been filled with, usually its attributes by name.
        entries: items of a list or set subclass, ``(key, value)`` pairs of a mapping subclass.
    """

    module: str
    name: str
    args: tuple[Any, ...] = field(default=(), repr=False)
    state: Any = field(default=None, repr=False)
    entries: list[Any] = field(default_factory=list, repr=False)


Builder: TypeAlias = Callable[..., Any]
"""Makes a plain value from a call's arguments. It gets whatever the file holds, and checks it."""


class Filled:
    """A value that a builder gives and that BUILD fills afterwards. ``fill`` checks the state it gets."""

    def fill(self, state: Any) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class Constant:
    """Stands in a table of names for a value rather than for something to call."""

    value: Any


@dataclass(frozen=True)
class Known:
    """A name of the table, before it is called."""

    module: str
    name: str
    build: Builder


class Ordered(dict[Any, Any]):
    """An OrderedDict of the file; its attributes (a state dict's ``_metadata``) are not kept."""


def ordered(pairs: Any = ()) -> dict[Any, Any]:
    """The builder of ``collections.OrderedDict``."""
    made = Ordered()
    for pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise BadPickle("an OrderedDict is made of something that is no pair")
        made[plain_key(pair[0])] = pair[1]
    return made


def plain_key(key: Any, depth: int = 0) -> Any:
    """``key`` if hashing it is safe and quick: hashing tuples nested a million deep would end the process."""
    if isinstance(key, tuple):
        if depth >= _DEEPEST_KEY or len(key) > _WIDEST_KEY:
            raise BadPickle("a key is nested too deeply, or too wide")
        for part in key:
            plain_key(part, depth + 1)
    elif isinstance(key, int) and key.bit_length() > _LARGEST_KEY_BITS:
        raise BadPickle("a key is too large a number")
    elif isinstance(key, list | dict | set | bytearray):
        raise BadPickle(f"a {type(key).__name__} cannot be a key")
    return key


__all__ = ["BadPickle", "Builder", "Constant", "Filled", "Inert", "Known", "Ordered", "ordered", "plain_key"]
