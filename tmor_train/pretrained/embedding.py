"""Writes the embeddings of a whole set of clips to a Parquet file.

There is a row for each clip, in the order of the set. The columns ``key``, ``label`` (class name) and ``split`` are
strings, ``label`` null where unknown; ``embedding`` is a list of 256 float32. The file's metadata says, as JSON, which
encoder made them (``tmor_train.encoder``) and of which clips (``tmor_train.set``). The same encoder, clips and batch
size give the same bytes on the same CPU.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posecap.files import Existing, atomic_path
from tmor_train.backbones import FEATURES
from tmor_train.data import MotionSet
from tmor_train.data.dataset import Floats, Numbers
from tmor_train.data_sources import DataConfig, fingerprint
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.training.metric_logger import Progress

ENCODER_KEY, SET_KEY = "tmor_train.encoder", "tmor_train.set"
_GROUP_ROWS = 16_384  # in a row group, and so in memory before they are written: 16 MiB of vectors


def embed_to_parquet(
    encoder: Pretrained,
    motions: MotionSet,
    path: Path,
    *,
    about: Mapping[str, Any],
    batch: int = 32,
    workers: int = 1,
    existing: Existing = "refuse",
) -> int:
    """Writes E_M of all clips of ``motions`` to the file ``path`` and returns the number of clips.

    Args:
        about: description of the set for the file's metadata, as JSON values; see :func:`identity`.
        batch: number of clips that are embedded at once, at least 1; embeddings of other batch sizes differ in the last
            bits.
        workers: threads that load clips; 0 loads them in this one.
        existing: what happens if ``path`` exists; see :func:`~posecap.files.atomic_path`.

    Raises:
        OutputExistsError: ``path`` exists, and ``existing`` is ``refuse``.
        UnusableEncoderError, posecap.joints.LayoutError: the encoder does not take such clips; no file is left.
        ValueError: ``batch`` is below 1.
    """
    if batch < 1:
        raise ValueError(f"batch is at least 1, not {batch}")
    schema = _schema({ENCODER_KEY: {**encoder.facts(), "batch": batch}, SET_KEY: about})
    progress = Progress(steps=-(-len(motions) // batch))
    with (
        atomic_path(path, existing=existing) as part,
        pq.ParquetWriter(part, schema, compression="zstd", use_dictionary=["label", "split"]) as writer,
    ):
        held: list[pa.RecordBatch] = []
        for index_N, vectors_ND in encoder.embed_set(motions, batch=batch, workers=workers):
            held.append(_rows(motions, index_N, vectors_ND, schema))
            if sum(map(len, held)) >= _GROUP_ROWS:
                _write(writer, held)
                held = []
            progress.step(clips=len(index_N), waited=0.0, words="embedding")
        _write(writer, held)
    return len(motions)


def identity(config: DataConfig, motions: MotionSet) -> dict[str, Any]:
    """What a set is, as JSON values: the names it was configured by, its number of clips, and the SHA-256 of their
    keys.

    The folders in which its files are stored are not part of it.
    """
    return {
        "shards": [Path(location.rstrip("/")).name for location in config.shards],
        "sets": list(config.sets),
        "split": config.split,
        "clips": len(motions),
        "keys_sha256": fingerprint(motions),
    }


def _schema(metadata: Mapping[str, object]) -> pa.Schema:
    return pa.schema(
        [
            pa.field("key", pa.string(), nullable=False),
            pa.field("label", pa.string()),
            pa.field("split", pa.string(), nullable=False),
            pa.field(
                "embedding", pa.list_(pa.field("element", pa.float32(), nullable=False), FEATURES), nullable=False
            ),
        ],
        metadata={name: json.dumps(value, sort_keys=True) for name, value in metadata.items()},
    )


def _rows(motions: MotionSet, index_N: Numbers, vectors_ND: Floats, schema: pa.Schema) -> pa.RecordBatch:
    clips = motions.clips
    labels = [motions.classes[label] if label >= 0 else None for label in clips.label_N[index_N].tolist()]
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors_ND.reshape(-1)), type=schema.field("embedding").type)
    keys, splits = clips.key_N[index_N].tolist(), clips.split_N[index_N].tolist()
    columns = [pa.array(keys, pa.string()), pa.array(labels, pa.string()), pa.array(splits, pa.string()), embedding]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _write(writer: pq.ParquetWriter, held: Iterable[pa.RecordBatch]) -> None:
    """Writes all rows of ``held`` as one row group."""
    table = pa.Table.from_batches(held, schema=writer.schema)
    if len(table):
        writer.write_table(table.combine_chunks(), row_group_size=len(table))
