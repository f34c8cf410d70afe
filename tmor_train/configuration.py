"""Configurations: frozen, typed dataclasses, to JSON and back, and changed by ``a.b=c`` on a command line. A class may
declare with its fields which values they take (:class:`Checked`)::

    @dataclass(frozen=True, kw_only=True)
    class Blur(Checked):
        taps: int = ranged(15, 1, 99)
        edges: Literal["mirror", "repeat"] = "mirror"

A configuration holds numbers, words, ``None``, tuples and other configurations. Where those may be of several
classes (augmentations, say), their JSON has the name of the class under ``kind``. Results are read in the same way and
also hold values by name.

No library is used: one would have to take frozen dataclasses as they stand, choose among several by their name under
``kind``, read earlier names of fields, and refuse a value with its path and the nearest name. pydantic, cattrs, tyro
and jsonargparse each lack one of these.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from itertools import chain
from math import inf
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from tmor_train import legacy

KIND = "kind"
"""The key under which JSON names a configuration's class."""
Config = TypeVar("Config")


def ranged(default: Any, low: float | str, high: float = inf) -> Any:
    """A field of a :class:`Checked` whose number, or each number of a tuple, is at least ``low`` and at most ``high``.

    Args:
        low: a number, or the name of another field, whose value is the limit then.
        high: infinite where there is no limit.
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
    """The words of each field of a class whose type is a ``Literal``."""
    hints = get_type_hints(kind)
    return {name: get_args(hint) for name, hint in hints.items() if get_origin(hint) is Literal}


class ConfigError(ValueError):
    """A configuration has no such field, or the field cannot take such a value; the message says what it can take."""


def as_json(config: object) -> Any:
    """Every field of a configuration as plain JSON values."""
    if isinstance(config, tuple):
        return [tagged(item) for item in config]
    if not is_dataclass(config):
        return config
    hints = get_type_hints(type(config))
    values = {field.name: getattr(config, field.name) for field in fields(config)}
    return {name: as_json(value) if hints[name] is type(value) else tagged(value) for name, value in values.items()}


def tagged(config: object) -> Any:
    """As :func:`as_json`, and a configuration says under ``kind`` of which class it is."""
    return {KIND: type(config).__name__} | as_json(config) if is_dataclass(config) else as_json(config)


def from_json(kind: type[Config], values: object, *, name: str = "config") -> Config:
    """A configuration from its JSON; fields that are left out take their defaults. Errors call it ``name``.

    Raises:
        ConfigError: a field is unknown, or a value is of another type or out of its range.
    """
    config: Config = _read(kind, values, name)
    return config


def changed(config: Config, changes: Iterable[str]) -> Config:
    """A copy of ``config`` with each change ``path.to.field=value`` applied; of two changes of one field the later
    counts. The path names an entry of a tuple by its index from 0.

    A value is written as :func:`described` prints it: ``0.1``, ``none``, a word. A tuple is written as its entries
    between commas (empty entries are left out), or as a JSON list; a configuration that may be of several classes as
    the name of its class (which takes the defaults), or as JSON. Checks that concern several fields run after all
    changes, so that the order of changes of different fields does not matter.

    Raises:
        ConfigError: a change is not of this form, there is no such field (the message gives the nearest name), or the
            field does not take the value.
    """
    parsed = []
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise ConfigError(f"{change!r} does not set a field; write path.to.field=value")
        parsed.append(_Change(path.split("."), text, path))
    result: Config = _changed(config, type(config), parsed, config)
    return result


def described(config: object, *, before: str = "") -> Iterator[tuple[str, str]]:
    """The path and the value of each field, as text that :func:`changed` reads (but for a single word that is ``none``
    or begins as JSON does, which it takes for that); ``before`` precedes every path."""
    if is_dataclass(config):
        hints = get_type_hints(type(config))
        for field in fields(config):
            value = getattr(config, field.name)
            if is_dataclass(value) and hints[field.name] is type(value):
                yield from described(value, before=f"{before}{field.name}.")
            else:
                yield f"{before}{field.name}", _words(value)


def nearest(name: object, names: Collection[str]) -> str:
    """The end of an error message about a ``name`` that is not among ``names``: the nearest of them, or all of them
    where none is near."""
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(names)}"


def _words(value: object) -> str:
    """A value as text that :func:`changed` reads: ``none``, words between commas, else JSON."""
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        text = ",".join(value)
        if all(value) and text.count(",") == max(len(value) - 1, 0) and not text.startswith(("[", "{")):
            return text
    return json.dumps(tagged(value))


class _Change(NamedTuple):
    """The field that is ``steps`` below a value becomes ``text``; ``path`` leads to it from the whole configuration."""

    steps: list[str]
    text: str
    path: str


def _changed(value: Any, hint: Any, changes: Iterable[_Change], root: object, name: str = "") -> Any:
    """``value``, of the type ``hint`` and in a field ``name``, with changes of itself and of what it holds; raises as
    :func:`changed`."""
    below: dict[Any, list[_Change]] = {}
    for steps, text, path in changes:
        if not steps:
            value, below = _read(hint, _plain(hint, text), path), {}
            continue
        key: Any = steps[0]
        if isinstance(value, tuple):
            if key not in map(str, range(len(value))):
                raise ConfigError(f"{path}: {name} has no entry {key!r}; its {len(value)} entries are numbered from 0")
            key = int(key)
        elif is_dataclass(value):
            key = legacy.config_field(type(value).__name__, key)
            text = legacy.config_value(type(value).__name__, key, text)
            names = [field.name for field in fields(value) if field.init]
            if key not in names:
                raise ConfigError(_unknown(path, len(steps), names, root))
        else:
            raise ConfigError(f"{path}: {name} is a value and has no fields")
        below.setdefault(key, []).append(_Change(steps[1:], text, path))
    if not below:
        return value
    if isinstance(value, tuple):
        item = get_args(hint)[0]
        return tuple(_changed(one, item, below.get(index, ()), root, str(index)) for index, one in enumerate(value))
    hints = get_type_hints(type(value))
    new = {key: _changed(getattr(value, key), hints[key], some, root, key) for key, some in below.items()}
    try:
        return replace(value, **new)
    except ValueError as error:
        words = (f"{path}={text}" for _, text, path in chain(*below.values()))
        raise ConfigError(f"{', '.join(words)}: {error}") from error


def _plain(hint: object, text: str) -> Any:
    """The JSON value that ``text`` stands for in a field of the type ``hint``; ConfigError for broken JSON."""
    if text.startswith(("[", "{")):
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{text!r} is not valid JSON: {error}") from error
    choices = _choices(hint)
    if text.lower() in ("none", "null") and type(None) in choices:
        return None
    for choice in choices:
        if get_origin(choice) is tuple:
            item = get_args(choice)[0]
            return [_plain(item, part) for part in text.split(",") if part]
        if is_dataclass(choice) and getattr(choice, "__name__", "") == text:
            return {KIND: text}
    # What is no number stays text: where the field takes no text either, _read says so and names the field.
    if int in choices or float in choices:
        with suppress(ValueError):
            return int(text)
    if float in choices:
        with suppress(ValueError):
            return float(text)
    return text


def _choices(hint: object) -> tuple[Any, ...]:
    """The types that a field of the type ``hint`` takes."""
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


def _read(hint: Any, value: Any, path: str) -> Any:
    """The JSON value ``value`` as an object of the type ``hint``; ConfigError, which names it by its ``path``."""
    choices = _choices(hint)
    classes = {choice.__name__: choice for choice in choices if isinstance(choice, type) and is_dataclass(choice)}
    if classes and isinstance(value, Mapping):
        return _read_class(classes, value, path)
    for choice in choices:
        if get_origin(choice) is Literal and value in get_args(choice):
            return value
        if get_origin(choice) is tuple and isinstance(value, list | tuple):
            return tuple(_read(get_args(choice)[0], item, f"{path}.{number}") for number, item in enumerate(value))
        if get_origin(choice) is Mapping and isinstance(value, Mapping):
            return {key: _read(get_args(choice)[1], item, f"{path}.{key}") for key, item in value.items()}
        if choice is Any or (choice is type(None) and value is None):
            return value
        if isinstance(value, bool):  # which Python counts as an int; no field is one
            continue
        if choice is float and isinstance(value, int | float):
            with suppress(OverflowError):  # an int beyond every float, which is none of the choices then
                return float(value)
        if choice in (int, str) and isinstance(value, choice):
            return value
    words = [word for choice in choices if get_origin(choice) is Literal for word in map(str, get_args(choice))]
    raise ConfigError(f"{path} is {_kinds(choices)}, not {value!r}{_near(value, [*words, *classes])}")


def _read_class(classes: Mapping[str, Any], values: Mapping[str, Any], path: str) -> Any:
    """A configuration of the class among ``classes`` that ``values`` name under ``kind``, or of the only one;
    ConfigError where they do not suit it."""
    name = values.get(KIND, next(iter(classes)) if len(classes) == 1 else None)
    if not isinstance(name, str) or name not in classes:
        raise ConfigError(f"{path} is {' or '.join(classes)}, not {name!r}{_near(name, classes)}")
    chosen = classes[name]
    hints, names = get_type_hints(chosen), [field.name for field in fields(chosen) if field.init]
    given = {legacy.config_field(name, key): value for key, value in values.items() if key != KIND}
    given = {key: legacy.config_value(name, key, value) for key, value in given.items()}
    for key in given:
        if key not in names:
            raise ConfigError(f"{path} has no field {key!r}{_near(key, names)}")
    read = {key: _read(hints[key], value, f"{path}.{key}") for key, value in given.items()}
    try:
        return chosen(**read)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path}: {error}") from error


def _kinds(choices: Iterable[Any]) -> str:
    """What a field takes, in words for an error message."""
    names: list[str] = []
    for choice in choices:
        if get_origin(choice) is Literal:
            names += map(repr, get_args(choice))
        elif get_origin(choice) is tuple:
            names.append(f"a list of {_kinds(_choices(get_args(choice)[0]))}")
        elif get_origin(choice) is Mapping:
            names.append("values by name")
        else:
            names.append(_TYPES.get(choice) or choice.__name__)
    return " or ".join(names)


_TYPES = {int: "a whole number", float: "a number", str: "text", type(None): "none"}  # in words, for messages


def _near(name: object, names: Collection[str]) -> str:
    """The end of an error message: the nearest of ``names``, or '' where none is near."""
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(path: str, left: int, names: list[str], root: object) -> str:
    """The error message about an unknown field: the step of ``path`` that is ``left`` steps from its end is none of
    ``names``. It gives the nearest of them, or a field of that name elsewhere in ``root``."""
    steps = path.split(".")
    unknown = len(steps) - left
    if close := difflib.get_close_matches(steps[unknown], names, n=1):
        return f"no field {path!r}; did you mean {'.'.join([*steps[:unknown], close[0], *steps[unknown + 1 :]])!r}?"
    by_leaf = {known.rpartition(".")[2]: known for known, _ in described(root)}
    if close := difflib.get_close_matches(steps[-1], by_leaf, n=1):
        return f"no field {path!r}; did you mean {by_leaf[close[0]]!r}?"
    return f"no field {path!r}; {'.'.join(steps[:unknown]) or 'the configuration'} has {', '.join(names)}"
