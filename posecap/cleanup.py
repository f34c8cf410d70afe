"""Removes what nothing refers to from a dataset's folder or bucket: for ``posecap gc``.

All of it is found under the dataset's lock, so that no build is under way whose files it could be; a mere list is made
where nothing can be written, too. There are the kinds

* ``staged``: files of builds that were stopped (:mod:`posecap.staging`) which the ledger on this machine does not name,
  and those that it names once they are old: the rows in them are done again by a build that would have taken them;
* ``unfinished``: files of parts that were being written, which no reader sees;
* ``results``: stored results of parts that are neither built nor planned; and of all parts, where the manifest says
  ``keep_intermediates: none``, or the last build was asked to in its place;
* ``moved aside``: what ``posecap verify --repair`` moved into the folder ``damaged``, once it is old.

Tars, columns, indexes and sidecars are never removed, also where they belong to no part: ``posecap verify`` names them.
Folders that are symbolic links are passed over, as the files in them may be of something else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from posecap.finalize import read_keep_intermediates
from posecap.ledger import LEDGER_FILE, OWN_OF_ADD
from posecap.open_rows import staged_by
from posecap.plan_store import stored_plan, work_folder
from posecap.shards import ShardError, committed
from posecap.shards.paths import (
    EXTRA_FOLDER,
    PART_FOLDERS,
    RESULTS_FOLDER,
    is_dataset,
    not_a_dataset,
    results_part,
)
from posecap.staging import FOLDER
from posecap.storage import LocalStorage, Location, RemoteStorage, Storage, StoredFile, is_attempt, open_storage
from posecap.types import PartName
from posecap.verify import DAMAGED_FOLDER

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
    for top in (FOLDER, RESULTS_FOLDER, DAMAGED_FOLDER):
        if _is_link(storage, top):
            continue
        within = (path for path in (storage.root / top).rglob("*") if path.is_dir() and not path.is_symlink())
        folders = [storage.root / top, *within]
        for folder in reversed(folders):  # those that are within others first
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
