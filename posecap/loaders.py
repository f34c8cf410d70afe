"""A dataset in the loaders of others: webdataset, Hugging Face datasets; and Ray Data, litData and Lightning.

``posecap.webdataset`` and ``posecap.huggingface`` read the tars by their indexes, as ``posecap.open`` does: removed
clips are left out, conditions choose, object stores are read ahead, and arrays are decoded without pickle. Each divides
whole parts among consumers, as these packages do, so that ranks differ by the samples of a part or more; where all
ranks must have as many batches, use ``posecap.open``.

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
from typing import Any

import numpy as np
from numpy.typing import NDArray

from posecap.shards.dataset import Dataset
from posecap.shards.extra_fields import ExtraFields
from posecap.shards.paths import ARRAYS, ShardError, part_named, tar_path
from posecap.shards.serialization import read_array, read_captions, read_facts
from posecap.shards.where import Where
from posecap.storage import Location

_Part = tuple[str, NDArray[np.int64]]
"""Name of a part, and its rows that are read."""


def webdataset(
    location: Location,
    *,
    split: str | None = "train",
    seed: int | None = 0,
    shuffle_buffer: int = 1024,
    where: str | Where | None = None,
    extra: Sequence[str] = (),
) -> Any:
    """The samples of a dataset as a webdataset pipeline, to be continued with ``.map``, ``.to_tuple``, ``.batched`` …

    Parts are put into a seeded order, the same on all ranks and another in each pass of a process (``WDS_EPOCH`` in the
    environment says which, else they are counted), and divided among ranks, then among the DataLoader workers of each.
    Samples are dicts with the names that webdataset itself reads from the tars: ``__key__``, ``__url__``, and, decoded,
    ``joints.npy``, ``pts.npy``, ``video.npy``, ``text.npy`` (arrays), ``txt`` (the first caption) and ``json`` (dict);
    of extra members ``video.NAME.npy``, ``text.NAME.npy`` and ``captions.NAME.json`` (list).

    Args:
        location: as for ``posecap.open``.
        split: one split, or None for all.
        seed: of the orders; None for the order on disk.
        shuffle_buffer: samples that each consumer holds in memory to draw from.
        where: only clips for which a condition holds (:mod:`posecap.shards.where`).
        extra: extra members, as ``text.minilm`` (:mod:`posecap.shards.extra`), without clips that have none.

    Raises:
        ModuleNotFoundError: webdataset is not installed.
        ShardError: there is no dataset, or it has no such samples; when a pass begins, there are fewer parts than
            consumers, so that some would have nothing to read and a job under DDP would hang.
        WhereError: ``where`` is no condition.
    """
    wds = _package("webdataset")
    dataset = Dataset(location)
    members = ExtraFields(dataset, extra)
    parts = members.parts(dataset.parts(split, where=Where.of(where)))
    if not parts:
        raise _no_samples(dataset)
    rows = {str(part): rows for part, rows in parts}
    pipeline = wds.compat.FluidWrapper(wds.SimpleShardList(list(rows)))
    if seed is not None:
        pipeline.append(wds.detshuffle(len(rows), initial=len(rows), seed=seed))
    pipeline.append(_Divided(len(rows)))
    pipeline.append(wds.split_by_node)
    pipeline.append(wds.split_by_worker)
    pipeline.append(_Decoded(dataset, rows, members))
    if seed is not None and shuffle_buffer > 1:
        pipeline.append(wds.detshuffle(shuffle_buffer, initial=shuffle_buffer, seed=seed))
    return pipeline


class _Divided:
    """Refuses to divide parts among more consumers than there are."""

    def __init__(self, parts: int) -> None:
        self._parts = parts

    def __call__(self, source: Iterator[Any]) -> Iterator[Any]:
        _, world, _, workers = _package("webdataset").utils.pytorch_worker_info()
        if world * workers > self._parts:
            raise ShardError(
                f"{self._parts} parts cannot be divided among {world} ranks with {workers} workers each: take fewer, "
                "or posecap.open, which divides samples"
            )
        return source


class _Decoded:
    """Reads the samples of parts."""

    def __init__(self, dataset: Dataset, rows: dict[str, NDArray[np.int64]], extra: ExtraFields) -> None:
        self._dataset, self._rows, self._extra = dataset, rows, extra

    def __call__(self, source: Iterator[Any]) -> Iterator[dict[str, Any]]:
        for one in source:
            part = part_named(one["url"])
            for _, key, members in self._dataset.members([(part, self._rows[one["url"]])]):
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
    where: str | Where | None = None,
    extra: Sequence[str] = (),
) -> Any:
    """The samples of a dataset as a ``datasets.IterableDataset`` with a shard for each part.

    It shuffles (``.shuffle(seed, buffer_size)``, ``.set_epoch``), divides
    (``datasets.distributed.split_dataset_by_node``, and DataLoader workers by itself) and goes on from a state
    (``.state_dict()``) as every such dataset; ``.with_format("torch")`` gives tensors, all of them float32. Examples
    hold ``key``, ``joints`` (M, T, J, 3), ``pts`` (T), ``video`` (D) and ``text`` (C, D) as arrays, ``captions`` (C
    texts), ``facts`` (dict), and extra members by their names.
    Their types are not declared, since that turns every array into lists, twenty times slower; :func:`features` has
    them, for ``.cast`` and for ``datasets.Dataset.from_generator``, the same for every part and dataset.

    Args:
        location, split, where, extra: as for :func:`webdataset`.

    Raises:
        ModuleNotFoundError: datasets is not installed.
        ShardError: there is no dataset, or it has no such samples.
        WhereError: ``where`` is no condition.
    """
    datasets = _package("datasets")
    dataset = Dataset(location)
    found = ExtraFields(dataset, extra).parts(dataset.parts(split, where=Where.of(where)))
    parts = [(str(part), rows) for part, rows in found]
    if not parts:
        raise _no_samples(dataset)
    # In a tuple, since every list is divided among workers.
    known = {"location": (location, tuple(extra)), "parts": parts}
    return datasets.IterableDataset.from_generator(_examples, gen_kwargs=known)


def _examples(location: tuple[Location, tuple[str, ...]], parts: Sequence[_Part]) -> Iterator[dict[str, Any]]:
    """The samples of several parts; ``location`` is that of the dataset, and its extra members to read."""
    place, extra = location
    for name, rows in parts:
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


def _no_samples(dataset: Dataset) -> ShardError:
    return ShardError(f"{dataset.location} holds no such samples; `posecap inspect --keys` lists all that there are")


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
