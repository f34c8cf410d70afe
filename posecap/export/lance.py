"""A Lance dataset, with the columns of the format parquet.

A row for each clip, as :mod:`posecap.export.parquet` has them; but ``video`` is a fixed-size list where the vectors of
all clips have one length, as vector search and indexes of Lance ask for; and full stops in names of extra members,
which Lance allows in no column, are colons, as in ``text:minilm``. Nothing is rounded, and stored video is left out.
Lance reads any rows and columns without the others. In memory are some batches of :data:`_BATCH_BYTES`, and what Lance
collects of each column before it writes a page.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from posecap.export import Clips, package
from posecap.export.parquet import clips_schema, record_batches

_BATCH_BYTES = 8 << 20
"""Given to Lance at once, about, of which it holds several. Our choice: with four times as much, an export of 100,000
clips took half as much memory again."""

_STOP_SECONDS = 30
"""Waited for a batch that is being read, at most. Our choice: far more than one takes, even of an object store."""


def write(clips: Clips, folder: Path) -> int:
    """Write the dataset; returns the number of clips.

    Raises:
        ModuleNotFoundError: Lance is not installed.
        ShardError, WhereError: as ``posecap.open``.
    """
    lance = package("lance", extra="lance")
    lengths = {row["video_dimension"] for row in clips.index(["video_dimension"])}
    schema = clips_schema(clips)
    if len(lengths) == 1:
        vector = pa.field("video", pa.list_(pa.field("item", pa.float32()), lengths.pop()), nullable=False)
        schema = schema.set(schema.get_field_index("video"), vector)
    schema = pa.schema([field.with_name(field.name.replace(".", ":")) for field in schema])
    batches = _Batches(clips, schema)
    try:
        lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches), folder, mode="create")
    except BaseException as error:
        batches.stop()
        if batches.failed is not None:  # of which Arrow's C interface has passed on the text alone
            raise batches.failed from error
        raise
    return batches.rows


class _Batches:
    """The record batches with ``schema``, counting their ``rows``; ``failed`` is what reading them has raised. Lance
    reads them in a thread of its own."""

    def __init__(self, clips: Clips, schema: pa.Schema) -> None:
        self._clips, self._schema = clips, schema
        self.rows = 0
        self.failed: BaseException | None = None
        self._stopped, self._finished = threading.Event(), threading.Event()

    def __iter__(self) -> Iterator[Any]:
        try:
            for batch in record_batches(self._clips, size_bytes=_BATCH_BYTES):
                if self._stopped.is_set():
                    return
                self.rows += batch.num_rows
                yield batch.rename_columns(self._schema.names).cast(self._schema)
        except GeneratorExit:
            raise
        except BaseException as error:
            self.failed = error
            raise
        finally:
            self._finished.set()

    def stop(self) -> None:
        """Give no further batch, and wait for the one that is being read: after Ctrl-C Lance's thread goes on, and a
        Python that ends beneath it aborts."""
        self._stopped.set()
        self._finished.wait(_STOP_SECONDS)
