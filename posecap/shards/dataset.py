"""Reads a dataset: its index, one sample by key, or the members of many samples in sequence."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from posecap.shards import tar
from posecap.shards.arrow_file import Batch, read_columns
from posecap.shards.index import INDEX_SCHEMA, RANGE_COLUMNS, read_index
from posecap.shards.paths import (
    MAX_DOCUMENT_BYTES,
    MAX_MEMBER_BYTES,
    MAX_TABLE_BYTES,
    MEMBERS,
    TOMBSTONES,
    ShardError,
    columns_path,
    index_path,
    part_named,
    tar_path,
    video_path,
)
from posecap.shards.serialization import unpack
from posecap.shards.source import source_at
from posecap.shards.tombstones import Tombstones
from posecap.types import PartName, Sample

_BLOCK_BYTES = 4 << 20

Packed = dict[str, memoryview]


class Dataset:
    """The committed parts of a dataset, without the samples that its tombstones remove.

    Args:
        location: a folder, or any URL that fsspec can read (``https://…``, ``s3://…``).

    Raises:
        ShardError: there is no dataset.
    """

    def __init__(self, location: str | os.PathLike[str]) -> None:
        self.location = os.fspath(location)
        self._source = source_at(location)

    @cached_property
    def tombstones(self) -> Tombstones:
        """What was removed from the dataset."""
        try:
            return Tombstones.parse(self._source.read(TOMBSTONES, limit=MAX_DOCUMENT_BYTES))
        except FileNotFoundError:
            return Tombstones()

    def parts(self, split: str | None = None) -> list[tuple[PartName, NDArray[np.int64]]]:
        """Parts that hold samples, in order, each with the rows (numbers within the part) that are not removed."""
        found = []
        for part, samples in self._source.parts():
            if samples and split in (None, part.split):
                rows = np.arange(samples)
                if self.tombstones:
                    rows = rows[self.tombstones.kept(self.part_index(part, ["key", "source_id"])).to_numpy()]
                found.append((part, rows))
        return found

    def part_index(self, part: PartName, columns: list[str] | None = None) -> Any:
        """The index of one part as it is on disk, removed samples included."""
        content = self._source.read(index_path(part), limit=MAX_TABLE_BYTES)
        try:
            return read_index(pa.BufferReader(content), columns=columns)
        except ShardError as error:
            raise ShardError(f"{index_path(part)}: {error}") from error

    def index(self, split: str | None = None) -> Any:
        """The index of every part as one :class:`pyarrow.Table`, see :data:`INDEX_SCHEMA`."""
        tables = [self.part_index(part).take(rows) for part, rows in self.parts(split)]
        return pa.concat_tables(tables) if tables else INDEX_SCHEMA.empty_table()

    def sample(self, key: str, *, index: Any = None, video: Literal["leave", "attach"] = "leave") -> Sample:
        """One sample, by one range read of its tar.

        Args:
            index: what :meth:`index` gave, to look the key up in; without it the parts' indexes are searched in turn.
            video: ``attach`` also reads the sample's mp4, where the dataset stores video.

        Raises:
            ShardError: no such sample, or it was removed, or its tar is damaged.
        """
        part, ranges, mp4 = self._locate(key, index)
        packed = next(self._members(part, [key], [ranges]))[1]
        clip = None
        if video == "attach":
            if mp4 is None:
                raise ShardError(f"sample {key}: the dataset stores no video for it")
            clip = bytes(self._source.read_range(video_path(part), *mp4))
        return unpack(key, packed, video_mp4=clip)

    def members(self, part: PartName, rows: NDArray[np.int64]) -> Iterator[tuple[str, Packed]]:
        """Key and undecoded members of some samples of one part, read in blocks of about 4 MiB.

        Raises:
            ShardError: index and tar disagree, or one of them is damaged.
        """
        table = self.part_index(part, ["key", *RANGE_COLUMNS]).take(rows)
        ranges = list(zip(*(table[column].to_pylist() for column in RANGE_COLUMNS), strict=True))
        yield from self._members(part, table["key"].to_pylist(), ranges)

    def batches(self, part: PartName, *, first: int = 0) -> Iterator[tuple[int, Batch]]:
        """Batches of a part's columns that end after row ``first``, each with the number of its first row.

        Raises:
            ShardError: the file is missing or damaged.
        """
        try:
            yield from read_columns(self._source.map(columns_path(part)), first=first)
        except (ShardError, FileNotFoundError) as error:
            raise ShardError(f"{columns_path(part)}: {error}") from error

    def _locate(self, key: str, index: Any) -> tuple[PartName, tuple[int, ...], tuple[int, int] | None]:
        wanted = ["key", "part", "source_id", *RANGE_COLUMNS, "mp4_offset", "mp4_size"]
        if index is None:
            tables: Iterator[Any] = (self.part_index(part, wanted) for part, n in self._source.parts() if n)
        else:
            tables = iter([index.select(wanted)])
        for table in tables:
            row = pc.index(table["key"], key).as_py()
            if row >= 0:
                found = table.slice(row, 1).to_pylist()[0]
                if self.tombstones.covers(key, found["source_id"]):
                    raise ShardError(f"sample {key} was removed from the dataset")
                mp4 = None if found["mp4_size"] is None else (found["mp4_offset"], found["mp4_size"])
                return part_named(found["part"]), tuple(found[column] for column in RANGE_COLUMNS), mp4
        raise ShardError(f"no sample {key!r} in the dataset; `index` lists its keys")

    def _members(
        self, part: PartName, keys: Sequence[str], ranges: Sequence[tuple[int, ...]]
    ) -> Iterator[tuple[str, Packed]]:
        """Adjacent samples are read in one block; each is copied, so that keeping one does not keep the block."""
        spans = [_byte_span(part, key, member_ranges) for key, member_ranges in zip(keys, ranges, strict=True)]
        for first, last in _blocks(spans):
            start = spans[first][0]
            block = memoryview(self._source.read_range(tar_path(part), start, spans[last - 1][1] - start))
            for number in range(first, last):
                begin, end = spans[number]
                content = memoryview(bytearray(block[begin - start : end - start]))
                yield keys[number], _split_members(part, keys[number], content, begin, ranges[number])


def _byte_span(part: PartName, key: str, member_ranges: tuple[int, ...]) -> tuple[int, int]:
    """First byte (of the first member's header) and end of a sample in its tar."""
    offsets, sizes = member_ranges[::2], member_ranges[1::2]
    begin = min(offsets) - tar.BLOCK
    end = max(offset + size for offset, size in zip(offsets, sizes, strict=True))
    if begin < 0 or min(sizes) < 0 or end - begin > 2 * MAX_MEMBER_BYTES:
        raise ShardError(f"{index_path(part)}: sample {key} cannot lie at bytes {begin} to {end} of its tar")
    return begin, end


def _blocks(spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Ranges of adjacent samples that together fill about one block."""
    first = 0
    for number in range(1, len(spans) + 1):
        if number == len(spans):
            yield first, number
        else:
            gap = spans[number][0] - spans[number - 1][1]
            if not 0 <= gap < tar.BLOCK or spans[number][1] - spans[first][0] > _BLOCK_BYTES:
                yield first, number
                first = number


def _split_members(part: PartName, key: str, content: memoryview, begin: int, member_ranges: tuple[int, ...]) -> Packed:
    """A sample's members by name, after checking that the tar has them under their own names."""
    packed = {}
    for number, (name, ending) in enumerate(MEMBERS.items()):
        offset, size = member_ranges[2 * number] - begin, member_ranges[2 * number + 1]
        written = f"{key}.{ending}\0".encode()
        if content[offset - tar.BLOCK : offset - tar.BLOCK + len(written)] != written:
            raise ShardError(f"{tar_path(part)}: no {key}.{ending} where the index says; run `posecap verify`")
        packed[name] = content[offset : offset + size]
    return packed
