"""Checks the cells of tables and converts them to rows: which columns are read, what a row needs, where its video is.

A row with a wrong cell stays a row, with the problem in words: a build rejects it, and the others go on.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posecap import legacy
from posecap.manifest.manifest_file import ROW_FIELDS, SPLIT_NAME, ManifestError, Table, is_url, shown
from posecap.uris import CANDIDATE, SCHEME, PrivateUris, public_text, public_uri

LONGEST = {"id": 256, "video": 4096, "label": 512, "split": 64, "license": 512, "source": 512, "start": 64, "end": 64}
"""Most characters of a text cell, by row field. Our bounds, as the next three, far above what
datasets hold: a cell beyond them is more likely a wrong quote or separator than meant."""
LONGEST_CAPTION = 2000
"""Most characters of one caption."""
MOST_COLUMNS = 2000
"""Most columns of a table; those that no field is read from count."""
MOST_CAPTIONS = 64
"""Most captions of one row."""
SUBSTITUTE = "\x1a"
"""Stands in cells for a byte that is not UTF-8: ASCII's own character for that."""
LATEST_SECOND = 1e7
"""Largest start and end; far beyond any video (115 days), and exact to microseconds as float64."""
# Regular expressions for Arrow.
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
_CONTROL = r"\p{Cc}"
_CONTROL_BYTES = bytes([*range(0x20), 0x7F, 0xC2])
"""Each UTF-8 control character has one of them: ASCII's are these bytes, and U+0080 to U+009F begin with 0xC2."""

Numbers = NDArray[np.int64]
"""(N,): of rows in a table or a batch."""


@dataclass(frozen=True)
class RawBatch:
    """Unchecked cells of N consecutive rows of one table, empty rows left out.

    Args:
        table: its name in messages.
        columns: the table's column by field of a row.
        numbers: (N,) int64 numbers of the rows in the table, as :mod:`posecap.manifest.tables` counts.
        cells: by field an array of N cells: text or bytes, float64, or lists of text for ``captions``. A field that the
            table does not have is absent.
    """

    table: str
    columns: Mapping[str, str]
    numbers: Numbers
    cells: Mapping[str, pa.Array]


def _public(value: object) -> object:
    """A cell as messages may quote it."""
    if isinstance(value, bytes):
        text = value.decode(errors="replace")
        return value if public_text(text) == text else public_text(text).encode()
    return public_text(value) if isinstance(value, str) else value


class Problems:
    """Problems of rows: those of the batch at hand by row, and the first twenty of all tables for one message."""

    MOST = 20
    """Of all tables, in the message; as many are kept."""
    MOST_OF_A_ROW = 3
    """In the column ``problem``; further ones are left out."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._of_rows: dict[int, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, table: str, number: int, message: str) -> None:
        """Add one problem of a row, which is named by its table and its number in it."""
        if len(self._lines) < self.MOST:
            self._lines.append(f"{table} row {number}: {message}")
        known = self._of_rows.setdefault(int(number), [])
        if len(known) < self.MOST_OF_A_ROW:
            known.append(message)

    def of_rows(self, numbers: Numbers) -> pa.Array:
        """(N,) text: the problems of each of these rows of the table at hand; null for a row without any."""
        if not self._of_rows:
            return pa.nulls(len(numbers), pa.string())
        found = [self._of_rows.get(number) for number in numbers.tolist()]
        return pa.array([None if messages is None else "; ".join(messages) for messages in found], pa.string())

    def forget(self, numbers: Numbers) -> None:
        """Forget what :meth:`of_rows` says of these rows, since the next table has the same numbers."""
        for number in numbers.tolist() if self._of_rows else ():
            self._of_rows.pop(number, None)

    def flag(self, raw: RawBatch, bad: pa.Array, field: str, values: pa.Array, remedy: str) -> None:
        """Add a problem for every row whose ``bad`` is true; it quotes that row of ``values``, then says ``remedy``."""
        if not pc.any(bad).as_py():
            return
        for index in np.flatnonzero(pc.fill_null(bad, False).to_numpy(zero_copy_only=False)):
            value = shown(_public(values[int(index)].as_py()))
            message = f"column '{raw.columns.get(field, field)}' is {value}: {remedy}"
            self.add(raw.table, raw.numbers[index], message)

    def raise_any(self) -> None:
        """Raise a ManifestError with all messages, if there are any."""
        if len(self._lines) == 1:
            raise ManifestError(self._lines[0])
        if self._lines:
            count = f"the first {self.MOST}" if len(self._lines) == self.MOST else str(len(self._lines))
            raise ManifestError("\n  ".join([f"{count} problems in the manifest's tables:", *self._lines]))


def utf8_bytes(texts: pa.StringArray) -> memoryview:
    """The UTF-8 bytes of every text, one after another, without copying. Those of null are none, or any."""
    _, offsets, data = texts.buffers()
    if data is None or len(texts) == 0:
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)
    return memoryview(data)[ends[texts.offset] : ends[texts.offset + len(texts)]]


def _matches(texts: pa.StringArray, expression: str, *, only_with: bytes) -> pa.Array:
    """(N,) bool: which texts match a regular expression.

    Args:
        only_with: bytes of which every match has at least one. Where no text has any, as in most tables, all are false
            without the expression, which takes many times as long as a look at the bytes.
    """
    wanted = np.zeros(256, bool)
    wanted[list(only_with)] = True
    if not wanted[np.frombuffer(utf8_bytes(texts), np.uint8)].any():
        return pa.repeat(False, len(texts))
    return pc.match_substring_regex(texts, expression)


def _null_where(bad: pa.Array, values: pa.Array) -> pa.Array:
    """The values with null where ``bad`` is true; the same array where nothing is."""
    return pc.if_else(pc.fill_null(bad, False), None, values) if pc.any(bad).as_py() else values


def located(uri: str, media_root: str) -> str:
    """The absolute path or URL of a row's video: ``uri`` itself if it is one, else below ``media_root``.

    Args:
        media_root: an absolute directory or a URL; with an empty one a relative path stays relative.
    """
    if not media_root or uri.startswith("/") or re.match(SCHEME, uri):
        return uri
    return f"{media_root.rstrip('/')}/{uri.removeprefix('./')}"


# Of the columns below, all others being text.
_TYPES = {"start": pa.float64(), "end": pa.float64(), "captions": pa.list_(pa.string()), "row": pa.int64()}
_COLUMNS = ("id", "uri", "start", "end", "label", "captions", "split", "license", "source", "table", "row", "problem")
ROW_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in _COLUMNS])
"""Checked rows. ``id`` is null where the table gives none; a ``uri`` below a local media root is relative to it.

``uri``, ``source`` and an ``id`` that is a URI are public (:mod:`posecap.uris`): without passwords and signatures.
``problem`` says why a row is rejected, null for a good one. A rejected row has no id, span and captions, and an empty
``uri`` where that is what is wrong.
"""

_NEARLY = 0.8
"""Least similarity (:func:`difflib.get_close_matches`) of a column's name that is taken for a misspelt field: that of
``lable`` and ``label``. Our choice."""
_NAMED_COLUMNS = 30
"""Of a table, in messages."""
_OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs"}
"""Of tables that spreadsheets save as CSV, with the word for messages."""
# A path that os.path.normpath would write otherwise: empty, "." or ".." as a part, or a slash at its end.
_ODD_PATH = r"//|(^|/)\.\.?(/|$)|[^/]/$"


def columns_of(table: Table, names: list[str]) -> dict[str, str]:
    """The table's column by field of a row (:data:`~posecap.manifest.manifest_file.ROW_FIELDS`).

    Args:
        names: of the table's columns.

    Raises:
        ManifestError: a column that the manifest names or ``video`` is missing, a column appears twice, or a column's
            name is nearly a field's name, so that its values would be lost unnoticed.
    """
    if len(names) > MOST_COLUMNS:
        raise ManifestError(f"{table.written}: has {len(names):,} columns, more than {MOST_COLUMNS:,}: is it a table?")
    present = f"the table has {', '.join(map(repr, names[:_NAMED_COLUMNS]))}"
    found: dict[str, str] = {}
    for field in ROW_FIELDS:
        column = table.columns.get(field, legacy.column_of(field, names))
        if column is not None and column in names:
            if names.count(column) > 1:
                raise ManifestError(f"{table.written}: column '{column}' appears twice; rename one of the two")
            found[field] = column
        elif column is not None and field in table.columns:
            raise ManifestError(f"{table.written}: no column '{column}', which 'columns' maps to '{field}'; {present}")
    if "video" not in found:
        mark = next((mark for mark in _OTHER_SEPARATORS if table.suffix == ".csv" and mark in "".join(names)), None)
        if mark is not None and len(names) == 1:
            what = f"its columns are separated by {_OTHER_SEPARATORS[mark]}; save it with commas between them"
            raise ManifestError(f"{table.written}: no column 'video', since {what}")
        raise ManifestError(f"{table.written}: no column 'video'; {present}; add 'columns: {{video: THAT_COLUMN}}'")
    absent = [field for field in ROW_FIELDS if field not in found and field not in table.columns]
    for name in names:
        near = get_close_matches(name, absent, n=1, cutoff=_NEARLY) if name not in found.values() else []
        if near:
            raise ManifestError(
                f"{table.written}: column '{name}' is nearly '{near[0]}'; add 'columns: {{{near[0]}: {name}}}' to read "
                f"it, or 'columns: {{{near[0]}: null}}' to leave it out"
            )
    return found


def checked(
    raw: RawBatch, table: Table, *, media_root: str, problems: Problems, private: PrivateUris | None = None
) -> pa.RecordBatch:
    """Raw cells as a batch of :data:`ROW_SCHEMA` with one row for each of N.

    What is wrong is added to ``problems`` for the message about all tables, and stands in the batch's column
    ``problem``.

    Args:
        media_root: what relative paths are relative to: an absolute path, a URL, or empty, and paths stay as they are.
        private: is given the URIs to fetch that are not public.
    """
    words = {name: text(raw, name, problems) for name in ("id", "video", "label", "split", "license", "source")}
    # A cell that cannot be read is null from here on, and has a problem already.
    missing = pc.and_(pc.is_null(words["video"]), pc.is_null(problems.of_rows(raw.numbers)))
    problems.flag(raw, missing, "video", words["video"], "write a path or a URI, or take the row out")
    no_split = pc.invert(pc.match_substring_regex(words["split"], f"^{SPLIT_NAME}$"))
    problems.flag(raw, no_split, "split", words["split"], "use only letters, digits, '_' and '-', as train")
    words["split"] = _null_where(no_split, words["split"])
    reserved = _matches(words["id"], r"~\d+$", only_with=b"~")
    problems.flag(raw, reserved, "id", words["id"], "'~' and digits at the end name repeated rows; choose another id")
    if table.video_prefix:
        words["video"] = pc.binary_join_element_wise(table.video_prefix, words["video"], "")
    # A row may give only one of them: the span then reaches to the video's end, or from its beginning.
    start, end = seconds(raw, "start", problems), seconds(raw, "end", problems)
    inverted = pc.less_equal(end, pc.fill_null(start, 0.0))
    problems.flag(raw, inverted, "end", end, "it is not after the start; is one of the two in the wrong column?")
    uri = pc.fill_null(_located(raw, words["video"], media_root, problems), "")
    words |= {name: _without_secrets(words[name], public_text) for name in ("id", "license", "source")}
    public = _without_secrets(uri, public_uri)
    if private is not None and public is not uri:
        private.add(table.written, raw.numbers, public=public, whole=uri)
    columns = {
        **words,
        "uri": public,
        "start": start,
        "end": end,
        "captions": captions(raw, problems),
        "table": pa.repeat(table.written, len(raw.numbers)),
        "row": pa.array(raw.numbers),
    }
    columns["problem"] = problems.of_rows(raw.numbers)
    problems.forget(raw.numbers)
    if columns["problem"].null_count < len(raw.numbers):
        good = pc.is_null(columns["problem"])
        for field in ("id", "start", "end", "captions"):
            columns[field] = _only_where(good, columns[field])
    for field, otherwise in {"split": "train", **table.defaults}.items():
        columns[field] = pc.fill_null(columns[field], otherwise)
    return pa.RecordBatch.from_arrays([columns[name] for name in ROW_SCHEMA.names], schema=ROW_SCHEMA)


def _without_secrets(texts: pa.Array, public: Callable[[str], str]) -> pa.Array:
    """The texts with ``public`` applied to those that may have a secret; the same array where there are none."""
    candidates = pc.fill_null(_matches(texts, CANDIDATE, only_with=b"@="), False)
    if not pc.any(candidates).as_py():
        return texts
    pairs = zip(texts.to_pylist(), candidates.to_pylist(), strict=True)
    return pa.array([public(text) if is_candidate else text for text, is_candidate in pairs], pa.string())


def _only_where(good: pa.Array, values: pa.Array) -> pa.Array:
    """The values with null in the rows that are not good."""
    rows = np.arange(len(values))
    return values.take(pa.array(rows, mask=~good.to_numpy(zero_copy_only=False)))


def _located(raw: RawBatch, video: pa.Array, media_root: str, problems: Problems) -> pa.Array:
    """URIs as the plan keeps them: tidy paths, relative below a local media root, whole below a URL."""
    remote = _matches(video, SCHEME, only_with=b":")
    odd = pc.fill_null(pc.and_not(pc.match_substring_regex(video, _ODD_PATH), remote), False)
    if pc.any(odd).as_py():
        pairs = zip(video.to_pylist(), odd.to_pylist(), strict=True)
        video = pa.array([_tidy(path) if is_odd else path for path, is_odd in pairs], pa.string())
    below = media_root.rstrip("/") + "/"
    if media_root and not is_url(media_root):
        video = pc.if_else(pc.starts_with(video, below), pc.utf8_slice_codeunits(video, len(below)), video)
    outside = pc.match_substring_regex(video, r"^\.\.?(/|$)")
    problems.flag(raw, outside, "video", video, "it leads out of media_root; write the whole path, or move media_root")
    if is_url(media_root):
        whole = pc.or_(remote, pc.starts_with(video, "/"))
        return pc.if_else(whole, video, pc.binary_join_element_wise(below, video, ""))
    # A file named clip:1.mp4 must not be taken for a URI of the scheme clip when the plan is read.
    colon = pc.and_not(_matches(video, SCHEME, only_with=b":"), remote)
    return pc.if_else(colon, pc.binary_join_element_wise("./", video, ""), video)


def _tidy(path: str) -> str:
    """A path without empty parts, ``.``, ``..`` where it can be resolved, and a slash at its end."""
    tidy = posixpath.normpath(path)
    return tidy[1:] if tidy.startswith("//") else tidy  # normpath keeps two slashes, which POSIX leaves undefined


def text(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    """Trimmed text, null where empty; bad UTF-8, control characters and over-long cells are problems, and null."""
    cells = raw.cells.get(field)
    if cells is None:
        return pa.nulls(len(raw.numbers), pa.string())
    trimmed = pc.utf8_trim_whitespace(_decoded(raw, field, problems))
    trimmed = _null_where(pc.equal(trimmed, ""), trimmed)
    control = _flag_control(raw, field, trimmed, problems)
    too_long = pc.greater(pc.utf8_length(trimmed), LONGEST[field])
    problems.flag(raw, too_long, field, trimmed, f"shorten it to at most {LONGEST[field]} characters")
    return _null_where(pc.or_(control, too_long), trimmed)


def _flag_control(raw: RawBatch, field: str, values: pa.Array, problems: Problems) -> pa.Array:
    """Which texts have a control character, a problem each; :data:`SUBSTITUTE` stands for bytes that are not UTF-8."""
    control = _matches(values, _CONTROL, only_with=_CONTROL_BYTES)
    undecoded = _matches(values, SUBSTITUTE, only_with=SUBSTITUTE.encode())
    problems.flag(raw, undecoded, field, values, "not UTF-8 where \\x1a stands; save the table as UTF-8")
    others = pc.and_not(control, undecoded)
    problems.flag(raw, others, field, values, "remove the control character (was a quote left open?)")
    return control


def seconds(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    """Seconds as float64, null where empty; what is not a number is a problem and null, what is out of range a problem
    alone."""
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
    """One list of sentences for each row, empty where its cells are; null in all rows where the table has neither
    column. First ``caption``, then ``captions``; runs of white space become one blank."""
    count = len(raw.numbers)
    owners: list[Numbers] = []
    fields: list[NDArray[np.str_]] = []
    sentences: list[pa.Array] = []
    for field in ("caption", "captions"):
        if field in raw.cells:
            lists = _lists(raw, field, problems)
            owners.append(pc.list_parent_indices(lists).to_numpy().astype(np.int64))
            sentences.append(pc.list_flatten(lists))
            fields.append(np.full(len(sentences[-1]), field))
    if not owners:
        return pa.nulls(count, pa.list_(pa.string()))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    words = pa.concat_arrays(sentences).take(pa.array(order))
    words = pc.utf8_trim_whitespace(pc.replace_substring_regex(words, r"\s+", " "))
    keep = pc.fill_null(pc.not_equal(words, ""), False)
    kept = keep.to_numpy(zero_copy_only=False)
    words, owner = words.filter(keep), owner[order][kept]
    _check_sentences(raw, words, owner, np.concatenate(fields)[order][kept], problems)
    ends = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=count))])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), words)


def _check_sentences(
    raw: RawBatch, words: pa.Array, owner: Numbers, fields: NDArray[np.str_], problems: Problems
) -> None:
    """Add a problem for each sentence that cannot be kept, with the column (``fields``) that it is from."""
    for field in ("caption", "captions"):
        mine = fields == field
        here, each = words.filter(pa.array(mine)), RawBatch(raw.table, raw.columns, raw.numbers[owner[mine]], raw.cells)
        _flag_control(each, field, here, problems)
        too_long = pc.greater(pc.utf8_length(here), LONGEST_CAPTION)
        problems.flag(each, too_long, field, here, f"shorten it to at most {LONGEST_CAPTION} characters")
    field = "captions" if "captions" in raw.cells else "caption"
    count = pa.array(np.bincount(owner, minlength=len(raw.numbers)))
    problems.flag(raw, pc.greater(count, MOST_CAPTIONS), field, count, f"sentences; give at most {MOST_CAPTIONS}")


def _lists(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    """Lists of sentences; text is one sentence in ``caption``, and in ``captions`` a JSON list or ``one|two``."""
    if pa.types.is_list(raw.cells[field].type):
        return _decoded_lists(raw, field, problems)
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


def _decoded_lists(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    """As :func:`_decoded`, for cells that are lists of text already."""
    values = raw.cells[field]
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        found = values.cast(pa.list_(pa.binary())).to_pylist()
        bad = [any(_undecodable(sentence) for sentence in sentences or ()) for sentences in found]
        problems.flag(raw, pa.array(bad), field, pa.array(found), "not UTF-8; save the table as UTF-8")
        kept = [None if is_bad else sentences for is_bad, sentences in zip(bad, found, strict=True)]
        return pa.array(kept, pa.list_(pa.binary())).cast(pa.list_(pa.string()))
    return values


def _undecodable(value: bytes | None) -> bool:
    """Whether a cell, if there is one, is not UTF-8."""
    return value is not None and value.decode(errors="ignore").encode() != value


def _decoded(raw: RawBatch, field: str, problems: Problems) -> pa.Array:
    """Cells as text; those that are not UTF-8 are problems, and null."""
    values = raw.cells[field].cast(pa.binary())
    try:
        return values.cast(pa.string())
    except pa.ArrowInvalid:
        bad = pa.array([_undecodable(value) for value in values.to_pylist()])
        problems.flag(raw, bad, field, values, "not UTF-8; save the table as UTF-8")
        return _null_where(bad, values).cast(pa.string())


def encodable(text: str) -> bool:
    """False for half of a surrogate pair, which JSON can spell and UTF-8 cannot."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _sentences(cell: str) -> list[str] | None:
    """The sentences of a JSON list, None when it is none."""
    try:
        value = json.loads(cell)
        fits = isinstance(value, list) and all(isinstance(v, str) and encodable(v) for v in value)
    except (ValueError, RecursionError):
        return None
    return value if fits else None
