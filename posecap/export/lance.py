"""A Lance dataset, with the columns of the format parquet.

A row for each clip, as :mod:`posecap.export.parquet` has them; but ``video`` is a fixed-size list where the vectors of
all clips have one length, as vector search and indexes of Lance ask for; and full stops in names of extra members,
which Lance allows in no column, are colons, as in ``text:minilm``. Nothing is rounded, and stored video is left out.
Lance reads any rows and columns without the others. In memory are some batches of :data:`_BATCH_BYTES`, and what Lance
collects of each column before it writes a page.

It is read back in its newest version. Rows that were deleted with Lance are passed over; columns that were added are
extra members, or it is no export. Only files inside the folder are read, though Lance could follow a manifest
elsewhere. Lance gives batches of about :data:`_READ_BYTES`; what a damaged or hostile file makes Lance itself allocate
is not bounded here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from posecap.export import Clips, Extra, MadeWith, package
from posecap.export.parquet import check_columns, clips_schema, made_with_of, record_batches, samples_of
from posecap.shards import COLUMNS_SCHEMA, ShardError
from posecap.shards.extra import MemberName
from posecap.types import Sample

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


_READ_BYTES = 32 << 20
"""Of what is decoded at once, about: our choice, as the export writes it."""


def files(source: Path) -> list[Path]:
    """All files of the dataset; none where it is no dataset of Lance."""
    if not (source / "_versions").is_dir():
        return []
    return [path for path in sorted(source.rglob("*")) if path.is_file()]


def samples(source: Path) -> Iterator[tuple[Sample, Extra]]:
    """The samples of the dataset, one after another, each with what extra members have for it.

    Raises:
        ModuleNotFoundError: Lance is not installed.
        pyarrow.ArrowException, ShardError: it is damaged, or not what an export writes.
    """
    try:
        dataset = _opened(source)
        schema = _named(dataset.schema)
        members = check_columns(schema, _wanted(schema))
        batches = dataset.to_batches(batch_size_bytes=_READ_BYTES, batch_readahead=1, scan_in_order=True)
        for batch in batches:
            yield from samples_of(pa.Table.from_batches([batch]).rename_columns(schema.names), members)
    except OSError as error:  # which Lance raises of damaged files, too
        raise ShardError(f"Lance cannot read it: {error}") from error


def made_with(source: Path) -> Mapping[MemberName, MadeWith]:
    """What made the extra members of the dataset; raises as :func:`samples`."""
    try:
        schema = _named(_opened(source).schema)
    except OSError as error:
        raise ShardError(f"Lance cannot read it: {error}") from error
    return made_with_of(schema, _wanted(schema))


def _opened(source: Path) -> Any:
    """The dataset, of which no file is elsewhere; raises as :func:`samples`, and OSError."""
    dataset = package("lance", extra="lance").dataset(source)
    _check_places(dataset, source)
    return dataset


def _named(found: pa.Schema) -> pa.Schema:
    """The columns under the names that they have elsewhere, with full stops for colons."""
    return pa.schema([field.with_name(field.name.replace(":", ".")) for field in found])


def _wanted(found: pa.Schema) -> pa.Schema:
    """The columns that an export begins with, as Lance has them."""
    video = found.field("video") if "video" in found.names else None
    if video is None or not pa.types.is_fixed_size_list(video.type):
        return COLUMNS_SCHEMA
    vector = pa.field("video", pa.list_(pa.field("item", pa.float32()), video.type.list_size), nullable=False)
    return COLUMNS_SCHEMA.set(COLUMNS_SCHEMA.get_field_index("video"), vector)


def _check_places(dataset: Any, source: Path) -> None:
    """Raise ShardError where a file is a symbolic link, or the dataset's manifest names data files outside of its
    folder."""
    for path in source.rglob("*"):
        if path.is_symlink():
            raise ShardError(f"{path.relative_to(source)} is a symbolic link")
    inside = {path.relative_to(source / "data").as_posix() for path in (source / "data").rglob("*")}
    for fragment in dataset.get_fragments():
        for file in fragment.data_files():
            if file.base_id is not None or file.path not in inside:
                raise ShardError(f"its manifest names {file.path}, which is not in its folder 'data'")
