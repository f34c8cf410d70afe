"""The columns file: a part's samples as an Arrow IPC file that is read by mapping it into memory.

Every array column is flat; the columns ``M``, ``T``, ``J`` and ``C`` give the shapes of a row's arrays: joints
(M, T, J, 3), pts (T), video (D), text (C, D). Each D follows from the number of values, so the D of text is lost, and
read as 0, where C is 0. The file is not compressed, so that a row is a view of the mapped file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posecap.files import AtomicFile
from posecap.shards.paths import ARRAYS, ShardError
from posecap.shards.serialization import arrays_of, read_facts, sample_of
from posecap.types import Sample

_VALUES = {"<f4": pa.float32(), "<f8": pa.float64()}
_SHAPE = ("M", "T", "J", "C")
_BATCH_BYTES = 4 << 20
"""After so many a batch is written: readers check whole batches, and map one at a time."""

COLUMNS_SCHEMA = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        *(pa.field(axis, pa.int32(), nullable=False) for axis in _SHAPE),
        *(
            pa.field(name, pa.large_list(pa.field("item", _VALUES[descr], nullable=False)), nullable=False)
            for name, descr in ARRAYS.items()
        ),
        pa.field("facts", pa.string(), nullable=False),
    ],
    metadata={"posecap.format": "1"},
)


class ColumnsWriter:
    """Writes samples batch by batch, holding at most one batch (4 MiB and a sample) in memory.

    :meth:`close` writes the last batch and the Arrow footer; the caller finishes and publishes ``file``.

    Raises:
        ShardError: an array holds NaN or infinity.
    """

    def __init__(self, file: AtomicFile) -> None:
        self._file = pa.ipc.new_file(file, COLUMNS_SCHEMA)
        self._waiting: list[_Waiting] = []
        self._bytes = 0

    def add(self, sample: Sample, facts: bytes) -> None:
        """Add a sample, with its ``json`` member as ``facts``."""
        arrays = arrays_of(sample)
        # Not the sample itself, whose video is much larger than its arrays.
        self._waiting.append(_Waiting(sample.key, arrays, facts.decode()))
        self._bytes += len(facts) + sum(array.nbytes for array in arrays.values())
        if self._bytes >= _BATCH_BYTES:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        if self._waiting:
            self._file.write_batch(_batch(self._waiting))
            self._waiting, self._bytes = [], 0


class _Waiting(NamedTuple):
    key: str
    arrays: Mapping[str, NDArray[Any]]
    facts: str


def _batch(waiting: list[_Waiting]) -> Any:
    shapes = np.array([(*one.arrays["joints"].shape[:3], len(one.arrays["text"])) for one in waiting], np.int32)
    columns = [pa.array([one.key for one in waiting], pa.string())]
    columns += [pa.array(np.ascontiguousarray(shapes[:, axis])) for axis in range(len(_SHAPE))]
    for name in ARRAYS:
        flat = [one.arrays[name].reshape(-1) for one in waiting]
        values = np.concatenate(flat)
        with np.errstate(all="ignore"):
            maybe_infinite = not np.isfinite(values.sum())  # fast, but a sum of large finite values may overflow
        if maybe_infinite:
            for one, found in zip(waiting, flat, strict=True):
                if not np.isfinite(found).all():
                    raise ShardError(f"sample {one.key}: {name} holds NaN or infinity")
        offsets = np.zeros(len(flat) + 1, np.int64)
        np.cumsum([len(f) for f in flat], out=offsets[1:])
        kind = COLUMNS_SCHEMA.field(name).type
        columns.append(pa.LargeListArray.from_arrays(offsets, pa.array(values), type=kind))
    columns.append(pa.array([one.facts for one in waiting], pa.string()))
    return pa.record_batch(columns, schema=COLUMNS_SCHEMA)


class ColumnsBatch:
    """Consecutive rows of a columns file, numbered from 0. Arrays are copy-on-write views of the mapped file.

    Args:
        batch: the :class:`pyarrow.RecordBatch`.
        base: the bytes of the file, in which the batch's buffers lie.

    Raises:
        ShardError: shapes and values disagree, a value is null, or the file is compressed.
        pyarrow.ArrowInvalid: the batch is damaged.
    """

    def __init__(self, batch: Any, base: NDArray[np.uint8]) -> None:
        batch.validate(full=True)
        for name, column in zip(COLUMNS_SCHEMA.names, batch.columns, strict=True):  # which does not look for nulls
            if column.null_count:
                raise ShardError(f"columns: {name} holds nulls")
        self.rows: int = batch.num_rows
        self.keys: list[str] = batch.column("key").to_pylist()
        self._facts = batch.column("facts")
        m, t, j, c = (batch.column(axis).to_pylist() for axis in _SHAPE)
        self._values: dict[str, NDArray[Any]] = {}
        self._bounds: dict[str, list[int]] = {}
        for name, descr in ARRAYS.items():
            column = batch.column(name)
            self._bounds[name] = column.offsets.to_pylist()
            self._values[name] = _view(column.values, descr, base)
        self._shapes: dict[str, list[tuple[int, ...]]] = {
            "joints": [(*shape, 3) for shape in zip(m, t, j, strict=True)],
            "pts": [(frames,) for frames in t],
            "video": [(length,) for length in self._lengths("video")],
            "text": [(n, length // n if n else 0) for n, length in zip(c, self._lengths("text"), strict=True)],
        }
        for name, shapes in self._shapes.items():
            if min(map(min, shapes)) < 0 or [prod(s) for s in shapes] != self._lengths(name):
                raise ShardError(f"columns: {name} has rows whose length is not what their shape says")

    def array(self, name: str, row: int) -> NDArray[Any]:
        """The array ``joints``, ``pts``, ``video`` or ``text`` of one row, in its own shape."""
        bounds = self._bounds[name]
        return self._values[name][bounds[row] : bounds[row + 1]].reshape(self._shapes[name][row])

    def facts(self, row: int) -> str:
        """One row's facts, as JSON text."""
        return str(self._facts[row].as_py())

    def sample(self, row: int) -> Sample:
        """The sample of one row."""
        arrays = {name: self.array(name, row) for name in ARRAYS}
        return sample_of(self.keys[row], arrays, read_facts(self.facts(row)))

    def _lengths(self, name: str) -> list[int]:
        return np.diff(self._bounds[name]).tolist()


def read_columns(base: NDArray[np.uint8], *, first: int = 0) -> Iterator[tuple[int, ColumnsBatch]]:
    """Batches of a columns file, from the one that holds row ``first`` on, each with its first row's number.

    Args:
        first: number of a row in the file; with one beyond the last row there are no batches.
        base: the file's bytes, writable, so that views of it may become tensors.

    Raises:
        ShardError: not a columns file of this format.
    """
    try:
        reader = pa.ipc.open_file(pa.py_buffer(base))
        if not reader.schema.equals(COLUMNS_SCHEMA, check_metadata=True):
            raise ShardError("columns file has another schema than this version of posecap writes")
        start = 0
        for number in range(reader.num_record_batches):
            batch = reader.get_batch(number)
            if batch.num_rows and start + batch.num_rows > first:
                yield start, ColumnsBatch(batch, base)
            start += batch.num_rows
    except (pa.ArrowException, UnicodeError, OSError) as error:
        raise ShardError(f"columns file cannot be read: {error}") from error


def _view(values: Any, descr: str, base: NDArray[np.uint8]) -> NDArray[Any]:
    """A flat Arrow array as a writable view of ``base``, in which its buffer lies."""
    if len(values) == 0:
        return np.zeros(0, descr)
    start = values.buffers()[1].address - base.ctypes.data + values.offset * int(descr[2])
    stop = start + len(values) * int(descr[2])
    if start < 0 or stop > base.nbytes:
        raise ShardError("columns file is compressed; posecap writes it uncompressed")
    return base[start:stop].view(descr)
