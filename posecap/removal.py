"""Removes from a dataset: clips on request, for good, and files to which nothing refers.

:func:`remove` resolves what is named, removes it everywhere, and verifies that nothing of it is left.

What ``posecap gc`` removes is found under the dataset's lock, so that no build is under way whose files it could be; a
mere list is made where nothing can be written, too. There are the kinds

* ``staged``: files of builds that were stopped (:mod:`posecap.staging`) which the ledger on this machine does not name,
  and those that it names once they are old: the rows in them are done again by a build that would have taken them;
* ``unfinished``: files of parts that were being written, which no reader sees;
* ``results``: stored results of parts that are neither built nor planned; and of all parts, where the manifest says
  ``keep_intermediates: none``, or the last build was asked to in its place;
* ``moved aside``: what ``posecap verify --repair`` moved into the folder ``damaged``, once it is old.

Tars, columns, indexes and sidecars are never removed as garbage, also where they belong to no part: ``posecap verify``
names them. Folders that are symbolic links are passed over, as the files in them may be of something else.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import pyarrow as pa
import pyarrow.compute as pc

from posecap.duplicates import forget_removed
from posecap.finalize import mark_unfinished, read_keep_intermediates
from posecap.ledger import LEDGER_FILE, OWN_OF_ADD, delete_ledger
from posecap.open_rows import staged_by
from posecap.plan_store import stored_plan, work_folder
from posecap.shards import Dataset, ShardError, committed, read_tombstones, remove_samples
from posecap.shards.extra import MemberName, extra_path, read_extra, read_extra_part, stored_members
from posecap.shards.part import iter_byte_ranges
from posecap.shards.paths import (
    EXTRA_FOLDER,
    PART_FOLDERS,
    RESULTS_FOLDER,
    columns_path,
    index_path,
    is_dataset,
    not_a_dataset,
    results_part,
    results_path,
    tar_path,
    video_path,
)
from posecap.shards.results import read_results_list
from posecap.shards.serialization import MEMBER_NAMES, VIDEO_MEMBER_NAMES, read_columns
from posecap.staging import FOLDER, remove_unfinished
from posecap.staging import FOLDER as STAGING_FOLDER
from posecap.storage import LocalStorage, Location, RemoteStorage, Storage, StoredFile, is_attempt, open_storage
from posecap.types import PartName
from posecap.verify import DAMAGED_FOLDER
from posecap.visualization.contact_sheet import CONTACT_SHEET, PREVIEW_FOLDER, remove_previews

_SHOWN = 5
"""Leftovers that a message names; it says how many more there are."""


class RemovalError(ValueError):
    """What is to be removed is not in the dataset, several clips could be meant, or something of it is left."""


@dataclass(frozen=True, kw_only=True)
class Removal:
    """What was removed and checked.

    Args:
        keys: of the clips that were named, whole.
        rewritten: parts that held clips to remove.
        indexes: number of parts whose index was read and names none of them.
        deleted: files of unfinished builds, and damaged ones that were moved aside, that were deleted, as they may have
            held clips.
    """

    keys: tuple[str, ...]
    rewritten: tuple[PartName, ...]
    indexes: int
    deleted: int


def remove(
    location: Location,
    keys: Sequence[str] = (),
    *,
    sources: Sequence[str] = (),
    videos: Sequence[str] = (),
    reason: str,
) -> Removal:
    """Remove clips from tars, videos, columns, index and pictures, for good (:func:`posecap.shards.remove_samples`).

    Nothing changes unless everything that is named is there. Afterwards the index of every part is read again, and
    tar, video and columns of each part that was rewritten; files that unfinished builds left are deleted. What was
    removed before can be named again: an interrupted call is repeated, and goes on.

    Args:
        keys: of clips, or their beginnings.
        sources: ``source_id`` of videos, all of whose clips are removed.
        videos: URIs of videos, as the index has them.
        reason: kept in the tombstones.

    Raises:
        RemovalError: no clip has a key, source or URI, or several have a beginning; then nothing was removed. Or
            something of the clips is left. Or a folder of which files would be deleted is a symbolic link.
        DatasetLockedError: the dataset is being built or changed.
        ShardError: a part is damaged.
    """
    storage = open_storage(location)
    if isinstance(storage, LocalStorage):
        _refuse_links(storage)
    with storage.lock():
        dataset = Dataset(storage)
        whole = tuple(_removable_key(dataset, key) for key in keys)
        found = [_removable_source(dataset, source) for source in sources]
        found += [source for uri in videos for source in _sources_of(dataset, storage, uri)]
        mark_unfinished(storage)
        targets = _Targets.among(storage, whole, found)
        rewritten = tuple(remove_samples(storage, whole, reason, sources=found))
        remove_previews(storage)
        forget_removed(storage)
        deleted = _delete_unfinished(storage)
        indexes = targets.check_gone(storage, rewritten)
    return Removal(keys=whole, rewritten=rewritten, indexes=indexes, deleted=deleted)


def _refuse_links(storage: LocalStorage) -> None:
    """Raise RemovalError where damaged files, stored results or staging files would be deleted behind a symbolic
    link."""
    for folder in (DAMAGED_FOLDER, RESULTS_FOLDER, STAGING_FOLDER):
        if (storage.root / folder).is_symlink():
            raise RemovalError(
                f"{storage.root / folder} is a symbolic link: files in it would be deleted that may be of something "
                "else. Delete the link, and what it leads to if that is of this dataset. Nothing was removed"
            )


def _removable_key(dataset: Dataset, beginning: str) -> str:
    """The one key that begins with ``beginning``, of a clip that is there or was removed before.

    A key that is there goes before a removed one of the same name, which an earlier version may have recorded from the
    mere beginning of a key.

    Raises:
        RemovalError: no key begins so, or several do.
    """
    recorded = dataset.tombstones.keys
    there = dataset.keys_beginning(beginning)
    if beginning in there:
        return beginning
    removed = sorted(key for key in recorded if key.startswith(beginning) and key != beginning)
    if not there and not removed and beginning in recorded:
        return beginning
    try:
        return dataset.whole_key(beginning, among=[*there, *removed])
    except ShardError as error:
        raise RemovalError(f"{error}. Nothing was removed") from None


def _removable_source(dataset: Dataset, source: str) -> str:
    """``source``, a ``source_id`` of a clip that is there or was removed before.

    Raises:
        RemovalError: no clip has it.
    """
    if source in dataset.tombstones.sources:
        return source
    for part, rows in dataset.parts():
        if pc.any(pc.equal(dataset.part_index(part, ["source_id"])["source_id"].take(rows), source)).as_py():
            return source
    raise RemovalError(
        f"{source}: no clip of {dataset.location} is of this source; give it whole, as the index has it in the column "
        "source_id. Nothing was removed"
    )


def _sources_of(dataset: Dataset, storage: Storage, uri: str) -> list[str]:
    """``source_id`` of the files of a video: several if a fetcher downloaded only the spans of rows.

    Raises:
        RemovalError: no clip in the index has this URI.
    """
    sources: set[str] = set()
    # Removed clips included: a part still holds them where an earlier call was interrupted, and this one goes on.
    for _, table in _indexes(dataset, storage, ["uri", "source_id"]):
        sources.update(table.filter(pc.equal(table["uri"], uri))["source_id"].to_pylist())
    if not sources:
        raise RemovalError(
            f"{uri}: no clip of {dataset.location} has this URI; give it exactly as the index has it in the column "
            "uri. Nothing was removed"
        )
    return sorted(sources)


def _indexes(dataset: Dataset, storage: Storage, columns: list[str]) -> Iterator[tuple[PartName, Any]]:
    """The index of every part that has one, removed clips included. Raises ShardError for one that is damaged."""
    for part in committed(storage):
        try:
            yield part, dataset.part_index(part, columns)
        except FileNotFoundError:
            continue  # a part without samples


@dataclass(frozen=True)
class _Targets:
    """Clips that are to be removed: their keys by part, of those that are there, and what was named."""

    by_part: Mapping[PartName, frozenset[str]]
    keys: frozenset[str] = field(default_factory=frozenset)
    sources: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def among(cls, storage: Storage, keys: Collection[str], sources: Collection[str]) -> _Targets:
        """Those that are named now, and all that were removed before, of which a part may still hold some."""
        known = read_tombstones(storage)
        targets = cls({}, frozenset({*keys, *known.keys}), frozenset({*sources, *known.sources}))
        by_part = {
            part: frozenset(found)
            for part, table in _indexes(Dataset(storage), storage, ["key", "source_id"])
            if (found := targets._found_in(table))
        }
        return cls(by_part, targets.keys, targets.sources)

    def check_gone(self, storage: Storage, rewritten: Collection[PartName]) -> int:
        """Read what is left, and return the number of indexes read.

        Raises:
            RemovalError: something of the clips is left.
        """
        indexes, left = 0, list[str]()
        for part, table in _indexes(Dataset(storage), storage, ["key", "source_id"]):
            indexes += 1
            left += [f"{key} in {index_path(part)}" for key in self._found_in(table)]
        for part in committed(storage):
            results = read_results_list(storage, part)
            sources = {one.results.source_id for one in results.entries if one.results} if results else set[str]()
            left += [f"{source} in {results_path(part)}" for source in sorted(sources & self.sources)]
        for member, parts in stored_members(storage).items():
            for part in parts:
                gone = self.by_part.get(part, frozenset()) | self.keys
                left += [f"{key} in {extra_path(member, part)}" for key in _keys_of_extra(storage, member, part) & gone]
        for part in {*rewritten, *self.by_part}:
            keys = self.by_part.get(part, frozenset())
            left += [f"{key} in {name}" for name, key in _keys_of(storage, part) if key in keys]
        left += [
            file.name for folder in (STAGING_FOLDER, DAMAGED_FOLDER, PREVIEW_FOLDER) for file in storage.list(folder)
        ]
        left += [CONTACT_SHEET] if storage.size(CONTACT_SHEET) is not None else []
        if left:
            shown = ", ".join(left[:_SHOWN]) + (f" and {len(left) - _SHOWN:,} more" if len(left) > _SHOWN else "")
            raise RemovalError(
                f"{storage.location}: something of the removed clips is left: {shown}; run this command again"
            )
        return indexes

    def _found_in(self, table: Any) -> list[str]:
        """Keys of the clips of an index that are to be removed."""
        keys, sources = (pa.array(sorted(names), pa.string()) for names in (self.keys, self.sources))
        found = pc.or_(pc.is_in(table["key"], value_set=keys), pc.is_in(table["source_id"], value_set=sources))
        listed: list[str] = table["key"].filter(found).to_pylist()
        return listed


def _keys_of(storage: Storage, part: PartName) -> Iterator[tuple[str, str]]:
    """File and key of every sample in the part's tar, video tar and columns."""
    for name, members in ((tar_path(part), MEMBER_NAMES), (video_path(part), VIDEO_MEMBER_NAMES)):
        if storage.size(name) is not None:
            with storage.open(name) as file:
                yield from ((name, key) for key, _ in iter_byte_ranges(file, members))
    if storage.size(columns_path(part)) is not None:
        for _, batch in read_columns(storage.map(columns_path(part))):
            yield from ((columns_path(part), key) for key in batch.keys)


def _keys_of_extra(storage: Storage, member: MemberName, part: PartName) -> frozenset[str]:
    """Keys of the samples that an extra member has a row or a reason for."""
    sidecar = read_extra_part(storage, member, part)
    return frozenset((*read_extra(storage, member, part).keys, *(sidecar.missing if sidecar else ())))


def _delete_unfinished(storage: Storage) -> int:
    """Delete staging files, files that were being written when a build died, as no build is under way now, what a
    repair moved aside, stored results of parts that are not there, and the ledger of a `posecap add` that was stopped,
    whose rows lay in staging.
    """
    damaged = [file.name for file in storage.list(DAMAGED_FOLDER)]
    of_parts = {results_path(part) for part in committed(storage)}
    damaged += [file.name for file in storage.list(RESULTS_FOLDER) if file.name not in of_parts]
    storage.remove(*damaged)
    delete_ledger(work_folder(storage) / OWN_OF_ADD)
    return len(damaged) + remove_unfinished(storage)


OLD_SECONDS: Final = 7 * 86_400.0
"""Age from which on rows of a stopped build, and damaged files, are no longer waited for. Our choice: a build
that is not started again within a week is taken for given up."""
_WRITTEN_SECONDS = 3600.0
"""Age from which on a file that was being written is left for good: a worker that lost its build may still write for
some minutes. Our choice."""
Kind = Literal["staged", "unfinished", "results", "moved aside"]
"""As the module explains them."""


@dataclass(frozen=True, slots=True)
class Garbage:
    """A file that can go: its name, relative to the dataset's root, and the bytes that its removal frees: none, where
    they are those of a part's file, too."""

    name: str
    kind: Kind
    size_bytes: int


def collect_garbage(
    location: Location, *, old_seconds: float = OLD_SECONDS, mode: Literal["remove", "list"] = "remove"
) -> list[Garbage]:
    """Remove what nothing refers to; returns it, sorted by kind and name.

    Args:
        old_seconds: age of what is old; 0 for everything.
        mode: ``list`` removes and writes nothing, and looks at the lock without taking it.

    Raises:
        ShardError: it is no dataset; nothing was removed.
        DatasetLockedError: a build is under way, or another process changes the dataset; nothing was removed.
        PlanError: the plan is damaged.
        OSError, StorageError: the disk or store fails.
    """
    storage = open_storage(location)
    if not is_dataset(storage):
        raise ShardError(not_a_dataset(storage))
    if mode == "list":
        storage.check_unlocked()
        return _garbage(storage, old_seconds, now=time.time())
    with storage.lock() as lock:
        found = _garbage(storage, old_seconds, now=storage.now())
        lock.check()
        storage.discard([one.name for one in found])
        if isinstance(storage, RemoteStorage):
            storage.remove_unfinished_uploads()
        if isinstance(storage, LocalStorage):
            _remove_empty_folders(storage)
    return found


def _garbage(storage: Storage, old_seconds: float, *, now: float) -> list[Garbage]:
    """Files that can go, sorted. ``now`` is by the clock of disk or store, or nearly so where that takes writing."""
    return sorted(_each_that_can_go(storage, old_seconds, now), key=lambda one: (one.kind, one.name))


def _each_that_can_go(storage: Storage, old_seconds: float, now: float) -> Iterator[Garbage]:
    """The files of :func:`_garbage`, folder by folder."""
    needed, of_parts = _needed_by_next_build(storage), _parts_with_results(storage)

    def is_old(file: StoredFile, seconds: float) -> bool:
        """Whether it was written so long ago, or at a time that the store does not tell."""
        return file.modified is None or now - file.modified >= seconds

    def can_go(file: StoredFile, kind: Kind) -> bool:
        """As the module explains its kind."""
        if kind == "unfinished":
            return is_attempt(file.name) and is_old(file, min(old_seconds, _WRITTEN_SECONDS))
        if kind == "results":
            part = results_part(file.name)
            return part is not None and part not in of_parts
        if kind == "staged":
            unneeded = needed is not None and file.name not in needed
            return unneeded or (is_old(file, old_seconds) and _folder_is_old(storage, file, now - old_seconds))
        return is_old(file, old_seconds)

    folders: list[tuple[str, Kind]] = [(FOLDER, "staged"), (RESULTS_FOLDER, "results"), (DAMAGED_FOLDER, "moved aside")]
    folders += [(folder, "unfinished") for folder in (*PART_FOLDERS, EXTRA_FOLDER)]
    for folder, kind in folders:
        if _is_link(storage, folder):
            continue
        for file in storage.list(folder):
            if can_go(file, kind):
                yield Garbage(file.name, kind, _freed(storage, file))


def _folder_is_old(storage: Storage, file: StoredFile, before: float) -> bool:
    """Whether nothing was put beside a staging file since ``before``. What a build takes over from parts that it
    replaces are further names for their files, which are as old as these parts on local disk. A copy in a store is
    new."""
    if not isinstance(storage, LocalStorage):
        return True
    try:
        return (storage.root / file.name).parent.stat().st_mtime <= before
    except FileNotFoundError:
        return True


def _is_link(storage: Storage, folder: str) -> bool:
    return isinstance(storage, LocalStorage) and (storage.root / folder).is_symlink()


def _needed_by_next_build(storage: Storage) -> frozenset[str] | None:
    """Staging files that the next build or `posecap add` takes rows from; None without a ledger, by which that is
    known."""
    paths = [work_folder(storage) / name for name in (LEDGER_FILE, OWN_OF_ADD)]
    there = [path for path in paths if path.is_file()]
    return frozenset().union(*map(staged_by, there)) if there else None


def _parts_with_results(storage: Storage) -> set[PartName]:
    """Parts whose stored results a later build may use: those that are built or planned; none where the dataset's
    manifest, or the last build's option, keeps no results."""
    if read_keep_intermediates(storage) == "none":
        return set()
    plan = stored_plan(storage)
    return {*committed(storage), *(() if plan is None else (part.name for part in plan.parts()))}


def _freed(storage: Storage, file: StoredFile) -> int:
    """Bytes that the removal of a file frees: on local disk none where another name is left for them."""
    if not isinstance(storage, LocalStorage):
        return file.size_bytes
    try:
        found = (storage.root / file.name).lstat()  # of a link only the link goes
        return found.st_size if found.st_nlink == 1 else 0
    except FileNotFoundError:
        return 0


def _remove_empty_folders(storage: LocalStorage) -> None:
    """Remove folders of which nothing is left."""
    for top in (FOLDER, DAMAGED_FOLDER, *PART_FOLDERS, EXTRA_FOLDER, PREVIEW_FOLDER):
        if _is_link(storage, top):
            continue
        within = (path for path in (storage.root / top).rglob("*") if path.is_dir() and not path.is_symlink())
        folders = [storage.root / top, *within]
        for folder in reversed(folders):  # those that are within others first
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
