"""Reads the Parquet file that ``posecap export --format parquet`` writes.

Columns of extra members are passed over: `posecap add` makes them. A row group that says to be larger than
:data:`MAX_GROUP_BYTES` is not read; one is in memory at a time, about three times.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posecap.shards import COLUMNS_SCHEMA, ShardError
from posecap.shards.extra import MemberName
from posecap.shards.serialization import read_columns
from posecap.types import Sample

MAX_GROUP_BYTES = 1 << 30
"""Of a row group before compression, thirty times what posecap writes: our bound on memory."""


def files(source: Path) -> list[Path]:
    """The file itself; none where it is a folder."""
    return [source] if source.is_file() else []


def samples(source: Path) -> Iterator[Sample]:
    """The samples of the file, one after another.

    Raises:
        pyarrow.ArrowException, ShardError: it is damaged, or not what an export writes.
    """
    with pq.ParquetFile(source) as opened:
        check_columns(opened.schema_arrow, COLUMNS_SCHEMA)
        for number in range(opened.num_row_groups):
            size = opened.metadata.row_group(number).total_byte_size
            if size > MAX_GROUP_BYTES:
                raise ShardError(f"row group {number} takes {size} bytes, at most {MAX_GROUP_BYTES} are read")
            try:
                table = opened.read_row_group(number, columns=COLUMNS_SCHEMA.names, use_threads=False)
            except OSError as error:  # which Arrow raises of damaged pages, too
                raise ShardError(f"row group {number} cannot be read: {error}") from error
            yield from samples_of(table)


def check_columns(found: pa.Schema, wanted: pa.Schema) -> None:
    """Check that the columns ``wanted`` come first, and others are extra members.

    Raises:
        ShardError: they are others.
    """
    if len(found) < len(wanted) or not pa.schema([*found][: len(wanted)]).equals(wanted):
        raise ShardError("its columns are not those of an export")
    for name in found.names[len(wanted) :]:  # what was added, and has to be added again
        MemberName.of(name)


def samples_of(table: pa.Table) -> Iterator[Sample]:
    """The samples of a table with the columns of :data:`posecap.shards.COLUMNS_SCHEMA`, whose shapes are checked by the
    reader of columns files.

    Raises:
        pyarrow.ArrowException, ShardError: shapes and values disagree.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, COLUMNS_SCHEMA) as writer:
        # One schema throughout: that of Parquet lacks the metadata by which columns files are known.
        writer.write_table(table.cast(COLUMNS_SCHEMA).combine_chunks())
    for _, batch in read_columns(np.frombuffer(bytearray(sink.getvalue()), np.uint8)):
        yield from map(batch.sample, range(batch.rows))
