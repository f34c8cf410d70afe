"""Columns of a table as text, seconds and captions; problems are reported by row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posecap.manifest.strict_yaml import ManifestError, shown

LONGEST = {"id": 256, "video": 4096, "label": 512, "split": 64, "license": 512, "source": 512, "start": 64, "end": 64}
"""Most characters of a text cell, by row field."""
LONGEST_CAPTION = 2000
MOST_CAPTIONS = 64
LATEST_SECOND = 1e7
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class RawBatch:
    """Unchecked cells of consecutive rows of one table.

    ``table`` is its name in messages, ``columns`` gives the table's column for a row field, ``numbers`` int64
    the rows as a person counts them, ``cells`` by row field text, float64, or lists of text for ``captions``.
    """

    table: str
    columns: Mapping[str, str]
    numbers: Numbers
    cells: Mapping[str, pa.Array]

    def place(self, index: int) -> str:
        return f"{self.table} row {self.numbers[index]}"


class Problems:
    """Problems of the tables, collected so that one run reports up to twenty."""

    MOST = 20

    def __init__(self) -> None:
        self._lines: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._lines)

    @property
    def full(self) -> bool:
        return len(self._lines) >= self.MOST

    def add(self, place: str, message: str) -> None:
        if not self.full:
            self._lines.append(f"{place}: {message}")

    def flag(self, raw: RawBatch, bad: pa.Array, field: str, values: pa.Array, remedy: str) -> None:
        """One problem for every row of ``raw`` whose ``bad`` is true, quoting its value."""
        if not pc.any(bad).as_py():
            return
        for index in np.flatnonzero(pc.fill_null(bad, False).to_numpy(zero_copy_only=False))[: self.MOST]:
            value = shown(values[int(index)].as_py())
            self.add(raw.place(index), f"column '{raw.columns.get(field, field)}' is {value}: {remedy}")

    def raise_any(self) -> None:
        """Raises ManifestError with every message, if there are any."""
        if len(self._lines) == 1:
            raise ManifestError(self._lines[0])
        if self._lines:
            count = f"the first {self.MOST}" if self.full else str(len(self._lines))
            raise ManifestError("\n  ".join([f"{count} problems in the manifest's tables:", *self._lines]))


def text(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    """Trimmed text, null where empty; bad UTF-8, control characters and over-long cells are problems."""
    cells = raw.cells.get(field)
    if cells is None:
        return pa.nulls(len(raw.numbers), pa.string())
    trimmed = pc.utf8_trim_whitespace(_decoded(raw, field, problems))
    trimmed = pc.if_else(pc.equal(trimmed, ""), None, trimmed)
    control = pc.match_substring_regex(trimmed, r"\p{Cc}")
    problems.flag(raw, control, field, trimmed, "remove the control character (was a quote left open?)")
    too_long = pc.greater(pc.utf8_length(trimmed), LONGEST[field])
    problems.flag(raw, too_long, field, trimmed, f"shorten it to at most {LONGEST[field]} characters")
    return trimmed


def seconds(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    """Seconds as float64, null where empty; what cannot be read is a problem and null."""
    cells = raw.cells.get(field)
    if cells is None:
        return pa.nulls(len(raw.numbers), pa.float64())
    if pa.types.is_floating(cells.type):
        found = cells
    else:
        written = text(raw, field, problems)
        numeric = pc.match_substring_regex(written, _NUMBER)
        clock = pc.match_substring_regex(written, r"^\d+:\d")
        other = pc.and_not(pc.invert(numeric), clock)
        problems.flag(raw, other, field, written, "no number; write seconds, as 12.5")
        problems.flag(raw, clock, field, written, "a clock time; write seconds, as 90 for 1:30")
        found = pc.if_else(numeric, written, None).cast(pa.float64())
    fits = pc.and_(pc.greater_equal(found, 0), pc.less_equal(found, LATEST_SECOND))
    problems.flag(raw, pc.invert(fits), field, found, f"write seconds between 0 and {LATEST_SECOND:,.0f}")
    return pc.add(found, 0.0)  # -0.0 becomes 0.0, so that equal spans have equal bytes


def captions(raw: RawBatch, problems: Problems) -> pa.Array:
    """One list of sentences a row: first ``caption``, then ``captions``; runs of white space become one blank."""
    count = len(raw.numbers)
    owners: list[Numbers] = []
    sentences: list[pa.Array] = []
    for field in ("caption", "captions"):
        if field in raw.cells:
            lists = _lists(raw, field, problems)
            owners.append(pc.list_parent_indices(lists).to_numpy().astype(np.int64))
            sentences.append(pc.list_flatten(lists))
    if not owners:
        return pa.nulls(count, pa.list_(pa.string()))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    words = pa.concat_arrays(sentences).take(pa.array(order))
    words = pc.utf8_trim_whitespace(pc.replace_substring_regex(words, r"\s+", " "))
    keep = pc.fill_null(pc.not_equal(words, ""), False)
    words, owner = words.filter(keep), owner[order][keep.to_numpy(zero_copy_only=False)]
    _check_sentences(raw, words, owner, problems)
    ends = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), words)


def _check_sentences(raw: RawBatch, words: pa.Array, owner: Numbers, problems: Problems) -> None:
    field = "captions" if "captions" in raw.cells else "caption"
    each = RawBatch(raw.table, raw.columns, raw.numbers[owner], raw.cells)
    control = pc.match_substring_regex(words, r"\p{Cc}")
    problems.flag(each, control, field, words, "remove the control character")
    too_long = pc.greater(pc.utf8_length(words), LONGEST_CAPTION)
    problems.flag(each, too_long, field, words, f"shorten it to at most {LONGEST_CAPTION} characters")
    count = pa.array(np.bincount(owner, minlength=len(raw.numbers)))
    problems.flag(raw, pc.greater(count, MOST_CAPTIONS), field, count, f"sentences; give at most {MOST_CAPTIONS}")


def _lists(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    """Lists of sentences; text is one sentence in ``caption``, and in ``captions`` a JSON list or ``one|two``."""
    if pa.types.is_list(raw.cells[field].type):
        return raw.cells[field]
    written = _decoded(raw, field, problems)
    if field == "caption":
        return pa.ListArray.from_arrays(pa.array(np.arange(len(written) + 1), pa.int32()), written)
    lists = pc.split_pattern(written, "|")
    is_json = pc.fill_null(pc.match_substring_regex(written, r"^\s*\["), False)
    if not pc.any(is_json).as_py():
        return lists
    rows = zip(is_json.to_pylist(), written.to_pylist(), lists.to_pylist(), strict=True)
    parsed = [_sentences(cell) if json_list else parts for json_list, cell, parts in rows]
    bad = pc.and_(is_json, pa.array([sentences is None for sentences in parsed]))
    problems.flag(raw, bad, field, written, 'no JSON list of sentences; write ["one", "two"] or one|two')
    return pa.array(parsed, pa.list_(pa.string()))


def _decoded(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    values = raw.cells[field].cast(pa.binary())
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        bad = pa.array([value is not None and not _is_utf8(value) for value in values.to_pylist()])
        problems.flag(raw, bad, field, values, "not UTF-8; save the table as UTF-8")
        return pc.if_else(bad, None, values).cast(pa.string())


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _sentences(cell: str) -> list[str] | None:
    """The sentences of a JSON list, None when it is none."""
    try:
        value = json.loads(cell)
        fits = isinstance(value, list) and all(isinstance(v, str) and _is_utf8(v.encode()) for v in value)
    except (ValueError, RecursionError):
        return None
    return value if fits else None
