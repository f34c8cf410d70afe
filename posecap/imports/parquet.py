"""Reads the Parquet file that ``posecap export --format parquet`` writes.

A row group that says to be larger than :data:`MAX_GROUP_BYTES` is not read; one is in memory at a time, about three
times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posecap.export.parquet import member_fields
from posecap.files import parse_json
from posecap.imports import Extra, MadeWith
from posecap.shards import COLUMNS_SCHEMA, ShardError
from posecap.shards.extra import Added, MemberName
from posecap.shards.serialization import read_columns
from posecap.types import Sample, Span

MAX_GROUP_BYTES = 1 << 30
"""Of a row group before compression, thirty times what posecap writes: our bound on memory."""
_MAGIC = b"PAR1"
"""How Parquet files begin."""


def files(source: Path) -> list[Path]:
    """The file itself; none where it is no Parquet file."""
    if not source.is_file():
        return []
    with source.open("rb") as file:
        return [source] if file.read(len(_MAGIC)) == _MAGIC else []


def samples(source: Path) -> Iterator[tuple[Sample, Extra]]:
    """The samples of the file, one after another, each with what extra members have for it.

    Raises:
        pyarrow.ArrowException, ShardError: it is damaged, or not what an export writes.
    """
    with pq.ParquetFile(source) as opened:
        members = check_columns(opened.schema_arrow, COLUMNS_SCHEMA)
        for number in range(opened.num_row_groups):
            size = opened.metadata.row_group(number).total_byte_size
            if size > MAX_GROUP_BYTES:
                raise ShardError(f"row group {number} takes {size} bytes, at most {MAX_GROUP_BYTES} are read")
            try:
                table = opened.read_row_group(number, use_threads=False)
            except OSError as error:  # which Arrow raises of damaged pages, too
                raise ShardError(f"row group {number} cannot be read: {error}") from error
            yield from samples_of(table, members)


def made_with(source: Path) -> Mapping[MemberName, MadeWith]:
    """What made the extra members of the file; raises as :func:`samples`."""
    with pq.ParquetFile(source) as opened:
        return made_with_of(opened.schema_arrow, COLUMNS_SCHEMA)


def check_columns(found: pa.Schema, wanted: pa.Schema) -> list[MemberName]:
    """Check that the columns ``wanted`` come first, and others are extra members, which are returned.

    Raises:
        ShardError: they are others.
    """
    if len(found) < len(wanted) or not pa.schema([*found][: len(wanted)]).equals(wanted):
        raise ShardError("its columns are not those of an export")
    more = pa.schema([*found][len(wanted) :])
    members = [MemberName.of(name) for name in more.names if not name.endswith(".seconds")]
    fields = [field for name in members for field in member_fields(name)]
    if len({*members}) < len(members) or not pa.schema(fields).equals(more):
        raise ShardError(f"its columns {', '.join(more.names)} are not those of extra members as an export writes them")
    return members


def made_with_of(found: pa.Schema, wanted: pa.Schema) -> dict[MemberName, MadeWith]:
    """What made extra members, by the metadata of their columns; nothing of those that have none.

    Raises:
        ShardError: the columns are not those of an export, or their metadata is something else.
    """
    made: dict[MemberName, MadeWith] = {}
    for name in check_columns(found, wanted):
        words = found.field(str(name)).metadata or {}
        try:
            pipeline = parse_json(words.get(b"posecap.pipeline", b"[]"))
            lineage = parse_json(words.get(b"posecap.lineage", b"{}"))
            if not isinstance(pipeline, list) or not all(isinstance(stage, dict) for stage in pipeline):
                raise TypeError("no list of stages")
            known: dict[str, dict[str, str]] = {"packages": {}, "weights": {}}
            known |= {str(kind): {str(n): str(v) for n, v in of.items()} for kind, of in lineage.items()}
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ShardError(f"the metadata of its column {name} does not say what made it: {error}") from error
        made[name] = MadeWith(pipeline, known)
    return made


def samples_of(table: pa.Table, members: Sequence[MemberName] = ()) -> Iterator[tuple[Sample, Extra]]:
    """The samples of a table with the columns of :data:`posecap.shards.COLUMNS_SCHEMA`, whose shapes are checked by the
    reader of columns files, each with what extra members have for it.

    Raises:
        pyarrow.ArrowException, ShardError: shapes and values disagree.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, COLUMNS_SCHEMA) as writer:
        # One schema throughout: that of Parquet lacks the metadata by which columns files are known.
        writer.write_table(table.select(COLUMNS_SCHEMA.names).cast(COLUMNS_SCHEMA).combine_chunks())
    added = {name: _added(table, name) for name in members}
    for _, batch in read_columns(np.frombuffer(bytearray(sink.getvalue()), np.uint8)):
        for row in range(batch.rows):
            yield batch.sample(row), {name: next(rows) for name, rows in added.items()}


def _added(table: pa.Table, name: MemberName) -> Iterator[Added]:
    """What a member has for each row of a table."""
    columns = [_without_nulls(table[field.name].combine_chunks(), field.name) for field in member_fields(name)]
    if name.kind == "captions":
        yield from (Added(captions=tuple(sentences)) for sentences in columns[0].to_pylist())
        return
    values, bounds = columns[0].values.to_numpy(zero_copy_only=False), columns[0].offsets.to_pylist()
    for row, captions in enumerate(table["C"].to_pylist()):
        vector = values[bounds[row] : bounds[row + 1]].astype(np.float32)
        if name.kind == "text":
            if captions < 0 or (len(vector) % captions if captions else len(vector)):
                raise ShardError(f"{name} has {len(vector)} numbers for {captions} captions")
            yield Added(vector.reshape(captions, -1) if captions else np.zeros((0, 0), np.float32), (captions,))
            continue
        seconds = columns[1][row].as_py()
        if len(seconds) != 2 or not vector.size:
            raise ShardError(f"{name} has {len(vector)} numbers of frames at {seconds} s")
        yield Added(vector, span=Span(*seconds))


def _without_nulls(column: Any, name: str) -> Any:
    """A column of lists; raises ShardError where one, or an element of one, is null."""
    if column.null_count or column.flatten().null_count:
        raise ShardError(f"its column {name} holds nulls")
    return column
