"""Where finished samples wait until their part is written: files beside the dataset's that no reader looks at.

The worker that made a row's samples writes them to a file of their own under ``.staging``, and only
:class:`posecap.types.StagedSample` go through the driver. Once all rows of a part are done, :class:`WritePart` reads
them back one by one and writes the part's files, which the driver commits.

A staging file is a tar of a row's samples, each with its members of the pose tar, then ``{key}.mp4`` and ``{key}.jpg``
where there are any, and of ``row.results``, what is stored to go on from (:mod:`posecap.shards.results`); or of
``{key}.addition``, what is added to samples that there are (:mod:`posecap.enrichment`). It is not forced to disk: what
a crash leaves of it is never taken for a sample, since every sample is read with its hash, and costs no more than doing
its row again. Its name is a hash of all that determines the row's samples beside the bytes of the video, followed by
random digits, so that a row tried twice writes two files. Rows that a worker does one after another in next to no time
share a file (:meth:`Staging.shared`), with the name of the first.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import numpy as np

from posecap.files import canonical_json, digest, parse_json
from posecap.outcomes import RowOutcome
from posecap.shards import PartFiles, ShardError, discard_files, read_sidecar, write_files
from posecap.shards.extra import Added
from posecap.shards.index import RANGE_COLUMNS, read_index, read_table
from posecap.shards.part import PackedSample
from posecap.shards.paths import (
    EXTRA_FOLDER,
    MAX_MEMBER_BYTES,
    MEMBERS,
    PART_FOLDERS,
    columns_path,
    index_path,
    results_path,
    tar_path,
    video_path,
)
from posecap.shards.results import ResultsBlock, ResultsList, read_results_list
from posecap.shards.serialization import TAR_BLOCK, arrays_of, members_of, pack, tar_end, tar_pieces, unpack
from posecap.shards.sidecar import outcomes_of
from posecap.stage import Stage, TransientError
from posecap.storage import (
    DatasetLockedError,
    LocalStorage,
    Location,
    Lock,
    RemoteStorage,
    Storage,
    is_attempt,
    open_storage,
)
from posecap.types import (
    Addition,
    FileRange,
    PartName,
    Row,
    Sample,
    SampledRow,
    Span,
    StagedResults,
    StagedSample,
    StoredRow,
    Video,
)
from posecap.visualization.contact_sheet import Thumbnail, preview_ranges, write_preview

if TYPE_CHECKING:
    from typing_extensions import Buffer

FOLDER = ".staging"
"""Folder of all staging files, in a dataset's folder."""
OUTPUT_NOT_VISIBLE = "output_not_visible"
"""The reason of a part that was not written since the worker does not see the dataset."""
_MARK = "driver"
"""Name of the file by which workers see that their folder is the driver's, and not one of the same path elsewhere."""
_ROW_DIGITS = 24
"""Of a row's hash in names of files; the random digits behind it keep two files apart in any case."""
# As the index of a part that is written again may be damaged: the largest members that a sample may have.
_MAX_RANGE_BYTES = len(MEMBERS) * (MAX_MEMBER_BYTES + 2 * TAR_BLOCK)


class StagingError(OSError):
    """A staging file cannot be written; the message names it."""


@dataclass(frozen=True)
class Staging:
    """The staging files of one build, for every process that works for it.

    Args:
        storage: where the dataset lies, whose folder ``.staging/{build}`` holds the files and, empty, a file that marks
            it as there (:meth:`is_visible`).
        build: letters and digits that no other build of the dataset has.
        fingerprint: of the pipeline (:meth:`posecap.pipeline.Pipeline.fingerprint`).
    """

    storage: Storage
    build: str
    fingerprint: str

    @classmethod
    def start(cls, location: Location, *, fingerprint: str, keep: frozenset[str] = frozenset()) -> Staging:
        """Begin staging for a build. What earlier builds left is removed, but for the staging files named in ``keep``:
        their staging files, and files of parts that were written and not committed. The caller holds the dataset's
        lock, so that nobody needs any of them.
        """
        storage = open_storage(location)
        remove_unfinished(storage, keep=keep)
        staging = cls(storage, secrets.token_hex(8), fingerprint)
        storage.write(staging._name(_MARK), b"")
        return staging

    def is_visible(self) -> bool:
        """Whether this process sees the dataset: where it is a folder, the one in which :meth:`start` was called."""
        return not isinstance(self.storage, LocalStorage) or self.storage.size(self._name(_MARK)) is not None

    @contextmanager
    def file(self, item: Row | StoredRow | Video) -> Iterator[StagingFile]:
        """A file for the samples of an item, and its results. It is made with the first of them, and removed if the
        block raises.

        Raises:
            StagingError: it cannot be written.
        """
        with ExitStack() as stack:
            file = StagingFile(self.storage, self._name_for(item), stack)
            yield file
            file.close()

    @contextmanager
    def shared(self, first: Row | StoredRow | Video) -> Iterator[Staging]:
        """For the block, a staging whose :meth:`file` is the same for all items, which are of one part and of which
        ``first`` is one: a request to an object store costs as much as a quick row. If a block of :meth:`file` raises,
        what was written in it is taken back.

        Raises:
            StagingError: the file cannot be written, and nothing of any item is staged.
        """
        with self.file(first) as file:
            yield _SharedStaging(self.storage, self.build, self.fingerprint, file)

    def _name_for(self, item: Row | StoredRow | Video) -> str:
        """A name that no file has, as the module describes it."""
        row = item if isinstance(item, Row) else item.row
        return self._name(f"{self.digest(row)[:_ROW_DIGITS]}-{secrets.token_hex(4)}.tar")

    def remove(self, names: Iterable[str]) -> None:
        """Remove staging files, as far as this build wrote them: each is of rows of one part. Others, in which there
        may be rows of several parts, are left to :meth:`end`.
        """
        self.storage.discard([name for name in dict.fromkeys(names) if self.wrote(name)])

    def wrote(self, name: str) -> bool:
        """Whether a file is one that this build has staged, by its name."""
        return name.startswith(self._name(""))

    def end(self, *, kept: Iterable[str] = ()) -> None:
        """Remove the staging files of this build and those that it was given to keep, and none of another that has
        taken the dataset over. What cannot be removed, as when the store does not answer, is left to the next build.
        """
        with suppress(OSError):
            self.storage.remove_folder(f"{FOLDER}/{self.build}")
            self.storage.discard(kept)
        if isinstance(self.storage, LocalStorage):
            folder = self.storage.root / FOLDER
            for empty in (*folder.glob("*"), folder):
                with suppress(OSError):
                    empty.rmdir()

    def _name(self, name: str) -> str:
        """The full name of a file of this build; the folder's with a slash behind it for an empty one."""
        return f"{FOLDER}/{self.build}/{name}"

    def digest(self, row: Row) -> str:
        """SHA-256 (64 hex digits) over all that determines a row's samples beside the bytes of its video."""
        content: list[Any] = [row.row_id, row.uri, row.start_seconds, row.end_seconds, row.label, list(row.captions)]
        if isinstance(row, SampledRow):
            content += [list(row.keys), [list(counts) for counts in row.counts]]
        return digest([self.fingerprint, *content, row.split, row.license, row.source])


@dataclass(frozen=True)
class _SharedStaging(Staging):
    """See :meth:`Staging.shared`."""

    _shared: StagingFile

    def is_visible(self) -> bool:
        return True  # as it was when the file was asked for

    @contextmanager
    def file(self, item: Row | StoredRow | Video) -> Iterator[StagingFile]:
        size = self._shared.size
        try:
            yield self._shared
        except BaseException:
            self._shared.cut(size)
            raise


def remove_unfinished(location: Location, *, keep: frozenset[str] = frozenset()) -> int:
    """Remove what builds that died have left, but for staging files named in ``keep``: staging files, and files that
    were being written, beside committed parts too; returns their number. The caller holds the dataset's lock, so that
    nobody needs any of them.
    """
    storage = open_storage(location)
    staged = [file.name for file in storage.list(FOLDER)]
    attempts = remove_attempts(storage)
    if keep.isdisjoint(staged):
        storage.remove_folder(FOLDER)
        return len(staged) + attempts
    left = [name for name in staged if name not in keep]
    storage.discard(left)
    return len(left) + attempts


def remove_attempts(location: Location) -> int:
    """Remove files of parts, of their extra members and of the dataset itself that were being written and got no name,
    by processes that are dead, whatever their age; returns their number. The caller holds the dataset's lock, and no
    worker of its own is writing.
    """
    storage = open_storage(location)
    folders = (*PART_FOLDERS, EXTRA_FOLDER)
    found = [file.name for folder in folders for file in storage.list(folder) if is_attempt(file.name)]
    if isinstance(storage, LocalStorage):  # a store takes small files at once
        found += [path.name for path in storage.root.glob("*") if is_attempt(path.name) and path.is_file()]
    storage.discard(found)
    return len(found)


def remove_attempts_at_end(storage: Storage, lock: Lock) -> None:
    """:func:`remove_attempts`, and uploads that were cut off, as workers of this run have ended. Where another process
    has taken the dataset over, or the store does not answer, that is left to the next run.
    """
    with suppress(DatasetLockedError, OSError):
        lock.check()
        remove_attempts(storage)
        if isinstance(storage, RemoteStorage):
            storage.remove_unfinished_uploads()


@dataclass
class StagingFile:
    """A staging file that is being written (:meth:`Staging.file`).

    ``name`` is relative to the dataset's folder; closing ``stack`` completes the file.
    """

    storage: Storage
    name: str
    stack: ExitStack
    _file: BinaryIO | None = None
    _size: int = 0

    @property
    def size(self) -> int:
        """Bytes that were written."""
        return self._size

    def cut(self, size: int) -> None:
        """Take back what was written after so many bytes.

        Raises:
            StagingError: the disk fails.
        """
        self._size = size
        if self._file is not None:
            try:
                self._file.seek(size)
                self._file.truncate()
            except OSError as error:
                raise self._error(error) from error

    def add(self, sample: Sample | Addition) -> StagedSample:
        """Write a sample, or what is added to one.

        Raises:
            StagingError: the disk is full or fails.
            ShardError: the sample breaks the schema, or an array holds NaN or infinity.
        """
        if isinstance(sample, Addition):
            return self._add_addition(sample)
        for name, array in arrays_of(sample).items():
            if not np.isfinite(array).all():
                raise ShardError(f"sample {sample.key}: {name} holds NaN or infinity")
        pieces, _, size = tar_pieces(sample.key, pack(sample))
        block = b"".join(pieces)
        hashed = hashlib.sha256(block)
        pose = FileRange(self.name, self._size, size)
        self._write(block)
        video = thumbnail = None
        if sample.video_mp4 is not None:
            video = self._add_member(sample.key, "mp4", sample.video_mp4)
            hashed.update(sample.video_mp4)
        if sample.thumbnail_jpeg is not None:
            thumbnail = self._add_member(sample.key, "jpg", sample.thumbnail_jpeg)
        return StagedSample(
            key=sample.key,
            source_id=sample.facts["source_id"],
            label=sample.facts.get("label"),
            pose=pose,
            video=video,
            thumbnail=thumbnail,
            sha256=hashed.hexdigest(),
        )

    def _add_addition(self, addition: Addition) -> StagedSample:
        """Write what is added to a sample: the length of a JSON header in 4 bytes (little-endian), the header, and the
        vector as float32; raises as :meth:`add`."""
        vector, span = addition.vector, addition.span
        if vector is not None and not np.isfinite(vector).all():
            raise ShardError(f"sample {addition.key}: what is added holds NaN or infinity")
        header = {
            "shape": None if vector is None else list(vector.shape),
            "span": None if span is None else [span.start_seconds, span.end_seconds],
            "counts": list(addition.counts),
            "captions": list(addition.captions),
        }
        written = canonical_json(header)
        arrays = b"" if vector is None else np.ascontiguousarray(vector, np.float32).tobytes()
        content = len(written).to_bytes(4, "little") + written + arrays
        return StagedSample(
            key=addition.key,
            source_id=addition.source_id,
            label=None,
            pose=self._add_member(addition.key, "addition", content),
            sha256=hashlib.sha256(content).hexdigest(),
            what="addition",
        )

    def add_results(self, block: ResultsBlock) -> StagedResults:
        """Write what is stored of the row.

        Raises:
            StagingError: the disk is full or fails.
        """
        hashed = hashlib.sha256(block.content).hexdigest()
        return StagedResults(self._add_member("row", "results", block.content), hashed, block.source_id)

    def close(self) -> None:
        """End the archive.

        Raises:
            StagingError: the disk is full or fails.
        """
        if self._file is not None:
            self._write(tar_end(self._size))
            try:
                self.stack.close()
            except OSError as error:
                raise self._error(error) from error

    def _add_member(self, key: str, name: str, content: bytes) -> FileRange:
        """Write one member; the range is that of its data."""
        pieces, ranges, _ = tar_pieces(key, {name: (b"", memoryview(content))})
        offset, length = ranges[name]
        found = FileRange(self.name, self._size + offset, length)
        self._write(*pieces)
        return found

    def _write(self, *pieces: Buffer) -> None:
        """Append bytes to the file, which is created with the first; StagingError where that fails."""
        try:
            if self._file is None:
                self._file = self.stack.enter_context(self.storage.scratch_file(self.name))
            for piece in pieces:
                self._file.write(piece)
                self._size += memoryview(piece).nbytes
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> StagingError:
        """The error that names this file."""
        return StagingError(f"{self.storage.location}/{self.name} cannot be written ({error.strerror or error})")


def read_staged(location: Location, staged: Sequence[StagedSample]) -> Iterator[Sample]:
    """Staged samples, one by one, without their thumbnails.

    Raises:
        ShardError: a file is missing or does not hold its sample any more.
    """
    for one, members, mp4 in _read_members(open_storage(location), staged):
        yield unpack(one.key, members, video_mp4=mp4)


def _read_members(
    storage: Storage, staged: Sequence[StagedSample]
) -> Iterator[tuple[StagedSample, Mapping[str, memoryview], bytes | None]]:
    """The members of the pose tar of each sample, by name and in their order, and its video.

    Raises:
        ShardError: as :func:`read_staged`.
    """
    contents = _read(storage, chain.from_iterable(map(_ranges_of, staged)))
    for one in staged:
        block, *videos = (memoryview(next(contents)) for _ in _ranges_of(one))
        mp4 = videos[0] if videos else None
        if one.video is not None and mp4 is None:
            # The arrays are views of their block and outlive the video, which they must not keep in memory.
            block, mp4 = memoryview(bytes(block[: one.pose.size])), block[one.video.offset - one.pose.offset :]
        if one.sha256 is not None:
            hashed = hashlib.sha256(block)
            hashed.update(mp4 or b"")
            if hashed.hexdigest() != one.sha256:
                raise ShardError(f"{one.pose.file}: reading back gives other bytes than were written; check the disk")
        # Nobody changes it any more, and a copy would take as long as writing it.
        yield one, members_of(one.key, block), mp4  # type: ignore[misc]


def read_additions(location: Location, staged: Sequence[StagedSample]) -> Iterator[tuple[str, Added]]:
    """Staged additions, one by one, each with the key of its sample.

    Raises:
        ShardError: a file is missing or does not hold its addition any more.
    """
    for one, content in zip(staged, _read(open_storage(location), (one.pose for one in staged)), strict=True):
        if hashlib.sha256(content).hexdigest() != one.sha256:
            raise ShardError(f"{one.pose.file}: reading back gives other bytes than were written; check the disk")
        end = 4 + int.from_bytes(content[:4], "little")
        header = parse_json(bytes(content[4:end]))
        vector = None
        if header["shape"] is not None:
            vector = np.frombuffer(content, "<f4", offset=end).reshape(header["shape"])
        span = None if header["span"] is None else Span(*header["span"])
        yield one.key, Added(vector, tuple(header["counts"]), span, tuple(header["captions"]))


def holds(location: Location, staged: Sequence[StagedSample]) -> bool:
    """Whether samples, or additions, can be read from staging and are those that were written. One without a hash is
    not. Of their thumbnails the hash knows nothing, so they need only be there.
    """
    storage = open_storage(location)
    try:
        for _ in read_staged(storage, [one for one in staged if one.what == "sample"]):
            pass
        for _ in read_additions(storage, [one for one in staged if one.what == "addition"]):
            pass
        for _ in _read(storage, (one.thumbnail for one in staged if one.thumbnail is not None)):
            pass
    except ShardError:
        return False
    return all(one.sha256 is not None for one in staged)


def holds_results(location: Location, results: StagedResults) -> bool:
    """Whether a row's results can be read and are those that were written."""
    try:
        block = open_storage(location).read_range(results.at.file, results.at.offset, results.at.size)
    except (OSError, ShardError):
        return False
    return hashlib.sha256(block).hexdigest() == results.sha256


def _ranges_of(staged: StagedSample) -> list[FileRange]:
    """What is read of a sample's file: one range where its video follows in the same file, as in staging files."""
    pose, video = staged.pose, staged.video
    if video is None:
        return [pose]
    if video.file == pose.file and video.offset == pose.offset + pose.size + TAR_BLOCK:
        return [FileRange(pose.file, pose.offset, pose.size + TAR_BLOCK + video.size)]
    return [pose, video]


def _read(storage: Storage, ranges: Iterable[FileRange]) -> Iterator[bytearray]:
    """The bytes of each range, in order; ShardError where one is not there or larger than any sample is."""
    try:
        yield from map(bytearray, storage.read_ranges(map(_checked, ranges)))
    except (FileNotFoundError, ShardError) as error:
        raise ShardError(f"what was staged is gone or cut short ({error}); start the build again") from error


def _read_one(storage: Storage, found: FileRange) -> bytearray:
    (content,) = _read(storage, [found])
    return content


def _checked(found: FileRange) -> FileRange:
    """The range itself; ShardError where it is larger than any sample is, as a damaged index may say."""
    if found.size > _MAX_RANGE_BYTES:
        at = f"{found.file}: {found.size} bytes at byte {found.offset}"
        raise ShardError(f"{at}, at most {_MAX_RANGE_BYTES} are read")
    return found


def samples_in_part(location: Location, part: PartName) -> dict[str, list[StagedSample]]:
    """The samples of a committed part as they lie in its files, by the id of their row, for writing the part again.

    Raises:
        ShardError: the part is not committed, or a file is missing or damaged.
    """
    storage = open_storage(location)
    files = read_sidecar(storage, part)["files"]
    samples: dict[str, list[StagedSample]] = {}
    if tar_path(part) not in files:
        return samples
    needed = {tar_path(part), index_path(part), *({video_path(part)} & files.keys())}
    for name in sorted(needed):
        try:
            with storage.open(name) as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        except FileNotFoundError:
            found = ""
        if name not in files or found != files[name]["sha256"]:
            raise ShardError(f"{name} is missing, or not as it was written")
    ranges = [*RANGE_COLUMNS, "mp4_offset", "mp4_size"]
    columns = ["key", "row_id", "source_id", "label", *ranges]
    for row in read_index(read_table(storage, index_path(part)), columns=columns).to_pylist():
        spans = [(row[f"{name}_offset"], row[f"{name}_size"]) for name in MEMBERS]
        start = min(offset for offset, _ in spans) - TAR_BLOCK
        end = max(offset + size + -size % TAR_BLOCK for offset, size in spans)
        video = None
        if row["mp4_offset"] is not None:
            video = FileRange(video_path(part), row["mp4_offset"], row["mp4_size"])
        samples.setdefault(row["row_id"], []).append(
            StagedSample(
                key=row["key"],
                source_id=row["source_id"],
                label=row["label"],
                pose=FileRange(tar_path(part), start, end - start),
                video=video,
            )
        )
    return samples


@dataclass(frozen=True)
class KeptSamples:
    """Files of a committed part under names in staging, of which an update takes what it would make again.

    Args:
        columns: the columns file with its SHA-256 as the sidecar has it, which was not compared; None where it is not
            wanted.
        mp4s: row id → starts and ends, in seconds, of clips with stored video, and where that lies.
        outcomes: of the part's rows, as the sidecar has them, by row id.
        previews: by the sample's key; they stay where they are, until their part is written.
    """

    columns: tuple[str, str] | None
    mp4s: Mapping[str, Sequence[tuple[float, float, FileRange]]]
    outcomes: Mapping[str, RowOutcome]
    previews: Mapping[str, FileRange]

    @property
    def files(self) -> frozenset[str]:
        """Names of the files in staging."""
        videos = (at.file for clips in self.mp4s.values() for _, _, at in clips)
        return frozenset((*videos, *(self.columns or ())[:1]))


def keep_samples(location: Location, part: PartName, *, texts: bool, mp4s: bool, samples: bool) -> KeptSamples:
    """Give files of a committed part names in staging, under which they outlast the part.

    Args:
        texts, mp4s, samples: whether vectors of sentences, stored videos, and samples are wanted. The file of videos is
            read, to see that it is as it was written; it is left out where it is not, as are files that are not there.
    """
    storage = open_storage(location)
    columns, kept_mp4s = None, dict[str, list[tuple[float, float, FileRange]]]()
    outcomes, previews = dict[str, RowOutcome](), dict[str, FileRange]()
    try:
        sidecar = read_sidecar(storage, part)
        files = sidecar["files"]
        folder = f"{FOLDER}/results/{part.split}-{part.number:05d}"
        if (texts or samples) and (entry := files.get(columns_path(part))) is not None:
            name = f"{folder}-{entry['sha256'][:_ROW_DIGITS]}.columns"
            storage.copy(columns_path(part), name)
            columns = name, entry["sha256"]
        if samples and columns is not None:
            outcomes = {outcome.row_id: outcome for outcome in outcomes_of(part, sidecar.get("rows"))}
            previews = preview_ranges(storage, part)
        if mp4s and (entry := files.get(video_path(part))) is not None:
            with storage.open(video_path(part)) as file:
                sound = hashlib.file_digest(file, "sha256").hexdigest() == entry["sha256"]  # type: ignore[arg-type]
            name = f"{folder}-{entry['sha256'][:_ROW_DIGITS]}.tar"
            wanted = ["row_id", "start_seconds", "end_seconds", "mp4_offset", "mp4_size"]
            index = read_index(read_table(storage, index_path(part)), columns=wanted).to_pylist() if sound else []
            for row in index:
                if row["mp4_offset"] is not None:
                    at = FileRange(name, row["mp4_offset"], row["mp4_size"])
                    span = (row["start_seconds"], row["end_seconds"], at)
                    kept_mp4s.setdefault(row["row_id"], []).append(span)
            if kept_mp4s:
                storage.copy(video_path(part), name)
    except (ShardError, FileNotFoundError):
        pass  # what cannot be taken is made again
    return KeptSamples(columns, kept_mp4s, outcomes, previews)


def keep_results(location: Location, part: PartName) -> ResultsList | None:
    """Give a part's stored results a name in staging, under which they outlast the part; returns their list with that
    name, and None where there are none that can be read.
    """
    storage = open_storage(location)
    try:
        found = read_results_list(storage, part)
    except ShardError:
        return None
    if found is None:
        return None
    name = f"{FOLDER}/results/{part.split}-{part.number:05d}-{found.sha256[:_ROW_DIGITS]}.results"
    storage.copy(results_path(part), name)
    entries = (
        replace(one, results=one.results and replace(one.results, at=replace(one.results.at, file=name)))
        for one in found.entries
    )
    return replace(found, entries=tuple(entries), file=name)


def keep_part(location: Location, part: PartName, fingerprint: str) -> dict[str, list[StagedSample]]:
    """Give a committed part's samples and their previews names in staging, under which they outlast the part; returns
    them by the id of their row.

    Args:
        fingerprint: of the part.

    Raises:
        ShardError: the part is not committed, or a file is missing or damaged.
    """
    storage = open_storage(location)
    samples, previews = samples_in_part(storage, part), preview_ranges(storage, part)
    names: dict[str, str] = {}

    def kept(found: FileRange) -> FileRange:
        if found.file not in names:
            name = found.file.rpartition("/")[2]
            names[found.file] = f"{FOLDER}/{part.split}-{part.number:05d}-{fingerprint[:_ROW_DIGITS]}/{name}"
            storage.copy(found.file, names[found.file])
        return replace(found, file=names[found.file])

    return {
        row: [_kept(storage, one, previews.get(one.key), kept) for one in of_row] for row, of_row in samples.items()
    }


def _kept(
    storage: Storage, sample: StagedSample, preview: FileRange | None, kept: Callable[[FileRange], FileRange]
) -> StagedSample:
    """The sample under names that ``kept`` gives, with its hash."""
    ranges = [kept(sample.pose)] if sample.video is None else [kept(sample.pose), kept(sample.video)]
    hashed = hashlib.sha256()
    for content in _read(storage, ranges):
        hashed.update(content)
    return replace(
        sample,
        pose=ranges[0],
        video=None if sample.video is None else ranges[1],
        thumbnail=None if preview is None else kept(preview),
        sha256=hashed.hexdigest(),
    )


@dataclass(frozen=True, kw_only=True)
class WriteJob:
    """A part to write.

    Args:
        samples: in the order in which they are written. A row stands for its samples in the part that is replaced,
            with new texts.
        record, results: as for :func:`posecap.shards.write_files`.
    """

    part: PartName
    samples: tuple[StagedSample | StoredRow, ...]
    record: Mapping[str, Any]
    results: ResultsList | None = None


@dataclass(frozen=True)
class WritePart(Stage):
    """Writes the files of a part and its previews, from samples of which one is in memory at a time.

    Only the driver may commit the files (:func:`posecap.shards.commit_part`).

    Args:
        renew: the samples of a row with new texts; None where all samples of a part are staged.
    """

    name: ClassVar[str] = "write"
    takes: ClassVar[type] = WriteJob
    gives: ClassVar[type] = PartFiles

    staging: Staging
    renew: Callable[[StoredRow], Iterable[Sample]] | None = None

    def __call__(self, item: WriteJob) -> Iterator[PartFiles]:
        """Write a part.

        Raises:
            TransientError: ``output_not_visible``, where this machine does not see the dataset; nothing was done.
            ShardError: a sample cannot be read.
            OSError: the disk or store is full or fails.
            Exception: what ``renew`` raises.
        """
        storage = self.staging.storage
        if not self.staging.is_visible():
            raise TransientError(OUTPUT_NOT_VISIBLE, f"this machine does not see {storage.location}")
        files = write_files(storage, item.part, self._samples(item.samples), record=item.record, results=item.results)
        try:
            write_preview(storage, item.part, list(self._thumbnails(item.samples)))
        except BaseException:
            discard_files(storage, files)
            raise
        yield files

    def _samples(self, samples: Sequence[StagedSample | StoredRow]) -> Iterator[Sample | PackedSample]:
        """The samples in order."""
        for are_staged, some in groupby(samples, key=lambda one: isinstance(one, StagedSample)):
            if are_staged:
                yield from self._staged_samples([one for one in some if isinstance(one, StagedSample)])
            elif self.renew is None:
                raise ValueError("rows are to be renewed, and nothing renews them")
            else:
                yield from chain.from_iterable(self.renew(one) for one in some if isinstance(one, StoredRow))

    def _staged_samples(self, staged: Sequence[StagedSample]) -> Iterator[Sample | PackedSample]:
        """The samples, and the members of those that this build has staged, which need not be made again. An earlier
        version of posecap may have written the others in another way."""
        for one, members, mp4 in _read_members(self.staging.storage, staged):
            sample = unpack(one.key, members, video_mp4=mp4)
            if one.sha256 is not None and self.staging.wrote(one.pose.file):
                yield PackedSample(sample, {name: (b"", member) for name, member in members.items()})
            else:
                yield sample

    def _thumbnails(self, samples: Sequence[StagedSample | StoredRow]) -> Iterator[Thumbnail]:
        """Those of the samples, read where they are chosen."""

        def thumbnail(key: str, label: str | None, at: FileRange | None) -> Thumbnail:
            return Thumbnail(key, label, None if at is None else partial(_read_one, self.staging.storage, at))

        for one in samples:
            if isinstance(one, StagedSample):
                yield thumbnail(one.key, one.label, one.thumbnail)
            else:
                for clip in one.clips:
                    if clip.status == "kept" and clip.clip_id is not None:
                        yield thumbnail(clip.clip_id, one.row.label, one.previews.get(clip.clip_id))
