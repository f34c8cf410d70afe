"""Divides the rows of a manifest among splits so that nothing that belongs together stands in two of them.

Rows belong together that have one URI, one value in a column that the manifest names (``group_by``), or near-duplicates
among their clips, as far as `posecap duplicates` has found these in the dataset so far. What belongs together is a
group. Its split follows from a hash of the group's name and the seed alone: the name is its first row's value of the
first column that has one, or the row's URI. So adding rows moves no others, wherever in a table they are added, unless
a new row joins two groups into one, or comes before the first row of a group that goes by several names.

The shares of splits, and of each label in them, are those that are asked for on average: with n groups of a label, the
share p of a split varies by the square root of p(1 - p)/n. No rule can do better that looks at the table alone and
whose rows never move, whatever others are added: such a rule knows nothing of a group but the group itself.

``stratify_by: label`` looks at the dataset's earlier plan, too. Groups of which a row is in it stay in that row's
split, and each new one goes to the split that lacks most rows of its commonest label. So the first plan divides every
label as its groups allow, and rows that are added later move none, but where a new row or near-duplicate joins groups
of several splits: these go to the split of the first of their rows in the table. Another seed, other ratios or other
columns divide all rows anew. What it gives follows from the table and from what was planned before: where the same
splits are wanted in another place, take the plan along, or write splits into the table, as `posecap manifest folder
--split` does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from posecap.manifest.manifest_file import AutoSplit, Manifest, ManifestError
from posecap.manifest.rows import Problems
from posecap.manifest.tables import read_table, read_tables

Hashes = NDArray[np.uint64]
"""(N,): of rows; 0 for none."""


def split_of(name: str, rule: AutoSplit) -> str:
    """The split of a group by its name."""
    return _split(_hash(name, rule.seed), rule)


def _hash(text: str, seed: int = 0) -> int:
    """64 bits of BLAKE2b over the seed and the text."""
    return int.from_bytes(hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=8).digest(), "big")


def _split(hashed: int, rule: AutoSplit) -> str:
    """The split in whose stretch of 0 to 1 a hash lies; splits take their shares in order."""
    at, end = hashed / 2**64, 0.0
    for name, share in rule.ratios:
        end += share
        if at < end:
            return name
    return rule.ratios[-1][0]


def column_values(manifest: Manifest, column: str) -> Iterator[tuple[str, str]]:
    """The URI of each row of a manifest that has a value in a column, and the value.

    Raises:
        ManifestError: as :func:`_values`.
    """
    for uris, values in _values(manifest, column):
        yield from ((uri, value) for uri, value in zip(uris, values, strict=True) if uri and value is not None)


def _values(manifest: Manifest, column: str) -> Iterator[tuple[list[str], list[str | None]]]:
    """URIs and values of a column, batch by batch, of all rows in order; a cell that no label could be has none.

    Raises:
        ManifestError: a table cannot be read, or does not have the column.
    """
    for table in manifest.tables:
        # Read as labels are: trimmed text of a bounded length.
        defaults = {name: value for name, value in table.defaults.items() if name != "label"}
        asked = replace(table, columns={**table.columns, "label": column}, defaults=defaults)
        try:
            for batch in read_table(asked, media_root=manifest.media_root, problems=Problems()):
                yield batch.column("uri").to_pylist(), batch.column("label").to_pylist()
        except ManifestError as error:
            if f"no column '{column}'" not in str(error):
                raise
            what = f"{manifest.path}: key 'group_by' names '{column}', which is no column of {table.written}"
            raise ManifestError(f"{what}; write a column that every table has, or leave it out") from error


def row_splits(
    manifest: Manifest, near: Any = None, known: Mapping[str, str] | None = None
) -> Callable[[pa.RecordBatch], pa.RecordBatch]:
    """What puts the split into batches of rows; it takes all of a manifest's, in order.

    With ``split: auto`` every row gets one. With given splits rows keep theirs, but where the manifest says
    ``near_duplicates: one_split``: those that have near-duplicates in other splits all go to the one of these splits
    that has fewest rows, as tests are smaller than what is trained on.

    Args:
        near: the groups of near-duplicates that are known (:func:`posecap.duplicates.read_groups`); None for none.
        known: splits by URI of an earlier plan with the same rule, which ``stratify_by`` keeps; None for none.

    Raises:
        ManifestError: a table cannot be read, or lacks a column of ``group_by``.
    """
    group_of_uri = _near_uris(near)
    rule = manifest.auto_split
    if rule is None:
        if manifest.near_duplicates != "one_split" or not group_of_uri:
            return lambda batch: batch
        return _InOrder(_in_one_split(manifest, group_of_uri))
    if not rule.group_by and not group_of_uri and rule.stratify_by == "none":
        return lambda batch: _with_splits(batch, [split_of(uri, rule) for uri in batch.column("uri").to_pylist()])
    return _InOrder(_grouped(manifest, rule, group_of_uri, known or {}))


class _InOrder:
    """Gives each batch the next splits of a list."""

    def __init__(self, splits: Sequence[str]) -> None:
        self._splits, self._given = splits, 0

    def __call__(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        begin = self._given
        self._given += batch.num_rows
        return _with_splits(batch, self._splits[begin : self._given])


def _with_splits(batch: pa.RecordBatch, splits: Sequence[str]) -> pa.RecordBatch:
    """The rows with these splits in place of their own."""
    at = batch.schema.get_field_index("split")
    columns = [*batch.columns[:at], pa.array(splits, pa.string()), *batch.columns[at + 1 :]]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _near_uris(near: Any) -> dict[str, str]:
    """Of each URI with near-duplicates, one of the URIs that it is joined with; itself for the first."""
    leader: dict[str, str] = {}

    def find(uri: str) -> str:
        """The first of the URIs joined with this one so far; paths to it are shortened on the way."""
        while leader.setdefault(uri, uri) != uri:
            leader[uri] = leader[leader[uri]]
            uri = leader[uri]
        return uri

    first: dict[int, str] = {}
    if near is not None:
        for group, uri in zip(near["group"].to_pylist(), near["uri"].to_pylist(), strict=True):
            one, two = find(first.setdefault(group, uri)), find(uri)
            leader[max(one, two)] = min(one, two)
    return {uri: find(uri) for uri in leader}


def _grouped(manifest: Manifest, rule: AutoSplit, group_of_uri: dict[str, str], known: Mapping[str, str]) -> list[str]:
    """The split of every row of a manifest, in order."""
    names: list[int] = []
    links: list[list[int]] = [[]]
    labels: list[str] = []
    planned: list[str | None] = []
    for batch in read_tables(manifest):
        for uri in batch.column("uri").to_pylist():
            links[0].append(_hash(group_of_uri.get(uri, uri)))
            names.append(_hash(uri, rule.seed))
            planned.append(known.get(uri))
        labels += [label or "" for label in batch.column("label").to_pylist()]
    named = np.zeros(len(names), np.bool_)
    for column in rule.group_by:
        values = [value for _, batch in _values(manifest, column) for value in batch]
        links.append([0 if value is None else _hash(f"{column}\n{value}") for value in values])
        for row, value in enumerate(values):
            if value is not None and not named[row]:
                names[row], named[row] = _hash(f"{column}\n{value}", rule.seed), True
    first = _first_rows(len(names), [np.array(link, np.uint64) for link in links])
    if rule.stratify_by == "label":
        groups = [f"{names[row]:016x}" for row in first.tolist()]
        kept: dict[str, str] = {}
        for group, split in zip(groups, planned, strict=True):
            if split is not None:
                kept.setdefault(group, split)
        return stratified(groups, labels, rule, kept)
    divided = {row: _split(names[row], rule) for row in np.unique(first).tolist()}
    return [divided[row] for row in first.tolist()]


def stratified(groups: Sequence[str], labels: Sequence[str], rule: AutoSplit, known: Mapping[str, str]) -> list[str]:
    """The split of each of N rows that are all at hand: groups stay whole, and the splits of every label, and of all
    rows, are as near to their shares as groups allow.

    Groups are divided in the order of their hashes, each into the split that lacks most rows of its commonest label,
    and of all labels, at that point.

    Args:
        groups: the name of each row's group.
        labels: of each row.
        known: splits of groups that keep theirs, as those of an earlier table; of one that is not a split of the rule,
            too.
    """
    members: dict[str, list[int]] = {}
    for row, name in enumerate(groups):
        members.setdefault(name, []).append(row)
    of_label: dict[str, Counter[str]] = {}
    of_all: Counter[str] = Counter()
    found: dict[str, str] = {}
    # Those that are known count before any that is not.
    for name in sorted(members, key=lambda name: (name not in known, _hash(name, rule.seed), name)):
        rows = members[name]
        commonest = Counter(labels[row] for row in rows).most_common(1)[0][0]
        counts = of_label.setdefault(commonest, Counter())
        totals = counts.total() + len(rows), of_all.total() + len(rows)
        lacking = {split: share * sum(totals) - counts[split] - of_all[split] for split, share in reversed(rule.ratios)}
        found[name] = known.get(name) or max(lacking, key=lambda split: lacking[split])
        counts[found[name]] += len(rows)
        of_all[found[name]] += len(rows)
    return [found[name] for name in groups]


def _first_rows(count: int, links: Sequence[Hashes]) -> NDArray[np.int64]:
    """(count) the first row of each row's group: of the rows that equal hashes join; 0 joins none."""
    first = np.arange(count)
    numbered = []
    for link in links:
        rows = np.flatnonzero(link)
        _, value = np.unique(link[rows], return_inverse=True)
        numbered.append((rows, value.reshape(-1)))
    while True:
        before = first.copy()
        for rows, value in numbered:
            smallest = np.full(int(value.max(initial=-1)) + 1, count)
            np.minimum.at(smallest, value, first[rows])
            first[rows] = np.minimum(first[rows], smallest[value])
        first = first[first]
        if (first == before).all():
            return first


def _in_one_split(manifest: Manifest, group_of_uri: dict[str, str]) -> list[str]:
    """Given splits, with those of near-duplicates made one."""
    splits: list[str] = []
    members: dict[str, list[int]] = {}
    for batch in read_tables(manifest):
        for uri, split in zip(batch.column("uri").to_pylist(), batch.column("split").to_pylist(), strict=True):
            if uri in group_of_uri:
                members.setdefault(group_of_uri[uri], []).append(len(splits))
            splits.append(split)
    sizes = Counter(splits)
    for rows in members.values():
        smallest = min({splits[row] for row in rows}, key=lambda split: (sizes[split], split))
        for row in rows:
            splits[row] = smallest
    return splits
