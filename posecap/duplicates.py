"""Near-duplicates among the clips of datasets: which show the same footage, and which of them is the best.

Clips are compared by their signatures, in two steps. Each clip has one to four vectors, the means of stretches of its
signature. A coarse index over these (spherical k-means and inverted lists, as faiss' IVF has them) gives for each
vector those that are near it, its mirror image or a part of it. Clips that are near so are then compared moment by
moment (:func:`posecap.signatures.likeness`), unless others have joined them already: a thousand copies of one clip take
a thousand comparisons, not half a million. The vectors of all clips are in memory as bytes, 48 each; signatures are in
a file. Two clips of one file whose spans overlap are near-duplicates, too, with or without signatures.

Clips in which nothing moves and that show the same picture are near-duplicates: there is nothing else to compare. Black
clips, and such of one colour, show nothing and are near-duplicates of none.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from posecap.files import scratch_folder, unused_path
from posecap.shards import INDEX_SCHEMA, Dataset, ShardError, Where
from posecap.shards.paths import MAX_TABLE_BYTES
from posecap.signatures import (
    NINE_TENTHS,
    VALUES,
    Signature,
    SignatureError,
    crops,
    is_near_duplicate,
    likeness,
    mirror,
)
from posecap.storage import Location, open_storage
from posecap.types import Floats

Numbers = NDArray[np.int64]
Bytes = NDArray[np.int8]
"""Values from -1 to 1, times 127."""

DUPLICATES_FILE: Final = "duplicates.parquet"
"""In a dataset's folder: the groups that :func:`write_groups` wrote last."""

_NEAR = 0.7
"""Cosine of two vectors from which their clips are compared. Of the footage on which it was chosen 99 % of the copies
have more with a vector of their original, and of pairs of other clips fewer than one in a thousand."""
_STRETCH_SECONDS, _MOST_STRETCHES = 2.5, 4
"""Of a clip, each of which has a vector. Our choices, as the other numbers here where nothing else is said, by no
measurement: more vectors, cells and candidates find more pairs, and take longer."""
_PROBES, _PROBES_OF_CROPS = 4, 4
"""Cells of the index that are searched for a vector or its mirror image, and for each crop of them."""
_MOST_CANDIDATES = 16
"""Vectors of a cell that are kept for one vector, the nearest: of a thousand copies each is still joined with some.
This and the number of cells for crops were chosen on the footage for choosing of ``benchmarks/duplicates.py``, among
10,000 others: of its 1,890 pairs 11 are not compared, with 12 vectors and 2 cells 33, with 24 vectors 10."""
_CROWDED, _FEWEST_CROWDED = 8, 2048
"""A cell of more vectors than so many times the mean, and than so many, is of clips that are hardly told apart, as
still ones of one camera. Comparing all of them would take time with the square of their number."""
_LANDMARKS = 256
"""Vectors of a crowded cell, evenly spaced, with which each is compared beside its neighbours in the order of clips."""
_BLOCK = 4096
"""Vectors that are compared with all centres, or with the vectors of a cell, at a time."""
_SAMPLE_PER_CENTRE, _ROUNDS, _MOST_CENTRES = 64, 5, 4096
"""Of k-means: vectors for each centre, rounds, and centres."""


class SignatureStore:
    """Signatures of N clips in a file, numbered in the order in which they are added, and their vectors in memory.

    A context manager, which deletes the file.
    """

    def __init__(self) -> None:
        self._path = unused_path(scratch_folder(), "signatures")
        self._file = self._path.open("w+b")
        self._periods: list[float] = []
        self._frames: list[int] = []
        self._stretches: list[int] = []
        self._vectors = bytearray()
        self._whole: Bytes | None = None
        self._ends: Numbers = np.zeros(0, np.int64)

    def __enter__(self) -> SignatureStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, signature: Signature) -> None:
        """Add the next clip; not after :meth:`signature` was asked."""
        values = signature.values_NK
        self._file.write(_as_bytes(values).tobytes())
        self._frames.append(len(values))
        self._periods.append(signature.period_seconds)
        count = min(_MOST_STRETCHES, len(values), max(1, round(signature.seconds / _STRETCH_SECONDS)))
        means = np.stack([part.mean(0) for part in np.array_split(values, count)])
        length = np.linalg.norm(means, axis=1)
        shown = length > 1e-6  # the others are of stretches without a picture
        self._vectors += _as_bytes(means[shown] / length[shown, None]).tobytes()
        self._stretches.append(int(shown.sum()))

    def vectors(self) -> tuple[Bytes, Numbers]:
        """(V, K) the vectors of all clips, of length 127, and (V) the number of the clip of each."""
        found = np.frombuffer(bytes(self._vectors), np.int8).reshape(-1, VALUES)
        return found, np.repeat(np.arange(len(self)), self._stretches)

    def signature(self, number: int) -> Signature:
        """The signature of one clip."""
        if self._whole is None:
            self._file.flush()
            self._whole = np.memmap(self._path, np.int8, "r").reshape(-1, VALUES)
            self._ends = np.cumsum(self._frames)
        end = int(self._ends[number])
        values = np.asarray(self._whole[end - self._frames[number] : end], np.float32)
        length = np.sqrt(np.einsum("nk,nk->n", values, values))
        return Signature(values / np.maximum(length, 1e-9)[:, None], self._periods[number])


def _as_bytes(values: Floats) -> Bytes:
    """Values from -1 to 1."""
    return np.rint(values * 127).astype(np.int8)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two clips, by number, the smaller one first, that show the same footage.

    ``picture``, ``motion`` and ``mirrored`` are those of :class:`posecap.signatures.Likeness`; of two clips of one file
    whose spans overlap 1, None and false.
    """

    first: int
    second: int
    picture: float
    motion: float | None
    mirrored: bool


def near_pairs(store: SignatureStore) -> Iterator[Pair]:
    """Pairs of near-duplicates among the clips of a store, the smaller number first: as many as join each group, and
    some more. Two clips that earlier pairs have joined are not compared."""
    last, one = -1, None
    joiner = _Joiner(len(store))
    for first, second in candidates(*store.vectors()).tolist():
        if joiner.find(first) == joiner.find(second):
            continue
        if first != last or one is None:
            last, one = first, store.signature(first)
        found = likeness(one, store.signature(second))
        if is_near_duplicate(found):
            joiner.join(first, second)
            yield Pair(first, second, found.picture, found.motion, found.mirrored)


def candidates(vectors_VK: Bytes, clip_V: Numbers) -> Numbers:
    """(P, 2) pairs of clips to compare, in order: those with vectors that are near each other, one of them mirrored or
    cropped perhaps.

    Args:
        vectors_VK: of length 127.
        clip_V: the clip of each vector.
    """
    found = [np.zeros((0, 2), np.int64)]
    if len(vectors_VK) < 2:
        return found[0]
    centres = _centres(vectors_VK)
    cell_V = _cells(vectors_VK, centres, 1)[:, 0]
    by_cell = np.argsort(cell_V, kind="stable")
    begins = np.searchsorted(cell_V[by_cell], np.arange(len(centres) + 1))
    crowd = max(_FEWEST_CROWDED, _CROWDED * len(vectors_VK) // len(centres))
    for matrix_KK, probes in _variants():
        cells = _cells(vectors_VK, centres, probes, matrix_KK)
        order = np.argsort(cells, axis=None, kind="stable")
        asked = np.searchsorted(cells.reshape(-1)[order], np.arange(len(centres) + 1))
        for cell in range(len(centres)):
            members = by_cell[begins[cell] : begins[cell + 1]]
            asking = order[asked[cell] : asked[cell + 1]] // cells.shape[1]
            for some, others in _compared(asking, members, crowd):
                pairs = _near(vectors_VK, some, others, matrix_KK)
                clips = np.sort(clip_V[pairs], axis=1)
                found.append(np.unique(clips[clips[:, 0] < clips[:, 1]], axis=0))
        found = [np.unique(np.concatenate(found), axis=0)]
    return found[0]


def _compared(asking: Numbers, members: Numbers, crowd: int) -> Iterator[tuple[Numbers, Numbers]]:
    """Blocks of the vectors that ask for those near them in a cell, and the members that each is compared with: all,
    or in a crowded cell the stretch of members around it, in the order of clips, and a few that stand for all."""
    if not len(members):
        return
    if len(members) <= crowd:
        for begin in range(0, len(asking), _BLOCK):
            yield asking[begin : begin + _BLOCK], members
        return
    asking, landmarks = np.sort(asking), members[:: -(-len(members) // _LANDMARKS)]
    for begin in range(0, len(asking), crowd // 4):
        some = asking[begin : begin + crowd // 4]
        middle = int(np.searchsorted(members, (some[0] + some[-1]) // 2))
        first = max(0, min(middle - crowd // 2, len(members) - crowd))
        yield some, members[first : first + crowd]
        yield some, landmarks


def _variants() -> list[tuple[Floats, int]]:
    """Matrices of what is looked for beside a vector itself, and in how many cells."""
    whole = np.eye(VALUES, dtype=np.float32)
    matrices = [(whole, _PROBES), *((crop, _PROBES_OF_CROPS) for crop in crops()[list(NINE_TENTHS)])]
    both = np.ones(VALUES, np.float32), mirror()
    return [(factors[:, None] * matrix, probes) for matrix, probes in matrices for factors in both]


def _turned(vectors_NK: Bytes, matrix_KK: Floats) -> Floats:
    """Vectors of length 1."""
    found = vectors_NK.astype(np.float32) @ matrix_KK.T
    turned: Floats = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)
    return turned


def _near(vectors_VK: Bytes, asking: Numbers, members: Numbers, matrix_KK: Floats) -> Numbers:
    """(P, 2) the members of a cell that are near to each asking vector."""
    cosines = _turned(vectors_VK[asking], matrix_KK) @ (vectors_VK[members].astype(np.float32) / 127).T
    if len(members) > _MOST_CANDIDATES:
        best = np.argpartition(-cosines, _MOST_CANDIDATES, axis=1)[:, : _MOST_CANDIDATES + 1]  # itself may be one
        rows, places = np.nonzero(np.take_along_axis(cosines, best, 1) >= _NEAR)
        places = best[rows, places]
    else:
        rows, places = np.nonzero(cosines >= _NEAR)
    return np.stack([asking[rows], members[places]], 1)


def _cells(vectors_VK: Bytes, centres_CK: Floats, probes: int, matrix_KK: Floats | None = None) -> NDArray[np.int32]:
    """(V, probes) the centres nearest to each vector, or to what a matrix makes of it, in no order."""
    probes = min(probes, len(centres_CK))
    found = np.empty((len(vectors_VK), probes), np.int32)
    for begin in range(0, len(vectors_VK), _BLOCK):
        block = vectors_VK[begin : begin + _BLOCK]
        cosines = (block.astype(np.float32) if matrix_KK is None else _turned(block, matrix_KK)) @ centres_CK.T
        if probes == 1:
            found[begin : begin + _BLOCK, 0] = cosines.argmax(1)
        else:
            found[begin : begin + _BLOCK] = np.argpartition(-cosines, probes - 1, axis=1)[:, :probes]
    return found


def _centres(vectors_VK: Bytes) -> Floats:
    """(C, K) centres of cells, of length 1, about the square root of the number of vectors."""
    count = max(1, min(_MOST_CENTRES, round(math.sqrt(len(vectors_VK)))))
    random = np.random.default_rng(0)  # the same centres for the same clips
    chosen = random.choice(len(vectors_VK), min(len(vectors_VK), _SAMPLE_PER_CENTRE * count), replace=False)
    sample = vectors_VK[np.sort(chosen)]
    centres: Floats = sample[random.choice(len(sample), count, replace=False)].astype(np.float32) / np.float32(127)
    for _ in range(_ROUNDS):
        cell = _cells(sample, centres, 1)[:, 0]
        order = np.argsort(cell, kind="stable")
        there, begins = np.unique(cell[order], return_index=True)
        sums = np.add.reduceat(sample[order].astype(np.float32), begins, axis=0)
        centres[there] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    return centres


# Of the index: what pairs, groups and audits need.
_CLIP_COLUMNS = (
    *("key", "split", "row_id", "uri", "source_id", "start_seconds", "end_seconds", "label", "width", "height", "T"),
    *("coverage", "mean_score"),
)


@dataclass(frozen=True, eq=False)
class Clips:
    """The N clips of one or several datasets, and the signatures of those that have one.

    Args:
        table: :class:`pyarrow.Table` of the index's columns that are needed here, and ``dataset``, its number.
        store: the signatures.
        signed_S: the row of the table of each signature.
    """

    table: Any
    store: SignatureStore
    signed_S: Numbers

    def pairs(self) -> list[Pair]:
        """Near-duplicates, by rows of the table: those of signatures (:func:`near_pairs`), and clips of one file whose
        spans overlap."""
        found = {(one.first, one.second): one for one in self._overlaps()}
        for one in near_pairs(self.store):
            first, second = int(self.signed_S[one.first]), int(self.signed_S[one.second])
            found.setdefault((first, second), Pair(first, second, one.picture, one.motion, one.mirrored))
        return [found[rows] for rows in sorted(found)]

    def _overlaps(self) -> Iterator[Pair]:
        """Clips of one file, in order of their beginnings, that begin before an earlier one has ended."""
        columns = self.table.select(["source_id", "start_seconds", "end_seconds"]).to_pydict()
        sources, starts, ends = columns["source_id"], columns["start_seconds"], columns["end_seconds"]
        last = -1
        for row in sorted(range(len(sources)), key=lambda row: (sources[row], starts[row], row)):
            if last >= 0 and sources[row] == sources[last] and starts[row] < ends[last] - _TOUCHING_SECONDS:
                yield Pair(min(last, row), max(last, row), 1.0, None, False)
            if last < 0 or sources[row] != sources[last] or ends[row] > ends[last]:
                last = row


_TOUCHING_SECONDS = 0.1
"""Clips that overlap by less are neighbours: spans are rounded, and ends are those of frames."""


def read_clips(store: SignatureStore, *locations: Location, where: str | Where | None = None) -> Clips:
    """The clips of datasets, without those that were removed; their signatures are added to ``store``.

    Args:
        where: only clips for which this condition holds (:mod:`posecap.shards.where`).

    Raises:
        WhereError: it is none.
        ShardError: a location is no dataset, a part is damaged, or a fact called signature is none.
    """
    tables, signed = [], []
    first = 0
    for number, location in enumerate(locations):
        dataset = Dataset(location)
        for part, rows in dataset.parts(where=Where.of(where)):
            table = dataset.part_index(part, list(_CLIP_COLUMNS)).take(rows)
            tables.append(table.append_column("dataset", pa.repeat(pa.scalar(number, pa.int32()), len(rows))))
            position = {row: first + place for place, row in enumerate(rows.tolist())}
            for begin, batch in dataset.column_batches(part):
                for row in range(batch.rows):
                    if begin + row in position and (text := _signature_in(batch.facts(row))) is not None:
                        try:
                            store.add(Signature.parse(text))
                        except SignatureError as error:
                            raise ShardError(f"part {part}, sample {batch.keys[row]}: {error}") from error
                        signed.append(position[begin + row])
            first += len(rows)
    schema = pa.schema([*(INDEX_SCHEMA.field(name) for name in _CLIP_COLUMNS), pa.field("dataset", pa.int32())])
    table = pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
    return Clips(table, store, np.array(signed, np.int64))


def _signature_in(facts: str) -> str | None:
    """The signature in facts as JSON text; None where there is none."""
    if '"signature"' not in facts:
        return None
    found = json.loads(facts).get("signature")
    return found if isinstance(found, str) else None


def keys_near(
    location: Location, *others: Location, split: str | None = None, compare: Literal["footage", "files"] = "footage"
) -> frozenset[str]:
    """Keys of the clips of a dataset that show footage of other datasets: those in a group of near-duplicates with
    theirs, and clips of the same files.

    Args:
        split: of the other datasets, to which clips are compared; None for all.
        compare: ``files`` looks for the same files alone, which takes no time to speak of.

    Raises:
        ShardError: a location is no dataset, or damaged.
    """
    if compare == "files":
        names = ["key", "split", "source_id"]
        own, *rest = (Dataset(one).index().to_table(columns=names) for one in (location, *others))
        there = pa.concat_tables(rest)
        there = there if split is None else there.filter(pc.equal(there["split"], split))
        return frozenset(own.filter(pc.is_in(own["source_id"], there["source_id"].combine_chunks()))["key"].to_pylist())
    with SignatureStore() as store:
        clips = read_clips(store, location, *others)
        pairs = clips.pairs()
    group = joined(clips.table.num_rows, [(pair.first, pair.second) for pair in pairs]).tolist()
    columns = clips.table.select(["key", "split", "source_id", "dataset"]).to_pydict()
    rows = list(zip(columns["dataset"], columns["split"], columns["source_id"], group, columns["key"], strict=True))
    tested = [row for row in rows if row[0] > 0 and split in (None, row[1])]
    files, groups = {row[2] for row in tested}, {row[3] for row in tested}
    return frozenset(key for dataset, _, source, of, key in rows if not dataset and (source in files or of in groups))


_VERSION, _SEARCHED_CLIPS = b"posecap.duplicates", b"clips"
"""Of the metadata of :data:`GROUPS_SCHEMA`."""
GROUPS_SCHEMA = pa.schema(
    [
        pa.field("group", pa.int32(), nullable=False),
        pa.field("best", pa.bool_(), nullable=False),
        *(INDEX_SCHEMA.field(name) for name in ("key", "split", "row_id", "uri", "label")),
        *(INDEX_SCHEMA.field(name) for name in ("start_seconds", "end_seconds")),
        pa.field("picture", pa.float64(), nullable=False),
        pa.field("mirrored", pa.bool_(), nullable=False),
    ],
    metadata={_VERSION: b"1"},
)
"""Columns of :data:`DUPLICATES_FILE`, one row for each clip of a group.

``group`` counts from 0, the largest group first; ``best`` is true for one clip of each. ``picture`` and ``mirrored``
are those of the pair by which the clip is most like another of its group (:class:`Pair`), of those that were compared.
The metadata say among how many clips they were looked for (:func:`searched_clips`).
"""


def group_clips(clips: Clips, pairs: Sequence[Pair]) -> Any:
    """The groups of clips that are joined by pairs, as a :class:`pyarrow.Table` (:data:`GROUPS_SCHEMA`), the best clip
    of each group first.

    The best clip has the greatest product of ``coverage``, ``mean_score`` and its length as a share of the group's
    longest, to two digits, so that a trimmed copy does not stand for the whole; then the largest picture, the most
    frames and the smallest key.
    """
    leader = joined(clips.table.num_rows, [(pair.first, pair.second) for pair in pairs])
    likest: dict[int, Pair] = {}
    for pair in pairs:
        for row in (pair.first, pair.second):
            if row not in likest or pair.picture > likest[row].picture:
                likest[row] = pair
    members: dict[int, list[int]] = {}
    for row in likest:
        members.setdefault(int(leader[row]), []).append(row)
    columns = clips.table.to_pydict()

    def seconds(row: int) -> float:
        return float(columns["end_seconds"][row] - columns["start_seconds"][row])

    def rank(row: int, longest: float) -> tuple[Any, ...]:
        quality = (columns["coverage"][row] or 0.0) * (columns["mean_score"][row] or 0.0)
        quality = round(quality * seconds(row) / longest, 2)
        pixels = (columns["width"][row] or 0) * (columns["height"][row] or 0)
        return -quality, -pixels, -columns["T"][row], columns["key"][row]

    in_order = [sorted(group, key=partial(rank, longest=max(map(seconds, group)))) for group in members.values()]
    in_order.sort(key=lambda group: (-len(group), columns["key"][group[0]]))
    rows = [row for group in in_order for row in group]
    copied = clips.table.take(pa.array(rows, pa.int64()))
    return pa.table(
        [
            pa.array([number for number, group in enumerate(in_order) for _ in group], pa.int32()),
            pa.array([row == group[0] for group in in_order for row in group], pa.bool_()),
            *(copied[name] for name in GROUPS_SCHEMA.names[2:-2]),
            pa.array([likest[row].picture for row in rows], pa.float64()),
            pa.array([likest[row].mirrored for row in rows], pa.bool_()),
        ],
        schema=GROUPS_SCHEMA.with_metadata({**GROUPS_SCHEMA.metadata, _SEARCHED_CLIPS: str(clips.table.num_rows)}),
    )


def searched_clips(groups: Any) -> int | None:
    """Among how many clips the groups of a table (:func:`group_clips`) were looked for, before any was removed; None
    where it does not say so."""
    text = (groups.schema.metadata or {}).get(_SEARCHED_CLIPS, b"").decode(errors="replace")
    return int(text) if text.isascii() and text.isdigit() else None


class _Joiner:
    """Things by number, which pairs join to groups."""

    def __init__(self, count: int) -> None:
        self._leader = list(range(count))

    def find(self, one: int) -> int:
        """The smallest number of the group of a thing."""
        leader = self._leader
        while leader[one] != one:
            leader[one] = leader[leader[one]]
            one = leader[one]
        return one

    def join(self, first: int, second: int) -> None:
        one, two = self.find(first), self.find(second)
        self._leader[max(one, two)] = min(one, two)


def joined(count: int, pairs: Sequence[tuple[int, int]]) -> Numbers:
    """(count) for each thing the smallest number of the things that pairs join it with, itself included."""
    joiner = _Joiner(count)
    for first, second in pairs:
        joiner.join(first, second)
    return np.array([joiner.find(one) for one in range(count)], np.int64)


def write_groups(location: Location, groups: Any) -> None:
    """Record the groups of a dataset in :data:`DUPLICATES_FILE`, from which the next plan reads them."""
    content = io.BytesIO()
    pq.write_table(groups, content, compression="zstd")
    open_storage(location).write(DUPLICATES_FILE, content.getvalue())


def read_groups(location: Location) -> Any:
    """What :func:`write_groups` wrote, as a :class:`pyarrow.Table`; None where it wrote nothing.

    Raises:
        ShardError: the file is damaged.
    """
    try:
        content = open_storage(location).read(DUPLICATES_FILE, limit=MAX_TABLE_BYTES)
    except FileNotFoundError:
        return None
    try:
        table = pq.read_table(pa.BufferReader(content))
        table.validate(full=True)
    except (pa.ArrowException, UnicodeError, OSError) as error:
        raise ShardError(f"{DUPLICATES_FILE} cannot be read: {error}; run `posecap duplicates` again") from error
    version = (table.schema.metadata or {}).get(_VERSION)
    if not table.schema.equals(GROUPS_SCHEMA) or version != GROUPS_SCHEMA.metadata[_VERSION]:
        raise ShardError(f"{DUPLICATES_FILE} has other columns than posecap writes; run `posecap duplicates` again")
    return table


def forget_removed(location: Location) -> None:
    """Take clips that are no longer in a dataset out of the groups that are recorded; what is damaged is deleted."""
    storage = open_storage(location)
    try:
        groups = read_groups(storage)
    except ShardError:
        storage.remove(DUPLICATES_FILE)
        return
    if groups is not None:
        kept = Dataset(storage).index().to_table(columns=["key"])["key"]
        write_groups(storage, groups.filter(pc.is_in(groups["key"], kept)))
