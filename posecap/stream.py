"""Streams a dataset's samples to a torch ``DataLoader``, and collates them into padded, masked batches."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from posecap.sample_order import Pass, Positions, Rest, Shuffle, StateError, Uneven, in_order
from posecap.shards.dataset import Dataset
from posecap.shards.extra_fields import ExtraFields
from posecap.shards.index import INDEX_SCHEMA
from posecap.shards.paths import ARRAYS, ShardError
from posecap.shards.serialization import read_array, read_captions, read_facts
from posecap.shards.where import Where
from posecap.storage import Location
from posecap.terminal import nearest
from posecap.types import Caption, PartName, Sample

Field = Literal["joints", "pts", "video", "text", "captions", "facts"]
FIELDS: tuple[Field, ...] = get_args(Field)
Streamed = dict[str, Any]
"""One sample: its ``key`` (str) and the chosen fields.

========  ======================  =====================================================================================
joints    (M, T, J, 3) float32    x, y in pixels of the source video and score 0 to 1; zeros where a joint is not seen
pts       (T) float64             presentation times of the frames, seconds from the start of the whole video
video     (D) float32             vector of the clip's frames, of length 1
text      (C, D) float32          a vector of length 1 for each caption; D may differ from that of ``video``
captions  list of C str
facts     dict                    what the sample's ``json`` member says: source, span, layout, label, models, quality
========  ======================  =====================================================================================

Further fields are extra members (:mod:`posecap.shards.extra`), by their names: ``video.NAME`` (D) float32,
``text.NAME`` (C, D) float32 with a vector of each of ``captions``, and ``captions.NAME``, a list of str.

Arrays are torch tensors. The origin of x and y is the top left corner, y points down.
"""

_Rows = tuple[PartName, NDArray[np.int64]]
"""A part, and the rows to read of it: ascending numbers of samples within the part."""

_MOST_PASSES = 64
"""Times that an epoch can be interrupted and go on with another number of ranks, workers or samples in a batch: our
bound."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """The same number of clips of each group.

    Which clips of a group are taken follows from the stream's seed, the epoch and their keys alone, so that each epoch
    sees others of a large group, and adding clips to one group changes nothing in the others.

    Args:
        by: a column of the index with texts or whole numbers, such as ``label`` (clips without a value are a group of
            their own), or the group of each clip by its key, such as clusters; clips without one are left out.
        at_most: so many of each group, and all of a smaller one. None takes as many as the smallest group has.

    Raises:
        ValueError: ``at_most`` is below 1, or there is no such column.
    """

    by: str | Mapping[str, str | int]
    at_most: int | None = None

    def __post_init__(self) -> None:
        columns = [f.name for f in INDEX_SCHEMA if pa.types.is_string(f.type) or pa.types.is_integer(f.type)]
        if isinstance(self.by, str) and self.by not in columns:
            raise ValueError(f"balance: {self.by!r} is no column of groups: {nearest(self.by, columns)}")
        if self.at_most is not None and self.at_most < 1:
            raise ValueError(f"balance: at_most is {self.at_most}; 1 is the least")


@dataclass(frozen=True)
class _Groups:
    """Groups of the rows of all parts, one after another: ``codes`` (N) int64, -1 for none; ``hashes`` (N) uint64 of
    their keys. ``of_each`` is how many are taken of each group, at most."""

    codes: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    of_each: int

    @classmethod
    def of(cls, balance: Balance, tables: Sequence[Any]) -> _Groups:
        """From ``key``, and the column that ``balance`` is by, of the rows of each part.

        Raises:
            ValueError: no clip has a group.
        """
        keys = [key for table in tables for key in table["key"].to_pylist()]
        if isinstance(balance.by, str):
            values = pa.chunked_array([chunk for table in tables for chunk in table[balance.by].chunks])
            whole = pa.concat_arrays(values.chunks)
            numbers = pc.dictionary_encode(whole, null_encoding="encode").indices.to_numpy().astype(np.int64)
        else:
            known: dict[str | int, int] = {}
            groups = [balance.by.get(key) for key in keys]
            numbers = np.array([-1 if g is None else known.setdefault(g, len(known)) for g in groups], np.int64)
        sizes = np.bincount(numbers[numbers >= 0])
        if not len(sizes):
            raise ValueError("balance: no clip has a group; the keys are those of `posecap inspect --keys`")
        digests = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
        return cls(numbers, np.frombuffer(digests, np.uint64), balance.at_most or int(sizes.min()))

    def chosen(self, *seed: int) -> NDArray[np.bool_]:
        """Which rows are taken, (N) bool: of each group those whose keys, hashed with the seed, come first."""
        salt = np.frombuffer(hashlib.blake2b(repr(seed).encode(), digest_size=8).digest(), np.uint64)
        mixed = self.hashes ^ salt
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # of SplitMix64 (Steele, 2014)
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        order = np.lexsort((mixed ^ (mixed >> np.uint64(31)), self.codes))
        sorted_codes = self.codes[order]
        place = np.arange(len(order)) - np.searchsorted(sorted_codes, sorted_codes)
        chosen = np.zeros(len(order), np.bool_)
        chosen[order] = (place < self.of_each) & (sorted_codes >= 0)
        return chosen

    @property
    def total(self) -> int:
        """Rows that are taken."""
        return int(np.minimum(np.bincount(self.codes[self.codes >= 0]), self.of_each).sum())


def why_none(dataset: Dataset, split: str | None, where: Where | None) -> str:
    """The end of a message about a dataset without samples of the split for which the condition holds."""
    splits = sorted({part.split for part, _ in dataset.parts()})
    if not splits:
        return "; `posecap status` says why"
    of = "" if split is None else f" of split {split!r}"
    if where is not None and split in (None, *splits):
        return f"{of} where {where.text}; `posecap.index` has the values"
    return f"{of}; its splits are {', '.join(splits)}"


def rank_and_world_size() -> tuple[int, int]:
    """This process among those of a job: from torch.distributed if it is initialised, else from the environment's
    ``RANK`` and ``WORLD_SIZE``, else one alone."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class ShardStream(IterableDataset[Streamed]):
    """The samples of a dataset as a torch ``IterableDataset``: :meth:`loader` gives batches of them, and a
    ``DataLoader`` with :func:`collate` does, too.

    The parts of a split are put into a seeded order, and their samples are divided into ``world_size x workers``
    consecutive stretches of about equal size, one for each consumer: a DataLoader worker of a rank. Each consumer reads
    its stretch front to back, so that reads stay sequential, and shuffles through a seeded buffer. Which samples a
    consumer gets, and in which order, thus depends on the numbers of ranks and workers too. Every rank gets as many
    samples, and as many batches, as every other: a few are read twice where they do not divide evenly (``uneven``).
    Make a new stream after clips were removed from the dataset: this one has counted the samples of its parts.

    Args:
        location: a folder or any URL that fsspec can read, which then needs its ``dataset.json``; or what
            ``posecap.cached`` gives, which keeps the shards of a URL on local disk.
        split: one split, or None for all.
        seed: of the order of parts and of the buffer; the order is the same in every pass until ``set_epoch`` is
            called. None for the order on disk: no buffer, and ``set_epoch`` changes nothing.
        shuffle_buffer: samples that each consumer holds in memory to draw from; 1 leaves them in the order of the
            parts.
        rank: this process among ``world_size``, from 0, given together with it. Where both are None, torch.distributed
            says it if it is initialised when a pass begins, else the environment's ``RANK`` and ``WORLD_SIZE``, else
            there is one process.
        uneven: what is done where the samples do not divide evenly among the ranks. ``repeat`` reads up to
            ``world_size - 1`` samples a second time, as torch's ``DistributedSampler`` does, and ``drop`` leaves as
            many out: either way all ranks have the same number of batches, without which a job under DDP hangs or dies
            at the end of an epoch. ``keep`` reads each sample once, for evaluation; ranks may
            then differ by a sample, and a batch.
        read: ``tar`` reads the tars, those of a remote dataset by ranges, 32 MiB ahead; ``columns`` maps the columns
            file into memory, which is faster. Of a remote dataset each columns file is downloaded as a whole, into the
            memory of each consumer that reads from it or into the cache.
        fields: what each sample holds besides its key. With captions or facts, each sample's JSON is parsed. Samples
            that have none of an extra member that is asked for, as ``text.minilm``, are left out.
        captions: which captions ``captions``, ``text`` and ``text.NAME`` are of, by origin: ``row``, ``label``,
            ``template`` or a captioner's name, of the samples' own and of those that were added, of which ``text`` has
            no vectors; ``all`` for all of them. None for the samples' own.
        where: only clips for which a condition on their index row holds, such as
            ``"coverage >= 0.8 and label in ['squat', 'push-up']"`` (:mod:`posecap.shards.where`).
        balance: the same number of clips of each label (``"label"``), or what :class:`Balance` says, among those for
            which ``where`` holds.

    Raises:
        ShardError: there is no dataset, or it has no such samples; later, when a part is damaged.
        WhereError: ``where`` is no condition.
        ValueError: an argument is out of its range.
    """

    def __init__(  # noqa: PLR0913 - the package's one reader, whose arguments are independent of each other
        self,
        location: Location,
        *,
        split: str | None = "train",
        seed: int | None = 0,
        shuffle_buffer: int = 1024,
        rank: int | None = None,
        world_size: int | None = None,
        uneven: Uneven = "repeat",
        read: Literal["tar", "columns"] = "tar",
        fields: Sequence[str] = FIELDS,
        captions: Sequence[str] | None = None,
        where: str | Where | None = None,
        balance: str | Balance | None = None,
    ) -> None:
        super().__init__()
        if unknown := [name for name in fields if name not in FIELDS and "." not in name]:
            raise ValueError(f"fields: there is no {unknown[0]!r}; choose from {', '.join(FIELDS)}")
        for name, word, words in (("read", read, ("tar", "columns")), ("uneven", uneven, get_args(Uneven))):
            if word not in words:
                raise ValueError(f"{name} is {word!r}; it can be {' or '.join(map(repr, words))}")
        if shuffle_buffer < 1:
            raise ValueError(f"shuffle_buffer is {shuffle_buffer}; 1 is the least, and leaves the order of the parts")
        if (rank is None) != (world_size is None):
            given, lacking = ("rank", "world_size") if world_size is None else ("world_size", "rank")
            raise ValueError(f"{given} is given without {lacking}; give both or none")
        self._dataset = Dataset(location)
        where, self._groups = Where.of(where), None
        self._extra = ExtraFields(self._dataset, fields, captions)
        if balance is None:
            self._rows = self._extra.parts(self._dataset.parts(split, where=where))
        else:
            balance = Balance(by=balance) if isinstance(balance, str) else balance
            columns = ["key", balance.by] if isinstance(balance.by, str) else ["key"]
            found = list(self._dataset.rows(split, where=where, columns=columns))
            kept = [self._extra.kept(part, rows, table["key"]) for part, rows, table in found]
            self._rows = [(part, rows[taken]) for (part, rows, _), taken in zip(found, kept, strict=True)]
            if found:
                tables = [table.filter(taken) for (_, _, table), taken in zip(found, kept, strict=True)]
                self._groups = _Groups.of(balance, tables)
        if not self._rows:
            raise ShardError(f"{self._dataset.location} holds no samples{why_none(self._dataset, split, where)}")
        self._seed, self._shuffle_buffer, self._read, self._uneven = seed, shuffle_buffer, read, uneven
        self._rank_and_world = None if rank is None or world_size is None else (rank, world_size)
        self._fields = tuple(fields)
        self._arrays = [name for name in ARRAYS if name in fields]
        self._wants_facts = "captions" in fields or "facts" in fields or self._extra.chooses
        self._batching = (1, False)  # samples of a batch, and whether a smaller one is dropped
        # Shared with DataLoader workers that outlive an epoch, so that they see a later set_epoch.
        self._epoch = _shared_numbers(1)
        # Likewise, what a loader tells them: its rank, world size and number of passes, and five numbers of each.
        self._from_loader = _shared_numbers(3 + 5 * _MOST_PASSES)

    def loader(self, batch_size: int, *, num_workers: int = 0, drop_last: bool = False, **options: Any) -> ShardLoader:
        """Collated batches of this stream, with a state in the middle of an epoch.

        Unlike those of a plain ``DataLoader``, its workers have whole batches each, so that every pass has exactly
        ``len(loader)`` batches, all but the last one full, whatever the number of workers.

        Args:
            batch_size: samples of a batch on this rank.
            num_workers: processes that read; 0 reads in this one.
            drop_last: leave out a last batch that is smaller.
            options: further arguments of torch's ``DataLoader``; ``collate_fn`` is :func:`collate` unless given.
        """
        return ShardLoader(self, batch_size=batch_size, num_workers=num_workers, drop_last=drop_last, **options)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass; every rank must be given the same number, or samples are read twice."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        """Samples that this rank gets in one pass, over all its workers."""
        rank, world = self._rank()
        first, end = Pass(world).rank_share(self._total, rank, self._uneven)
        return end - first

    def __iter__(self) -> Iterator[Streamed]:
        rank, world = self._rank()
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        rest = Rest.of(self._total, self._uneven, self._passes(), Pass(world, workers, *self._batching))
        share = rest.share(rank, worker, self._shuffle)
        sequence = self._sequence()
        samples = chain.from_iterable(self._samples(sequence, numbers) for numbers in share.rounds)
        return in_order(share.order, zip(share.numbers.tolist(), samples, strict=True))

    @property
    def _total(self) -> int:
        """Samples of an epoch, over all ranks."""
        return sum(len(rows) for _, rows in self._rows) if self._groups is None else self._groups.total

    @property
    def _shuffle(self) -> Shuffle:
        return Shuffle(self._seed, int(self._epoch), self._shuffle_buffer)

    def _rank(self) -> tuple[int, int]:
        """(rank, world size): as given or as the loader has found them, else from torch.distributed, else from the
        environment."""
        if self._rank_and_world is not None:
            rank, world = self._rank_and_world
        elif get_worker_info() is not None and int(self._from_loader[1]):  # 0 before a loader shares its own
            rank, world = int(self._from_loader[0]), int(self._from_loader[1])
        else:
            rank, world = rank_and_world_size()
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} is not below world_size {world}")
        return rank, world

    def _passes(self) -> list[Pass]:
        """Passes through the epoch that were interrupted, as the loader shares them."""
        numbers = self._from_loader[3:].view(-1, 5)[: int(self._from_loader[2])].tolist()
        return [Pass.from_numbers(one) for one in numbers]

    def _share_with_workers(self, rank: int, world: int, passes: Sequence[Pass]) -> None:
        """Let a loader's workers know the rank and where its pass begins."""
        numbers = [number for one in passes for number in one.as_numbers()]
        self._from_loader[: 3 + len(numbers)] = torch.tensor([rank, world, len(passes), *numbers])

    def _for_loader(self, batch_size: int, drop_last: bool) -> ShardStream:
        """The same stream for a loader, which shares numbers with its own workers alone."""
        other = copy(self)
        other._batching, other._from_loader = (batch_size, drop_last), _shared_numbers(len(self._from_loader))
        return other

    def _identity(self) -> str:
        """A hash of what the order of samples follows from, besides the epoch and the numbers of a :class:`Pass`."""
        found = hashlib.blake2b(repr((self._seed, self._shuffle_buffer, self._uneven)).encode(), digest_size=16)
        for part, rows in self._rows:
            found.update(f"{part} {len(rows)} ".encode() + rows.tobytes())
        if self._groups is not None:
            found.update(self._groups.codes.tobytes() + self._groups.hashes.tobytes())
            found.update(repr(self._groups.of_each).encode())
        return found.hexdigest()

    def _sequence(self) -> list[_Rows]:
        """The parts in the order of the epoch, each with its rows of the epoch."""
        parts, epoch = self._rows, int(self._epoch)
        if self._groups is not None:
            seed = (0, 0) if self._seed is None else (self._seed, epoch)
            ends = np.cumsum([len(rows) for _, rows in parts])
            chosen = np.split(self._groups.chosen(*seed), ends[:-1])
            parts = [(part, rows[taken]) for (part, rows), taken in zip(parts, chosen, strict=True) if taken.any()]
        order = np.arange(len(parts))
        if self._seed is not None:
            np.random.default_rng([self._seed, epoch, 0]).shuffle(order)
        return [parts[number] for number in order]

    def _samples(self, sequence: Sequence[_Rows], numbers: Positions) -> Iterator[Streamed]:
        """Samples by their numbers in the epoch, ascending."""
        wanted, start = [], 0
        for part, rows in sequence:
            low, high = np.searchsorted(numbers, (start, start + len(rows)))
            if high > low:
                wanted.append((part, rows[numbers[low:high] - start]))
            start += len(rows)
        return self._from_columns(wanted) if self._read == "columns" else self._from_tar(wanted)

    def _from_tar(self, parts: Sequence[_Rows]) -> Iterator[Streamed]:
        for part, key, members in self._dataset.members(parts):
            try:
                sample: Streamed = {"key": key}
                for name in self._arrays:
                    sample[name] = torch.from_numpy(read_array(name, members[name]))
                yield self._complete(sample, part, members["json"])
            except ShardError as error:
                raise ShardError(f"part {part}, sample {key}: {error}; run `posecap verify`") from error

    def _from_columns(self, parts: Sequence[_Rows]) -> Iterator[Streamed]:
        plain = not self._wants_facts and not self._extra
        for part, batch, rows in self._dataset.columns(parts):
            for row in rows:
                sample: Streamed = {"key": batch.keys[row]}
                for name in self._arrays:
                    sample[name] = torch.from_numpy(batch.array(name, row))
                yield sample if plain else self._complete(sample, part, batch.facts(row))

    def _complete(self, sample: Streamed, part: PartName, written: memoryview | str) -> Streamed:
        """The sample with captions and facts out of its JSON and with extra members, as far as they are asked for."""
        captions: Sequence[Caption] = ()
        if self._wants_facts:
            facts = read_facts(written)
            captions = read_captions(facts)
            if "captions" in self._fields:
                sample["captions"] = [caption.text for caption in captions]
            if "facts" in self._fields:
                sample["facts"] = facts
        if self._extra:
            found = self._extra.of(part, sample["key"], captions)
            if self._extra.chooses and "text" in self._fields:
                sample["text"] = sample["text"][self._extra.own(captions)]
            chosen = ((name, value) for name, value in found.items() if name in self._fields)
            sample |= {name: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for name, v in chosen}
        return sample


class ShardLoader(DataLoader[dict[str, Any]]):
    """Batches of a :class:`ShardStream`, as :meth:`ShardStream.loader` makes it.

    Its state is a few numbers, and the same on all ranks: that of one rank is enough. A loader that goes on from it
    with the same numbers of ranks, workers and samples in a batch gives the very batches that would have followed; with
    other numbers, it gives the samples of the epoch that no rank has had, in a new order.

    Args:
        stream, batch_size, num_workers, drop_last, options: as :meth:`ShardStream.loader` takes them.
    """

    def __init__(
        self, stream: ShardStream, *, batch_size: int, num_workers: int = 0, drop_last: bool = False, **options: Any
    ) -> None:
        stream = stream._for_loader(batch_size, drop_last)
        options = {"collate_fn": collate, "batch_size": batch_size, "drop_last": drop_last, **options}
        super().__init__(stream, num_workers=num_workers, **options)
        self._stream = stream
        self._begin: tuple[Pass, ...] = ()
        """Interrupted passes of this epoch before the next one, or the one that is under way."""
        self._under_way: Pass | None = None

    def set_epoch(self, epoch: int) -> None:
        """As :meth:`ShardStream.set_epoch`. Another epoch than that of a state begins at its beginning."""
        if epoch != int(self._stream._epoch):
            self._begin, self._under_way = (), None
        self._stream.set_epoch(epoch)

    @property
    def epoch(self) -> int:
        """Of the next pass, or the one that is under way."""
        return int(self._stream._epoch)

    def __len__(self) -> int:
        """Batches that this rank gets in the next pass, or in the one under way: fewer after an interruption."""
        rank, rest = self._rest()
        return rest.batches(rank, self._stream._shuffle)

    def __iter__(self) -> Any:
        if self._under_way is not None:  # what was left of the epoch was given, or given up
            self._begin = ()
        rank, rest = self._rest()
        self._stream._share_with_workers(rank, rest.current.world_size, self._begin)
        self._under_way = rest.current
        return self._counted(super().__iter__(), rest.current)

    def _counted(self, batches: Iterator[Any], going_on: Pass) -> Iterator[Any]:
        """The batches of a pass, each of which counts in the state once it is given."""
        for number, batch in enumerate(batches, going_on.delivered + 1):
            self._under_way = replace(going_on, delivered=number)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Where the pass stands: numbers and text, for ``torch.save`` or JSON. Batches that the loop has got count."""
        _, rest = self._rest()
        passes = [*rest.ended, self._under_way] if self._under_way is not None else list(self._begin)
        return {
            "epoch": self.epoch,
            "order": self._stream._identity(),
            "passes": [one.as_numbers() for one in passes],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next pass give what was left of the epoch.

        Raises:
            StateError: the state is damaged, or that of another dataset, seed or choice of clips.
        """
        if not isinstance(state, Mapping) or state.keys() != {"epoch", "order", "passes"}:
            raise StateError("this is no state of a loader; give what state_dict() returned")
        epoch, passes = state["epoch"], state["passes"]
        if type(epoch) is not int or abs(epoch) > 1 << 62 or not isinstance(passes, list | tuple):
            raise StateError("the loader's state is damaged; begin the epoch anew")
        if len(passes) > _MOST_PASSES:
            raise StateError(f"an epoch goes on at most {_MOST_PASSES} times, not {len(passes)}; begin the next one")
        if state["order"] != self._stream._identity():
            raise StateError(
                "the state is that of another dataset, split, seed, shuffle_buffer, where, balance or uneven: open the "
                "stream as it was, or begin the epoch anew"
            )
        self._begin, self._under_way = tuple(map(Pass.from_numbers, passes)), None
        self._stream.set_epoch(epoch)

    def _rest(self) -> tuple[int, Rest]:
        """This rank, and what is left of the epoch for the next pass, or was when the one under way began."""
        rank, world = self._stream._rank()
        division = Pass(world, max(self.num_workers, 1), *self._stream._batching)
        return rank, Rest.of(self._stream._total, self._stream._uneven, self._begin, division)


def _shared_numbers(count: int) -> Tensor:
    """Zeros that other processes see change."""
    numbers = torch.zeros(count, dtype=torch.int64)
    numbers.share_memory_()  # type: ignore[no-untyped-call]
    return numbers


open_dataset = ShardStream
"""The class under the name by which ``posecap`` exports it: ``posecap.open``."""


def read_index(location: str | os.PathLike[str], split: str | None = None) -> Any:
    """The index of a dataset, one row for each sample, as a :class:`pyarrow.dataset.Dataset`; removed samples are left
    out.

    It is read where it is used: ``index.to_table(columns=["key", "label"])`` gives a :class:`pyarrow.Table` of some
    columns (with ``filter=pyarrow.compute.field("motion") > 0.2`` of some samples), ``index.head(5)`` the first,
    ``index.count_rows()`` their number, and ``index.to_batches()`` all of them in bounded memory. DuckDB, Polars and
    pandas take it, too. The columns are those of :data:`posecap.shards.INDEX_SCHEMA`.

    Raises:
        ShardError: there is no dataset, or an index is damaged. Damage beyond a file's footer raises Arrow's own errors
            when it is read.
    """
    return Dataset(location).index(split)


def read_sample(
    location: str | os.PathLike[str], key: str, *, index: Any = None, video: Literal["leave", "attach"] = "leave"
) -> Sample:
    """One sample by its key, by one range read.

    Args:
        index: what :func:`read_index` returned, or a table of all its columns, such as the samples that a loop is over:
            a lookup in a table is fastest. Without it the parts' indexes are searched in turn.
        video: ``attach`` also reads the mp4, where the dataset stores video.

    Raises:
        ShardError: no such sample, or it was removed, or it is damaged.
    """
    return Dataset(location).sample(key, index=index, video=video)


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A batch: arrays padded with zeros and stacked, everything else in lists.

    Args:
        samples: at least one, as :class:`ShardStream` yields them, all with the same fields.

    Returns:
        joints_BMTJ3 and frames_BMT, pts_BT and frames_BT, video_BD, text_BCD and captions_BC, of the fields that the
        samples have, and in the same way video.NAME_BD and text.NAME_BCD of extra members, whose captions captions_BC
        is of, too; ``key``, ``captions``, ``captions.NAME`` and ``facts`` as lists. Padded axes are as long as the
        batch's longest. The masks ``frames_BMT``, ``frames_BT`` and ``captions_BC`` are bool: True for data, False for
        padding. A frame of ``frames_BMT`` is True also where the person is not seen in it; the joints' scores say that.

    Raises:
        ShardError: samples differ in their joints or vector lengths and so do not fit one batch.
    """
    batch: dict[str, Any] = {"key": [sample["key"] for sample in samples]}
    for name in samples[0]:
        if name == "facts" or name.partition(".")[0] == "captions":
            batch[name] = [sample[name] for sample in samples]
    try:
        if "joints" in samples[0]:
            batch["joints_BMTJ3"], batch["frames_BMT"] = _pad_people([sample["joints"] for sample in samples])
        if "pts" in samples[0]:
            batch["pts_BT"], batch["frames_BT"] = _pad([sample["pts"] for sample in samples])
        for name in samples[0]:
            kind = name.partition(".")[0]
            if kind == "video":
                batch[f"{name}_BD"] = torch.stack([sample[name] for sample in samples])
            elif kind == "text":
                padded, batch["captions_BC"] = _pad(_of_one_width([sample[name] for sample in samples]))
                batch[f"{name}_BCD"] = padded
    except RuntimeError as error:
        raise ShardError(f"samples {batch['key'][0]} … do not fit one batch: {error}") from error
    return batch


def _of_one_width(texts: list[Tensor]) -> list[Tensor]:
    """Texts (C, D), those without captions with the D of the others: a columns file does not tell it."""
    width = max(text.shape[1] for text in texts)
    return [text if len(text) else text.new_zeros(0, width) for text in texts]


def _pad(tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack tensors that differ in their first axis, with a mask (B, longest) that is True where a tensor has data."""
    if len({len(tensor) for tensor in tensors}) == 1:  # which is faster
        return torch.stack(tensors), torch.ones(len(tensors), len(tensors[0]), dtype=torch.bool)
    mask = pad_sequence([torch.ones(len(tensor), dtype=torch.bool) for tensor in tensors], batch_first=True)
    return pad_sequence(tensors, batch_first=True), mask


def _pad_people(joints: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Stack (M, T, J, 3) tensors that differ in M and T, with a mask (B, M, T)."""
    if len({tensor.shape for tensor in joints}) == 1:  # which is faster
        return torch.stack(joints), torch.ones(len(joints), *joints[0].shape[:2], dtype=torch.bool)
    most_people, most_frames = (max(tensor.shape[axis] for tensor in joints) for axis in (0, 1))
    padded = joints[0].new_zeros(len(joints), most_people, most_frames, *joints[0].shape[2:])
    mask = torch.zeros(len(joints), most_people, most_frames, dtype=torch.bool)
    for number, tensor in enumerate(joints):
        people, frames = tensor.shape[:2]
        if tensor.shape[2:] != padded.shape[3:]:  # assignment would silently repeat a single joint
            raise RuntimeError(f"joints of shape {tuple(tensor.shape)} beside {tuple(joints[0].shape)}")
        padded[number, :people, :frames] = tensor
        mask[number, :people, :frames] = True
    return padded, mask
