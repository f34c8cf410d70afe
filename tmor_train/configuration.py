"""Configurations: frozen, typed dataclasses, to JSON and back, and changed by ``a.b=c`` on a command line.

A configuration holds numbers, words, ``None``, tuples and other configurations. Where those may be of several
classes (augmentations, say), their JSON has the name of the class under ``kind``.
"""

from __future__ import annotations

import difflib
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tmor_train import legacy

KIND = "kind"
Config = TypeVar("Config")


class ConfigError(ValueError):
    """A configuration has no such field, or the field cannot take such a value; the message says what it can take."""


def as_json(config: object) -> Any:
    """Every field of a configuration as plain JSON values."""
    if is_dataclass(config) and not isinstance(config, type):
        hints = get_type_hints(type(config))
        of_fields = {f.name: (hints[f.name], getattr(config, f.name)) for f in fields(config)}
        return {
            name: as_json(value) if hint is type(value) else _named(value) for name, (hint, value) in of_fields.items()
        }
    return _named(config)


def _named(value: object) -> Any:
    """A value that may be of several classes as JSON, which says of which."""
    if isinstance(value, tuple):
        return [_named(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {KIND: type(value).__name__} | as_json(value)
    return value


def from_json(kind: type[Config], values: object, *, at: str = "config") -> Config:
    """A configuration from its JSON; fields that are left out take their defaults.

    Raises:
        ConfigError: a field is unknown, or a value is of another type or out of its range.
    """
    found: Config = _read(kind, values, at)
    return found


def changed(config: Config, changes: Iterable[str]) -> Config:
    """``config`` with each ``path.to.field=value``, in order; an entry of a tuple is named by its number.

    A value is written as it is printed: ``0.1``, ``none``, a word. Tuples are words between commas or a JSON list, and
    a configuration among several is its name (with its defaults) or its JSON. What fields say together is checked when
    all are changed, so that their order does not matter.

    Raises:
        ConfigError: no such field (the nearest name is given), or no such value.
    """
    draft = _opened(config)
    for change in changes:
        path, equals, text = change.partition("=")
        if not equals or not path:
            raise ConfigError(f"{change!r} is no change of a field; write path.to.field=value")
        _set(draft, path.split("."), text, path=path, root=config)
    found: Config = _closed(draft)
    return found


def described(config: object, *, before: str = "") -> Iterator[tuple[str, str]]:
    """Each field's path and value in words, as ``changed`` reads them."""
    if is_dataclass(config) and not isinstance(config, type):
        hints = get_type_hints(type(config))
        for one in fields(config):
            value = getattr(config, one.name)
            if is_dataclass(value) and hints[one.name] is type(value):
                yield from described(value, before=f"{before}{one.name}.")
            else:
                yield f"{before}{one.name}", _words(value)


def _words(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    return json.dumps(_named(value))


@dataclass(eq=False)
class _Draft:
    """A configuration while it is changed: its class, its fields (drafts where they were changed) and what changed."""

    kind: Any
    values: dict[str, Any]
    changes: list[str] = field(default_factory=list)


def _opened(value: Any) -> Any:
    """A draft of a configuration, and a list of a tuple; anything else as it is."""
    if is_dataclass(value) and not isinstance(value, type):
        return _Draft(type(value), {f.name: getattr(value, f.name) for f in fields(value) if f.init})
    return list(value) if isinstance(value, tuple) else value


def _closed(value: Any) -> Any:
    """What a draft has become, checked."""
    if isinstance(value, list):
        return tuple(_closed(item) for item in value)
    if not isinstance(value, _Draft):
        return value
    values = {name: _closed(item) for name, item in value.values.items()}
    try:
        return value.kind(**values)
    except ValueError as error:
        raise ConfigError(f"{', '.join(value.changes)}: {error}") from error


def _set(
    node: Any, steps: list[str], text: str, *, path_type: object = None, path_name: str = "", **known: Any
) -> None:
    """Changes the draft's field at ``steps`` to ``text``; ``known``: the whole path and the root, for errors."""
    name, *rest = steps
    holder: Any
    at: Any
    if isinstance(node, list):
        if not name.isdigit() or int(name) >= len(node):
            raise ConfigError(f"{known['path']}: {name!r} is no entry of {path_name}, which has {len(node)}")
        holder, at, hint = node, int(name), get_args(path_type)[0]
    elif isinstance(node, _Draft):
        name = legacy.config_field(node.kind.__name__, name)
        text = legacy.config_value(node.kind.__name__, name, text)
        if name not in node.values:
            raise ConfigError(_unknown(known["path"], len(steps), list(node.values), known["root"]))
        holder, at, hint = node.values, name, get_type_hints(node.kind)[name]
        node.changes.append(f"{known['path']}={text}")
    else:
        raise ConfigError(f"{known['path']}: {path_name} is a value and has no fields")
    if rest:
        holder[at] = holder[at] if isinstance(holder[at], _Draft | list) else _opened(holder[at])
        _set(holder[at], rest, text, path_type=hint, path_name=name, **known)
    else:
        holder[at] = _told(hint, text, known)


def _told(kind: object, text: str, known: Mapping[str, Any]) -> Any:
    """A value of type ``kind`` from a command line's words."""
    return _read(kind, _plain(kind, text), known["path"])


def _plain(kind: object, text: str) -> Any:
    """What JSON would hold for ``text`` if a ``kind`` is asked for."""
    if text[:1] in "[{" and text:
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"{text!r} is no JSON: {error}") from error
    choices = _choices(kind)
    if text.lower() in ("none", "null") and type(None) in choices:
        return None
    for choice in choices:
        if get_origin(choice) is tuple:
            item = get_args(choice)[0]
            return [_plain(item, part) for part in text.split(",") if part]
        if isinstance(choice, type) and is_dataclass(choice) and choice.__name__ == text:
            return {KIND: text}
    return _number(choices, text)


def _number(choices: Iterable[Any], text: str) -> Any:
    """``text`` as a whole number or a number if one of those is asked for and it is one."""
    for number, takers in ((int, {int, float}), (float, {float})):
        if takers & set(choices):
            try:
                return number(text)
            except ValueError:
                continue
    return text


def _choices(kind: object) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _read(kind: Any, value: Any, at: str) -> Any:
    """``value`` as a ``kind``, checked."""
    choices = _choices(kind)
    classes = {choice.__name__: choice for choice in choices if isinstance(choice, type) and is_dataclass(choice)}
    if classes and isinstance(value, Mapping):
        return _read_class(classes, value, at)
    for choice in choices:
        if get_origin(choice) is Literal and value in get_args(choice):
            return value
        if get_origin(choice) is tuple and isinstance(value, list | tuple):
            return tuple(_read(get_args(choice)[0], item, f"{at}.{number}") for number, item in enumerate(value))
        if choice is type(None) and value is None:
            return None
        if isinstance(value, bool):
            continue
        if choice is float and isinstance(value, int | float):
            return float(value)
        if choice in (int, str) and isinstance(value, choice):
            return value
    raise ConfigError(f"{at} is {_kinds(choices)}, not {value!r}{_near(value, _known_words(choices))}")


def _read_class(classes: Mapping[str, Any], values: Mapping[str, Any], at: str) -> Any:
    name = values.get(KIND, next(iter(classes)) if len(classes) == 1 else None)
    if name not in classes:
        raise ConfigError(f"{at} is {' or '.join(classes)}, not {name!r}{_near(name, list(classes))}")
    chosen = classes[name]
    hints, names = get_type_hints(chosen), [field.name for field in fields(chosen) if field.init]
    given = {legacy.config_field(name, key): value for key, value in values.items() if key != KIND}
    given = {key: legacy.config_value(name, key, value) for key, value in given.items()}
    for key in given:
        if key not in names:
            raise ConfigError(f"{at} has no field {key!r}{_near(key, names)}")
    try:
        return chosen(**{key: _read(hints[key], value, f"{at}.{key}") for key, value in given.items()})
    except ConfigError:
        raise
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{at}: {error}") from error


def _kinds(choices: Iterable[Any]) -> str:
    names = []
    for choice in choices:
        if get_origin(choice) is Literal:
            names += [repr(word) for word in get_args(choice)]
        elif get_origin(choice) is tuple:
            names.append(f"a list of {_kinds(_choices(get_args(choice)[0]))}")
        else:
            names.append(
                {int: "a whole number", float: "a number", str: "text", type(None): "none"}.get(choice)
                or str(getattr(choice, "__name__", choice))
            )
    return " or ".join(names)


def _known_words(choices: Iterable[Any]) -> list[str]:
    """The words that a field takes: of a Literal, or names of configurations."""
    words: list[str] = []
    for choice in choices:
        if get_origin(choice) is Literal:
            words += [word for word in get_args(choice) if isinstance(word, str)]
        elif isinstance(choice, type) and is_dataclass(choice):
            words.append(choice.__name__)
    return words


def _near(name: object, names: list[str]) -> str:
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _unknown(path: str, left: int, names: list[str], root: object) -> str:
    """What to say of a field that is not there, ``left`` steps before the end of ``path``: the nearest one beside it,
    or one of that name elsewhere."""
    steps = path.split(".")
    at = len(steps) - left
    close = difflib.get_close_matches(steps[at], names, n=1)
    if close:
        return f"no field {path!r}; did you mean {'.'.join([*steps[:at], close[0], *steps[at + 1 :]])!r}?"
    by_leaf = {known.rpartition(".")[2]: known for known, _ in described(root)}
    close = difflib.get_close_matches(steps[-1], list(by_leaf), n=1)
    if close:
        return f"no field {path!r}; did you mean {by_leaf[close[0]]!r}?"
    return f"no field {path!r}; {'.'.join(steps[:at]) or 'the configuration'} has {', '.join(names)}"
