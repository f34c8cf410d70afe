"""Removes clips on request: resolves what is named, removes it everywhere, and verifies that nothing of it is left."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from posecap.duplicates import forget_removed
from posecap.finalize import mark_unfinished
from posecap.ledger import OWN_OF_ADD, delete_ledger
from posecap.plan_store import work_folder
from posecap.shards import Dataset, ShardError, committed, read_tombstones, remove_samples
from posecap.shards.extra import MemberName, extra_path, read_extra, read_extra_part, stored_members
from posecap.shards.part import iter_byte_ranges
from posecap.shards.paths import RESULTS_FOLDER, columns_path, index_path, results_path, tar_path, video_path
from posecap.shards.results import read_results_list
from posecap.shards.serialization import MEMBER_NAMES, VIDEO_MEMBER_NAMES, read_columns
from posecap.staging import FOLDER as STAGING_FOLDER
from posecap.staging import remove_unfinished
from posecap.storage import LocalStorage, Location, Storage, open_storage
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
