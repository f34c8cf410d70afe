"""Plain Parquet, with the columns of a dataset's columns files.

A row for each clip: ``key``; ``M``, ``T``, ``J`` and ``C``, the numbers of people, frames, joints and captions;
``joints`` (M, T, J, 3), ``pts`` (T), ``video`` (D) and ``text`` (C, D) as flat lists in C order, with the meaning that
``posecap.open`` says; and ``facts``, JSON text that has the captions, too (:data:`posecap.shards.COLUMNS_SCHEMA`). It
holds all of a dataset's samples but stored video; nothing is rounded.

Row groups are compressed with zstd, about 32 MiB of arrays each, of which one is in memory; so is the footer until the
end, a few KB for each of them.
"""

from __future__ import annotations

from itertools import chain
from typing import BinaryIO

import pyarrow.parquet as pq

from posecap.export import Clips
from posecap.files import canonical_json
from posecap.shards import COLUMNS_SCHEMA
from posecap.shards.paths import ARRAYS
from posecap.shards.serialization import ColumnsRow, columns_record_batch

_GROUP_BYTES = 32 << 20
"""Of a row group's arrays and facts, about, before compression: what a reader holds at once. Our choice."""


def write(clips: Clips, file: BinaryIO) -> int:
    """Write the table; returns the number of clips.

    Raises:
        ShardError, WhereError: as ``posecap.open``.
    """
    count = size = 0
    waiting: list[ColumnsRow] = []
    with pq.ParquetWriter(file, COLUMNS_SCHEMA, compression="zstd") as writer:
        for sample in chain(clips.samples(["joints", "pts", "video", "text", "facts"]), [None]):
            if waiting and (sample is None or size >= _GROUP_BYTES):
                writer.write_batch(columns_record_batch(waiting))
                waiting, size = [], 0
            if sample is not None:
                arrays = {name: sample[name].numpy() for name in ARRAYS}
                waiting.append(ColumnsRow(sample["key"], arrays, canonical_json(sample["facts"]).decode()))
                size += sum(array.nbytes for array in arrays.values()) + len(waiting[-1].facts)
                count += 1
    return count
