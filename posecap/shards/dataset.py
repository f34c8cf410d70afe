"""A dataset in a folder or at a URL: reads its index, one sample by key, or the members of many samples in sequence,
and removes clips for good.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posecap.outcomes import RowOutcome, tally
from posecap.shards import paths
from posecap.shards.extra import remove_from_extra
from posecap.shards.index import RANGE_COLUMNS, index_rows, open_indexes, read_index, read_table
from posecap.shards.part import read_part, write_part
from posecap.shards.paths import ShardError
from posecap.shards.results import ResultsList, read_results_list
from posecap.shards.serialization import TAR_BLOCK, ColumnsBatch, read_columns, unpack
from posecap.shards.sidecar import decode_document, encode_document, outcomes_of, read_sidecar, write_dataset_list
from posecap.shards.where import Where
from posecap.storage import LocalStorage, Location, Storage, open_storage
from posecap.types import FileRange, PartName, Sample

_BLOCK_BYTES = 4 << 20
"""Read from a tar at once, about: a request to an object store costs as much as a few MB. Our choice."""

Members = dict[str, memoryview]
"""The undecoded bytes of one sample's tar members, by the names of :data:`posecap.shards.paths.MEMBERS`."""


class Dataset:
    """The committed parts of a dataset, without the samples that its tombstones remove.

    Nothing is kept open: each call reads the files that it needs. Only the tombstones are read once and kept, so that
    a later removal is seen by new objects only. A dataset without committed parts, as when its build has just begun,
    has no samples; a URL is not opened before the first call.

    Args:
        location: a folder, any URL that fsspec can read (``https://…``, ``s3://…``), or a storage.

    Raises:
        ShardError: there is no such folder, or it is no dataset; from any method, there is no ``dataset.json`` at the
            URL, or a file is damaged.
    """

    def __init__(self, location: Location) -> None:
        self._storage = open_storage(location)
        self.location = self._storage.location
        if isinstance(self._storage, LocalStorage) and not paths.is_dataset(self._storage):
            raise ShardError(paths.not_a_dataset(self._storage))

    @cached_property
    def tombstones(self) -> Tombstones:
        """What was removed from the dataset."""
        return read_tombstones(self._storage)

    def parts(
        self, split: str | None = None, *, where: Where | None = None
    ) -> list[tuple[PartName, NDArray[np.int64]]]:
        """Parts that hold samples, ordered by split and number, each with the rows that are not removed.

        Rows are numbers of samples within their part, from 0, ascending.

        Args:
            split: None gives the parts of all.
            where: only rows for which it holds, and parts that have some.
        """
        if where is None and not self.tombstones:
            return [(part, np.arange(samples)) for part, samples in self._with_samples(split)]
        return [(part, rows) for part, rows, _ in self.rows(split, where=where)]

    def rows(
        self, split: str | None = None, *, where: Where | None = None, columns: Sequence[str] = ()
    ) -> Iterator[tuple[PartName, NDArray[np.int64], Any]]:
        """As :meth:`parts`, each with a :class:`pyarrow.Table` of ``columns`` of its rows.

        Indexes are read as a whole, several at a time from an object store, and nothing else of the parts.
        """
        removable = {"key", "source_id"} if self.tombstones else set()
        wanted = sorted({*columns, *removable, *(where.columns if where else ())})
        parts = {paths.index_path(part): part for part, _ in self._with_samples(split)}
        for name, content in self._storage.read_each(parts, limit=paths.MAX_TABLE_BYTES):
            table = _index_of(name, pa.BufferReader(content), wanted)
            kept = np.ones(table.num_rows, np.bool_)
            if self.tombstones:
                kept &= self.tombstones.kept(table).to_numpy()
            if where is not None:
                kept &= where.mask(table).to_numpy(zero_copy_only=False)
            rows = np.flatnonzero(kept)
            if len(rows):
                yield parts[name], rows, table.select(list(columns)).take(rows)

    def _with_samples(self, split: str | None) -> Iterator[tuple[PartName, int]]:
        """Parts that hold samples, removed ones included, with their number."""
        for part, samples in _parts_of(self._storage):
            if samples and split in (None, part.split):
                yield part, samples

    @property
    def storage(self) -> Storage:
        """Where its files are."""
        return self._storage

    def part_of(self, key: str) -> PartName:
        """The part that holds a sample; ShardError where none does."""
        return paths.part_named(self._index_row(key, None)["part"])

    def part_index(self, part: PartName, columns: list[str] | None = None) -> Any:
        """The index of one part as a :class:`pyarrow.Table`, removed samples included.

        Args:
            columns: names of :data:`INDEX_SCHEMA`; None for all.

        Raises:
            ShardError: the file is not an index of this format.
            FileNotFoundError: the part has no index, because it holds no samples or is not committed.
        """
        name = paths.index_path(part)
        return _index_of(name, read_table(self._storage, name), columns)

    def index(self, split: str | None = None) -> Any:
        """The index of every part as one :class:`pyarrow.dataset.Dataset` (:data:`INDEX_SCHEMA`), removed samples left
        out.

        Nothing but footers is read before it is scanned, and then a few parts at a time: :meth:`to_batches` goes
        through any number of clips in bounded memory, and the columns and the filter given to :meth:`to_table` decide
        how large the table is. Samples are ordered by part, those of posecap 0.1 last.
        """
        found = open_indexes(
            self._storage,
            [paths.index_path(part) for part, _ in self._with_samples(split)],
        )
        return found.filter(self.tombstones.kept_where()) if self.tombstones else found

    def keys_beginning(self, beginning: str) -> list[str]:
        """Keys that begin with ``beginning``, in the order of the parts, those of removed samples left out."""
        found: list[str] = []
        for _, _, table in self.rows(columns=["key"]):
            keys = table["key"]
            found += keys.filter(pc.starts_with(keys, beginning)).to_pylist()
        return found

    def whole_key(self, beginning: str, *, among: Sequence[str] | None = None) -> str:
        """The one key that begins with ``beginning``; a whole key is found too.

        Args:
            among: keys that begin so; None for those of the dataset.

        Raises:
            ShardError: no key begins so, or several do.
        """
        found = self.keys_beginning(beginning) if among is None else among
        if beginning in found:
            return beginning
        if not found:
            raise ShardError(
                f"{beginning}: no clip of {self.location} has a key that begins so; `posecap inspect --keys` lists them"
            )
        if len(found) > 1 or not beginning:
            such_as = ", ".join(sorted(found)[:3])
            raise ShardError(f"{beginning}: {len(found)} keys begin so, such as {such_as}; give more of the key")
        return found[0]

    def sample(self, key: str, *, index: Any = None, video: Literal["leave", "attach"] = "leave") -> Sample:
        """One sample, by one range read of its tar.

        Args:
            key: a whole key.
            index: what :meth:`index` gave, or a table of all its columns that holds the sample, to look the key up in;
                without it the parts' indexes are searched in turn.
            video: ``attach`` also reads the sample's mp4, where the dataset stores video.

        Raises:
            ShardError: no such sample, or it was removed, or its tar is damaged.
        """
        found = self._index_row(key, index)
        part = paths.part_named(found["part"])
        (block,) = _blocks_of(part, [key], [tuple(found[column] for column in RANGE_COLUMNS)])
        content = self._storage.read_range(block.range.file, block.range.offset, block.range.size)
        ((_, members),) = block.samples(memoryview(content))
        if video == "leave":
            return unpack(key, members)
        if found["mp4_size"] is None:
            raise ShardError(f"sample {key}: the dataset stores no video for it")
        mp4 = self._storage.read_range(paths.video_path(part), found["mp4_offset"], found["mp4_size"])
        return unpack(key, members, video_mp4=bytes(mp4))

    def members(self, parts: Iterable[tuple[PartName, NDArray[np.int64]]]) -> Iterator[tuple[PartName, str, Members]]:
        """Part, key and undecoded members of some samples of parts, in blocks of about 4 MiB; from an object store
        indexes and blocks are read ahead, across parts.

        Args:
            parts: each with numbers of samples within it, ascending; one may be there several times.

        Raises:
            ShardError: index and tar disagree, or one of them is damaged.
        """
        reads: deque[_Block] = deque()
        contents = self._storage.read_ranges(self._blocks(parts, reads))
        for content in contents:
            block = reads.popleft()
            for key, members in block.samples(content):
                yield block.part, key, members

    def _blocks(self, parts: Iterable[tuple[PartName, NDArray[np.int64]]], reads: deque[_Block]) -> Iterator[FileRange]:
        """Ranges of tars to read, each of which is also put into ``reads``."""
        asked: deque[tuple[PartName, NDArray[np.int64]]] = deque()

        def names() -> Iterator[str]:
            for part, rows in parts:
                asked.append((part, rows))
                yield paths.index_path(part)

        for name, content in self._storage.read_each(names(), limit=paths.MAX_TABLE_BYTES):
            part, rows = asked.popleft()
            table = _index_of(name, pa.BufferReader(content), ["key", *RANGE_COLUMNS]).take(rows)
            ranges = list(zip(*(table[column].to_pylist() for column in RANGE_COLUMNS), strict=True))
            for block in _blocks_of(part, table["key"].to_pylist(), ranges):
                reads.append(block)
                yield block.range

    def column_batches(self, part: PartName, *, first: int = 0) -> Iterator[tuple[int, ColumnsBatch]]:
        """Batches of a part's columns file, from the one that holds row ``first`` on, each with its first row's number.

        Removed samples are among them: :meth:`parts` says which rows to take. Of a remote dataset the whole file is
        downloaded into memory (or into a cache: :class:`posecap.storage.CachedStorage`), of a local one it is mapped.

        Raises:
            ShardError: the file is missing or damaged.
        """
        name = paths.columns_path(part)
        with _named(name):
            yield from read_columns(self._storage.map(name), first=first)

    def columns(
        self, parts: Sequence[tuple[PartName, NDArray[np.int64]]]
    ) -> Iterator[tuple[PartName, ColumnsBatch, list[int]]]:
        """Batches of columns files of parts, each with its part and the numbers in it of the rows to take; of a remote
        dataset the next part's file is read ahead.

        Args:
            parts: each with numbers of samples within it, ascending, one or more.

        Raises:
            ShardError: a file is missing or damaged.
        """
        names = [paths.columns_path(part) for part, _ in parts]
        for (part, rows), name, mapped in zip(parts, names, self._one_ahead(names), strict=True):
            with _named(name):
                for start, batch in read_columns(mapped(), first=int(rows[0])):
                    if start > rows[-1]:
                        break
                    low, high = np.searchsorted(rows, (start, start + batch.rows))
                    yield part, batch, (rows[low:high] - start).tolist()

    def _one_ahead(self, names: Sequence[str]) -> Iterator[Callable[[], NDArray[np.uint8]]]:
        """What gives the memory of each file; while one is used, the next is read, where they are remote."""
        if isinstance(self._storage, LocalStorage):
            yield from (partial(self._storage.map, name) for name in names)
            return
        with ThreadPoolExecutor(1, thread_name_prefix="posecap-ahead") as reader:
            try:
                following = reader.submit(self._storage.map, names[0]) if names else None
                for name in [*names[1:], None]:
                    current = following
                    following = None if name is None else reader.submit(self._storage.map, name)
                    if current is not None:
                        yield current.result
                    del current
            finally:
                reader.shutdown(wait=False, cancel_futures=True)

    def _index_row(self, key: str, index: Any) -> dict[str, Any]:
        """Where a sample is: columns of its row in ``index``, or in the parts' own indexes where that is None."""
        wanted = ["key", "part", "source_id", *RANGE_COLUMNS, "mp4_offset", "mp4_size"]
        if index is None:
            tables = self._part_indexes(wanted)
        elif isinstance(index, pa.Table):
            tables = iter([index.select(wanted)])
        else:
            tables = iter([index.to_table(columns=wanted, filter=pc.field("key") == key)])
        for table in tables:
            row = pc.index(table["key"], key).as_py()
            if row >= 0:
                found: dict[str, Any] = table.slice(row, 1).to_pylist()[0]
                if self.tombstones.covers(key, found["source_id"]):
                    raise ShardError(f"sample {key} was removed from the dataset")
                return found
        raise ShardError(f"no sample {key!r} in the dataset; `index` lists its keys")

    def _part_indexes(self, columns: list[str]) -> Iterator[Any]:
        for part, _ in self._with_samples(None):
            yield self.part_index(part, columns)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors about a file that is missing or damaged name it."""
    try:
        yield
    except (ShardError, FileNotFoundError) as error:
        raise ShardError(f"{name}: {error}") from error


def _index_of(name: str, content: Any, columns: list[str] | None) -> Any:
    """A part's index from its bytes, all columns for None; errors name the file."""
    try:
        return read_index(content, columns=columns)
    except ShardError as error:
        raise ShardError(f"{name}: {error}") from error


def _byte_span(part: PartName, key: str, member_ranges: tuple[int, ...]) -> tuple[int, int]:
    """The bytes of a sample in its tar: from its first member's header to the end (exclusive) of its last data."""
    offsets, sizes = member_ranges[::2], member_ranges[1::2]
    begin = min(offsets) - TAR_BLOCK
    end = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
    # Only one member, the joints, may come near the limit of each; more is an index that is damaged.
    if begin < 0 or min(sizes) < 0 or end - begin > 2 * paths.MAX_MEMBER_BYTES:
        raise ShardError(f"{paths.index_path(part)}: sample {key} cannot lie at bytes {begin} to {end} of its tar")
    return begin, end


@dataclass(frozen=True)
class _Block:
    """Samples of a tar that lie side by side.

    ``spans`` are the bytes (begin, end) of each sample in the tar, ``ranges`` offset and size of each of its members.
    """

    part: PartName
    keys: Sequence[str]
    ranges: Sequence[tuple[int, ...]]
    spans: Sequence[tuple[int, int]]

    @property
    def range(self) -> FileRange:
        start = self.spans[0][0]
        return FileRange(paths.tar_path(self.part), start, self.spans[-1][1] - start)

    def samples(self, content: memoryview) -> Iterator[tuple[str, Members]]:
        """Key and members of each, from the bytes of the block, as copies of their own: one does not keep the block."""
        start = self.spans[0][0]
        for key, ranges, (begin, end) in zip(self.keys, self.ranges, self.spans, strict=True):
            own = memoryview(bytearray(content[begin - start : end - start]))
            yield key, _split_members(self.part, key, own, begin, ranges)


def _blocks_of(part: PartName, keys: Sequence[str], ranges: Sequence[tuple[int, ...]]) -> Iterator[_Block]:
    """Blocks of about 4 MiB of a part's samples; those that do not lie side by side are in different ones."""
    spans = [_byte_span(part, key, member_ranges) for key, member_ranges in zip(keys, ranges, strict=True)]
    first = 0
    for number in range(1, len(spans) + 1):
        if number < len(spans):
            gap = spans[number][0] - spans[number - 1][1]
            if 0 <= gap < TAR_BLOCK and spans[number][1] - spans[first][0] <= _BLOCK_BYTES:
                continue
        yield _Block(part, keys[first:number], ranges[first:number], spans[first:number])
        first = number


def _split_members(
    part: PartName, key: str, content: memoryview, begin: int, member_ranges: tuple[int, ...]
) -> Members:
    """A sample's members by name, after checking that the tar has them under their own names.

    Args:
        content: the sample's bytes of the tar, from the header of its first member on.
        begin: position of ``content`` in the tar.
        member_ranges: offset and size of each member's data in the tar, in the order of ``paths.MEMBERS``.
    """
    members = {}
    for number, (name, ending) in enumerate(paths.MEMBERS.items()):
        offset, size = member_ranges[2 * number] - begin, member_ranges[2 * number + 1]
        written = f"{key}.{ending}\0".encode()
        if content[offset - TAR_BLOCK : offset - TAR_BLOCK + len(written)] != written:
            raise ShardError(f"{paths.tar_path(part)}: no {key}.{ending} where the index says; run `posecap verify`")
        members[name] = content[offset : offset + size]
    return members


def _parts_of(storage: Storage) -> list[tuple[PartName, int]]:
    """Committed parts with their number of samples, in order."""
    if isinstance(storage, LocalStorage):
        parts = ((part, storage.root / paths.index_path(part)) for part in paths.committed(storage))
        return [(part, index_rows(path) if path.is_file() else 0) for part, path in parts]
    try:
        content = storage.read(paths.DATASET_LIST, limit=paths.MAX_DOCUMENT_BYTES)
    except FileNotFoundError:
        raise ShardError(
            f"no {paths.DATASET_LIST} under {storage.location}: is it a dataset, and is its build complete?"
        ) from None
    document = decode_document(content, name=paths.DATASET_LIST, remedy="copy the dataset again")
    try:
        return sorted((paths.part_named(entry["part"]), int(entry["samples"])) for entry in document["parts"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ShardError(f"{paths.DATASET_LIST} does not list parts: {error!r}") from error


_TOMBSTONES_REMEDY = "restore it from a copy: without it removed clips would come back"
"""Where the file of tombstones is damaged."""


@dataclass(frozen=True)
class Tombstones:
    """What was removed, and why: reasons of clips by key, and of whole videos by ``source_id``."""

    keys: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.keys or self.sources)

    def covers(self, key: str, source_id: str) -> bool:
        """Whether the clip was removed, by its key or with its video."""
        return key in self.keys or source_id in self.sources

    def reason(self, key: str, source_id: str) -> str:
        """Why a covered clip was removed."""
        return self.keys[key] if key in self.keys else self.sources[source_id]

    def kept(self, table: Any) -> Any:
        """An Arrow mask of the rows of an index (with columns ``key`` and ``source_id``) that are not removed."""
        removed = pc.or_(_among(table["key"], self.keys), _among(table["source_id"], self.sources))
        return pc.invert(removed)

    def kept_where(self) -> Any:
        """The same as an Arrow expression."""
        keys, sources = (pa.array(list(names), pa.string()) for names in (self.keys, self.sources))
        return ~(pc.field("key").isin(keys) | pc.field("source_id").isin(sources))

    @classmethod
    def parse(cls, content: bytes) -> Tombstones:
        """From the bytes of ``tombstones.json``.

        Raises:
            ShardError: they are damaged, or do not hold reasons by key and by source.
        """
        document = decode_document(content, name=paths.TOMBSTONES, remedy=_TOMBSTONES_REMEDY)
        tables = document.get("keys"), document.get("sources")
        for table in tables:
            if not isinstance(table, dict) or not all(isinstance(reason, str) for reason in table.values()):
                raise ShardError(f"{paths.TOMBSTONES} must hold reasons by key and by source; {_TOMBSTONES_REMEDY}")
        return cls(*tables)  # type: ignore[arg-type]


def read_tombstones(location: Location) -> Tombstones:
    """Tombstones of a dataset; none where there is no such file.

    Raises:
        ShardError: the file is damaged.
    """
    try:
        content = open_storage(location).read(paths.TOMBSTONES, limit=paths.MAX_DOCUMENT_BYTES)
    except FileNotFoundError:
        return Tombstones()
    return Tombstones.parse(content)


def remove_samples(
    location: Location, keys: Collection[str], reason: str, *, sources: Collection[str] = ()
) -> list[PartName]:
    """Remove clips from tars, columns, index and extra members, and keep readers and builds from bringing them back.

    The tombstones are written first: from then on readers skip the clips, and an interrupted call can be repeated. The
    caller holds the lock of the dataset (:meth:`posecap.storage.Storage.lock`), and removes what else shows the clips
    (:func:`posecap.finalize.mark_unfinished`, :func:`posecap.visualization.contact_sheet.remove_previews`).

    Args:
        keys: whole keys of clips to remove; those that no part has are recorded too, for later builds.
        reason: why, in words, kept in the tombstones and in the outcome of each clip. What was removed before keeps
            its first reason.
        sources: ``source_id`` of videos of which every clip is to be removed.

    Returns:
        Parts that were rewritten.

    Raises:
        ShardError: a part is damaged (run ``posecap verify``), or a key is none that a sample can have.
    """
    storage = open_storage(location)
    before = read_tombstones(storage)
    tombstones = Tombstones(
        keys={**{paths.checked_key(key): reason for key in keys}, **before.keys},
        sources={**dict.fromkeys(sources, reason), **before.sources},
    )
    document = {"format": paths.FORMAT, "keys": dict(tombstones.keys), "sources": dict(tombstones.sources)}
    storage.write(paths.TOMBSTONES, encode_document(document))
    rewritten = [part for part in paths.committed(storage) if _rewrite(storage, part, tombstones)]
    tables = {part: table for part, _, table in Dataset(storage).rows(columns=["key", "captions"])}
    remove_from_extra(storage, tables)
    if storage.size(paths.DATASET_LIST) is not None:
        write_dataset_list(storage)
    return rewritten


def _rewrite(storage: Storage, part: PartName, tombstones: Tombstones) -> bool:
    """Rewrite a part without the removed clips, and without stored results of their rows; False if it holds neither."""
    try:
        table = read_index(read_table(storage, paths.index_path(part)), columns=["key", "source_id"])
    except FileNotFoundError:  # a part without samples
        table = pa.table({"key": pa.array([], pa.string()), "source_id": pa.array([], pa.string())})
    removed = table.filter(pc.invert(tombstones.kept(table))).to_pylist()
    results, changed = _results_left(storage, part, tombstones)
    if not removed and not changed:
        return False
    reasons = {row["key"]: tombstones.reason(row["key"], row["source_id"]) for row in removed}
    kept = set(table["key"].to_pylist()) - reasons.keys()
    record = read_sidecar(storage, part)
    outcomes = [reject_removed(row, reasons) for row in outcomes_of(part, record.get("rows", []))]
    record["rows"] = [outcome.as_json() for outcome in outcomes]
    record["counts"] = tally(outcomes).as_json()
    write_part(storage, part, read_part(storage, part, kept), record=record, results=results)
    return True


def _results_left(storage: Storage, part: PartName, tombstones: Tombstones) -> tuple[ResultsList | None, bool]:
    """A part's stored results without those of rows of which a clip was removed, kept or not, and whether there were
    any. Results that cannot be read are left out altogether."""
    try:
        found = read_results_list(storage, part)
    except ShardError:
        return None, True
    if found is None:
        return None, False
    outcomes = outcomes_of(part, read_sidecar(storage, part, names="stored").get("rows", []))
    rows = {row.row_id for row in outcomes if any(clip.clip_id in tombstones.keys for clip in row.clips)}
    left = found.without(tombstones.sources, rows)
    return left, len(left.entries) < len(found.entries)


def reject_removed(row: RowOutcome, reasons: Mapping[str, str]) -> RowOutcome:
    """A row's outcome once its kept clips in ``reasons`` (by key) are rejected; without a clip left so is the row."""
    outcome: dict[str, Any] = {"status": "rejected", "stage": "forget", "reason": "forgotten"}
    clips = tuple(
        replace(clip, **outcome, detail=reasons[clip.clip_id])
        if clip.status == "kept" and clip.clip_id is not None and clip.clip_id in reasons
        else clip
        for clip in row.clips
    )
    details = [new.detail for new, old in zip(clips, row.clips, strict=True) if new is not old]
    if details and not any(clip.status == "kept" for clip in clips):
        row = replace(row, **outcome, detail=details[0])
    return replace(row, clips=clips)


def _among(column: Any, names: Mapping[str, str]) -> Any:
    return pc.is_in(column, value_set=pa.array(list(names), pa.string()))
