"""Removes clips permanently: keeps the list of removed clips and rewrites the parts that hold them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from posecap.outcomes import RowOutcome, tally
from posecap.shards import paths
from posecap.shards.index import read_index, read_table
from posecap.shards.part import read_part, write_part
from posecap.shards.paths import ShardError
from posecap.shards.sidecar import decode_document, encode_document, outcomes_of, read_sidecar, write_dataset_list
from posecap.storage import Location, Storage, open_storage
from posecap.types import PartName

_REMEDY = "restore it from a copy: without it removed clips would come back"


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
        document = decode_document(content, name=paths.TOMBSTONES, remedy=_REMEDY)
        tables = document.get("keys"), document.get("sources")
        for table in tables:
            if not isinstance(table, dict) or not all(isinstance(reason, str) for reason in table.values()):
                raise ShardError(f"{paths.TOMBSTONES} must hold reasons by key and by source; {_REMEDY}")
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
    """Remove clips from tars, columns and index, and keep readers and later builds from bringing them back.

    The tombstones are written first: from then on readers skip the clips, and an interrupted call can be repeated. The
    caller holds the lock of the dataset (:func:`posecap.ledger.lock_dataset`), and removes what else shows the clips
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
    if storage.size(paths.DATASET_LIST) is not None:
        write_dataset_list(storage)
    return rewritten


def _rewrite(storage: Storage, part: PartName, tombstones: Tombstones) -> bool:
    """Rewrite a part without the removed clips; False if it holds none of them."""
    try:
        table = read_index(read_table(storage, paths.index_path(part)), columns=["key", "source_id"])
    except FileNotFoundError:
        return False  # a part without samples
    removed = table.filter(pc.invert(tombstones.kept(table))).to_pylist()
    if not removed:
        return False
    reasons = {row["key"]: tombstones.reason(row["key"], row["source_id"]) for row in removed}
    kept = set(table["key"].to_pylist()) - reasons.keys()
    record = read_sidecar(storage, part)
    outcomes = [reject_removed(row, reasons) for row in outcomes_of(part, record.get("rows", []))]
    record["rows"] = [outcome.as_json() for outcome in outcomes]
    record["counts"] = tally(outcomes).as_json()
    write_part(storage, part, read_part(storage, part, kept), record=record)
    return True


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
