"""Looks for footage that stands in several splits of a dataset: leaks, by which a test measures what was trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from posecap.duplicates import Clips, Pair, SignatureStore, joined, read_clips, read_groups, searched_clips
from posecap.shards import Dataset, Where
from posecap.storage import Location

Kind = Literal["source_video", "near_duplicate", "group"]
"""See :class:`Leak`."""


@dataclass(frozen=True)
class Leak:
    """Clips in several splits that should be in one.

    Args:
        kind: ``source_video``: they are of one file, or of one URI; ``near_duplicate``: their footage is the same by
            their signatures, or overlaps in time; ``group``: they have the same value of a column.
        what: they share: the URI, or column and value; of near-duplicates empty.
        clips: number of clips by split.
        keys: of a clip of each split.
    """

    kind: Kind
    what: str
    clips: Mapping[str, int]
    keys: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} in {split}" for split, count in self.clips.items())
        return f"{self.kind}  {self.what or 'the same footage'}: {counts}, such as {' '.join(self.keys)}"


@dataclass(frozen=True)
class Audit:
    """What was found, and what could be looked at.

    Args:
        clips, splits: of the dataset.
        signed: clips with a signature, where these were compared; the others are compared by file, URI and span alone.
            Where near-duplicates are recorded, clips among which they were looked for.
        columns: those of which equal values were looked for.
        leaks: by kind, of each those with most clips first.
        near: whether clips were compared, or near-duplicates are those recorded in the dataset, or none are known.
    """

    clips: int
    splits: tuple[str, ...]
    signed: int
    columns: tuple[str, ...]
    leaks: tuple[Leak, ...]
    near: Literal["compared", "recorded", "unknown"] = "compared"

    @property
    def is_complete(self) -> bool:
        """Whether near-duplicates are known of all clips."""
        return self.near != "unknown" and self.signed >= self.clips

    @property
    def checked(self) -> str:
        """What was looked at, in words."""
        looks = ["source videos", *(f"column {column}" for column in self.columns)]
        if self.near == "recorded":
            among = (
                ""
                if self.signed >= self.clips
                else f" among {self.signed:,} clips, before others were added: run it again"
            )
            looks.append(f"near-duplicates that `posecap duplicates` found{among}")
        elif self.near == "unknown":
            looks.append("no near-duplicates, for which `posecap leakage` looks")
        elif self.signed == self.clips:
            looks.append("near-duplicates by signatures")
        elif self.signed:
            looks.append(f"near-duplicates by signatures of {self.signed:,} of {self.clips:,} clips")
        else:
            looks.append("no near-duplicates, as no clip has a signature")
        return ", ".join(looks)


Values = Mapping[str, Collection[str]]
"""Of a column of the manifest's tables: all that rows of a video have, by its URI. A clip has those of its video."""


def audit(location: Location, *, groups: Mapping[str, Values] | None = None, where: str | Where | None = None) -> Audit:
    """Look for leaks between the splits of a dataset, wherever its splits come from.

    Args:
        groups: values by the name of a column.
        where: only among clips for which this condition holds (:mod:`posecap.shards.where`).

    Raises:
        WhereError: it is none.
        ShardError: it is no dataset, or damaged.
    """
    with SignatureStore() as store:
        clips = read_clips(store, location, where=where)
        return audit_clips(clips, clips.pairs(), groups=groups)


def audit_clips(clips: Clips, pairs: Sequence[Pair], *, groups: Mapping[str, Values] | None = None) -> Audit:
    """:func:`audit` of clips that are read and compared already."""
    leader = joined(clips.table.num_rows, [(pair.first, pair.second) for pair in pairs])
    return _audit(clips.table, pa.array(leader), groups or {}, signed=len(clips.signed_S))


def audit_recorded(location: Location, *, index: Any = None) -> Audit:
    """What the index tells, and the near-duplicates that `posecap duplicates` has recorded: no clips are compared.

    Args:
        index: its columns ``key``, ``split``, ``uri`` and ``source_id`` where they are read already, as
            :class:`pyarrow.Table`.

    Raises:
        ShardError: it is no dataset, or damaged.
    """
    columns = pa.schema([(name, pa.string()) for name in ("key", "split", "uri", "source_id")])
    if index is None:
        index = Dataset(location).index().to_table(columns=columns.names)
    table = index.select(columns.names).cast(columns)
    recorded = read_groups(location)
    if recorded is None:
        return replace(_audit(table, pa.nulls(table.num_rows, pa.int32()), {}, signed=0), near="unknown")
    known = dict(zip(recorded["key"].to_pylist(), recorded["group"].to_pylist(), strict=True))
    near = pa.array([known.get(key) for key in table["key"].to_pylist()], pa.int32())
    signed = searched_clips(recorded)
    return replace(_audit(table, near, {}, signed=table.num_rows if signed is None else signed), near="recorded")


def _audit(table: Any, near: Any, groups: Mapping[str, Values], *, signed: int) -> Audit:
    """Of clips of an index, with a value for each that near-duplicates share."""
    leaks = [Leak("source_video", uri, counts, keys) for uri, counts, keys in _in_several(table, table["uri"])]
    named = {leak.what for leak in leaks}
    found = list(_in_several(table, table["source_id"]))
    names: dict[str, set[str]] = {source: set() for source, _, _ in found}
    shared = table.filter(pc.is_in(table["source_id"], value_set=pa.array(list(names), pa.string())))
    for source, uri in zip(shared["source_id"].to_pylist(), shared["uri"].to_pylist(), strict=True):
        names[source].add(uri)
    for source, counts, keys in found:
        if not named & names[source]:
            leaks.append(Leak("source_video", " and ".join(sorted(names[source])[:2]), counts, keys))
    leaks += [Leak("near_duplicate", "", counts, keys) for _, counts, keys in _in_several(table, near)]
    for column, values in groups.items():
        of_clips = pa.array([list(values.get(uri, ())) for uri in table["uri"].to_pylist()], pa.list_(pa.string()))
        clips_with_values = table.select(["split", "key"]).take(pc.list_parent_indices(of_clips))
        several = _in_several(clips_with_values, pc.list_flatten(of_clips))
        leaks += [Leak("group", f"{column} {value}", counts, keys) for value, counts, keys in several]
    splits = tuple(sorted(pc.unique(table["split"]).to_pylist()))
    return Audit(table.num_rows, splits, signed, tuple(groups), tuple(leaks))


def _in_several(table: Any, values: Any) -> Iterator[tuple[Any, dict[str, int], tuple[str, ...]]]:
    """Each value that clips of several splits have, with their number by split and a key of each; the values with most
    clips first. Clips without a value are left out."""
    found = pa.table({"value": values, "split": table["split"], "key": table["key"]})
    # Sorting takes less memory than grouping a million values, so only those of several splits are grouped.
    order = pc.sort_indices(found, sort_keys=[("value", "ascending"), ("split", "ascending")])
    value, split, pairs = found["value"].take(order), found["split"].take(order), max(found.num_rows - 1, 0)
    same = pc.equal(value.slice(1), value.slice(0, pairs))
    others = pc.and_(same, pc.not_equal(split.slice(1), split.slice(0, pairs)))
    several = pc.unique(value.slice(1).filter(others))
    found = found.filter(pc.is_in(found["value"], value_set=several))
    each = found.group_by(["value", "split"]).aggregate([("key", "count"), ("key", "min")])
    by_value: dict[Any, list[tuple[str, int, str]]] = {}
    for row in each.to_pylist():
        by_value.setdefault(row["value"], []).append((row["split"], row["key_count"], row["key_min"]))
    for value, rows in sorted(by_value.items(), key=lambda item: (-sum(count for _, count, _ in item[1]), item[0])):
        rows.sort()
        yield value, {split: count for split, count, _ in rows}, tuple(key for _, _, key in rows)


MOST_COMPARED = 20_000
"""Clips up to which :func:`leaks_between` compares them itself. Our choice: ``benchmarks/duplicates.py`` measures how
long so many take."""


def leaks_between(location: Location, one: Collection[str], two: Collection[str]) -> Audit:
    """An audit with only the leaks between two groups of splits.

    Near-duplicates among more than :data:`MOST_COMPARED` clips are those that `posecap duplicates` has recorded.

    Raises:
        ShardError: it is no dataset, or damaged.
    """
    few = Dataset(location).index().count_rows() <= MOST_COMPARED
    found = audit(location) if few else audit_recorded(location)
    between = [leak for leak in found.leaks if leak.clips.keys() & set(one) and leak.clips.keys() & set(two)]
    return replace(found, leaks=tuple(between))
