"""Checks a dataset down to the last byte, part by part; of the parts before only the keys of samples stay in memory.

The files of a remote part are copied to this machine's disk, one part at a time, and checked there.

:func:`repair` moves aside what is damaged, and the next build makes only that again. Nothing is deleted but the report,
which the next build writes anew, and clips that were removed on request and are still held. Files of a damaged part,
and those that belong to no part, go to a folder under ``damaged``, where no reader looks; without its sidecar the part
counts as not built. The list of parts is written anew.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from posecap import legacy
from posecap.files import file_sha256, map_file, scratch_folder
from posecap.finalize import mark_unfinished
from posecap.joints import LAYOUTS
from posecap.outcomes import STATUSES, RowOutcome, tally
from posecap.shards import remove_samples, write_dataset_list
from posecap.shards.dataset import Dataset, Tombstones, read_tombstones
from posecap.shards.extra import (
    MemberName,
    check_extra,
    extra_file,
    extra_path,
    extra_sidecar_path,
    read_extra,
    read_extra_list,
    read_extra_part,
    stored_members,
    write_extra_list,
)
from posecap.shards.index import INDEX_SCHEMA, ByteRanges, index_row, read_index
from posecap.shards.part import located_samples
from posecap.shards.paths import (
    DATASET_LIST,
    EXTRA_FOLDER,
    EXTRA_LIST,
    MAX_DOCUMENT_BYTES,
    PART_FOLDERS,
    RESULTS_FOLDER,
    TOMBSTONES,
    ShardError,
    columns_path,
    committed,
    file_paths,
    index_path,
    results_path,
    sidecar_path,
    tar_path,
)
from posecap.shards.results import read_results_list
from posecap.shards.serialization import ColumnsBatch, arrays_of, facts_json, read_columns
from posecap.shards.sidecar import damaged_files, outcomes_of, read_document, read_sidecar
from posecap.storage import LocalStorage, Location, Storage, StorageError, open_storage
from posecap.types import PartName, Sample

ORPHAN = "no sidecar lists this file"
"""What is wrong with a file that belongs to no part."""
DAMAGED_FOLDER = "damaged"
"""Of all that repairs moved aside, in a folder of its own for each second in which one began."""
_BLOCK_BYTES = 8 << 20
"""Copied at a time: our choice, as a request to an object store costs as much as some MB."""
_KEY_DIGITS = 24
"""Of a clip's key (:func:`posecap.files.clip_id`)."""
# Remedies of several problems.
_CHECK_AGAIN = "run `posecap verify` again once nothing changes the dataset"
_ADD_AGAIN = "run `posecap verify --repair`, then `posecap add` with the same model"
_REWRITE_LIST = "run `posecap build` again: it is written anew"


def check_sample(sample: Sample, *, split: str, tolerance_seconds: float) -> Iterator[str]:
    """Describe what is wrong with a sample, one sentence for each problem.

    Args:
        split: of the part that holds it.
        tolerance_seconds: how far before the clip's span frames may begin, and how far after it they may end; also for
            the frames behind the video vector.
    """
    people, frames, joints, _ = sample.joints_MTJ3.shape
    layout = sample.facts.get("layout")
    if not isinstance(layout, str) or layout not in LAYOUTS:
        yield f"layout {layout!r} is not known"
    elif len(LAYOUTS[layout].names) != joints:
        yield f"joints has {joints} joints, layout {layout} has {len(LAYOUTS[layout].names)}"
    known = {"clip_id": sample.key, "split": split, "people": people, "frames": frames, "joints": joints}
    for name, value in known.items():
        if sample.facts.get(name) != value:
            yield f"facts say {name} is {sample.facts.get(name)!r}, the sample says {value!r}"
    if not (people and frames and sample.video_D.size):
        yield f"there is nothing in it: joints {sample.joints_MTJ3.shape}, video {sample.video_D.shape}"
    for name in ("joints_MTJ3", "pts_T", "video_D", "text_CD"):
        if not np.isfinite(getattr(sample, name)).all():
            yield f"{name} holds NaN or infinity"
    if frames:
        yield from _times(sample, tolerance_seconds)


def _times(sample: Sample, tolerance: float) -> Iterator[str]:
    """What is wrong with a sample's times, among themselves and with its facts."""
    pts, facts = sample.pts_T, sample.facts
    if not (pts[1:] > pts[:-1]).all():  # not by differences, of which two infinities have none
        yield "pts does not strictly increase"
    try:
        (start, end), pts_span, video_span = (
            (float(first), float(last))
            for first, last in ((facts["start_seconds"], facts["end_seconds"]), facts["pts_span"], facts["video_span"])
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        yield f"facts lack start_seconds, end_seconds, pts_span or video_span: {error!r}"
        return
    skeleton_span = (float(pts[0]), float(pts[-1]))
    if pts_span != skeleton_span:
        yield f"facts say pts_span is {pts_span}, pts runs from {pts[0]} to {pts[-1]}"
    for what, (first, last) in {"skeleton": skeleton_span, "video vector": video_span}.items():
        if not start - tolerance <= first <= last <= end + tolerance:
            yield f"{what} covers {first:.3f} to {last:.3f} s of a clip of {start:.3f} to {end:.3f} s"


@dataclass(frozen=True)
class Problem:
    """What is wrong in a dataset.

    Args:
        file: relative to the dataset's folder.
        what: is wrong with it.
        remedy: what to do about it.
        key: of the sample that it concerns; None for a file as a whole.
        part: that is to be built again; None where that is no remedy.
    """

    file: str
    what: str
    remedy: str
    key: str | None = None
    part: PartName | None = None

    def __str__(self) -> str:
        sample = f", sample {self.key}" if self.key else ""
        text = f"{self.file}{sample}: {self.what}; {self.remedy}"
        if text.isprintable():
            return text
        # What is quoted from files may hold what no terminal should be sent, and halves of characters.
        return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


class _Finding(NamedTuple):
    """A relative file name, what is wrong with the file, and the key of the sample that it concerns, if it does one."""

    file: str
    what: str
    key: str | None = None


def _problem(part: PartName, file: str, what: str, key: str | None = None) -> Problem:
    """A problem of a part's file; the remedy is to rebuild the part."""
    remedy = f"delete {sidecar_path(part)} and run `posecap build` again: only this part is rebuilt"
    return Problem(file, what, remedy, key, part)


@dataclass
class _PartCheck:
    """Checks the files of one sidecar, which are in the folder ``root``. ``keys`` and ``samples`` are known once
    :meth:`run` has ended.

    Whatever the files hold, even where someone made hashes and checksum fit it, gives findings and no exception.
    ``sources`` are the ``source_id`` of each of ``keys``.

    Args:
        document: the sidecar.
        damaged: relative names of files that differ from the sidecar. Arrow does not read these (columns and index):
            its readers are for files that are what they seem, and damaged lengths and offsets may crash the process or
            take any amount of memory. A damaged tar of the right size is read nevertheless, to name the samples that
            are affected: posecap's own reader checks every header. Where any file is missing or has another size,
            samples are not read at all.
        tolerance_seconds: how far frames may lie outside their clip's span.
    """

    root: Path
    part: PartName
    document: Mapping[str, Any]
    damaged: Collection[str]
    tolerance_seconds: float
    keys: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    samples: int = 0

    def run(self) -> Iterator[_Finding]:
        """Compare the outcomes of rows, the index, the tar and the columns with one another and with the sidecar."""
        sidecar, index, samples = sidecar_path(self.part), index_path(self.part), self.document["samples"]
        outcomes: list[RowOutcome] | None = None
        with suppress(ShardError):
            outcomes = outcomes_of(self.part, self.document.get("rows"))
        for what in _counts(outcomes, self.document):
            yield _Finding(sidecar, what)
        if not self.document["files"] and samples:
            yield _Finding(sidecar, f"says {samples} samples but names no files")
        lines: list[dict[str, Any]] | None = None
        try:
            if self._readable(index):
                lines = read_index(self.root / index).to_pylist()
                self.keys, self.sources = ([line[name] for line in lines] for name in ("key", "source_id"))
        except ShardError as error:
            yield _Finding(index, str(error))
        if lines is not None:
            if len(lines) != samples:
                yield _Finding(index, f"has {len(lines)} rows, the sidecar says {samples} samples")
            kept = {str(clip.clip_id) for row in outcomes or () for clip in row.clips if clip.status == "kept"}
            for key in sorted({*self.keys} ^ kept):
                where = "kept but not in the shard" if key in kept else "in the shard but not kept"
                yield _Finding(sidecar, f"by the outcomes of its rows this sample is {where}", key)
        if tar_path(self.part) in self.document["files"] and not damaged_files(self.root, self.document):
            yield from self._content(lines)

    def _readable(self, name: str) -> bool:
        """Whether Arrow may read a file: the part has it, and it is as the sidecar says."""
        return name in self.document["files"] and name not in self.damaged

    def _content(self, lines: list[dict[str, Any]] | None) -> Iterator[_Finding]:
        """The samples of the tar, compared with their rows in columns and index."""
        tar = tar_path(self.part)
        columns = self._rows_of_columns() if self._readable(columns_path(self.part)) else None
        samples = located_samples(self.root, self.part, self.document["files"])
        try:
            for found, column, line in zip_longest(samples, columns or (), lines or ()):
                if found is None:
                    key = line["key"] if line else column[0].keys[column[1]]
                    raise ShardError(f"the tar ends before sample {key}, which columns or index hold")
                sample, ranges = found
                self.samples += 1
                wrong = chain(
                    check_sample(sample, split=self.part.split, tolerance_seconds=self.tolerance_seconds),
                    _against_columns(sample, column) if columns is not None else (),
                    self._against_index(sample, ranges, line or {}) if lines is not None else (),
                )
                for what in _or_why_not(wrong):
                    yield _Finding(tar, what, sample.key)
        except (ShardError, OSError) as error:
            yield _Finding(tar, str(error))

    def _rows_of_columns(self) -> Iterator[tuple[ColumnsBatch, int]]:
        """Each row of the columns file, as a batch and the row's number in it."""
        for _, batch in read_columns(map_file(self.root / columns_path(self.part))):
            yield from ((batch, row) for row in range(batch.rows))

    def _against_index(self, sample: Sample, ranges: ByteRanges, line: Mapping[str, Any]) -> Iterator[str]:
        """How a sample's row of the index differs from what it should be: the first column that does."""
        try:
            expected = index_row(sample, self.part, ranges, self.document)
        except ShardError as error:
            yield str(error)
            return
        for name, value in zip(INDEX_SCHEMA.names, expected, strict=True):
            if name not in line or line[name] != value:
                yield f"the index says {name} is {line.get(name)!r}, the tar says {value!r}"
                return


def _or_why_not(problems: Iterator[str]) -> Iterator[str]:
    """The problems of a sample, with what its facts hold that no sample can be written with in place of the rest: NaN,
    half a character, or too many levels."""
    try:
        yield from problems
    except (ValueError, RecursionError) as error:
        yield f"its facts are none that posecap writes: {error}"


def _counts(outcomes: list[RowOutcome] | None, document: Mapping[str, Any]) -> Iterator[str]:
    """Problems of a sidecar's ``outcomes`` (None where they cannot be read): one that is not known or contradicts its
    clips, and counts that are not those of the rows."""
    if outcomes is None:
        yield "does not give the outcome of each row"
        return
    for outcome in outcomes:
        of_clips = {clip.status for clip in outcome.clips}
        if not {outcome.status, *of_clips} <= set(STATUSES):
            statuses = sorted({outcome.status, *of_clips})
            yield f"row {outcome.row_id} has an unknown outcome among {statuses}"
        if (outcome.status == "kept") != ("kept" in of_clips):
            of_them = "a clip of it is kept" if "kept" in of_clips else "none of its clips is kept"
            yield f"row {outcome.row_id} is {outcome.status}, although {of_them}"
    if tally(outcomes).as_json() != document.get("counts"):
        yield "its counts are not those of its rows"


def _against_columns(sample: Sample, column: tuple[ColumnsBatch, int] | None) -> Iterator[str]:
    """How a sample differs from its row of the columns file, a batch and a number in it; None where that has ended."""
    if column is None:
        yield "is not in the columns file"
        return
    batch, row = column
    if batch.keys[row] != sample.key:
        yield f"the columns file has {batch.keys[row]} in its place"
        return
    for name, array in arrays_of(sample).items():
        other = batch.array(name, row)
        if name == "text" and len(other) == len(array) == 0:
            continue  # columns do not tell how long the vectors of no captions are
        # Bytes, so that -0.0 and 0.0 differ and NaN is itself.
        if other.shape != array.shape or not np.array_equal(other.view(np.uint8), array.view(np.uint8)):
            yield f"{name} in the tar is not {name} in the columns file"
    as_in_0_1 = replace(sample, facts=legacy.facts_of_format_1(sample.facts))
    if batch.facts(row).encode() not in (facts_json(sample), facts_json(as_in_0_1)):
        yield "facts in the tar are not the facts in the columns file"


@dataclass(frozen=True)
class VerifyResult:
    """How much was checked until the end or until ``max_problems`` were found (``size_bytes`` without sidecars), and
    the problems: none in a sound dataset."""

    parts: int
    samples: int
    size_bytes: int
    problems: tuple[Problem, ...]


def verify(location: Location, *, tolerance_seconds: float = 0.05, max_problems: int = 1000) -> VerifyResult:
    """Check every file, sample and count of a dataset.

    Every file has the hash given in its sidecar; tar, columns and index hold the same samples, finite, of consistent
    shapes, with times within their clips; every row has one outcome and the counts add up; no key is in two parts;
    every file under ``data``, ``index``, ``results`` and ``extra`` is listed in a sidecar; ``dataset.json`` lists the
    parts, and ``extra.json`` the extra members, which are of these samples and captions; and removed clips are gone.
    Previews, card, report and ledger are not part of what is checked. A dataset that is being built meanwhile has
    problems.

    Args:
        tolerance_seconds: how far frames may lie outside their clip's span; by default as far as
            :class:`posecap.stages.pack.Pack` lets them by default.
        max_problems: stop after this many, at least 1.

    Raises:
        StorageError: an object store fails.
        OSError: a folder, or the list of removed clips, cannot be read. Other files that cannot be are problems.
    """
    verifier = _Verifier(open_storage(location), tolerance_seconds)
    problems = tuple(islice(verifier.problems(), max_problems))
    return VerifyResult(verifier.parts, verifier.samples, verifier.size_bytes, problems)


@dataclass
class _Verifier:
    """One pass over a dataset; collects keys and sidecars of all parts to compare them.

    Attributes:
        parts, samples, size_bytes: as in :class:`VerifyResult`.
        named: files that belong to a part. A damaged sidecar names none, so all files of its part are reported too.
        listed: what ``dataset.json`` should say of each part, by its name; ``samples`` is None of a part whose sidecar
            cannot be read, of which nothing can be said.
        keys, owners: the keys (an Arrow array of strings) of each part whose sidecar can be read, and that part.
    """

    storage: Storage
    tolerance_seconds: float
    parts: int = 0
    samples: int = 0
    size_bytes: int = 0
    named: set[str] = field(default_factory=set)
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: list[Any] = field(default_factory=list)
    owners: list[PartName] = field(default_factory=list)
    tombstones: Tombstones = field(default_factory=Tombstones)

    def problems(self) -> Iterator[Problem]:
        """Problems of each part, then of all together."""
        try:
            self.tombstones = read_tombstones(self.storage)
        except ShardError as error:
            yield Problem(TOMBSTONES, str(error), "whether removed clips are gone was not checked")
        for part in committed(self.storage):
            yield from self._part(part)
        yield from self._duplicates()
        yield from self._list()
        yield from self._extra()
        yield from self._orphans()

    def _part(self, part: PartName) -> Iterator[Problem]:
        """Problems of one part, whose keys and files are remembered."""
        self.parts += 1
        self.named.add(sidecar_path(part))
        self.listed[str(part)] = {"part": str(part), "samples": None}
        document = self._sidecar(part)
        if isinstance(document, Problem):
            yield document
            return
        self.listed[str(part)]["samples"] = document["samples"]
        self.named.update(document["files"])
        with _local_files(self.storage, document["files"]) as root:
            damaged = []
            for name, entry in document["files"].items():
                what = self._changed(root / name, entry)
                if what:
                    damaged.append(name)
                    yield _problem(part, name, what)
            check = _PartCheck(root, part, document, damaged, self.tolerance_seconds)
            for found in check.run():
                yield _problem(part, *found)
        yield from self._results(part, document)
        self.samples += check.samples
        self.owners.append(part)
        self.keys.append(pa.array(check.keys, pa.string()))
        # A key that was removed by its beginning alone, as posecap 0.1 recorded it.
        beginnings = tuple(key for key in self.tombstones.keys if len(key) < _KEY_DIGITS)
        for key, source in zip(check.keys, check.sources, strict=True):
            if self.tombstones.covers(key, source):
                remedy = f"run `posecap remove {key}` again"
                yield Problem(index_path(part), "was removed, but the part still holds it", remedy, key)
            elif beginnings and key.startswith(beginnings):
                begins = next(short for short in beginnings if key.startswith(short))
                what = f"{TOMBSTONES} names the beginning {begins!r} of its key only, so it was not removed"
                yield Problem(index_path(part), what, f"run `posecap remove {begins}` again", key)

    def _results(self, part: PartName, document: Mapping[str, Any]) -> Iterator[Problem]:
        """Problems of a part's stored results; a copy of a dataset need not have them.

        Args:
            document: the part's sidecar.
        """
        name, entry = results_path(part), document.get("results")
        if entry is None or self.storage.size(name) is None:
            return
        self.named.add(name)
        with _local_files(self.storage, [name]) as root:
            what = self._changed(root / name, entry)
        if what:
            yield Problem(name, what, "delete it: samples are in other files, and an update takes the videos instead")
            return
        results = read_results_list(self.storage, part)
        stored = {one.row_id: one.results.source_id for one in results.entries if one.results} if results else {}
        for source in sorted({*stored.values()} & self.tombstones.sources.keys()):
            what = f"holds results of the video {source}, which was removed"
            yield Problem(name, what, f"run `posecap remove --source {source}` again")
        for row in outcomes_of(part, document.get("rows")):
            for clip in row.clips:
                if clip.clip_id in self.tombstones.keys and row.row_id in stored:
                    what = f"holds results of the row {row.row_id}, of which a clip was removed"
                    yield Problem(name, what, f"run `posecap remove {clip.clip_id}` again", clip.clip_id)

    def _sidecar(self, part: PartName) -> dict[str, Any] | Problem:
        """A part's sidecar, or why it cannot be read."""
        name = sidecar_path(part)
        try:
            content = self.storage.read(name, limit=MAX_DOCUMENT_BYTES)
            entry = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
            self.listed[str(part)]["sidecar"] = entry
            return read_sidecar(self.storage, part)
        except FileNotFoundError:
            return Problem(name, "was removed while the dataset was checked", _CHECK_AGAIN)
        except StorageError:
            raise
        except (ShardError, OSError) as error:
            return _problem(part, name, str(error))

    def _changed(self, path: Path, entry: Mapping[str, Any]) -> str:
        """How a file differs from its entry in the sidecar; empty text if it does not."""
        try:
            if path.is_symlink() or not path.is_file():
                return "is missing, or is not a regular file"
            size = path.stat().st_size
            self.size_bytes += size
            if size != entry["size_bytes"]:
                return f"has {size} bytes, the sidecar says {entry['size_bytes']}"
            if file_sha256(path) != entry["sha256"]:
                return "has changed since it was written: its SHA-256 is not the sidecar's"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return ""

    def _duplicates(self) -> Iterator[Problem]:
        """Keys that occur more than once. All keys are kept in memory, as Arrow strings."""
        if not self.keys:
            return
        counted = pc.value_counts(pa.chunked_array(self.keys))
        twice = counted.filter(pc.greater(counted.field("counts"), 1)).field("values")
        for key in twice.to_pylist():
            owned = zip(self.owners, self.keys, strict=True)
            owners = [part for part, keys in owned if pc.index(keys, key).as_py() >= 0]
            where = ", ".join(map(str, owners))
            # A key stands for one span of one row of one source, so that either part may go: always the last.
            yield _problem(owners[-1], index_path(owners[-1]), f"several samples have this key, in {where}", key)

    def _list(self) -> Iterator[Problem]:
        """Problems of ``dataset.json``."""
        if self.storage.size(DATASET_LIST) is None:
            yield Problem(DATASET_LIST, "is missing: the build has not been finished", "run `posecap build` again")
            return
        try:
            document = read_document(self.storage, DATASET_LIST, remedy=_REWRITE_LIST)
        except ShardError as error:
            yield Problem(DATASET_LIST, str(error), _REWRITE_LIST)
            return
        try:
            listed = {str(entry["part"]): entry for entry in document["parts"]}
        except (KeyError, TypeError, RecursionError) as error:
            yield Problem(DATASET_LIST, f"does not list parts: {error!r}", _REWRITE_LIST)
            return
        for name in sorted(listed.keys() | self.listed.keys()):
            on_disk = self.listed.get(name)
            if on_disk is not None and on_disk["samples"] is None:
                continue  # its sidecar cannot be read, which is reported already
            if listed.get(name) != on_disk:
                yield Problem(DATASET_LIST, f"its entry for part {name} differs from the files on disk", _REWRITE_LIST)

    def _extra(self) -> Iterator[Problem]:
        """Problems of extra members, and of their list."""
        stored = stored_members(self.storage)
        for member, parts in stored.items():
            for part in parts:
                self.named |= {extra_path(member, part), extra_sidecar_path(member, part)}
                for what in self._extra_part(member, part):
                    yield Problem(extra_path(member, part), what, _ADD_AGAIN)
        if not stored and self.storage.size(EXTRA_LIST) is None:
            return
        try:
            listed = {member: [*one.parts] for member, one in read_extra_list(self.storage).items()}
            if listed != stored:
                yield Problem(EXTRA_LIST, "does not list the extra members that there are", _ADD_AGAIN)
        except ShardError as error:
            yield Problem(EXTRA_LIST, str(error), _ADD_AGAIN)

    def _extra_part(self, member: MemberName, part: PartName) -> Iterator[str]:
        """What is wrong with an extra member of a part's samples."""
        try:
            sidecar = read_extra_part(self.storage, member, part)
        except ShardError as error:
            yield str(error)
            return
        if sidecar is None:  # removed meanwhile
            return
        name = extra_path(member, part)
        with _local_files(self.storage, [name]) as root:
            if what := self._changed(root / name, sidecar.file):
                yield what
                return
        try:
            table = Dataset(self.storage).part_index(part, ["key", "source_id", "captions"])
        except (ShardError, FileNotFoundError):
            yield f"part {part} has no index that can be read"
            return
        kept = table.filter(self.tombstones.kept(table))
        try:
            yield from check_extra(self.storage, sidecar, read_extra(self.storage, member, part), kept)
        except ShardError as error:
            yield str(error)

    def _orphans(self) -> Iterator[Problem]:
        """Files that belong to no part; those of a part whose sidecar is damaged are among them."""
        for top in (*PART_FOLDERS, EXTRA_FOLDER):
            for file in self.storage.list(top):
                if file.name not in self.named:
                    yield Problem(file.name, ORPHAN, "run `posecap build` again, or delete it")


@contextmanager
def _local_files(storage: Storage, names: Iterable[str]) -> Iterator[Path]:
    """The folder of a part's files: the dataset's own, or one to which remote files are copied for the block."""
    if isinstance(storage, LocalStorage):
        yield storage.root
        return
    with tempfile.TemporaryDirectory(dir=scratch_folder()) as folder:
        for name in names:
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            # One that is missing is found to be so in the folder.
            with suppress(FileNotFoundError), storage.open(name) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy, _BLOCK_BYTES)
        yield Path(folder)


def _is_of_no_use(problem: Problem) -> bool:
    """Whether the problem's file can be moved aside and nothing is made again."""
    return problem.what == ORPHAN or problem.file.startswith((f"{RESULTS_FOLDER}/", f"{EXTRA_FOLDER}/"))


def _to_move(problem: Problem) -> tuple[str, ...]:
    """Files to move aside with the problem's, in this order: of an extra member its sidecar, too."""
    found = extra_file(problem.file)
    return (problem.file,) if found is None else (extra_sidecar_path(*found), extra_path(*found))


@dataclass(frozen=True)
class Repair:
    """What was done.

    Args:
        folder: to which files were moved, relative to the dataset's root; empty if none was.
        moved: their names before.
        parts: that the next build makes again.
        left: problems that only people can solve.
    """

    folder: str
    moved: tuple[str, ...]
    parts: tuple[PartName, ...]
    left: tuple[Problem, ...]


def repair(location: Location, problems: Iterable[Problem]) -> Repair:
    """Solve the problems that :func:`verify` found.

    Raises:
        DatasetLockedError: another process builds or changes the dataset.
        OSError: a file cannot be moved or written.
        ShardError: a part that still holds removed clips is damaged, which is not among ``problems``: verify again.
    """
    storage = open_storage(location)
    problems = tuple(problems)
    folder = f"{DAMAGED_FOLDER}/{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    parts = sorted({problem.part for problem in problems if problem.part is not None})
    names = [name for part in parts for name in (sidecar_path(part), *file_paths(part))]
    of_no_use = (name for problem in problems if _is_of_no_use(problem) for name in _to_move(problem))
    names += [name for name in dict.fromkeys(of_no_use) if name not in names]
    with storage.lock() as lock:
        mark_unfinished(storage)
        there = [name for name in names if storage.size(name) is not None]
        for name in there:  # sidecars first, so that no reader looks for files that are moved
            lock.check()
            storage.publish({f"{folder}/{name}": name})
        left = tuple(problem for problem in problems if problem.file == TOMBSTONES)
        if not left and read_tombstones(storage):
            remove_samples(storage, (), "")  # no further ones: those that the tombstones name and a part still holds
        try:
            write_dataset_list(storage)
            write_extra_list(storage)
        except ShardError as error:
            left += (Problem(DATASET_LIST, str(error), "run `posecap verify` again"),)
    return Repair(folder if there else "", tuple(there), tuple(parts), left)
