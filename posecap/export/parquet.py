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
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from posecap.export import CHANGED, Clips, ExportError
from posecap.files import canonical_json
from posecap.shards import COLUMNS_SCHEMA
from posecap.shards.extra import (
    EXTRA_SCHEMAS,
    ExtraRows,
    MemberName,
    read_extra,
    read_extra_list,
    read_extra_part,
)
from posecap.shards.paths import ARRAYS, part_named
from posecap.shards.serialization import ColumnsRow, columns_record_batch
from posecap.storage import open_storage

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
