"""Committing a part, reading it back byte for byte, and removing it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from posecap.shards import paths as layout
from posecap.shards import tar
from posecap.shards.arrow_file import ColumnsWriter
from posecap.shards.atomic_commit import AtomicFile, Written, remove_leftovers, sync_folder
from posecap.shards.index import ByteRanges, index_row, write_index
from posecap.shards.paths import MAX_MEMBER_BYTES, MEMBERS, ShardError, file_paths
from posecap.shards.serialization import Packed, pack, unpack
from posecap.shards.sidecar import encode_document, read_sidecar, sidecar
from posecap.types import PartName, Sample

if TYPE_CHECKING:
    from typing_extensions import Buffer

_NAME_OF = {ending: name for name, ending in MEMBERS.items()}


def write_part(root: Path, part: PartName, samples: Iterable[Sample], *, record: Mapping[str, Any]) -> dict[str, Any]:
    """Commit a part: all its files, then its sidecar, which makes them visible.

    Readers see the part as it was before, or not at all, or as it is now. A part without samples is a sidecar only.
    Memory does not grow with the number of samples, but for their lines of the index.

    Args:
        samples: in the order in which they are to lie; kept as it is.
        record: what the sidecar says besides files and samples: fingerprint, pipeline, lineage, counts, rows.

    Returns:
        The sidecar.

    Raises:
        ShardError: a sample breaks the schema or two have one key. Nothing is left behind.
        OSError: the disk is full or fails. Nothing is left behind.
    """
    for relative in (*file_paths(part), layout.sidecar_path(part)):
        remove_leftovers(root / relative)
    with ExitStack() as stack:
        writing = _Writing(root, part, record, stack)
        for sample in samples:
            writing.add(sample)
        written = writing.finish()
        document = sidecar(part, record, written, len(writing.rows))
        last = stack.enter_context(AtomicFile(root / layout.sidecar_path(part)))
        last.write(encode_document(document))
        last.finish()
        remove_part(root, part, keep=written)
        for staged in writing.staged.values():
            staged.publish()
        for folder in {staged.path.parent for staged in writing.staged.values()}:
            sync_folder(folder)
        last.publish()
        sync_folder(last.path.parent)
    return document


def remove_part(root: Path, part: PartName, *, keep: Collection[str] = ()) -> None:
    """Take a part back: its sidecar first, so that no reader finds files that are going, then its files.

    Args:
        keep: relative names of files to leave in place, since they are about to be replaced.
    """
    for relative in (layout.sidecar_path(part), *file_paths(part)):
        path = root / relative
        if relative not in keep and path.exists():
            path.unlink()
            sync_folder(path.parent)


@dataclass
class _Writing:
    """The files of one part while samples are added to them; each is opened when it gets its first bytes."""

    root: Path
    part: PartName
    record: Mapping[str, Any]
    stack: ExitStack
    staged: dict[str, AtomicFile] = field(default_factory=dict)
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    columns: ColumnsWriter | None = None

    def add(self, sample: Sample) -> None:
        if sample.key in self.keys:
            raise ShardError(f"part {self.part}: two samples have the key {sample.key}")
        self.keys.add(sample.key)
        packed = pack(sample)
        places = self._append(layout.tar_path(self.part), sample.key, packed, MEMBERS)
        if sample.video_mp4 is not None:
            mp4 = {"mp4": (b"", memoryview(sample.video_mp4))}
            places |= self._append(layout.video_path(self.part), sample.key, mp4, {"mp4": "mp4"})
        if self.columns is None:
            self.columns = ColumnsWriter(self._file(layout.columns_path(self.part)))
        self.columns.add(sample, bytes(packed["json"][1]))
        self.rows.append(index_row(sample, self.part, places, self.record))

    def finish(self) -> dict[str, Written]:
        """Close every file and give its hash and size, by relative name."""
        if self.columns is not None:
            self.columns.close()
            write_index(self._file(layout.index_path(self.part)), self.rows)
            for relative in (layout.tar_path(self.part), layout.video_path(self.part)):
                if relative in self.staged:
                    self.staged[relative].write(tar.end(self.staged[relative].size))
        return {relative: staged.finish() for relative, staged in sorted(self.staged.items())}

    def _file(self, relative: str) -> AtomicFile:
        if relative not in self.staged:
            self.staged[relative] = self.stack.enter_context(AtomicFile(self.root / relative))
        return self.staged[relative]

    def _append(
        self, relative: str, key: str, packed: Packed, endings: Mapping[str, str]
    ) -> dict[str, tuple[int, int]]:
        """Add members to a tar in one write; gives where the data of each lie."""
        file = self._file(relative)
        pieces: list[Buffer] = []
        places: dict[str, tuple[int, int]] = {}
        start, size = file.size, 0
        for name, (head, body) in packed.items():
            length = len(head) + body.nbytes
            pieces += (tar.header(f"{key}.{endings[name]}", length), head, body, tar.padding(length))
            places[name] = (start + size + tar.BLOCK, length)
            size += tar.BLOCK + length + -length % tar.BLOCK
        file.extend(pieces, size)
        return places


def read_part(root: Path, part: PartName, keys: Collection[str] | None = None) -> Iterator[Sample]:
    """Samples of a committed part in their order, so exactly that writing them again gives the same files.

    Args:
        keys: only these; all for None.

    Raises:
        ShardError: the part is not committed, a file is missing, or a tar is damaged.
    """
    for sample, _ in located_samples(root, part, read_sidecar(root, part)["files"], keys):
        yield sample


def located_samples(
    root: Path, part: PartName, files: Collection[str], keys: Collection[str] | None = None
) -> Iterator[tuple[Sample, ByteRanges]]:
    """What :func:`read_part` gives, each with (offset, size) of every member in its tar, by name.

    Args:
        files: relative names of the part's files.

    Raises:
        ShardError: a file is missing, or a tar is damaged.
    """
    if layout.tar_path(part) not in files:
        return
    with ExitStack() as stack:
        pose = _opened(root, layout.tar_path(part), stack)
        video: BinaryIO | None = None
        videos: Iterator[tuple[str, ByteRanges]] = iter(())
        if layout.video_path(part) in files:
            video = _opened(root, layout.video_path(part), stack)
            videos = iter_byte_ranges(video, {"mp4": "mp4"})
        waiting = next(videos, None)
        for key, places in iter_byte_ranges(pose, _NAME_OF):
            clip: bytes | None = None
            packed = places
            if video is not None and waiting is not None and waiting[0] == key:
                places = {**places, **waiting[1]}
                clip = bytes(_content(video, *places["mp4"])) if keys is None or key in keys else None
                waiting = next(videos, None)
            if keys is None or key in keys:
                members = {name: _content(pose, *place) for name, place in packed.items()}
                yield unpack(key, members, video_mp4=clip), places
        if waiting is not None:
            raise ShardError(f"{layout.video_path(part)}: {waiting[0]}.mp4 belongs to no sample of the pose tar")


def iter_byte_ranges(file: BinaryIO, names: Mapping[str, str]) -> Iterator[tuple[str, ByteRanges]]:
    """Keys of a tar in order, with (offset, size) of each member by its name.

    Args:
        names: name of a member by its ending.

    Raises:
        ShardError: members of one key are not together, or one has an unknown ending.
    """
    key, places = "", dict[str, tuple[int, int]]()
    for member in tar.members(file):
        owner, _, ending = member.name.partition(".")
        if ending not in names or (names[ending] in places and owner == key):
            raise ShardError(f"tar member {member.name!r} is none of a sample's members")
        if owner != key:
            if key:
                yield key, places  # by then all its members are known; the next one's data has not been touched
            key, places = layout.checked_key(owner), {}
        places[names[ending]] = (member.offset, member.size)
    if key:
        yield key, places


def _opened(root: Path, relative: str, stack: ExitStack) -> BinaryIO:
    try:
        return stack.enter_context((root / relative).open("rb"))
    except FileNotFoundError:
        raise ShardError(f"{relative} does not exist under {root}, though the part's sidecar names it") from None


def _content(file: BinaryIO, offset: int, size: int) -> memoryview:
    if size > MAX_MEMBER_BYTES:
        raise ShardError(f"tar member at byte {offset} has {size} bytes, at most {MAX_MEMBER_BYTES} are read")
    content = bytearray(size)
    file.seek(offset)
    if file.readinto(content) != size:  # type: ignore[attr-defined]
        raise ShardError(f"tar member at byte {offset} is cut short")
    return memoryview(content)
