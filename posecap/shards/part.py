"""Writes, reads and removes the files of one part."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any, BinaryIO

from posecap.files import Written
from posecap.shards import paths
from posecap.shards.index import ByteRanges, index_row, write_index
from posecap.shards.paths import ShardError, file_paths
from posecap.shards.results import ResultsList, write_results
from posecap.shards.serialization import (
    MEMBER_NAMES,
    VIDEO_MEMBER_NAMES,
    ColumnsWriter,
    Packed,
    pack,
    tar_end,
    tar_members,
    tar_pieces,
    unpack,
)
from posecap.shards.sidecar import encode_document, read_sidecar
from posecap.storage import Location, Storage, StorageFile, open_storage
from posecap.types import PartName, Sample


@dataclass(frozen=True)
class PartFiles:
    """Complete files of a part that do not have their names yet.

    ``written`` are their hashes and sizes, ``temporary`` their present names, both by the names that they will have,
    stored results (:mod:`posecap.shards.results`) among them;
    all names are relative to the dataset's folder. ``samples`` counts the samples in them.
    """

    written: Mapping[str, Written]
    temporary: Mapping[str, str]
    samples: int


@dataclass(frozen=True, slots=True)
class PackedSample:
    """A sample and what :func:`posecap.shards.serialization.pack` has made of it, which is then not made again."""

    sample: Sample
    packed: Packed


def write_part(
    location: Location,
    part: PartName,
    samples: Iterable[Sample],
    *,
    record: Mapping[str, Any],
    results: ResultsList | None = None,
) -> dict[str, Any]:
    """Commit a part: all its files, then its sidecar, which makes them visible.

    It is :func:`write_files` and :func:`commit_part`, with what both say.

    Args:
        samples: in the order in which they are written. They may come from :func:`read_part` of the same part, whose
            files are replaced only after the last sample.
        record: the further content of the sidecar: fingerprint, pipeline, lineage, counts, rows. What it says of
            format, part, split, number, files and samples is replaced.

    Returns:
        The sidecar.

    Raises:
        ShardError: a sample breaks the schema or two have one key. Nothing is left behind.
        OSError: the disk is full or fails; as :func:`write_files` and :func:`commit_part`.
    """
    storage = open_storage(location)
    files = write_files(storage, part, samples, record=record, results=results)
    return commit_part(storage, part, files, record=record)


def write_files(
    location: Location,
    part: PartName,
    samples: Iterable[Sample | PackedSample],
    *,
    record: Mapping[str, Any],
    results: ResultsList | None = None,
) -> PartFiles:
    """Write the files of a part under temporary names, for :func:`commit_part`, which another process may call.

    Of each sample only its row of the index stays in memory. Temporary files of an earlier call, which were not
    committed, are removed. A part without samples and results has no files.

    Args:
        samples: in the order in which they are written.
        record: of which the index repeats the fingerprint and the lineage.
        results: to be stored with the part, and where they lie; None, and those of no row, for none.

    Raises:
        ShardError: a sample breaks the schema or two have one key. Nothing is left behind.
        OSError: the disk is full or fails. Nothing is left behind.
    """
    storage = open_storage(location)
    for relative in (*file_paths(part), paths.results_path(part)):
        storage.remove_attempts(relative)
    with ExitStack() as stack:
        writer = _PartWriter(storage, part, record, stack)
        for one in samples:
            writer.add(one)
        if results is not None and results.entries:
            write_results(storage, writer.file(paths.results_path(part)), results)
        written = writer.finish()
        temporary = {name: file.keep() for name, file in writer.files.items()}
        return PartFiles(written, temporary, len(writer.rows))


def commit_part(location: Location, part: PartName, files: PartFiles, *, record: Mapping[str, Any]) -> dict[str, Any]:
    """Give the files of a part their names, replacing older ones, and write its sidecar last.

    Readers see the old part, no part, or the new part, never a mixture. A part without samples is a sidecar only. The
    caller holds the lock of the dataset (:meth:`posecap.storage.Storage.lock`).

    Args:
        record: as for :func:`write_part`, with the fingerprint and the lineage that :func:`write_files` got.

    Returns:
        The sidecar.

    Raises:
        OSError: the disk is full, before anything was changed; or the disk or store fails. No temporary file is left
            where they can be removed, but the old part may be gone, and files of the new one may have their names
            without a sidecar: the part then counts as not built.
    """
    stored = paths.results_path(part)
    document = {
        **{key: value for key, value in record.items() if key != "results"},
        "format": paths.FORMAT,
        "part": str(part),
        "split": part.split,
        "number": part.number,
        "files": {name: asdict(file) for name, file in files.written.items() if name != stored},
        "samples": files.samples,
    }
    if stored in files.written:
        document["results"] = asdict(files.written[stored])
    storage = open_storage(location)
    try:
        storage.remove_attempts(paths.sidecar_path(part))
        with storage.creating(paths.sidecar_path(part), encode_document(document)) as create:
            remove_part(storage, part, keep=files.written)
            storage.publish(files.temporary)
            create()
    except Exception:
        discard_files(storage, files)
        raise
    return document


def discard_files(location: Location, files: PartFiles) -> None:
    """Remove the temporary files of a part that is not to be committed; of a committed one there are none."""
    open_storage(location).remove(*files.temporary.values())


def remove_part(location: Location, part: PartName, *, keep: Collection[str] = ()) -> None:
    """Remove a part: its sidecar first, so that no reader looks for files being deleted, then its files.

    Args:
        keep: relative names of files not to delete, because they are about to be replaced.
    """
    names = (paths.sidecar_path(part), *file_paths(part), paths.results_path(part))
    open_storage(location).remove(*(name for name in names if name not in keep))


@dataclass
class _PartWriter:
    """Adds samples to the files of one part; each file is created when its first bytes are written."""

    storage: Storage
    part: PartName
    record: Mapping[str, Any]
    stack: ExitStack
    files: dict[str, StorageFile] = field(default_factory=dict)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    columns: ColumnsWriter | None = None

    def add(self, given: Sample | PackedSample) -> None:
        sample = given.sample if isinstance(given, PackedSample) else given
        if sample.key in self.keys:
            raise ShardError(f"part {self.part}: two samples have the key {sample.key}")
        self.keys.add(sample.key)
        packed = given.packed if isinstance(given, PackedSample) else pack(sample)
        ranges = self._append(paths.tar_path(self.part), sample.key, packed)
        if sample.video_mp4 is not None:
            mp4 = {"mp4": (b"", memoryview(sample.video_mp4))}
            ranges |= self._append(paths.video_path(self.part), sample.key, mp4)
        if self.columns is None:
            self.columns = ColumnsWriter(self.file(paths.columns_path(self.part)))
        self.columns.add(sample, bytes(packed["json"][1]))
        self.rows.append(index_row(sample, self.part, ranges, self.record))

    def finish(self) -> dict[str, Written]:
        """Complete every file; returns hashes and sizes by relative name."""
        if self.columns is not None:
            self.columns.close()
            write_index(self.file(paths.index_path(self.part)), self.rows)
            for relative in (paths.tar_path(self.part), paths.video_path(self.part)):
                if relative in self.files:
                    self.files[relative].write(tar_end(self.files[relative].size))
        return {relative: file.finish() for relative, file in sorted(self.files.items())}

    def file(self, relative: str) -> StorageFile:
        if relative not in self.files:
            self.files[relative] = self.stack.enter_context(self.storage.writer(relative))
        return self.files[relative]

    def _append(self, relative: str, key: str, packed: Packed) -> dict[str, tuple[int, int]]:
        """Add members to a tar in one write; returns the byte range of the data of each."""
        file = self.file(relative)
        pieces, ranges, size = tar_pieces(key, packed)
        start = file.size
        file.extend(pieces, size)
        return {name: (start + offset, length) for name, (offset, length) in ranges.items()}


def read_part(location: Location, part: PartName, keys: Collection[str] | None = None) -> Iterator[Sample]:
    """Samples of a committed part in order, whatever the tombstones say; writing them again gives the same files.

    Args:
        keys: only samples with these keys; None for all.

    Raises:
        ShardError: the part is not committed, a file is missing, or a tar is damaged.
    """
    for sample, _ in located_samples(location, part, read_sidecar(location, part)["files"], keys):
        yield sample


def located_samples(
    location: Location, part: PartName, files: Collection[str], keys: Collection[str] | None = None
) -> Iterator[tuple[Sample, ByteRanges]]:
    """The samples of :func:`read_part`, each with the byte ranges of its members.

    Args:
        files: the part's files, as its sidecar lists them.

    Raises:
        ShardError: a file is missing, or a tar is damaged. That videos are in another order than the samples is found
            after the last one; until then samples whose video is not next have None.
    """
    storage = open_storage(location)
    if paths.tar_path(part) not in files:
        return
    with ExitStack() as stack:
        pose = _opened(storage, paths.tar_path(part), stack)
        video: BinaryIO | None = None
        videos: Iterator[tuple[str, ByteRanges]] = iter(())
        if paths.video_path(part) in files:
            video = _opened(storage, paths.video_path(part), stack)
            videos = iter_byte_ranges(video, VIDEO_MEMBER_NAMES)
        waiting = next(videos, None)
        for key, ranges in iter_byte_ranges(pose, MEMBER_NAMES):
            clip: bytes | None = None
            pose_ranges = ranges
            if video is not None and waiting is not None and waiting[0] == key:
                ranges = {**ranges, **waiting[1]}
                clip = bytes(_content(video, *ranges["mp4"])) if keys is None or key in keys else None
                waiting = next(videos, None)
            if keys is None or key in keys:
                members = {name: _content(pose, *range_) for name, range_ in pose_ranges.items()}
                yield unpack(key, members, video_mp4=clip), ranges
        if waiting is not None:
            raise ShardError(f"{paths.video_path(part)}: {waiting[0]}.mp4 belongs to no sample of the pose tar")


def iter_byte_ranges(file: BinaryIO, names: Mapping[str, str]) -> Iterator[tuple[str, ByteRanges]]:
    """Keys of a tar in order, each with the byte ranges of its members.

    Args:
        names: ending of a member's file → name of the member.

    Raises:
        ShardError: members of one key are not together, or one has an unknown ending.
    """
    done: set[str] = set()
    for key, members in groupby(tar_members(file), key=lambda member: member.name.partition(".")[0]):
        if key in done:
            raise ShardError(f"tar members of {key!r} are not together")
        done.add(key)
        ranges: dict[str, tuple[int, int]] = {}
        for member in members:
            name = names.get(member.name.partition(".")[2])
            if name is None or name in ranges:
                raise ShardError(f"tar member {member.name!r} is not a member of a sample, or there twice")
            ranges[name] = (member.offset, member.size)
        yield paths.checked_key(key), ranges


def _opened(storage: Storage, relative: str, stack: ExitStack) -> BinaryIO:
    try:
        return stack.enter_context(storage.open(relative))
    except FileNotFoundError:
        raise ShardError(
            f"{relative} does not exist under {storage.location}, though the part's sidecar names it"
        ) from None


def _content(file: BinaryIO, offset: int, size: int) -> memoryview:
    if size > paths.MAX_MEMBER_BYTES:
        raise ShardError(f"tar member at byte {offset} has {size} bytes, at most {paths.MAX_MEMBER_BYTES} are read")
    content = bytearray(size)
    file.seek(offset)
    if file.readinto(content) != size:  # type: ignore[attr-defined]
        raise ShardError(f"tar member at byte {offset} is cut short")
    return memoryview(content)
