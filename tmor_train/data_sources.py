"""Reads the posecap datasets and published skeleton sets that a configuration names, as one motion set, and files of
sentences and their vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posecap.builtin import program
from posecap.duplicates import keys_near
from tmor_train.data import MotionSet, combined, read_shards
from tmor_train.data.dataset import Floats, vectors
from tmor_train.data.datasets import SETS
from tmor_train.data.provenance import record_file


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which clips are read.

    ``shards`` are folders or URLs of posecap datasets, of which ``split`` is read (None: all splits). ``sets`` are
    published skeleton sets, by their names in :data:`tmor_train.data.datasets.SETS`; the files of each are in the
    folder of its name under ``folder``. ``penn_action:train`` is one split of a set, ``sbu:fold1+fold2`` two. ``texts``
    is a Parquet file with the columns ``sentence`` and ``vector`` (text vectors), for sets whose captions have no
    vectors; None leaves vectors as they are. ``apart_from`` are folders or URLs of posecap datasets to be tested on:
    clips of ``shards`` that show footage of their ``test`` split, by signature, file and time, are left out.

    ``video`` and ``text`` name the vectors of ``shards`` that skeletons are aligned with where these are extra members
    (``video.viclip-l14``, ``text.minilm``; ``posecap add`` makes them); None takes the samples' own. ``captions`` are
    the origins of the captions that are read, as ``("row", "label")``, also of captions that were added, for which
    ``text`` must be a member that covers them; none reads the samples' own.
    """

    shards: tuple[str, ...] = ()
    split: str | None = "train"
    sets: tuple[str, ...] = ()
    folder: str = "datasets/skeletons"
    texts: str | None = None
    apart_from: tuple[str, ...] = ()
    video: str | None = None
    text: str | None = None
    captions: tuple[str, ...] = ()


class NoDataError(ValueError):
    """No data is named, or some of it does not exist; the message says what to do."""


class MissingTextError(NoDataError):
    """A class has no words, or a sentence no vector; the message says what to do."""


_MAX_FILE_BYTES = 2 * 2**30  # of vectors; our choice: sixteen sentences of 1,000 classes take some 50 MB


def motions_of(config: DataConfig) -> MotionSet:
    """All clips of ``config.shards``, then those of ``config.sets``, in the order in which they are named.

    Raises:
        NoDataError: nothing is named, a set is unknown or has no such split, or no clip of a dataset is apart from
            what is tested on.
        MissingTextError: ``texts`` is missing, damaged or lacks a caption.
        posecap.shards.ShardError, tmor_train.data.datasets.MissingFilesError: a dataset or a set's files are missing.
        posecap.shards.ShardError, tmor_train.data.datasets.DamagedFileError: they are damaged.
    """
    parts = [_apart(_shards(location, config), location, config) for location in config.shards]
    parts += [_published(name, Path(config.folder)) for name in config.sets]
    if not parts:
        raise NoDataError(
            "no data is named: give --data DATASET (one that `posecap build` made), or --sets NAME --folder DIR"
        )
    motions = combined(parts) if len(parts) > 1 else parts[0]
    return motions if config.texts is None else _with_texts(motions, Path(config.texts), config.folder)


def _shards(location: str, config: DataConfig) -> MotionSet:
    """The clips of a dataset, with the vectors and captions that are asked for; raises as :func:`motions_of`."""
    return read_shards(
        location,
        split=config.split,
        video=config.video or "read",
        text=config.text or "read",
        captions=config.captions,
    )


def _apart(motions: MotionSet, location: str, config: DataConfig) -> MotionSet:
    """The clips of a dataset without those that show what is tested on; raises as :func:`motions_of`."""
    if not config.apart_from:
        return motions
    near = keys_near(location, *config.apart_from, split="test")
    kept = motions.select(~np.isin(motions.clips.key_N, sorted(near)))
    if not len(kept):
        tests = ", ".join(config.apart_from)
        raise NoDataError(f"every clip of {location} shows footage of the test split of {tests}; train on other data")
    return kept


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
    """The set with a vector for each of its sentences; raises as :func:`sentence_vectors`."""
    made_by = f"`{program('caption_vectors')} {folder} {path}` (with --movements for the recipe sets_no_penn)"
    remedy = f"{made_by}, or train without text: --set data.texts=none objective.w_mt=0"
    values = sentence_vectors(path, motions.sentences, remedy=remedy)
    record_file(path)
    return replace(motions, text=vectors(values))


def sentence_vectors(path: Path, sentences: Sequence[str], *, remedy: str) -> Floats:
    """Vectors of sentences out of a Parquet file with the columns ``sentence`` and ``vector``; of equal sentences in it
    the last row counts.

    Args:
        path: a file that ``pipelines/caption_vectors.py`` or ``prompt_vectors.py`` wrote, of at most 2 GiB.
        remedy: the command that makes the file, for error messages.

    Returns:
        (len(sentences), D) float32, D being the length of the file's vectors.

    Raises:
        MissingTextError: there are no sentences; or the file is missing, too large or malformed (columns, UTF-8), its
            vectors have several lengths or are not finite, or one is lacking.
    """
    if not sentences:
        raise MissingTextError(f"there are no sentences whose vectors {path} could give; leave it out")
    if not path.is_file():
        raise MissingTextError(f"{path}, the vectors of sentences, is missing; make it: {remedy}")
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise MissingTextError(f"{path} is larger than {_MAX_FILE_BYTES >> 30} GiB; make it again: {remedy}")
        wanted = set(sentences)
        # A row without a vector counts as none, so that its sentence is named as lacking.
        vector_of = {sentence: vector for sentence, vector in _rows(path) if sentence in wanted and vector}
    except UnicodeDecodeError as error:
        raise MissingTextError(f"{path}, {error.reason}; make it again: {remedy}") from error
    except (pa.ArrowException, OSError, KeyError, TypeError) as error:
        raise MissingTextError(
            f"{path} holds no columns 'sentence' and 'vector': {error}; make it again: {remedy}"
        ) from error
    if lacking := [sentence for sentence in dict.fromkeys(sentences) if sentence not in vector_of]:
        raise MissingTextError(
            f"{path} has no vector for {len(lacking)} sentences, among them {lacking[0]!r}; make it again: {remedy}"
        )
    if len({len(vector) for vector in vector_of.values()}) != 1:
        raise MissingTextError(f"{path} holds vectors of several lengths; make it again: {remedy}")
    values: Floats = np.array([vector_of[sentence] for sentence in sentences], np.float32)
    if not np.isfinite(values).all():
        raise MissingTextError(f"{path} holds NaN or infinity; make it again: {remedy}")
    return values


def _rows(path: Path) -> Iterator[tuple[str | None, list[float] | None]]:
    """Sentence and vector of each row.

    Raises:
        UnicodeDecodeError: a sentence is not UTF-8; its ``reason`` names the row, counted from 1.
        pyarrow.ArrowException, OSError, KeyError, TypeError: the file is damaged, or lacks the columns.
    """
    with pq.ParquetFile(path) as file:
        kind = file.schema_arrow.field("vector").type
        lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
        if not lists or not (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
            raise TypeError(f"'vector' is {kind}, expected lists of numbers")
        row = 0
        # Some at a time, so that a file of many sentences is never in memory as Python lists as a whole.
        for batch in file.iter_batches(columns=["sentence", "vector"], batch_size=4096):
            for sentence, vector in zip(batch["sentence"], batch["vector"].to_pylist(), strict=True):
                row += 1
                try:
                    text = sentence.as_py()
                except UnicodeDecodeError as error:
                    error.reason = f"row {row}: its sentence is not UTF-8"
                    raise
                yield text, vector


def fingerprint(motions: MotionSet) -> str:
    """SHA-256, in hexadecimal, of the clips' keys in order; joints and labels are not part of it, so that nothing is
    read for it. A run is resumed only with the same clips, by which queue, clusters and order are numbered."""
    return hashlib.sha256("\n".join(motions.clips.key_N.tolist()).encode()).hexdigest()
