"""Plain Parquet, with the columns of a dataset's columns files.

A row for each clip: ``key``; ``M``, ``T``, ``J`` and ``C``, the numbers of people, frames, joints and captions;
``joints`` (M, T, J, 3), ``pts`` (T), ``video`` (D) and ``text`` (C, D) as flat lists in C order, with the meaning that
``posecap.open`` says; and ``facts``, JSON text that has the captions, too (:data:`posecap.shards.COLUMNS_SCHEMA`). It
holds all of a dataset's samples but stored video; nothing is rounded. Extra members that are asked for are columns of
their names: flat lists like ``video`` and ``text``, of the same captions, and lists of text.

Row groups are compressed with zstd, about 32 MiB of arrays each, of which one is in memory; so is the footer until the
end, a few KB for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from posecap.export import Clips
from posecap.files import canonical_json
from posecap.shards import COLUMNS_SCHEMA
from posecap.shards.extra import EXTRA_SCHEMAS, MemberName
from posecap.shards.paths import ARRAYS
from posecap.shards.serialization import ColumnsRow, columns_record_batch

_GROUP_BYTES = 32 << 20
"""Of a row group's arrays and facts, about, before compression: what a reader holds at once. Our choice."""


def write(clips: Clips, file: BinaryIO) -> int:
    """Write the table; returns the number of clips.

    Raises:
        ShardError, WhereError: as ``posecap.open``.
    """
    count = 0
    with pq.ParquetWriter(file, clips_schema(clips), compression="zstd") as writer:
        for batch in record_batches(clips):
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def clips_schema(clips: Clips) -> pa.Schema:
    """The columns of a columns file, and those of the extra members that are exported."""
    kinds = {name: EXTRA_SCHEMAS[MemberName.of(name).kind].field(_column(name)).type for name in clips.extra}
    return pa.schema([*COLUMNS_SCHEMA, *(pa.field(name, kind, nullable=False) for name, kind in kinds.items())])


def record_batches(clips: Clips) -> Iterator[Any]:
    """All clips as record batches with :func:`clips_schema`, each of about 32 MiB of arrays and facts.

    Raises:
        ShardError, WhereError: as ``posecap.open``.
    """
    schema, size = clips_schema(clips), 0
    waiting: list[ColumnsRow] = []
    more: dict[str, list[Any]] = {name: [] for name in clips.extra}
    for sample in chain(clips.samples(["joints", "pts", "video", "text", "facts", *more]), [None]):
        if waiting and (sample is None or size >= _GROUP_BYTES):
            extra = [pa.array(values, schema.field(name).type) for name, values in more.items()]
            yield pa.record_batch([*columns_record_batch(waiting), *extra], schema=schema)
            waiting, size, more = [], 0, {name: [] for name in more}
        if sample is not None:
            arrays = {name: sample[name].numpy() for name in ARRAYS}
            waiting.append(ColumnsRow(sample["key"], arrays, canonical_json(sample["facts"]).decode()))
            size += sum(array.nbytes for array in arrays.values()) + len(waiting[-1].facts)
            for name, values in more.items():
                one = sample[name] if isinstance(sample[name], list) else sample[name].numpy().reshape(-1)
                values.append(one)
                size += 0 if isinstance(one, list) else one.nbytes


def _column(name: str) -> str:
    """The column of a member's own file that has what is exported."""
    return "captions" if name.startswith("captions.") else "vector"
