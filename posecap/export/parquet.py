"""Plain Parquet, with the columns of a dataset's columns files.

A row for each clip: ``key``; ``M``, ``T``, ``J`` and ``C``, the numbers of people, frames, joints and captions;
``joints`` (M, T, J, 3), ``pts`` (T), ``video`` (D) and ``text`` (C, D) as flat lists in C order, with the meaning that
``posecap.open`` says; and ``facts``, JSON text that has the captions, too (:data:`posecap.shards.COLUMNS_SCHEMA`). It
holds all of a dataset's samples but stored video; nothing is rounded. Extra members that are asked for are columns of
their names: flat lists like ``video`` and ``text``, of the same captions, and lists of text. A column of vectors of
frames is followed by one with ``.seconds`` behind its name: where the frames begin and end. The metadata of a member's
column says what made it: ``posecap.pipeline`` and ``posecap.lineage``, JSON as in the sidecar of the member.

Row groups are compressed with zstd, about 32 MiB of arrays each, of which one is in memory; so is the footer until the
end, a few KB for each of them.

When it is read back, a row group that says to be larger than :data:`MAX_GROUP_BYTES` is not read; one is in memory at a
time, about three times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posecap.export import CHANGED, Clips, ExportError, Extra, MadeWith
from posecap.files import canonical_json, parse_json
from posecap.shards import COLUMNS_SCHEMA, ShardError
from posecap.shards.extra import (
    EXTRA_SCHEMAS,
    Added,
    ExtraRows,
    MemberName,
    read_extra,
    read_extra_list,
    read_extra_part,
)
from posecap.shards.paths import ARRAYS, part_named
from posecap.shards.serialization import ColumnsRow, columns_record_batch, read_columns
from posecap.storage import open_storage
from posecap.types import Sample, Span

_SECONDS = pa.list_(pa.field("item", pa.float64(), nullable=False))
"""Two of them."""
_GROUP_BYTES = 32 << 20
"""Of a row group's arrays and facts, about, before compression: what a reader holds at once. Our choice."""


def write(clips: Clips, file: BinaryIO) -> int:
    """Write the table; returns the number of clips.

    Raises:
        ShardError, WhereError: as ``posecap.open``.
    """
    count = 0
    with pq.ParquetWriter(file, clips_schema(clips), compression="zstd") as writer:
        for batch in record_batches(clips, size_bytes=_GROUP_BYTES):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def clips_schema(clips: Clips) -> pa.Schema:
    """The columns of a columns file, and those of the extra members that are exported."""
    listed = read_extra_list(clips.location)
    columns = [field for name in map(MemberName.of, clips.extra) for field in member_fields(name)]
    for number, field in enumerate(columns):
        member = MemberName.of(field.name) if field.name in clips.extra else None
        if member in listed and member is not None:
            made = read_extra_part(clips.location, member, next(iter(listed[member].parts)))
            written = {"posecap.pipeline": made.pipeline, "posecap.lineage": made.lineage} if made else {}
            metadata = {key: canonical_json(value).decode() for key, value in written.items()}
            columns[number] = field.with_metadata(metadata)
    return pa.schema([*COLUMNS_SCHEMA, *columns])


def member_fields(name: MemberName) -> list[pa.Field]:
    """The columns of an extra member: its vectors or sentences and, of ``video``, the seconds of the frames."""
    column = "captions" if name.kind == "captions" else "vector"
    fields = [pa.field(str(name), EXTRA_SCHEMAS[name.kind].field(column).type, nullable=False)]
    if name.kind == "video":
        fields.append(pa.field(f"{name}.seconds", _SECONDS, nullable=False))
    return fields


def record_batches(clips: Clips, *, size_bytes: int) -> Iterator[Any]:
    """All clips as record batches with :func:`clips_schema`, each of about ``size_bytes`` of arrays and facts.

    Raises:
        ExportError: the dataset changed meanwhile.
        ShardError, WhereError: as ``posecap.open``.
    """
    schema, size = clips_schema(clips), 0
    waiting: list[ColumnsRow] = []
    columns = schema.names[len(COLUMNS_SCHEMA) :]
    more: dict[str, list[Any]] = {name: [] for name in columns}
    spans = _spans(clips, [MemberName.of(name) for name in clips.extra if name.startswith("video.")])
    for sample in chain(clips.samples(["joints", "pts", "video", "text", "facts", *clips.extra]), [None]):
        if waiting and (sample is None or size >= size_bytes):
            extra = [pa.array(values, schema.field(name).type) for name, values in more.items()]
            yield pa.record_batch([*columns_record_batch(waiting), *extra], schema=schema)
            waiting, size, more = [], 0, {name: [] for name in columns}
        if sample is not None:
            arrays = {name: sample[name].numpy() for name in ARRAYS}
            waiting.append(ColumnsRow(sample["key"], arrays, canonical_json(sample["facts"]).decode()))
            size += sum(array.nbytes for array in arrays.values()) + len(waiting[-1].facts)
            for name in clips.extra:
                one = sample[name] if isinstance(sample[name], list) else sample[name].numpy().reshape(-1)
                more[name].append(one)
                size += 0 if isinstance(one, list) else one.nbytes
            key, seconds = next(spans, (sample["key"], {}))
            if key != sample["key"]:
                raise ExportError(CHANGED)
            for name, span in seconds.items():
                more[name].append(span)


def _spans(clips: Clips, members: Sequence[MemberName]) -> Iterator[tuple[str, dict[str, tuple[float, float]]]]:
    """Key of each clip that has all of some members of ``video``, and of each of them, by the name of its column, where
    the frames begin and end; none without members."""
    storage, held = open_storage(clips.location), ""
    rows: dict[MemberName, ExtraRows] = {}
    lacking: set[str] = set()
    for row in clips.index(["key", "part"]) if members else ():
        if row["part"] != held:
            held, part = row["part"], part_named(row["part"])
            rows = {name: read_extra(storage, name, part) for name in members}
            every = (read_extra_part(storage, MemberName.of(name), part) for name in clips.extra)
            lacking = {key for one in every if one is not None for key in one.missing}
        if row["key"] not in lacking:
            yield row["key"], {f"{name}.seconds": one.span(row["key"]) for name, one in rows.items()}


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
