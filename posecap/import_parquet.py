"""Makes a dataset from the Parquet file that ``posecap export --format parquet`` writes.

Samples come back as they were, in their order; what an export leaves out does not: stored video, the outcomes of rows
that were not kept, and what made each part (its pipeline, versions and weights). Columns of extra members are passed
over: `posecap add` makes them. The dataset has no plan, so that `posecap build` cannot go on from it; it is read,
verified, viewed and exported as any other.

The file may come from anybody: its schema, shapes and facts are checked as those of a dataset (:mod:`posecap.verify`),
and a row group that says to be larger than :data:`MAX_GROUP_BYTES` is not read. In memory are a row group, about three
times, the index rows of one part, and all keys.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from posecap.files import digest, file_sha256
from posecap.outcomes import ClipOutcome, RowOutcome, tally
from posecap.shards import COLUMNS_SCHEMA, ShardError, commit_part, write_dataset_list, write_files
from posecap.shards.extra import MemberName
from posecap.shards.serialization import arrays_of, read_columns
from posecap.types import PartName, Sample
from posecap.verify import check_sample

MAX_GROUP_BYTES = 1 << 30
"""Of a row group before compression, thirty times what posecap writes: our bound on memory."""
_PART_BYTES, _PART_SAMPLES = 256 << 20, 10_000
"""Of a part's arrays, about, and its samples, at most. Our choice: a file of a size that is copied and read at once,
and a sidecar of some MB."""
_TOLERANCE_SECONDS = 0.05
"""How far frames may lie outside of a clip's span: as `posecap verify` has it."""


class ImportFileError(ValueError):
    """The file cannot be imported; the message names it, the clip, and the remedy."""


def import_parquet(file: Path, folder: Path) -> int:
    """Write the dataset ``folder``, which appears once it is complete; returns the number of clips.

    Consecutive clips of one split make parts of about 256 MiB. A file in which splits alternate makes many small ones:
    sort it by split.

    Raises:
        ImportFileError: there is no such file, it is damaged, or not what an export writes; or the folder exists.
        OSError: the disk is full or fails.
    """
    if folder.exists():
        raise ImportFileError(f"{folder} already exists; choose another --output")
    if not file.is_file():
        raise ImportFileError(f"{file}: there is no such file")
    partial = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)  # of an import that was killed
    partial.mkdir(parents=True)
    try:
        samples = _write_parts(file, partial)
        write_dataset_list(partial)
        partial.rename(folder)
    except (pa.ArrowException, ValueError, OverflowError) as error:  # NaN and halves of characters in facts, too
        raise ImportFileError(f"{file}: {error}; export it again with --format parquet") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return samples


def _write_parts(file: Path, folder: Path) -> int:
    """Write the parts; returns the number of samples."""
    made_from, numbers, samples = file_sha256(file), Counter[str](), 0
    for (split, _), stretch in groupby(_by_part(_samples(file)), lambda one: one[0]):
        part = PartName(split, numbers[split])
        numbers[split] += 1
        outcomes: dict[str, RowOutcome] = {}
        record: dict[str, Any] = {
            "fingerprint": digest({"imported": made_from, "part": str(part)}),
            "lineage": {"packages": {}, "weights": {}},
            "pipeline": [],
        }
        files = write_files(folder, part, _noted((sample for _, sample in stretch), outcomes), record=record)
        rows = list(outcomes.values())
        described = {"counts": tally(rows).as_json(), "rows": [row.as_json() for row in rows]}
        commit_part(folder, part, files, record={**record, **described})
        samples += files.samples
    if not samples:
        raise ShardError("it holds no clips")
    return samples


def _samples(file: Path) -> Iterator[Sample]:
    """The samples of the file, checked one by one."""
    known: set[str] = set()
    with pq.ParquetFile(file) as opened:
        found = opened.schema_arrow
        if len(found) < len(COLUMNS_SCHEMA) or not pa.schema([*found][: len(COLUMNS_SCHEMA)]).equals(COLUMNS_SCHEMA):
            raise ShardError("its columns are not those of an export")
        for name in found.names[len(COLUMNS_SCHEMA) :]:  # what was added, and has to be added again
            MemberName.of(name)
        for number in range(opened.num_row_groups):
            size = opened.metadata.row_group(number).total_byte_size
            if size > MAX_GROUP_BYTES:
                raise ShardError(f"row group {number} takes {size} bytes, at most {MAX_GROUP_BYTES} are read")
            try:
                table = opened.read_row_group(number, columns=COLUMNS_SCHEMA.names, use_threads=False)
            except OSError as error:  # which Arrow raises of damaged pages, too
                raise ShardError(f"row group {number} cannot be read: {error}") from error
            for sample in _in_group(table):
                split = sample.facts.get("split")
                if not isinstance(split, str):
                    raise ShardError(f"clip {sample.key}: its facts name no split")
                problem = next(check_sample(sample, split=split, tolerance_seconds=_TOLERANCE_SECONDS), None)
                if problem:
                    raise ShardError(f"clip {sample.key}: {problem}")
                if sample.key in known:
                    raise ShardError(f"clip {sample.key} is in it twice")
                known.add(sample.key)
                yield sample


def _in_group(table: Any) -> Iterator[Sample]:
    """The samples of a row group, whose shapes are checked by the reader of columns files."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, COLUMNS_SCHEMA) as writer:
        # One schema throughout: that of Parquet lacks the metadata by which columns files are known.
        writer.write_table(table.cast(COLUMNS_SCHEMA).combine_chunks())
    for _, batch in read_columns(np.frombuffer(bytearray(sink.getvalue()), np.uint8)):
        yield from map(batch.sample, range(batch.rows))


def _by_part(samples: Iterator[Sample]) -> Iterator[tuple[tuple[str, int], Sample]]:
    """Each sample with its split and the number of its part among all."""
    part = count = size = 0
    for split, stretch in groupby(samples, lambda sample: str(sample.facts["split"])):
        part, count, size = part + 1, 0, 0
        for sample in stretch:
            if count == _PART_SAMPLES or size >= _PART_BYTES:
                part, count, size = part + 1, 0, 0
            count += 1
            size += sum(array.nbytes for array in arrays_of(sample).values())
            yield (split, part), sample


def _noted(samples: Iterator[Sample], outcomes: dict[str, RowOutcome]) -> Iterator[Sample]:
    """The samples, each of which is entered as a kept clip of its row in ``outcomes``, by the row's id."""
    for sample in samples:
        facts = sample.facts
        clip = ClipOutcome(
            status="kept",
            clip_id=sample.key,
            start_seconds=float(facts["start_seconds"]),
            end_seconds=float(facts["end_seconds"]),
        )
        row_id, uri = facts.get("row_id"), facts.get("uri")
        if not isinstance(row_id, str) or not isinstance(uri, str):
            raise ShardError(f"clip {sample.key}: its facts have no row_id or uri")
        earlier = outcomes[row_id].clips if row_id in outcomes else ()
        outcomes[row_id] = RowOutcome(row_id=row_id, uri=uri, status="kept", clips=(*earlier, clip))
        yield sample
