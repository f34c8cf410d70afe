"""Strict reading of YAML mappings: each key is read by name, and keys that were not read are rejected.

The text is composed into YAML nodes and not converted to Python values, so that every message names the line,
repeated keys are detected, and a value keeps its written form (``version: 1.10`` is not ``1.1``).
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Literal
from urllib.parse import urlsplit

import yaml

from posecap import legacy

URL_SCHEMES = ("https", "http", "s3", "gs", "az", "abfs", "hf")
MOST_BYTES = 1 << 20
LINE = r"[^\x00-\x1f\x7f-\x9f]{1,1000}"


class ManifestError(ValueError):
    """A manifest or one of its tables is invalid; the message names the place, the problem and the remedy."""


def is_url(place: str) -> bool:
    """Whether a location is a URL rather than a path (``C:\\…`` is a path)."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", place) is not None


def suffix_of(place: str) -> str:
    """Lower-case suffix of a path or of a URL's path, query left out."""
    return PurePosixPath(urlsplit(place).path if is_url(place) else place).suffix.lower()


def nearest(word: str, words: tuple[str, ...]) -> str:
    """The end of a message about an unknown word: the nearest known word, and all of them."""
    close = get_close_matches(word, words, n=1)
    return (f"did you mean {close[0]!r}? " if close else "") + f"known: {', '.join(words)}"


def shown(value: object) -> str:
    """A value as messages quote it: escaped, and cut when long."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:110]}… ({len(text):,} characters)"


class Keys:
    """One YAML mapping of a manifest. Each method reads a key; :meth:`done` rejects keys that were not read."""

    def __init__(self, file: Path, where: str, node: yaml.Node) -> None:
        self._file, self._where, self._node = file, where, node
        self._known: list[str] = []
        self._nodes: dict[str, yaml.Node] = {}
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, f"{where.rstrip('.') or 'the manifest'} must be a mapping of keys to values")
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, f"a key under {where.rstrip('.') or 'the manifest'} must be a single word")
            name = legacy.KEYS.get(key.value, key.value)
            if name in self._nodes:
                raise self._error(key, f"key '{where}{name}' stands here a second time: keep one of the two")
            if name != key.value:
                legacy.hint(legacy.Hint(key.start_mark.line + 1, key.value, name), file)
            self._nodes[name] = value

    def text(self, key: str, pattern: str, wanted: str, *, default: str | None = None) -> str:
        """A scalar in its written form (``1.10`` stays ``1.10``), stripped, that matches ``pattern`` as a whole."""
        node = self._node_of(key, wanted, "required" if default is None else "optional")
        if node is None:
            return default or ""
        value: str | None = node.value.strip() if isinstance(node, yaml.ScalarNode) else None
        if value is None or not re.fullmatch(pattern, value):
            raise self.wrong(key, wanted)
        return value

    def word(self, key: str, words: tuple[str, ...], *, default: str) -> str:
        node = self._node_of(key, "", "optional")
        if node is None:
            return default
        if not isinstance(node, yaml.ScalarNode) or node.value not in words:
            raise self.wrong(key, f"one of {', '.join(words)}")
        return str(node.value)

    def whole(self, key: str, least: int, most: int, *, default: int) -> int:
        wanted = f"a whole number from {least:,} to {most:,}"
        written = self.text(key, r"\d{1,12}", wanted, default=str(default))
        if not least <= int(written) <= most:
            raise self.wrong(key, wanted)
        return int(written)

    def place(self, key: str, folder: Path, *, default: str | None = None) -> str:
        """A path, resolved against ``folder``, or a URL of a known scheme."""
        written = self.text(key, LINE, "a path or a URL", default=default)
        if not is_url(written):
            return (folder / written).resolve().as_posix()
        if urlsplit(written).scheme.lower() not in URL_SCHEMES:
            raise self.wrong(key, f"a path, or a URL with one of {', '.join(URL_SCHEMES)}")
        return written.rstrip("/")

    def local(self, key: str, folder: Path, wanted: str) -> Path:
        written = self.text(key, LINE, wanted)
        if is_url(written):
            raise self.wrong(key, wanted)
        return (folder / written).resolve()

    def entries(self, key: str) -> list[Keys]:
        """A non-empty list of mappings."""
        wanted = "a list with at least one table: '- path: rows.csv'"
        node = self._node_of(key, wanted, "required")
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            raise self.wrong(key, wanted)
        return [Keys(self._file, f"{self._where}{key}[{i}].", each) for i, each in enumerate(node.value)]

    def pairs(self, key: str, known: tuple[str, ...], wanted: str) -> dict[str, str | None]:
        """An optional mapping from known words to lines of text; an empty value gives None."""
        node = self._node_of(key, wanted, "optional")
        if node is None:
            return {}
        inner = Keys(self._file, f"{self._where}{key}.", node)
        found = {name: inner.text(name, LINE, wanted, default="") or None for name in known if name in inner._nodes}
        inner._known = list(known)
        inner.done()
        return found

    def done(self) -> None:
        for key, node in self._nodes.items():
            if key not in self._known:
                raise self._error(node, f"unknown key '{self._where}{key}': {nearest(key, tuple(self._known))}")

    def _node_of(self, key: str, wanted: str, need: Literal["required", "optional"]) -> yaml.Node | None:
        self._known.append(key)
        node = self._nodes.get(key)
        if node is not None and node.tag != "tag:yaml.org,2002:null":
            return node
        if need == "optional":
            return None
        misspelt = get_close_matches(key, [k for k in self._nodes if k not in self._known], n=1)
        hint = f"; is '{misspelt[0]}' meant?" if misspelt else ""
        raise self._error(node or self._node, f"key '{self._where}{key}' is missing{hint}; write {wanted}")

    def wrong(self, key: str, wanted: str) -> ManifestError:
        """The error to raise for a value that is not what was wanted."""
        node = self._nodes[key]
        value = shown(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping"
        return self._error(node, f"key '{self._where}{key}' is {value}; write {wanted}")

    def _error(self, node: yaml.Node, message: str) -> ManifestError:
        return ManifestError(f"{self._file}:{node.start_mark.line + 1}: {message}")


def open_keys(path: Path) -> Keys:
    try:
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error.strerror}); give the path of a manifest") from error
    if len(text) > MOST_BYTES:
        raise ManifestError(f"{path}: larger than {MOST_BYTES:,} bytes; put rows into tables, not into the manifest")
    try:
        node = _Composer(text.decode()).get_single_node()
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{path}: is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ManifestError(f"{path}: is nested too deeply; a manifest needs four levels") from error
    if node is None:
        raise ManifestError(f"{path}: is empty; start from 'posecap manifest folder DIR'")
    return Keys(path, "", node)


class _Composer(yaml.SafeLoader):
    """PyYAML's safe loader up to nodes, which have line numbers and all keys; anchors are rejected."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(None, None, "anchors and aliases are not used here", event.start_mark)
        return super().compose_node(parent, index)
