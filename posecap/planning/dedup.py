"""Finds duplicate rows and duplicate ids: rows are spooled to disk by split, only their hashes stay in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posecap.manifest.manifest_file import ManifestError
from posecap.manifest.rows import ROW_SCHEMA
from posecap.planning.plan_file import PLAN_SCHEMA

MOST_SPLITS = 64
MOST_CLASHES = 20
_ID_DIGITS = 20
_SEPARATOR = "\x1f"  # checked cells hold no control characters

Hashes = NDArray[np.uint64]
Ordinals = NDArray[np.int64]


@dataclass(frozen=True)
class Duplicates:
    """Repetitions in a sequence of hashes, as int64 arrays of equal length.

    ``later`` are the ordinals of the repetitions, ascending; ``first`` is the ordinal of each one's first occurrence;
    ``nth`` is 1 for the first repetition, 2 for the second.
    """

    later: Ordinals
    first: Ordinals
    nth: Ordinals

    def among(self, ordinals: Ordinals) -> tuple[NDArray[np.bool_], Ordinals]:
        """Which of ``ordinals`` are repetitions (bool), and the positions of those in :attr:`later`."""
        at = np.searchsorted(self.later, ordinals)
        hit = np.zeros(len(ordinals), bool)
        inside = at < len(self.later)
        hit[inside] = self.later[at[inside]] == ordinals[inside]
        return hit, at[hit]


def find_duplicates(hashes_N2: Hashes) -> Duplicates:
    """The rows of 128-bit hashes that are equal to an earlier row."""
    order = np.lexsort((hashes_N2[:, 1], hashes_N2[:, 0]))
    in_order = hashes_N2[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (in_order[1:] != in_order[:-1]).any(axis=1)
    position = np.arange(len(order))
    start = np.maximum.accumulate(np.where(fresh, position, 0))
    later, first, nth = order[~fresh], order[start][~fresh], (position - start)[~fresh]
    ascending = np.argsort(later)
    return Duplicates(later[ascending], first[ascending], nth[ascending])


class RowSpool:
    """Rows by split in Arrow files under ``folder``; 32 bytes a row stay in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._schema = ROW_SCHEMA.append(pa.field("ordinal", pa.int64()))
        self._options = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
        self._writers: dict[str, pa.RecordBatchStreamWriter] = {}
        self._contents: list[Hashes] = []
        self._ids: list[Hashes] = []
        self.counts: dict[str, int] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Write rows to disk; those without an id get one from video, span and label, the same on every machine."""
        contents = _content_hashes(batch)
        ids = pc.coalesce(batch.column("id"), _default_ids(contents))
        start = sum(self.counts.values())
        ordinals = pa.array(np.arange(start, start + batch.num_rows))
        self._contents.append(contents)
        self._ids.append(_hashes(ids))
        columns = [ids, *batch.columns[1:], ordinals]
        whole = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        for split in pc.unique(batch.column("split")).to_pylist():
            self._write(split, whole.filter(pc.equal(batch.column("split"), split)))

    def _write(self, split: str, rows: pa.RecordBatch) -> None:
        if split not in self._writers:
            if len(self._writers) == MOST_SPLITS:
                place = f"{rows.column('table')[0]} row {rows.column('row')[0]}"
                raise ManifestError(
                    f"{place}: split '{split}' is one more than the {MOST_SPLITS} splits a dataset may have; "
                    "is 'split' mapped to the right column?"
                )
            self._writers[split] = pa.ipc.new_stream(self._file(split), self._schema, options=self._options)
        self._writers[split].write_batch(rows)
        self.counts[split] = self.counts.get(split, 0) + rows.num_rows

    def _file(self, split: str) -> str:
        return str(self._folder / f"{split}.arrows")

    def close(self) -> None:
        """Complete the files, after which rows are only read."""
        for writer in self._writers.values():
            writer.close()

    def deduplicate(self) -> DedupedRows:
        """The rows with their ids made unique and duplicates marked.

        Raises:
            ManifestError: different rows have one id; up to twenty pairs are named.
        """
        self.close()
        contents, ids = _joined(self._contents), _joined(self._ids)
        self._contents, self._ids = [], []
        same_id = find_duplicates(ids)
        clash = (contents[same_id.later] != contents[same_id.first]).any(axis=1)
        if clash.any():
            raise self._clash(same_id.first[clash][:MOST_CLASHES], same_id.later[clash][:MOST_CLASHES])
        del ids
        same_content = find_duplicates(contents)
        originals = np.unique(same_content.first)
        return DedupedRows(self, same_id, same_content, originals, self._ids_of(originals))

    def batches(self, split: str) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(self._file(split)) as file, pa.ipc.open_stream(file) as reader:
            yield from reader

    def _ids_of(self, ordinals: Ordinals) -> pa.Array:
        return self._rows_of(ordinals).column("id").combine_chunks()

    def _rows_of(self, ordinals: Ordinals) -> pa.Table:
        """The rows with these ordinals (ascending), read in one pass over the files."""
        names = ["ordinal", "id", "uri", "start", "end", "label", "table", "row"]
        schema = pa.schema([self._schema.field(name) for name in names])
        found = [
            wanted.select(names)
            for split in (self.counts if len(ordinals) else ())
            for batch in self.batches(split)
            if (wanted := batch.filter(pa.array(np.isin(batch.column("ordinal").to_numpy(), ordinals)))).num_rows
        ]
        return pa.Table.from_batches(found, schema).sort_by("ordinal").combine_chunks()

    def _clash(self, first: Ordinals, later: Ordinals) -> ManifestError:
        rows = {r["ordinal"]: r for r in self._rows_of(np.unique(np.concatenate([first, later]))).to_pylist()}
        lines = [
            f"{two['table']} row {two['row']}: id '{two['id']}' is taken by {one['table']} row {one['row']}, which "
            f"{_difference(one, two)}; give one of them another id"
            for one, two in ((rows[int(a)], rows[int(b)]) for a, b in zip(first, later, strict=True))
        ]
        return ManifestError("\n  ".join(lines))


@dataclass(frozen=True)
class DedupedRows:
    """Spooled rows together with the duplicates among their ids and contents."""

    _spool: RowSpool
    _same_id: Duplicates
    _same_content: Duplicates
    _originals: Ordinals
    _original_ids: pa.Array

    @property
    def counts(self) -> dict[str, int]:
        """Rows by split."""
        return self._spool.counts

    def parts(self, split: str, size: int) -> Iterator[pa.Table]:
        """The rows of a split as tables of ``size`` rows (the last one shorter) of the plan's schema."""
        pending = pa.Table.from_batches([], PLAN_SCHEMA)
        for batch in self._spool.batches(split):
            pending = pa.concat_tables([pending, pa.Table.from_batches([self._finished(batch)])])
            whole = pending.num_rows // size * size
            for start in range(0, whole, size):
                yield pending.slice(start, size)
            pending = pending.slice(whole)
        if pending.num_rows:
            yield pending

    def _finished(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        ordinals = batch.column("ordinal").to_numpy()
        ids, repeated = batch.column("id"), np.full(batch.num_rows, None, object)
        hit, at = self._same_id.among(ordinals)
        if hit.any():
            repeated[hit] = [f"~{nth + 1}" for nth in self._same_id.nth[at].tolist()]
            ids = pc.binary_join_element_wise(ids, pc.fill_null(pa.array(repeated, pa.string()), ""), "")
        hit, at = self._same_content.among(ordinals)
        original = np.zeros(batch.num_rows, np.int64)
        original[hit] = np.searchsorted(self._originals, self._same_content.first[at])
        duplicate_of = self._original_ids.take(pa.array(original, mask=~hit))
        return pa.RecordBatch.from_arrays([ids, *batch.columns[1:-1], duplicate_of], schema=PLAN_SCHEMA)


def _content_hashes(batch: pa.RecordBatch) -> Hashes:
    """(N, 2) hashes of what makes two rows the same: video, span and label."""
    start, end = (pc.fill_null(batch.column(name).cast(pa.string()), "") for name in ("start", "end"))
    label = pc.fill_null(batch.column("label"), "")
    return _hashes(pc.binary_join_element_wise(batch.column("uri"), start, end, label, _SEPARATOR))


def _hashes(texts: pa.Array) -> Hashes:
    """(N, 2) 128-bit BLAKE2b hashes; at a billion rows two would meet by chance once in 10^20 plans."""
    blake = hashlib.blake2b
    digests = b"".join([blake(text, digest_size=16).digest() for text in texts.cast(pa.binary()).to_pylist()])
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _default_ids(hashes_N2: Hashes) -> pa.Array:
    digits = hashes_N2.tobytes().hex()
    return pa.array([digits[at : at + _ID_DIGITS] for at in range(0, len(digits), 32)], pa.string())


def _joined(pieces: list[Hashes]) -> Hashes:
    return np.concatenate(pieces) if pieces else np.zeros((0, 2), np.uint64)


def _difference(one: dict[str, object], two: dict[str, object]) -> str:
    name = next(name for name in ("uri", "start", "end", "label") if one[name] != two[name])
    return f"has {name} {one[name]!r}, not {two[name]!r}"
