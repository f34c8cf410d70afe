"""Reads a manifest's tables (CSV, JSONL, Parquet) as batches of checked rows, in bounded memory.

Row numbers in messages count from 1: in CSV as a spreadsheet counts (the header is row 1), in JSONL by line, in Parquet
without a header. Empty lines are skipped, cells are trimmed, an empty cell is a missing one. Captions come from
``caption`` (one sentence) and ``captions`` (a list; text in CSV and Parquet is a JSON list, or sentences parted by
``|``; text in JSONL is one sentence).

A table on a web server is fetched into an unnamed temporary file, bounded in bytes and time. Bytes are counted as they
arrive and asked for without compression, so that neither an endless answer nor a small one that unpacks to gigabytes
fills memory.
"""

from __future__ import annotations

import base64
import codecs
import io
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import unquote, urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from posecap import legacy
from posecap.files import parse_json
from posecap.manifest.manifest_file import ROW_FIELDS, Manifest, ManifestError, Table, is_url, shown
from posecap.manifest.rows import (
    LONGEST,
    LONGEST_CAPTION,
    MOST_CAPTIONS,
    SUBSTITUTE,
    Numbers,
    Problems,
    RawBatch,
    checked,
    columns_of,
    encodable,
)
from posecap.uris import PrivateUris, hide_secrets, public_text

CSV_BLOCK_BYTES = 4 << 20
"""Read and parsed at a time."""
LONGEST_LINE = 1 << 20
"""Most bytes of a line of JSONL."""
ROWS_PER_BATCH = 1 << 15
"""Rows of JSONL and Parquet in memory at a time. This and the sizes here are our choices: some tens
of MB in memory at a time."""
_JSONL_BATCH_BYTES = 32 << 20
"""Of lines, after which a batch ends whatever its rows."""
_NAMED_COLUMNS = 30
"""Unread columns that are named of a table."""
_MOST_VALUES_PER_ROW = 1000
"""Of a list column in a row group of Parquet, on average: far above ``MOST_CAPTIONS``, the limit of each row."""
_MOST_CHUNK_BYTES = 2 << 30
"""Of one column in one row group of Parquet, unpacked; writers make a hundredth of it."""
_MOST_CHARACTERS = max(*LONGEST.values(), LONGEST_CAPTION)
"""Of any cell."""
MOST_TABLE_BYTES = 8 << 30
"""Of a table on a web server: room for a hundred million rows of 80 bytes."""
_MOST_FETCH_SECONDS = 3600.0
"""For one table: the largest at 2.4 MB/s."""
_ANSWER_SECONDS = 60.0
"""Without a byte from the server; our choice: one that makes the table first may take its time."""
_ANSWER_BYTES = 1 << 18
"""Read at once, at most; time and size are checked after each."""
_STORE_BYTES = 1 << 20
"""Read at once from a store."""
_SUBSTITUTED = "posecap.substitute"
"""Name under which Python's codecs know :func:`_substitute`."""
_Read = TypeVar("_Read")


def read_tables(manifest: Manifest, private: PrivateUris | None = None) -> Iterator[pa.RecordBatch]:
    """Every row of a manifest, in order, as batches of :data:`posecap.manifest.rows.ROW_SCHEMA`.

    Args:
        private: is given the URIs to fetch that are not public.

    Raises:
        ManifestError: a table cannot be read; or every row is wrong, as when a column is mapped to the wrong field,
            which is raised after the last batch and names up to twenty rows. Tables without any rows raise nothing.
    """
    problems, good = Problems(), 0
    for table in manifest.tables:
        for batch in read_table(table, media_root=manifest.media_root, problems=problems, private=private):
            good += batch.column("problem").null_count
            yield batch
    if not good:
        problems.raise_any()


def unread_columns(manifest: Manifest) -> Iterator[tuple[str, list[str]]]:
    """Tables with columns that no field of a row is read from, each with these columns' names, at most thirty.

    Of a JSONL table the keys of its first rows count. Columns that a manifest maps to null are meant to be unread.

    Raises:
        ManifestError: a table cannot be opened.
    """
    for table in manifest.tables:
        (names,) = _guarded(table, _column_names(table))
        meant = {*table.columns, *columns_of(table, names).values()}
        unread = [name for name in names if name not in meant]
        if unread:
            yield table.written, unread[:_NAMED_COLUMNS]


def _column_names(table: Table) -> Iterator[list[str]]:
    """The names of a table's columns, as the only item."""
    with _open(table) as file:
        if table.suffix == ".csv":
            yield _csv_names(file, table)
        elif table.suffix == ".parquet":
            yield pyarrow.parquet.ParquetFile(file).schema_arrow.names
        else:
            _, objects = next(_objects(file, table, Problems()), ([], []))
            yield list(dict.fromkeys(name for found in objects for name in found))


def read_table(
    table: Table, *, media_root: str, problems: Problems, private: PrivateUris | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of one table; what is wrong with some goes to ``problems``, and into their column of that name, and
    their URIs that are not public to ``private``.

    Raises:
        ManifestError: the table cannot be opened or read, or lacks a column.
    """
    found = (
        checked(raw, table, media_root=media_root, problems=problems, private=private)
        for raw in _FORMATS[table.suffix](table, problems)
    )
    yield from _guarded(table, found)


def _guarded(table: Table, batches: Iterator[_Read]) -> Iterator[_Read]:
    """What a reader gives; errors of files, stores and parsers become a ManifestError that names the table."""
    try:
        yield from batches
    except ManifestError:
        raise
    except FileNotFoundError as error:
        raise ManifestError(
            f"{table.written}: no such table at {public_text(table.location)}; check 'path' in 'tables'"
        ) from error
    except ImportError as error:
        raise ManifestError(f"{table.written}: its store needs one more package: {public_text(str(error))}") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        advice = f"is it whole, UTF-8, and really {table.suffix[1:]}, with every quote closed?"
        raise ManifestError(f"{table.written}: cannot be read: {public_text(str(error))}; {advice}") from error
    except Exception as error:  # a store's client raises what it likes
        if not is_url(table.location):
            raise
        what = hide_secrets(str(error), table.location)
        raise ManifestError(f"{table.written}: cannot be fetched: {what}; check address and credentials") from error


def _open(table: Table) -> IO[bytes]:
    """The table's bytes, from the beginning, and able to seek; :func:`_guarded` names errors."""
    if not is_url(table.location):
        return Path(table.location).open("rb")
    if table.location.lower().startswith(("http://", "https://")):
        return fetch_table(table)
    import fsspec

    return io.BufferedReader(fsspec.open(table.location, "rb").open(), _STORE_BYTES)


def fetch_table(table: Table) -> IO[bytes]:
    """The table's bytes, read from the beginning.

    Raises:
        ManifestError: no such table, another answer than its bytes, more of them than ``MOST_TABLE_BYTES``, or the
            connection failed.
    """
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        _fetch(table, file)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return file


def _fetch(table: Table, file: IO[bytes]) -> None:
    """As :func:`fetch_table`, into an open file."""
    try:
        with urllib.request.urlopen(_request(table.location), timeout=_ANSWER_SECONDS) as response:  # noqa: S310 - http or https
            _receive(response, file, table)
    except urllib.error.HTTPError as error:
        error.close()
        what = "no such table" if error.code in (404, 410) else f"the server answered {error.code}"
        raise ManifestError(f"{table.written}: {what}; check 'path' in 'tables'") from None
    except ManifestError:  # a ValueError, too
        raise
    except (OSError, HTTPException, ValueError) as error:
        words = hide_secrets(str(error), table.location)
        raise ManifestError(f"{table.written}: cannot be fetched: {words}; check address and network") from None


def _request(location: str) -> urllib.request.Request:
    """A request whose user and password go to the named host alone, not to one that it redirects to."""
    split = urlsplit(location)
    user, at, host = split.netloc.rpartition("@")
    url = split._replace(netloc=host).geturl()
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity", "User-Agent": "posecap"})  # noqa: S310
    if at:
        basic = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def _receive(response: HTTPResponse, file: IO[bytes], table: Table) -> None:
    """Write the answer's bytes to the file; ManifestError where it is encoded, too large, too slow or cut short."""
    encoding = response.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise ManifestError(f"{table.written}: came encoded as {encoding} though plain bytes were requested")
    announced, until = response.length, time.monotonic() + _MOST_FETCH_SECONDS
    while block := response.read1(_ANSWER_BYTES):
        if file.tell() + len(block) > MOST_TABLE_BYTES:
            raise ManifestError(f"{table.written}: has more than {MOST_TABLE_BYTES:,} bytes; divide it into several")
        if time.monotonic() > until:
            raise ManifestError(f"{table.written}: not fetched within {_MOST_FETCH_SECONDS:g} s; name a local copy")
        file.write(block)
    if announced is not None and file.tell() < announced:
        raise ManifestError(f"{table.written}: the server sent less than it announced; run again")


class _Utf8(io.RawIOBase):
    """A file with SUBSTITUTE in place of each byte that is not UTF-8, so that the reader of cells finds the bad ones.

    Arrow gives up, without naming the line, where it shows a malformed row that is not UTF-8.
    """

    def __init__(self, file: IO[bytes], table: Table) -> None:
        self._file, self._table = file, table
        self._kept = b""  # the beginning of a character, for the next block
        self._in_header = True

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """About ``size`` bytes; fewer where a character is cut, none at the end."""
        found = b""
        while not found:
            block = self._file.read(size - len(self._kept) if size > len(self._kept) else size)
            if not block and not self._kept:
                break
            found = self._decodable(self._kept + block, final=not block)
        self._in_header = self._in_header and b"\n" not in found
        return found

    def _decodable(self, data: bytes, *, final: bool) -> bytes:
        """The bytes of whole characters, with substitutes; an unfinished last one is kept for the next block."""
        try:
            _, length = codecs.utf_8_decode(data, "strict", final)
            found = data[:length]
        except UnicodeDecodeError as error:
            before, bad = data[: error.start], data[error.start : error.end]
            if self._in_header and b"\n" not in before:
                where = f"{self._table.written} line 1: {bad!r} after {before[-40:]!r}"
                raise ManifestError(f"{where} is not UTF-8; save the table as UTF-8") from error
            text, length = codecs.utf_8_decode(data, _SUBSTITUTED, final)
            found = text.encode()
        self._kept = data[length:]
        return found


def _substitute(error: UnicodeError) -> tuple[str, int]:
    """As many characters of one byte as there are bad bytes, so that a block keeps its length."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return SUBSTITUTE * (error.end - error.start), error.end


codecs.register_error(_SUBSTITUTED, _substitute)


def _csv_names(opened: IO[bytes], table: Table) -> list[str]:
    """The header's cells."""
    reading = pyarrow.csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES)
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _: "skip")
    reader = pyarrow.csv.open_csv(_Utf8(opened, table), read_options=reading, parse_options=parsing)
    names: list[str] = reader.schema.names
    return names


def _csv(table: Table, problems: Problems) -> Iterator[RawBatch]:
    """The rows of a CSV table; those whose cells cannot be separated follow the batch in which Arrow met them."""
    skipped: list[int] = []  # numbers of rows that Arrow leaves out: empty ones, and those below
    broken: list[int] = []  # of another number of cells than the header, not given yet

    def odd_row(row: Any) -> str:
        skipped.append(row.number)
        if row.text:  # an empty line is odd to Arrow too, and no problem
            broken.append(row.number)
            found = f"has {row.actual_columns} cells where the header has {row.expected_columns}: {_quoted(row.text)}"
            problems.add(table.written, row.number, f"{found}; quote cells that hold commas")
        return "skip"

    reading = pyarrow.csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES)
    parsing = pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=odd_row)
    with _open(table) as opened:
        names = _csv_names(opened, table)
        columns = columns_of(table, names)
        as_bytes = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()))
        opened.seek(0)
        file = _Utf8(opened, table)
        reader = pyarrow.csv.open_csv(file, read_options=reading, parse_options=parsing, convert_options=as_bytes)
        following, last = 2, None  # number of the next row, as the header is row 1; last cell of the last row
        for batch in reader:
            numbers = np.arange(following, following + batch.num_rows + len(skipped))
            if skipped:
                numbers = np.setdiff1d(numbers, skipped)[: batch.num_rows]
            if batch.num_rows:
                following, last = int(numbers[-1]) + 1, batch.column(batch.num_columns - 1)[-1].as_py()
                yield _filled(table, columns, numbers, batch)
                passed = [number for number in broken if number < following]
                yield from _without_cells(table, columns, passed)
                broken = broken[len(passed) :]
    # Of a table whose last quote is open Arrow takes the rest of the file, its last line break included, for one cell.
    if last and last.endswith(b"\n"):
        place = f"{table.written} row {following - 1}"
        raise ManifestError(f"{place}: a quote is opened and never closed; close or double it")
    yield from _without_cells(table, columns, broken)


def _without_cells(table: Table, columns: dict[str, str], numbers: list[int]) -> Iterator[RawBatch]:
    """The rows of a table whose cells cannot be separated; their problems are known."""
    if numbers:
        cells = {"video": pa.nulls(len(numbers), pa.string())}
        yield RawBatch(table.written, columns, np.array(numbers, np.int64), cells)


def _filled(table: Table, columns: dict[str, str], numbers: Numbers, batch: pa.RecordBatch) -> RawBatch:
    """The cells of ``batch``, less the rows whose cells are all empty."""
    video = batch.column(columns["video"])
    if pc.any(pc.equal(video, b"")).as_py():  # as it is in every row without any cell
        filled = np.zeros(batch.num_rows, bool)
        for column in batch.columns:
            filled |= pc.not_equal(column, b"").to_numpy(zero_copy_only=False)
        batch, numbers = batch.filter(pa.array(filled)), numbers[filled]
    return RawBatch(table.written, columns, numbers, {field: batch.column(name) for field, name in columns.items()})


def _jsonl(table: Table, problems: Problems) -> Iterator[RawBatch]:
    """The rows of a JSONL table. A key that a line lacks is an empty cell; one that all lack is a missing column."""
    seen: dict[str, None] = {}
    with _open(table) as file:
        for numbers, objects in _objects(file, table, problems):
            for found in objects:
                seen.update(dict.fromkeys(found))
            named = {field: table.columns.get(field, legacy.column_of(field, seen)) for field in ROW_FIELDS}
            columns = {field: name for field, name in named.items() if name is not None}
            if seen and columns.get("video") not in seen:
                columns_of(table, list(seen))  # raises, as else every row would be called wrong
            cells = {field: [found.get(name) for found in objects] for field, name in columns.items()}
            arrays = {f: _plain_cells(f, values, numbers, table, problems) for f, values in cells.items()}
            yield RawBatch(table.written, columns, np.array(numbers, np.int64), arrays)
    if seen:
        columns_of(table, list(seen))


def _objects(file: IO[bytes], table: Table, problems: Problems) -> Iterator[tuple[list[int], list[dict[str, Any]]]]:
    """Numbers of lines and their JSON objects, batch by batch; an empty one, and a problem, for a line that is none."""
    numbers: list[int] = []
    objects: list[dict[str, Any]] = []
    number = size = 0
    while line := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise ManifestError(f"{table.written} row {number}: longer than {LONGEST_LINE:,} bytes; one object a line")
        if line.isspace():
            continue
        found: Any = None
        try:
            found = parse_json(line)
            if not isinstance(found, dict):
                problems.add(table.written, number, f"no JSON object: {_quoted(line)}; write {{…}} on each line")
        except (ValueError, RecursionError) as error:
            problems.add(table.written, number, f"no JSON ({error}): {_quoted(line)}; write one object a line")
        found = found if isinstance(found, dict) else {}
        numbers.append(number)
        objects.append(found)
        size += len(line)
        if len(numbers) == ROWS_PER_BATCH or size > _JSONL_BATCH_BYTES:
            yield numbers, objects
            numbers, objects, size = [], [], 0
    if numbers:
        yield numbers, objects


def _quoted(found: object) -> str:
    """A row or cell that could not be read, as messages quote it: without the secrets of URIs in it."""
    text = (
        found.decode(errors="replace") if isinstance(found, bytes) else found if isinstance(found, str) else repr(found)
    )
    visible, escape, _ = text.partition("\\u")  # behind which a URI could hide
    public = public_text(visible) + ("…" if escape else "")
    return shown(found if public == text else public)


def _plain_cells(field: str, values: list[Any], numbers: list[int], table: Table, problems: Problems) -> pa.Array:
    """JSON values as text (numbers as they would be written), captions as lists; anything else is a problem."""
    cells: list[Any] = []
    for value, number in zip(values, numbers, strict=True):
        plain = _plain(field, value)
        if plain is None and value is not None:
            column = table.columns.get(field, field)
            problems.add(table.written, number, f"column '{column}' is {_quoted(value)}: no {_WANTED[field]}")
        cells.append(plain)
    return pa.array(cells, pa.list_(pa.string()) if field == "captions" else pa.string())


def _plain(field: str, value: Any) -> str | list[str] | None:
    """A JSON value as the cell of a field; None where it is of another type than the field wants, or null."""
    if field == "captions":
        value = [value] if isinstance(value, str) else value
        return value if isinstance(value, list) and all(isinstance(v, str) and encodable(v) for v in value) else None
    if isinstance(value, str):
        return value if encodable(value) else None
    numeric = (int, float) if field in ("start", "end") else (int,)
    return repr(value) if isinstance(value, numeric) and not isinstance(value, bool) else None


# By field, the end of a message about a value of another type.
_WANTED = dict.fromkeys(ROW_FIELDS, 'text; write it as "…"') | {
    "start": "number; write seconds, as 12.5",
    "end": "number; write seconds, as 12.5",
    "captions": 'list of sentences; write ["one", "two"]',
}


def _parquet(table: Table, problems: Problems) -> Iterator[RawBatch]:
    """The rows of a Parquet table."""
    with _open(table) as file:
        parquet = pyarrow.parquet.ParquetFile(file)
        columns = columns_of(table, parquet.schema_arrow.names)
        kinds = {field: _kind(table, field, parquet.schema_arrow.field(name)) for field, name in columns.items()}
        texts = [name for field, name in columns.items() if kinds[field] != pa.float64()]
        paths = _text_paths(parquet, texts)
        _check_sizes(table, parquet, {*columns.values()})
        # A text that is repeated takes no memory until its length is known: a table of 320 bytes had cells of 4 GB.
        parquet = pyarrow.parquet.ParquetFile(file, read_dictionary=paths)
        following = 1
        for batch in parquet.iter_batches(ROWS_PER_BATCH, columns=list(columns.values()), use_threads=False):
            numbers = np.arange(following, following + batch.num_rows)
            following += batch.num_rows
            cells = {field: _shortened(batch.column(name)).cast(kinds[field]) for field, name in columns.items()}
            yield RawBatch(table.written, columns, numbers, cells)


def _text_paths(parquet: pyarrow.parquet.ParquetFile, names: list[str]) -> list[str]:
    """The paths in a Parquet schema of columns of text, and of lists of text, among ``names``."""
    found = [parquet.schema.column(number) for number in range(len(parquet.schema))]
    return [
        column.path
        for column in found
        if column.physical_type == "BYTE_ARRAY" and any(f"{column.path}.".startswith(f"{name}.") for name in names)
    ]


def _check_sizes(table: Table, parquet: pyarrow.parquet.ParquetFile, names: set[str]) -> None:
    """Refuse a row group that would need gigabytes."""
    for number in range(parquet.metadata.num_row_groups):
        group = parquet.metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            name = next((name for name in names if f"{column.path_in_schema}.".startswith(f"{name}.")), None)
            if name is None:
                continue
            where = f"{table.written}: column '{name}' of row group {number}"
            if column.num_values > _MOST_VALUES_PER_ROW * group.num_rows:
                values = f"{column.num_values:,} values in {group.num_rows:,} rows"
                raise ManifestError(f"{where} has {values}; give at most {MOST_CAPTIONS} captions a row")
            if column.total_uncompressed_size > _MOST_CHUNK_BYTES:
                size = f"{column.total_uncompressed_size:,} bytes"
                raise ManifestError(f"{where} has {size}; write the table in smaller row groups")


def _shortened(column: pa.Array) -> pa.Array:
    """A column whose text is dictionary-encoded, with texts that are too long for any cell cut, to one character more
    than fits, so that the check of cells rejects them. A character has at most four bytes. Others stay as they are.
    """
    is_list = pa.types.is_list(column.type)
    coded = pc.list_flatten(column) if is_list else column
    if not pa.types.is_dictionary(coded.type):
        return column
    texts = coded.dictionary.cast(pa.binary())
    if (pc.max(pc.binary_length(texts)).as_py() or 0) <= 4 * _MOST_CHARACTERS:
        return column
    beginnings = pc.binary_slice(texts, 0, 4 * _MOST_CHARACTERS + 4).to_pylist()
    cut = [None if text is None else text.decode(errors="ignore")[: _MOST_CHARACTERS + 1] for text in beginnings]
    coded = pa.DictionaryArray.from_arrays(coded.indices, pa.array(cut, pa.string()))
    if not is_list:
        return coded
    ends = np.concatenate([[0], np.cumsum(pc.fill_null(pc.list_value_length(column), 0).to_numpy())])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), coded, mask=pc.is_null(column))


def _kind(table: Table, field: str, column: pa.Field) -> pa.DataType:
    """The type that a Parquet column is read as."""
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    textual = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_null)
    if any(test(kind) for test in textual):
        return pa.string()
    listed = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if field == "captions" and listed and any(test(kind.value_type) for test in textual):
        return pa.list_(pa.string())
    if pa.types.is_integer(kind) and field not in ("start", "end"):
        return pa.string()
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if field in ("start", "end") and any(test(kind) for test in numeric):
        return pa.float64()
    raise ManifestError(f"{table.written}: column '{column.name}' holds {column.type}, no {_WANTED[field]}")


# By the ending of a table's name.
_Reader = Callable[[Table, Problems], Iterator[RawBatch]]
_FORMATS: dict[str, _Reader] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}
