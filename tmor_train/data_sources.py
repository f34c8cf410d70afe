"""The clips that a configuration names, as one set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tmor_train.data import MotionSet, combined, read_shards
from tmor_train.data.arrays import vectors
from tmor_train.data.datasets import SETS


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on.

    ``shards`` are posecap datasets, of which ``split`` is read (none: all). ``sets`` are published skeleton sets by
    name, each in its folder under ``folder``; ``penn_action:train`` takes one split of one. ``texts`` is a Parquet file
    of sentences and their vectors (columns ``sentence`` and ``vector``), for sets that have captions and no vectors.
    """

    shards: tuple[str, ...] = ()
    split: str | None = "train"
    sets: tuple[str, ...] = ()
    folder: str = "datasets/skeletons"
    texts: str | None = None


class NoDataError(ValueError):
    """No data is named, or some of it does not exist; the message has the remedy."""


def motions_of(config: DataConfig) -> MotionSet:
    """All clips of all shards and sets, in the order they are named in.

    Raises:
        NoDataError: none is named, an unknown set, or captions without vectors in ``texts``.
        posecap.shards.ShardError, tmor_train.data.datasets.MissingFilesError: they are not there.
    """
    found = [read_shards(location, split=config.split) for location in config.shards]
    found += [_published(name, Path(config.folder)) for name in config.sets]
    if not found:
        raise NoDataError(
            "no data is named: give --data DATASET (one that `posecap build` made), or --sets NAME --folder DIR"
        )
    motions = combined(found) if len(found) > 1 else found[0]
    return motions if config.texts is None else _with_texts(motions, Path(config.texts), config.folder)


def _published(words: str, folder: Path) -> MotionSet:
    name, _, splits = words.partition(":")
    if name not in SETS:
        raise NoDataError(f"no skeleton set {name!r}; there are {', '.join(sorted(SETS))}")
    motions = SETS[name](folder / name)
    return motions.split(*splits.split("+")) if splits else motions


def _with_texts(motions: MotionSet, path: Path, folder: str) -> MotionSet:
    """The set with a vector for each of its sentences."""
    if not path.is_file():
        raise NoDataError(
            f"{path}, the captions' vectors, is missing: make it with `python pipelines/caption_vectors.py {folder} "
            f"{path}`, or train without text: --set data.texts=none objective.w_mt=0"
        )
    table = pq.read_table(path, columns=["sentence", "vector"])
    row = {sentence: number for number, sentence in enumerate(table["sentence"].to_pylist())}
    unknown = [sentence for sentence in motions.sentences if sentence not in row]
    if unknown:
        raise NoDataError(f"{path} has no vector for {len(unknown)} captions, among them {unknown[0]!r}; make it again")
    values = np.array(table["vector"].to_pylist(), np.float32)
    return replace(motions, text=vectors(values[[row[sentence] for sentence in motions.sentences]]))


def fingerprint(motions: MotionSet) -> str:
    """SHA-256 of the clips' keys in order."""
    return hashlib.sha256("\n".join(motions.clips.key_N.tolist()).encode()).hexdigest()
