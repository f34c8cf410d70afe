"""Any posecap dataset as a benchmark, by its own labels and its splits ``train``, ``test`` and ``validation``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tmor_train.benchmarks.contract import Benchmark, Missing, Parts
from tmor_train.data import MotionSet, read_shards
from tmor_train.data.clip import NOT_KNOWN
from tmor_train.data.sets.files import DamagedFile


def _missing(folder: Path, protocol: str) -> tuple[Missing, ...]:
    place = Path(folder)
    return () if place.is_dir() and any(place.iterdir()) else (Missing("a dataset", "`posecap build`", place),)


def _read(folder: Path, protocol: str) -> Parts:
    found = read_shards(folder)
    if not {"train", "test"} <= set(found.splits):
        raise DamagedFile(f"{folder} has the splits {', '.join(found.splits)}; a benchmark needs train and test")
    known = found.select(np.flatnonzero(found.clips.label_N != NOT_KNOWN))
    parts: dict[str, MotionSet] = {}
    for name in ("train", "test", "validation"):
        parts[name] = known.select(np.flatnonzero(known.clips.split_N == name))
    if not len(parts["train"]) or not len(parts["test"]):
        raise DamagedFile(f"{folder}: no labelled clips to train or test on; build it with labels in the manifest")
    return Parts(parts["train"], parts["test"], parts["validation"] if len(parts["validation"]) else None)


SHARDS = Benchmark(
    name="shards",
    about="any posecap dataset with labels",
    task="clips",
    protocols=("own",),
    headline="top1",
    clips=0,
    classes=0,
    missing=_missing,
    read=_read,
)
