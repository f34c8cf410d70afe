"""Checks of configurations that are declared with their fields: the range of a number, the words of a ``Literal``.

For example::

    @dataclass(frozen=True, kw_only=True)
    class Blur(Checked):
        taps: int = ranged(15, 1, 99)
        edges: Literal["mirror", "repeat"] = "mirror"
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cache
from math import inf
from typing import Any, Literal, get_args, get_origin, get_type_hints


def ranged(default: Any, low: float | str, high: float = inf) -> Any:
    """A field of a :class:`Checked` whose number, or each number of a tuple, is at least ``low`` and at most ``high``.

    Args:
        low: a number, or the name of another field, whose value is the limit then.
    """
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class Checked:
    """Base of frozen dataclasses that check their fields when an instance is created: numbers of :func:`ranged` fields,
    and fields whose type is a ``Literal`` (not one among others, such as ``Literal["a"] | None``).

    Raises:
        ValueError: a number is out of its range, or a word is none of its ``Literal``; the message names the field.
    """

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, words in _literals(kind).items():
            if (word := getattr(self, name)) not in words:
                *others, last = map(repr, words)
                raise ValueError(f"{name} is {', '.join(others)} or {last}, not {word!r}")
        for f in fields(self):
            if "range" in f.metadata:
                low, high = f.metadata["range"]
                low = getattr(self, low) if isinstance(low, str) else low
                value = getattr(self, f.name)
                for number in value if isinstance(value, tuple) else (value,):
                    if number < low and high == inf:
                        raise ValueError(f"{f.name} is at least {low:g}, not {number}")
                    if not low <= number <= high:
                        raise ValueError(f"{f.name} is {number}, expected {low:g} to {high:g}")


@cache
def _literals(kind: type) -> dict[str, tuple[Any, ...]]:
    hints = get_type_hints(kind)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}
