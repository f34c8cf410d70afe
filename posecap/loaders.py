"""A dataset in the loaders of others: webdataset, Hugging Face datasets; and Ray Data, litData and Lightning.

``posecap.webdataset`` and ``posecap.huggingface`` read the tars by their indexes, as ``posecap.open`` does: removed
clips are left out, conditions choose, object stores are read ahead, and arrays are decoded without pickle. All ranks
get as many samples, and batches, as with ``posecap.open``: samples are divided, not parts, and ``uneven`` says what is
done where they do not divide evenly.

Others need a line of their own::

    # Ray Data reads the tars itself. In a training loop of Ray Train, posecap.open knows rank and world size.
    clips = ray.data.read_webdataset(sorted(glob.glob(f"{folder}/data/train/pose-*.tar")))
    # litData: an optimized copy, for its StreamingDataset.
    parts = sorted(set(posecap.index(location, "train").to_table(columns=["part"])["part"].to_pylist()))
    litdata.optimize(functools.partial(loaders.examples, location), parts, output_dir="copy", chunk_bytes="64MB")
    # Lightning: a loader is a DataLoader, and knows rank and world size itself.
    lightning.Trainer(use_distributed_sampler=False).fit(model, posecap.open(location).loader(batch_size=32))
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from itertools import chain, cycle
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from posecap.sample_order import Pass, Uneven
from posecap.shards.dataset import Dataset
from posecap.shards.extra_fields import ExtraFields
from posecap.shards.paths import ARRAYS, ShardError, part_named, tar_path
from posecap.shards.serialization import read_array, read_captions, read_facts
from posecap.shards.where import Where
from posecap.storage import Location
from posecap.stream import rank_and_world_size, why_none

_Part = tuple[str, NDArray[np.int64]]
"""Name of a part, and its rows that are read."""
_Shard = tuple[_Part, ...]
"""What one shard of a ``datasets.IterableDataset`` reads, in this order."""


def webdataset(
    location: Location,
    *,
    split: str | None = "train",
    seed: int | None = 0,
    shuffle_buffer: int = 1024,
    uneven: Uneven = "repeat",
    where: str | Where | None = None,
    extra: Sequence[str] = (),
) -> Any:
    """The samples of a dataset as a webdataset pipeline, to be continued with ``.map``, ``.to_tuple``, ``.batched`` …

    Parts are put into a seeded order, the same on all ranks and another in each pass of a process (``WDS_EPOCH`` in the
    environment says which, else they are counted). Their samples are divided into consecutive stretches, one for each
    rank, and those among its DataLoader workers. All ranks get as many samples and, with the same number of workers, as
    many of whatever ``.batched`` makes of them.
    Samples are dicts with the names that webdataset itself reads from the tars: ``__key__``, ``__url__``, and, decoded,
    ``joints.npy``, ``pts.npy``, ``video.npy``, ``text.npy`` (arrays), ``txt`` (the first caption) and ``json`` (dict);
    of extra members ``video.NAME.npy``, ``text.NAME.npy`` and ``captions.NAME.json`` (list).

    Args:
        location: as for ``posecap.open``.
        split: one split, or None for all.
        seed: of the orders; None for the order on disk.
        shuffle_buffer: samples that each consumer holds in memory to draw from.
        uneven: as for ``posecap.open``: ``repeat`` reads up to ``world_size - 1`` samples twice, ``drop`` leaves as
            many out, and ``keep`` reads each once, so that ranks may differ by one.
        where: only clips for which a condition holds (:mod:`posecap.shards.where`).
        extra: extra members, as ``text.minilm`` (:mod:`posecap.shards.extra`), without clips that have none.

    Raises:
        ModuleNotFoundError: webdataset is not installed.
        ShardError: there is no dataset, or it has no such samples.
        ValueError: ``uneven`` is another word.
        WhereError: ``where`` is no condition.
    """
    wds = _package("webdataset")
    _check_uneven(uneven)
    dataset, condition = Dataset(location), Where.of(where)
    members = ExtraFields(dataset, extra)
    parts = members.parts(dataset.parts(split, where=condition))
    if not parts:
        raise _no_samples(dataset, split, condition)
    rows = {str(part): rows for part, rows in parts}
    pipeline = wds.compat.FluidWrapper(wds.SimpleShardList(list(rows)))
    if seed is not None:
        pipeline.append(wds.detshuffle(len(rows), initial=len(rows), seed=seed))
    pipeline.append(_Divided(rows, uneven))
    pipeline.append(_Decoded(dataset, members))
    if seed is not None and shuffle_buffer > 1:
        pipeline.append(wds.detshuffle(shuffle_buffer, initial=shuffle_buffer, seed=seed))
    return pipeline


class _Divided:
    """Cuts the stretch of a consumer out of the parts of a pass, whose names and order it gets."""

    def __init__(self, rows: dict[str, NDArray[np.int64]], uneven: Uneven) -> None:
        self._rows, self._uneven = rows, uneven

    def __call__(self, source: Iterator[Any]) -> Iterator[_Part]:
        rank, world, worker, workers = _package("webdataset").utils.pytorch_worker_info()
        parts = [(one["url"], self._rows[one["url"]]) for one in source]
        total = sum(len(rows) for _, rows in parts)
        return _stretch(parts, *Pass(world, workers).worker_share(total, rank, worker, self._uneven))


def _stretch(parts: Sequence[_Part], first: int, end: int) -> Iterator[_Part]:
    """The samples ``first`` to ``end - 1`` of parts one after another; behind the last part comes the first again."""
    start = 0
    for name, rows in cycle(parts):
        if start >= end:
            return
        stretch = rows[max(first - start, 0) : end - start]
        if len(stretch):
            yield name, stretch
        start += len(rows)


class _Decoded:
    """Reads the samples of parts."""

    def __init__(self, dataset: Dataset, extra: ExtraFields) -> None:
        self._dataset, self._extra = dataset, extra

    def __call__(self, source: Iterator[_Part]) -> Iterator[dict[str, Any]]:
        parts = ((part_named(name), rows) for name, rows in source)
        for part, key, members in self._dataset.members(parts):
            try:
                yield {
                    "__key__": key,
                    "__url__": f"{self._dataset.location}/{tar_path(part)}",
                    **{f"{name}.npy": read_array(name, members[name]) for name in ARRAYS},
                    "txt": str(members["txt"], "utf-8"),
                    "json": read_facts(members["json"]),
                    **{_member_ending(name, v): v for name, v in self._extra.of(part, key).items()},
                }
            except (ShardError, UnicodeError) as error:
                raise ShardError(f"part {part}, sample {key}: {error}; run `posecap verify`") from error


def _member_ending(name: str, value: Any) -> str:
    """The name of an extra member as that of a file of a sample."""
    return f"{name}.json" if isinstance(value, list) else f"{name}.npy"


def huggingface(
    location: Location,
    *,
    split: str | None = "train",
    world_size: int | None = None,
    uneven: Uneven = "repeat",
    where: str | Where | None = None,
    extra: Sequence[str] = (),
) -> Any:
    """The samples of a dataset as a ``datasets.IterableDataset`` with a shard for each part.

    It shuffles (``.shuffle(seed, buffer_size)``, ``.set_epoch``), divides
    (``datasets.distributed.split_dataset_by_node``, and DataLoader workers by itself) and goes on from a state
    (``.state_dict()``) as every such dataset; ``.with_format("torch")`` gives tensors, all of them float32. Which ranks
    get which samples is up to ``split_dataset_by_node``, which hands out whole shards. For several ranks the samples
    are therefore divided into shards of equal size, about as many as there are parts, so that all ranks get as many
    samples and batches. Examples hold ``key``, ``joints`` (M, T, J, 3), ``pts`` (T), ``video`` (D) and ``text`` (C, D)
    as arrays, ``captions`` (C texts), ``facts`` (dict), and extra members by their names.
    Their types are not declared, since that turns every array into lists, twenty times slower; :func:`features` has
    them, for ``.cast`` and for ``datasets.Dataset.from_generator``, the same for every part and dataset.

    Args:
        location, split, where, extra: as for :func:`webdataset`.
        world_size: ranks among which it is to be divided. None takes those of torch.distributed if that is initialised,
            else the environment's ``WORLD_SIZE``, else one.
        uneven: ``repeat`` reads fewer samples a second time than there are shards, so that all shards are of a size,
            and ``drop`` leaves fewer out; ``keep`` makes a shard of each part, whatever its size, so that each sample
            is read once and ranks differ.

    Raises:
        ModuleNotFoundError: datasets is not installed.
        ShardError: there is no dataset, or it has no such samples, or with ``drop`` fewer than there are ranks.
        ValueError: ``uneven`` is another word, or ``world_size`` is below 1.
        WhereError: ``where`` is no condition.
    """
    datasets = _package("datasets")
    _check_uneven(uneven)
    world = rank_and_world_size()[1] if world_size is None else world_size
    if world < 1:
        raise ValueError(f"world_size is {world}; 1 is the least")
    dataset, condition = Dataset(location), Where.of(where)
    found = ExtraFields(dataset, extra).parts(dataset.parts(split, where=condition))
    parts = [(str(part), rows) for part, rows in found]
    if not parts:
        raise _no_samples(dataset, split, condition)
    shards = [(part,) for part in parts] if world == 1 or uneven == "keep" else _equal_shards(parts, world, uneven)
    # In a tuple, since every list is divided among workers.
    known = {"location": (location, tuple(extra)), "shards": shards}
    return datasets.IterableDataset.from_generator(_examples, gen_kwargs=known)


def _equal_shards(parts: Sequence[_Part], world: int, uneven: Uneven) -> list[_Shard]:
    """The samples of parts in shards of equal size, as many for each rank as for every other.

    Raises:
        ShardError: ``drop`` would leave out all of them.
    """
    total = sum(len(rows) for _, rows in parts)
    division = Pass(world * max(1, len(parts) // world))
    shards = [division.rank_share(total, number, uneven) for number in range(division.world_size)]
    if uneven == "drop" and total < division.world_size:
        raise ShardError(f"{total} samples cannot be divided among {world} ranks: take fewer, or uneven='repeat'")
    return [tuple(_stretch(parts, first, end)) for first, end in shards]


def _examples(location: tuple[Location, tuple[str, ...]], shards: Sequence[_Shard]) -> Iterator[dict[str, Any]]:
    """The samples of several shards; ``location`` is that of the dataset, and its extra members to read."""
    place, extra = location
    for name, rows in chain.from_iterable(shards):
        yield from examples(place, name, rows=rows, extra=extra)


def examples(
    location: Location, part: str, *, rows: NDArray[np.int64] | None = None, extra: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """The samples of one part as dicts, as :func:`huggingface` gives them.

    Args:
        part: its name, such as ``train/00042``; the index has it in the column ``part``.
        rows: numbers of samples in the part, ascending; None for all that are not removed.
        extra: extra members; samples that have none are left out.

    Raises:
        ShardError: the part or a sample is damaged.
    """
    dataset, name = Dataset(location), part_named(part)
    if rows is None:
        rows = dict(dataset.parts(name.split)).get(name, np.zeros(0, np.int64))
    fields = ExtraFields(dataset, extra)
    rows = rows[fields.kept(name, rows)]
    for _, key, members in dataset.members([(name, rows)]):
        try:
            facts = read_facts(members["json"])
            captions = [caption.text for caption in read_captions(facts)]
            arrays = {array: read_array(array, members[array]) for array in ARRAYS}
        except ShardError as error:
            raise ShardError(f"part {part}, sample {key}: {error}; run `posecap verify`") from error
        yield {"key": key, **arrays, "captions": captions, "facts": facts, **fields.of(name, key)}


def features() -> Any:
    """The types of the examples of :func:`huggingface`, as ``datasets.Features``; facts are JSON, with any keys.

    Raises:
        ModuleNotFoundError: datasets is not installed.
    """
    datasets = _package("datasets")
    text, single, double = (datasets.Value(kind) for kind in ("string", "float32", "float64"))
    many = datasets.List
    return datasets.Features(
        {
            "key": text,
            "joints": many(many(many(many(single)))),
            "pts": many(double),
            "video": many(single),
            "text": many(many(single)),
            "captions": many(text),
            "facts": datasets.Json(),
        }
    )


def _check_uneven(uneven: str) -> None:
    """Raises ValueError for a word that is none of :data:`posecap.sample_order.Uneven`."""
    if uneven not in get_args(Uneven):
        raise ValueError(f"uneven is {uneven!r}; it can be {' or '.join(map(repr, get_args(Uneven)))}")


def _no_samples(dataset: Dataset, split: str | None, where: Where | None) -> ShardError:
    return ShardError(f"{dataset.location} holds no samples{why_none(dataset, split, where)}")


def _package(name: str) -> Any:
    """The module of that name.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ModuleNotFoundError(f"this needs {name}, not installed: pip install {name}", name=name) from None
