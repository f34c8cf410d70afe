"""The index: a Parquet table with one row for each sample, including the byte ranges of its members in the tar."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from posecap import legacy
from posecap.files import AtomicFile
from posecap.shards.paths import MAX_TABLE_BYTES, MEMBERS, ShardError
from posecap.storage import LocalStorage, Storage
from posecap.types import PartName, Quality, Sample

# Types of columns: lists of texts; what is in the facts of a sample, and of that what must be there; and its quality.
_WORDS = pa.list_(pa.field("item", pa.string(), nullable=False))
_FACTS = {
    "row_id": pa.string(),
    "uri": pa.string(),
    "source_id": pa.string(),
    "start_seconds": pa.float64(),
    "end_seconds": pa.float64(),
    "fps": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "codec": pa.string(),
    "layout": pa.string(),
    "label": pa.string(),
    "license": pa.string(),
    "source": pa.string(),
}
_REQUIRED = ("row_id", "uri", "source_id", "start_seconds", "end_seconds", "layout")
_NEEDED = (*_REQUIRED, "video_span")
_QUALITY = {f.name: pa.int32() if f.type == "int" else pa.float64() for f in fields(Quality)}
# Stages of which the facts name the model.
_MODELS = ("decoder", "detector", "tracker", "pose", "video", "text")
_RANGED_MEMBERS = (*MEMBERS, "mp4")
_NO_RANGE = (None, None)

INDEX_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("part", pa.string(), nullable=False),
        pa.field("fingerprint", pa.string(), nullable=False),
        *(pa.field(name, kind, nullable=name not in _REQUIRED) for name, kind in _FACTS.items()),
        *(pa.field(axis, pa.int32(), nullable=False) for axis in ("M", "T", "J")),
        *(pa.field(f"{name}_dimension", pa.int32(), nullable=False) for name in ("video", "text")),
        *(pa.field(f"{end}_pts_seconds", pa.float64(), nullable=False) for end in ("first", "last")),
        *(pa.field(f"video_{end}_seconds", pa.float64(), nullable=False) for end in ("start", "end")),
        pa.field("captions", _WORDS, nullable=False),
        pa.field("caption_origins", _WORDS, nullable=False),
        *(pa.field(name, kind) for name, kind in _QUALITY.items()),
        *(pa.field(f"{model}_model", pa.string()) for model in _MODELS),
        pa.field("weights", _WORDS, nullable=False),
        *(
            pa.field(f"{name}_{what}", pa.int64(), nullable=name == "mp4")
            for name in _RANGED_MEMBERS
            for what in ("offset", "size")
        ),
    ],
    metadata={"posecap.format": "1"},
)
"""Columns of ``index/*.parquet``.

``part`` is e.g. ``train/00042``; ``fingerprint`` is that of the part. All times are seconds on the source video's
clock, from the start of the whole video: ``start_seconds`` (inclusive) and ``end_seconds`` (exclusive) of the clip's
span, ``first_pts_seconds`` and ``last_pts_seconds`` of its first and last frame, ``video_start_seconds`` and
``video_end_seconds`` (exclusive) of the frames behind the video vector. ``width`` and ``height`` are pixels of the
source video as displayed, ``fps`` the rate of the stored frames (0 where unknown). ``M``, ``T`` and ``J`` count people,
frames and joints; ``X_dimension`` is the length of a vector. ``X_offset`` and ``X_size`` are the position of the first
byte and the number of bytes of member X's data in the part's pose tar (``mp4``: in its video tar; null where no video
is stored). ``weights`` are ``name:sha256`` of the model files behind the part. Columns that may be null are so where a
row of the manifest or a stage of the pipeline gave no such value; the ``X_model`` of a stage that used none may also be
empty.
"""

RANGE_COLUMNS = [f"{name}_{what}" for name in MEMBERS for what in ("offset", "size")]
"""Columns that locate a sample in the pose tar."""

ByteRanges = Mapping[str, tuple[int, int]]
"""Position of the first byte and number of bytes of each member's data in its tar, by the member's name."""


def index_row(sample: Sample, part: PartName, ranges: ByteRanges, record: Mapping[str, Any]) -> tuple[Any, ...]:
    """A sample's row of the index: its values in the order of :data:`INDEX_SCHEMA`.

    Args:
        ranges: of every member that the sample has.
        record: the content of the part's sidecar; its fingerprint and lineage are repeated in each row.

    Raises:
        ShardError: the sample has no frames, or its facts lack something that the index needs or have it in another
            form.
    """
    facts = sample.facts
    quality, models = facts.get("quality") or {}, facts.get("models") or {}
    if None in map(facts.get, _NEEDED):
        missing = [name for name in _NEEDED if facts.get(name) is None]
        raise ShardError(f"sample {sample.key}: its facts lack {', '.join(missing)}, which the index needs")
    if not sample.pts_T.size:
        raise ShardError(f"sample {sample.key}: it has no frames, and the index needs the times of the first and last")
    if not isinstance(quality, Mapping) or not isinstance(models, Mapping):
        raise ShardError(f"sample {sample.key}: quality and models in its facts must be objects")
    try:
        video_start, video_end = facts["video_span"]
    except (TypeError, ValueError) as error:
        raise ShardError(f"sample {sample.key}: video_span in its facts must be two times: {error}") from error
    weights = record.get("lineage", {}).get("weights", {})
    return (
        sample.key,
        part.split,
        str(part),
        record.get("fingerprint", ""),
        *map(facts.get, _FACTS),
        *sample.joints_MTJ3.shape[:3],
        sample.video_D.shape[0],
        sample.text_CD.shape[1],
        float(sample.pts_T[0]),
        float(sample.pts_T[-1]),
        video_start,
        video_end,
        [caption.text for caption in sample.captions],
        [caption.origin for caption in sample.captions],
        *map(quality.get, _QUALITY),
        *map(models.get, _MODELS),
        [f"{name}:{sha256}" for name, sha256 in sorted(weights.items())],
        *chain.from_iterable(ranges.get(name, _NO_RANGE) for name in _RANGED_MEMBERS),
    )


def write_index(file: AtomicFile, rows: Iterable[tuple[Any, ...]]) -> None:
    """Write a part's index.

    Args:
        rows: one or more, as :func:`index_row` makes them; the index of a part without samples is not written.

    Raises:
        ShardError: a fact has another type than its column.
    """
    columns = []
    for field, values in zip(INDEX_SCHEMA, zip(*rows, strict=True), strict=True):
        try:
            columns.append(pa.array(values, field.type))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise ShardError(f"index: column {field.name!r} takes {field.type}: {error}") from error
    _write(pa.table(columns, schema=INDEX_SCHEMA), file)


def _write(table: Any, file: Any) -> None:
    pq.write_table(table, file, compression="zstd", row_group_size=table.num_rows)


def without_video(content: bytes) -> bytes:
    """The bytes of an index as those of a part without stored video, which its other files do not tell.

    Raises:
        ShardError: not an index of this format.
    """
    table = read_index(pa.BufferReader(content)).cast(INDEX_SCHEMA)
    for name in ("mp4_offset", "mp4_size"):
        number = INDEX_SCHEMA.get_field_index(name)
        table = table.set_column(number, INDEX_SCHEMA.field(number), pa.nulls(table.num_rows, pa.int64()))
    file = io.BytesIO()
    _write(table, file)
    return file.getvalue()


def read_table(storage: Storage, relative: str) -> Any:
    """The bytes of an index, as :func:`read_index` takes them.

    Raises:
        ShardError: the file is larger than any index.
        FileNotFoundError: there is no such file.
    """
    return pa.BufferReader(storage.read(relative, limit=MAX_TABLE_BYTES))


def read_index(content: Any, *, columns: list[str] | None = None) -> Any:
    """A part's index as a :class:`pyarrow.Table`.

    Args:
        content: path or bytes (:class:`pyarrow.Buffer`) of the Parquet file.
        columns: names of :data:`INDEX_SCHEMA`; None for all.

    Raises:
        ShardError: not an index of this format.
    """
    with _parquet_file(content) as file:
        found = file.schema_arrow
        _names_in(found)
        wanted = None if columns is None else [legacy.column_of(name, found.names) for name in columns]
        table = file.read(columns=wanted, use_threads=False)
        table.validate(full=True)  # text that is no UTF-8 would be an error of whoever looks at it
        return table.rename_columns([legacy.KEYS.get(name, name) for name in table.column_names])


def open_indexes(storage: Storage, names: Iterable[str]) -> Any:
    """The indexes of several parts as one :class:`pyarrow.dataset.Dataset` with :data:`INDEX_SCHEMA`.

    Only footers are read now. Indexes with column names of posecap 0.1, which Arrow cannot rename while it scans, are
    read as a whole.

    Raises:
        ShardError: one of them is not an index of this format.
        FileNotFoundError: one of them is missing.
    """
    import pyarrow.dataset  # a tenth of a second, which few commands need
    import pyarrow.fs

    parquet, fragments, renamed = pyarrow.dataset.ParquetFileFormat(), [], []
    local = pyarrow.fs.LocalFileSystem()
    for name in names:
        try:
            if isinstance(storage, LocalStorage):
                fragment = parquet.make_fragment(os.fspath(_small_enough(storage.root / name)), filesystem=local)
            else:
                fragment = parquet.make_fragment(storage.open(name))
            if _names_in(fragment.physical_schema) == "present":
                fragments.append(fragment)
            else:
                renamed.append(read_index(read_table(storage, name)))
        except FileNotFoundError:
            raise
        except (ShardError, pa.ArrowException, UnicodeError, OSError) as error:
            raise ShardError(f"{name}: {error if isinstance(error, ShardError) else _unreadable(error)}") from error
    found = pyarrow.dataset.FileSystemDataset(fragments, INDEX_SCHEMA, parquet, local)
    if not renamed:
        return found
    return pyarrow.dataset.UnionDataset(INDEX_SCHEMA, [found, pyarrow.dataset.InMemoryDataset(renamed)])


def _small_enough(path: Path) -> Path:
    if path.stat().st_size > MAX_TABLE_BYTES:
        raise ShardError(f"index is larger than {MAX_TABLE_BYTES} bytes, which no such file is")
    return path


def _names_in(schema: Any) -> Literal["present", "former"]:
    """Whether an index has the present names of columns, or names of posecap 0.1.

    Raises:
        ShardError: it has other columns.
    """
    names = [legacy.KEYS.get(name, name) for name in schema.names]
    known = pa.schema([column.with_name(name) for column, name in zip(schema, names, strict=True)])
    if not known.equals(INDEX_SCHEMA) or schema.metadata != INDEX_SCHEMA.metadata:
        raise ShardError("index has another schema than this version of posecap writes")
    return "present" if names == schema.names else "former"


def index_rows(content: Any) -> int:
    """The number of samples in an index, from its footer alone; ShardError if it cannot be read."""
    with _parquet_file(content) as file:
        return int(file.metadata.num_rows)


@contextmanager
def _parquet_file(content: Any) -> Iterator[Any]:
    try:
        with pq.ParquetFile(content) as file:
            yield file
    except (pa.ArrowException, UnicodeError, OSError) as error:
        raise ShardError(_unreadable(error)) from error


def _unreadable(error: Exception) -> str:
    return f"index cannot be read: {error}"
