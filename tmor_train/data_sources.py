"""Reads the posecap datasets and published skeleton sets that a configuration names, as one motion set."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posecap.builtin import program
from tmor_train.data import MotionSet, combined, read_shards
from tmor_train.data.dataset import vectors
from tmor_train.data.datasets import SETS
from tmor_train.data.provenance import record_file


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips are read.

    ``shards`` are folders or URLs of posecap datasets, of which ``split`` is read (None: all splits). ``sets`` are
    published skeleton sets, by their names in :data:`tmor_train.data.datasets.SETS`; the files of each are in the
    folder of its name under ``folder``. ``penn_action:train`` is one split of a set, ``sbu:fold1+fold2`` two. ``texts``
    is a Parquet file with the columns ``sentence`` and ``vector`` (text vectors), for sets whose captions have no
    vectors; None leaves vectors as they are.
    """

    shards: tuple[str, ...] = ()
    split: str | None = "train"
    sets: tuple[str, ...] = ()
    folder: str = "datasets/skeletons"
    texts: str | None = None


class NoDataError(ValueError):
    """No data is named, or some of it does not exist; the message says what to do."""


def motions_of(config: DataConfig) -> MotionSet:
    """All clips of ``config.shards``, then those of ``config.sets``, in the order in which they are named.

    Raises:
        NoDataError: nothing is named, a set is unknown or has no such split, ``texts`` is missing, damaged or lacks a
            caption.
        posecap.shards.ShardError, tmor_train.data.datasets.MissingFilesError: a dataset or a set's files are missing.
        posecap.shards.ShardError, tmor_train.data.datasets.DamagedFileError: they are damaged.
    """
    parts = [read_shards(location, split=config.split) for location in config.shards]
    parts += [_published(name, Path(config.folder)) for name in config.sets]
    if not parts:
        raise NoDataError(
            "no data is named: give --data DATASET (one that `posecap build` made), or --sets NAME --folder DIR"
        )
    motions = combined(parts) if len(parts) > 1 else parts[0]
    return motions if config.texts is None else _with_texts(motions, Path(config.texts), config.folder)


def _published(name_and_splits: str, folder: Path) -> MotionSet:
    """A published set, or the splits of it that follow a colon; raises as :func:`motions_of`."""
    name, _, splits = name_and_splits.partition(":")
    if name not in SETS:
        raise NoDataError(f"no skeleton set {name!r}; there are {', '.join(sorted(SETS))}")
    motions = SETS[name](folder / name)
    try:
        return motions.split(*splits.split("+")) if splits else motions
    except KeyError as error:
        raise NoDataError(f"{name}: {error.args[0]}") from error


def _with_texts(motions: MotionSet, path: Path, folder: str) -> MotionSet:
    """The set with a vector for each of its sentences; of equal sentences of the file the last row counts. NoDataError
    where the file is missing, damaged, or lacks one."""
    made_by = f"`{program('caption_vectors')} {folder} {path}` (with --movements for the recipe sets_no_penn)"
    again = f"make it again with {made_by}"
    if not path.is_file():
        raise NoDataError(
            f"{path}, the captions' vectors, is missing: make it with {made_by}, or train without text: "
            "--set data.texts=none objective.w_mt=0"
        )
    try:
        table = pq.read_table(path, columns=["sentence", "vector"])
        record_file(path)
        row = {sentence: number for number, sentence in enumerate(table["sentence"].to_pylist())}
        values = np.array(table["vector"].to_pylist(), np.float32)
    except UnicodeDecodeError as error:
        raise NoDataError(f"{path} holds a sentence that is not UTF-8; {again}") from error
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise NoDataError(
            f"{path} holds no columns 'sentence' and 'vector' of vectors of one length: {reason}; {again}"
        ) from error
    unknown = [sentence for sentence in motions.sentences if sentence not in row]
    if unknown:
        raise NoDataError(f"{path} has no vector for {len(unknown)} captions, among them {unknown[0]!r}; {again}")
    chosen = values[[row[sentence] for sentence in motions.sentences]]
    if chosen.ndim != 2 or not chosen.size or not np.isfinite(chosen).all():
        raise NoDataError(f"{path}: what it holds for captions is no vectors of finite numbers; {again}")
    return replace(motions, text=vectors(chosen))


def fingerprint(motions: MotionSet) -> str:
    """SHA-256, in hexadecimal, of the clips' keys in order; joints and labels are not part of it, so that nothing is
    read for it. A run is resumed only with the same clips, by which queue, clusters and order are numbered."""
    return hashlib.sha256("\n".join(motions.clips.key_N.tolist()).encode()).hexdigest()
