"""Divides the rows of a manifest into parts: ``plan.parquet``, one row group for each part, which a build follows.

Parts are numbered by split in manifest order, of ``rows_per_part`` rows each, or fewer where they would take more than
``bytes_per_part`` bytes. Rows that repeat an earlier one are in the plan too, marked as duplicates, and so are rows
whose id another row has, with that as their problem, so that every row of the manifest has an outcome. While they are
read, rows are kept on disk by split, and only their hashes in memory. Paths of videos below a local media root are
stored relative to it, so a plan holds no directory of the machine on which it was made, unless a table gives absolute
paths elsewhere; the same tables give the same bytes on every machine with the same version of pyarrow.

URIs in a plan are public (:mod:`posecap.uris`). Those to fetch from, with password or signature, are read from the
manifest by each build anew and kept in an unnamed temporary file; so signatures may change from run to run.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet
from numpy.typing import NDArray

from posecap import legacy
from posecap.files import digest, parse_json
from posecap.manifest.auto_split import row_splits
from posecap.manifest.manifest_file import Manifest, ManifestError, StoreVideo, shown
from posecap.manifest.rows import ROW_SCHEMA, located, utf8_bytes
from posecap.manifest.tables import read_tables
from posecap.types import PartName, Row
from posecap.uris import PrivateUris

PLAN_SCHEMA = pa.schema([*ROW_SCHEMA, pa.field("duplicate_of", pa.string()), pa.field("id_taken_by", pa.string())])
"""Checked rows, the id of the row that each repeats, and the place (``table:row``) of an earlier, other row with its
id; null for none."""
FORMAT = "posecap.planning.plan/1"
"""Of the list of parts, a JSON object in the file's metadata: ``format``, ``parts`` (split, number, rows, digest of the
rows; by row group), ``bytes_per_part``, and ``stratified``, the rule by which rows were divided, where the manifest has
``stratify_by``."""
PLAN_FILE = "plan.parquet"
"""The plan's file name in a dataset."""
_KEY = b"posecap.planning.plan"
"""Name of that object in the metadata."""
_POSITION_COLUMNS = ("table", "row", "id_taken_by")
"""Columns that say where rows stand in tables, which no digest covers."""

MOST_PARTS = 30_000
"""Most parts of one plan: a Parquet file holds at most 32,767 row groups."""
BYTES_PER_PART = 2_000_000_000
"""Most estimated bytes of a part where neither the manifest nor the dataset says otherwise. Our choice: few
files of a large dataset, each still easily copied."""
MOST_SPLITS = 64
"""A file is open for each split while rows are read, and most systems allow a process 256 or more."""
_ID_DIGITS = 20
"""Of the 32 of a hash, in ids of rows without one: at a billion rows two meet by chance once in two million plans."""
ASSUMED_SECONDS = 10.0
"""Length of the clips of a row that lacks an end of its span, or both, where nothing better is known. Our choice:
Kinetics' clips have as much. Only plans depend on it."""
ASSUMED_FPS = 30.0
"""Frames a second where no rate is known: the commonest of cameras and of web video."""
_ASSUMED_PEOPLE = 1.5
"""In a clip: midway between one and two, the most that the default pipeline keeps."""
_BYTES_PER_CLIP = 20_000
"""Vectors (1280 + 2 x 384 float32, 8 kB), sentences, facts and tar headers."""
_BYTES_PER_PERSON_AND_FRAME = 17 * 3 * 4
"""17 joints of x, y and score in float32."""
_BYTES_PER_FRAME = 8
"""A presentation time in float64."""
_BYTES_PER_SECOND_OF_VIDEO = 150_000
"""An mp4 of 1.2 Mbit/s."""
_COPIES = 2
"""Arrays are stored in the tar for exchange and again in the columns file for training."""
_SEPARATOR = "\x1f"  # checked cells hold no control characters

Hashes = NDArray[np.uint64]
"""(N, 2): 128 bits a row."""
Ordinals = NDArray[np.int64]
"""(N): numbers of rows in the order in which they were read, from 0, over all tables."""


class PlanError(ValueError):
    """A plan cannot be read; the message names the file and the remedy."""


_DAMAGE = (OSError, LookupError, TypeError, ValueError, RecursionError, pa.ArrowException)
"""What reading a damaged plan raises."""


def _damaged(path: Path, error: Exception) -> PlanError:
    words = " ".join(str(error).split())  # Arrow's have several lines
    return PlanError(f"{path} cannot be read as a plan ({words}); delete it and plan again")


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part: its name, how many rows it has, a SHA-256 over them, and which row group of the plan holds them.

    ``rows_digest`` covers a row's content (id, video, span, label, captions, split, license, source, whether it
    repeats another, what is wrong with its cells) but not its position in a table.
    """

    name: PartName
    rows: int
    rows_digest: str
    row_group: int


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row; the id of the earlier one that it repeats (same video, span and label); what is wrong with its cells.

    The later of two different rows with one id has that as its problem, which names the place of the earlier one.
    """

    row: Row
    duplicate_of: str | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan on disk. Relative video paths start at ``media_root``; with ``""`` they stay relative.

    ``private`` has the URIs to fetch that are not public; without it, rows are fetched from the public ones.
    ``bytes_per_part`` is the limit with which it was made; None for plans made before there was one. ``stratified`` is
    the rule by which rows were divided with ``stratify_by``, in words; None where they were not.
    """

    path: Path
    media_root: str
    _parts: tuple[PlannedPart, ...]
    _footer: Any = field(repr=False, compare=False)
    """Of the file: reading it anew for each part takes 8 microseconds for every part that there is."""
    private: PrivateUris | None = None
    bytes_per_part: int | None = None
    stratified: str | None = None

    def parts(self) -> Sequence[PlannedPart]:
        """Every part, ordered by split and number."""
        return self._parts

    def rows(self, part: PlannedPart) -> list[PlannedRow]:
        """The rows of one part, in manifest order; no other part is read.

        Raises:
            PlanError: the plan is damaged.
        """
        try:
            with pyarrow.parquet.ParquetFile(self.path, metadata=self._footer) as file:
                return self._rows_in(file.read_row_group(part.row_group, use_threads=False))
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error

    def columns(self, names: Sequence[str], part: PlannedPart | None = None) -> pa.Table:
        """Some columns of all rows of a part; None for all parts.

        Raises:
            PlanError: the plan is damaged.
        """
        try:
            with pyarrow.parquet.ParquetFile(self.path, metadata=self._footer) as file:
                groups = range(file.num_row_groups) if part is None else [part.row_group]
                table = file.read_row_groups(groups, columns=list(names), use_threads=False)
            table.validate(full=True)  # text that is no UTF-8 would be an error of whoever looks at it
        except _DAMAGE as error:
            raise _damaged(self.path, error) from error
        return table

    def labels(self, part: PlannedPart | None = None) -> dict[str, str]:
        """Label by row id, of a part; None for all parts. Rows without a label are left out.

        Raises:
            PlanError: the plan is damaged.
        """
        known: dict[str, str] = {}  # one text for equal labels
        table = self.columns(["id", "label"], part)
        pairs = zip(table["id"].to_pylist(), table["label"].to_pylist(), strict=True)
        return {row_id: known.setdefault(label, label) for row_id, label in pairs if label}

    def _rows_in(self, table: pa.Table) -> list[PlannedRow]:
        """The rows of a table of :data:`PLAN_SCHEMA`; older plans lack ``problem`` and ``id_taken_by``."""
        planned = []
        license_column = legacy.column_of("license", table.column_names)
        for found in table.to_pylist():
            whole = None
            if self.private is not None:
                whole = self.private.find(found["table"], found["row"], public=found["uri"])
            row = Row(
                row_id=found["id"],
                uri=found["uri"],
                start_seconds=found["start"],
                end_seconds=found["end"],
                label=found["label"],
                captions=tuple(found["captions"] or ()),
                split=found["split"],
                license=found[license_column],
                source=found["source"],
                location=whole or located(found["uri"], self.media_root),
                place=f"{found['table']}:{found['row']}",
            )
            problem = found.get("problem")
            if found.get("id_taken_by") is not None:
                problem = f"{problem} (the earlier row is {found['id_taken_by']})"
            planned.append(PlannedRow(row, found["duplicate_of"], problem))
        return planned


def open_plan(path: Path, *, media_root: str, private: PrivateUris | None = None) -> Plan:
    """Open a plan.

    Args:
        media_root: the manifest's; ``""`` leaves relative videos relative.
        private: of :attr:`Plan.private`.

    Raises:
        PlanError: the file is missing, damaged or not a plan.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            footer = file.metadata
            written = parse_json((footer.metadata or {})[_KEY])
            known = written["format"] == FORMAT and file.num_row_groups == len(written["parts"])
        if not known:
            raise ValueError(f"its format is {written['format']!r}, expected {FORMAT!r}")
        parts = [
            PlannedPart(PartName(split, number), rows, digest, group)
            for group, (split, number, rows, digest) in enumerate(written["parts"])
        ]
        bytes_per_part = written.get("bytes_per_part")
        if not isinstance(bytes_per_part, int | None):
            raise TypeError(f"its bytes_per_part is {bytes_per_part!r}")
        stratified = written.get("stratified")
        if not isinstance(stratified, str | None):
            raise TypeError(f"its rule of splits is {stratified!r}")
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return Plan(path, media_root, tuple(parts), footer, private, bytes_per_part, stratified)


def part_fingerprint(pipeline: str, part: PlannedPart) -> str:
    """A hash of everything that determines a part: the pipeline, by its fingerprint, and the part's rows."""
    return digest({"pipeline": pipeline, "part": str(part.name), "rows": part.rows_digest})


class PlanWriter:
    """Writes parts as row groups, in the order of their names, and their list into the file's metadata."""

    def __init__(self, path: Path, *, bytes_per_part: int | None, stratified: str | None = None) -> None:
        self._bytes_per_part, self._stratified = bytes_per_part, stratified
        self._writer = pyarrow.parquet.ParquetWriter(
            path,
            PLAN_SCHEMA,
            compression="zstd",
            use_dictionary=["label", "split", "license", "source", "table"],
            write_statistics=False,
            store_schema=False,
        )
        self.parts: list[tuple[str, int, int, str]] = []

    def write(self, name: PartName, rows: pa.Table) -> None:
        """Write a part as one row group; parts come in the order of their names."""
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self.parts.append((name.split, name.number, rows.num_rows, rows_digest(rows)))

    def close(self) -> None:
        """Write the list of parts, and complete the file."""
        document: dict[str, Any] = {"format": FORMAT, "parts": self.parts}
        if self._bytes_per_part is not None:
            document["bytes_per_part"] = self._bytes_per_part
        if self._stratified is not None:
            document["stratified"] = self._stratified
        listed = json.dumps(document, separators=(",", ":"))
        self._writer.add_key_value_metadata({_KEY: listed.encode()})
        self._writer.close()


def rows_digest(rows: pa.Table) -> str:
    """SHA-256 over planned rows, independent of batches and of positions in tables.

    Hashed column by column: its name in format 1, a colon, the number of rows and a zero byte; then lengths of lists
    and of texts as int32 (-1 for null) and the UTF-8 bytes, or float64 with NaN for null; little-endian. Fingerprints
    of parts are made from it, so any change here rebuilds every dataset.
    """
    hashed = hashlib.sha256()
    for name in rows.schema.names:
        if name in _POSITION_COLUMNS:
            continue
        column = rows.column(name).combine_chunks()
        if name == "problem" and column.null_count == len(column):
            continue  # plans of format 1 have no such column, and every row in them is good
        hashed.update(f"{legacy.format_1_word(name)}:{len(column)}\0".encode())
        if pa.types.is_list(column.type):
            hashed.update(pc.fill_null(pc.list_value_length(column), -1).to_numpy().astype("<i4"))
            column = pc.list_flatten(column)
        if pa.types.is_floating(column.type):
            hashed.update(column.to_numpy(zero_copy_only=False).astype("<f8"))
            continue
        hashed.update(pc.fill_null(pc.binary_length(column), -1).to_numpy().astype("<i4"))
        hashed.update(utf8_bytes(pc.fill_null(column, "")))
    return hashed.hexdigest()


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
        positions = np.searchsorted(self.later, ordinals)
        repeated = positions < len(self.later)
        repeated[repeated] = self.later[positions[repeated]] == ordinals[repeated]
        return repeated, positions[repeated]


def find_duplicates(hashes_N2: Hashes) -> Duplicates:
    """The rows of ``hashes_N2`` that are equal to an earlier row; a row's ordinal is its index."""
    order = np.lexsort((hashes_N2[:, 1], hashes_N2[:, 0]))
    in_order = hashes_N2[order]
    fresh = np.ones(len(order), bool)
    fresh[1:] = (in_order[1:] != in_order[:-1]).any(axis=1)
    position = np.arange(len(order))
    start = np.maximum.accumulate(np.where(fresh, position, 0))
    later, first, nth = order[~fresh], order[start][~fresh], (position - start)[~fresh]
    ascending = np.argsort(later)
    return Duplicates(later[ascending], first[ascending], nth[ascending])


def estimate(*, clips: int, seconds: float, store_video: StoreVideo) -> int:
    """Bytes of a finished dataset: 2 x (20 kB a clip + 30 frames a second of 1.5 people's 17 joints and a time
    stamp), and 150 kB a second of stored video.

    Rejections, shots and people vary.

    Args:
        clips: number of clips; :func:`posecap.plan_check.summarise` takes one for each row that is no duplicate.
        seconds: of all clips together.
        store_video: as in the manifest; ``clip`` stores an mp4 of each clip.
    """
    return round(clips * _COPIES * _BYTES_PER_CLIP + seconds * _bytes_per_second(store_video))


def bytes_of_rows(rows: pa.Table, *, store_video: StoreVideo) -> NDArray[np.int64]:
    """(N) estimated bytes of each row of a plan: of one clip of its span; 0 for a row that will be rejected."""
    span = pc.fill_null(pc.subtract(rows["end"], rows["start"]), ASSUMED_SECONDS).to_numpy()
    each = _COPIES * _BYTES_PER_CLIP + np.maximum(span, 0.0) * _bytes_per_second(store_video)
    used = pc.and_(pc.is_null(rows["duplicate_of"]), pc.is_null(rows["problem"])).to_numpy()
    # Cut at a petabyte: a span of any length may be written in a table, and int64 must hold the sum of a part.
    return np.where(used, np.minimum(np.rint(each), 1e15), 0).astype(np.int64)


def _bytes_per_second(store_video: StoreVideo) -> float:
    frame = _ASSUMED_PEOPLE * _BYTES_PER_PERSON_AND_FRAME + _BYTES_PER_FRAME
    return _COPIES * ASSUMED_FPS * frame + (_BYTES_PER_SECOND_OF_VIDEO if store_video == "clip" else 0)


@dataclass(frozen=True)
class PartSize:
    """How much goes into a part: at most ``rows`` rows, and ``size_bytes`` estimated bytes unless that is None.

    A row that is larger alone is a part of its own.
    """

    rows: int
    size_bytes: int | None
    store_video: StoreVideo

    def whole_part(self, each_N: NDArray[np.int64]) -> int:
        """How many of rows with these bytes make a part; 0 where the row after them may belong to it too."""
        fit = len(each_N)
        if self.size_bytes is not None:
            fit = max(1, int(np.searchsorted(np.cumsum(each_N), self.size_bytes, side="right")))
        if len(each_N) <= min(fit, self.rows - 1):
            return 0
        return min(fit, self.rows)


class RowSpool:
    """Rows by split in Arrow files under ``folder``, and the duplicates among them; 32 bytes a row stay in memory.

    :meth:`add` takes the rows, :meth:`deduplicate` comes once after the last one, :meth:`parts` gives them back.
    ``counts`` are rows by split.
    """

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
        digits = contents.tobytes().hex()  # 32 of each row
        defaults = pa.array([digits[at : at + _ID_DIGITS] for at in range(0, len(digits), 32)], pa.string())
        ids = pc.coalesce(batch.column("id"), defaults)
        start = sum(self.counts.values())
        ordinals = pa.array(np.arange(start, start + batch.num_rows))
        self._contents.append(contents)
        self._ids.append(_hashes(ids))
        columns = [ids, *batch.columns[1:], ordinals]
        whole = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        for split in pc.unique(batch.column("split")).to_pylist():
            self._write(split, whole.filter(pc.equal(batch.column("split"), split)))

    def _write(self, split: str, rows: pa.RecordBatch) -> None:
        """Append rows to the file of their split; ManifestError where that is one split too many."""
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

    def deduplicate(self) -> None:
        """Find the duplicates among contents, and the rows whose id an earlier, different row has, so that
        :meth:`parts` can mark them and make ids unique.
        """
        self.close()
        none = np.zeros((0, 2), np.uint64)
        contents, ids = np.concatenate([none, *self._contents]), np.concatenate([none, *self._ids])
        self._contents, self._ids = [], []
        self._same_id = find_duplicates(ids)
        del ids
        clash = (contents[self._same_id.later] != contents[self._same_id.first]).any(axis=1)
        self._clashing = self._same_id.later[clash]
        self._id_owners = self._rows_of(np.unique(self._same_id.first[clash]))
        # A row whose id is taken is rejected, so that no other may be left out as its duplicate.
        unique_ids = np.ones(len(contents), bool)
        unique_ids[self._clashing] = False
        ordinals = np.flatnonzero(unique_ids)
        found = find_duplicates(contents[ordinals])
        self._same_content = Duplicates(ordinals[found.later], ordinals[found.first], found.nth)
        self._originals = np.unique(self._same_content.first)
        self._original_ids = self._rows_of(self._originals).column("id").combine_chunks()

    def _batches(self, split: str) -> Iterator[pa.RecordBatch]:
        """The rows of a split as they were written, with the column ``ordinal``."""
        with pa.OSFile(self._file(split)) as file, pa.ipc.open_stream(file) as reader:
            yield from reader

    def _rows_of(self, ordinals: Ordinals) -> pa.Table:
        """The rows with these ordinals (ascending), read in one pass over the files."""
        names = ["ordinal", "id", "uri", "start", "end", "label", "table", "row"]
        schema = pa.schema([self._schema.field(name) for name in names])
        found = [
            wanted.select(names)
            for split in (self.counts if len(ordinals) else ())
            for batch in self._batches(split)
            if (wanted := batch.filter(pa.array(np.isin(batch.column("ordinal").to_numpy(), ordinals)))).num_rows
        ]
        return pa.Table.from_batches(found, schema).sort_by("ordinal").combine_chunks()

    def parts(self, split: str, size: PartSize) -> Iterator[pa.Table]:
        """The rows of a split as tables of the plan's schema, each as large as ``size`` allows.

        The id of the second row with the same id ends in ``~2``, of the third in ``~3``. Of those that are no
        repetitions of the first one, the columns ``problem`` and ``id_taken_by`` say so.
        """
        pending, each = pa.Table.from_batches([], PLAN_SCHEMA), np.zeros(0, np.int64)
        for batch in self._batches(split):
            rows = pa.Table.from_batches([self._finished(batch)])
            pending = pa.concat_tables([pending, rows])
            each = np.concatenate([each, bytes_of_rows(rows, store_video=size.store_video)])
            start = 0
            while count := size.whole_part(each[start : start + size.rows + 1]):
                yield pending.slice(start, count)
                start += count
            pending, each = pending.slice(start), each[start:]
        if pending.num_rows:
            yield pending

    def _finished(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of a file in the plan's schema: with ids of their own, and what they repeat."""
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
        columns = dict(zip(ROW_SCHEMA.names, [ids, *batch.columns[1:-1]], strict=True))
        columns |= {"duplicate_of": duplicate_of, "id_taken_by": pa.nulls(batch.num_rows, pa.string())}
        if len(self._clashing) and len(clashing := np.flatnonzero(np.isin(ordinals, self._clashing))):
            columns |= self._clashes(batch, ordinals, clashing)
        return pa.RecordBatch.from_arrays([columns[name] for name in PLAN_SCHEMA.names], schema=PLAN_SCHEMA)

    def _clashes(self, batch: pa.RecordBatch, ordinals: Ordinals, clashing: Ordinals) -> dict[str, pa.Array]:
        """The columns ``problem`` and ``id_taken_by`` of a batch whose rows ``clashing`` have an id that is taken."""
        problems = batch.column("problem").to_pylist()
        places: list[str | None] = [None] * batch.num_rows
        _, at = self._same_id.among(ordinals[clashing])
        owners = np.searchsorted(self._id_owners.column("ordinal").to_numpy(), self._same_id.first[at])
        taken_by = self._id_owners.take(pa.array(owners)).to_pylist()
        for index, row, owner in zip(
            clashing.tolist(), batch.take(pa.array(clashing)).to_pylist(), taken_by, strict=True
        ):
            given = f"column 'id' is {shown(row['id'])}"
            problems[index] = f"{given}: an earlier row has it and {_difference(owner, row)}; give this row another id"
            places[index] = f"{owner['table']}:{owner['row']}"
        return {"problem": pa.array(problems, pa.string()), "id_taken_by": pa.array(places, pa.string())}


def _content_hashes(batch: pa.RecordBatch) -> Hashes:
    """(N, 2) hashes of what makes two rows the same: video, span and label, and what is wrong with them."""
    start, end = (pc.fill_null(batch.column(name).cast(pa.string()), "") for name in ("start", "end"))
    label = pc.fill_null(batch.column("label"), "")
    content = pc.binary_join_element_wise(batch.column("uri"), start, end, label, _SEPARATOR)
    problem = batch.column("problem")
    if problem.null_count < len(problem):
        content = pc.coalesce(pc.binary_join_element_wise(content, problem, _SEPARATOR), content)
    return _hashes(content)


def _hashes(texts: pa.Array) -> Hashes:
    """(N, 2) 128-bit BLAKE2b hashes; at a billion rows two would meet by chance once in 10^20 plans."""
    blake = hashlib.blake2b
    digests = b"".join([blake(text, digest_size=16).digest() for text in texts.cast(pa.binary()).to_pylist()])
    return np.frombuffer(digests, np.uint64).reshape(-1, 2)


def _difference(one: dict[str, object], two: dict[str, object]) -> str:
    """The first thing in which two rows with one id differ, in words, of an error message that goes on."""
    name = next(name for name in ("uri", "start", "end", "label") if one[name] != two[name])
    return f"{name} {shown(one[name])}, not {shown(two[name])}"


def make_plan(manifest: Manifest, destination: Path, *, built: Path | None = None, near: Any = None) -> Plan:
    """Read, check and plan every row of a manifest, with 32 bytes of each in memory, into ``destination`` (replaced if
    present).

    Rows are kept in a temporary folder beside ``destination``; one that a killed run left is removed first. The plan
    gets its name only when it is complete.

    Args:
        built: the plan of the dataset so far; its ``bytes_per_part`` holds where the manifest states none, and its
            splits where the manifest has ``stratify_by``. Nothing need be there.
        near: groups of near-duplicates of the dataset so far (:func:`posecap.duplicates.read_groups`), which stay in
            one split (:func:`posecap.manifest.auto_split.row_splits`); None where none are known.

    Raises:
        ManifestError: a table or every row is wrong, there is nothing to plan, or there are more than 64 splits or
            30,000 parts.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    folder = destination.with_name(destination.name + ".spool")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    private = PrivateUris()
    try:
        with closing(RowSpool(folder)) as spool:
            rule = _stratified(manifest)
            splits = row_splits(manifest, near, None if rule is None else _splits_of(built, rule))
            for batch in read_tables(manifest, private):
                spool.add(splits(batch))
            spool.deduplicate()
        _check_parts(spool.counts, manifest)
        size = PartSize(manifest.rows_per_part, _bytes_per_part(manifest, built), manifest.store_video)
        with closing(PlanWriter(folder / PLAN_FILE, bytes_per_part=size.size_bytes, stratified=rule)) as writer:
            for split in sorted(spool.counts):
                for number, rows in enumerate(spool.parts(split, size)):
                    if len(writer.parts) == MOST_PARTS:
                        raise _too_small(manifest, size)
                    writer.write(PartName(split, number), rows)
        with (folder / PLAN_FILE).open("rb") as file:
            os.fsync(file.fileno())
        (folder / PLAN_FILE).replace(destination)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return open_plan(destination, media_root=manifest.media_root, private=private)


def _stratified(manifest: Manifest) -> str | None:
    """The rule by which a manifest's rows are stratified, in words; None where they are not."""
    rule = manifest.auto_split
    if rule is None or rule.stratify_by == "none":
        return None
    ratios = "/".join(f"{name} {share:.9g}" for name, share in rule.ratios)
    return f"{rule.stratify_by}; {ratios}; seed {rule.seed}; {', '.join(rule.group_by)}"


def _splits_of(built: Path | None, rule: str) -> dict[str, str]:
    """Splits by URI of an earlier plan that was made by the same rule; none of another, a damaged one or no plan."""
    if built is None or not built.is_file():
        return {}
    try:
        plan = open_plan(built, media_root="")
        if plan.stratified != rule:
            return {}
        columns = plan.columns(["uri", "split"])
    except PlanError:  # it is replaced by the new plan
        return {}
    return dict(zip(columns["uri"].to_pylist(), columns["split"].to_pylist(), strict=True))


def _bytes_per_part(manifest: Manifest, built: Path | None) -> int | None:
    """The limit that holds (:class:`posecap.manifest.manifest_file.Manifest`); None for none."""
    if manifest.bytes_per_part is not None or built is None or not built.is_file():
        return manifest.bytes_per_part or BYTES_PER_PART
    try:
        return open_plan(built, media_root="").bytes_per_part
    except PlanError:  # it is replaced by the new plan, and a build names the parts that then no longer fit
        return BYTES_PER_PART


def _too_small(manifest: Manifest, size: PartSize) -> ManifestError:
    return ManifestError(
        f"{manifest.path}: key 'bytes_per_part' is {size.size_bytes:,}, which makes more than {MOST_PARTS:,} parts; "
        "write a larger one"
    )


def _check_parts(counts: Mapping[str, int], manifest: Manifest) -> None:
    """Raise ManifestError where there are no rows, or ``rows_per_part`` makes too many parts.

    Args:
        counts: rows by split.
    """
    rows = sum(counts.values())
    if not rows:
        raise ManifestError(f"{manifest.path}: its tables have no rows; add some, or check 'tables'")
    parts = sum(-(-count // manifest.rows_per_part) for count in counts.values())
    if parts > MOST_PARTS:
        raise ManifestError(
            f"{manifest.path}: key 'rows_per_part' is {manifest.rows_per_part}, which makes {parts:,} parts of "
            f"{rows:,} rows, more than {MOST_PARTS:,}; write at least {-(-rows // (MOST_PARTS - len(counts)))}"
        )
