"""Makes datasets of what ``posecap export`` writes, from the formats that hold enough.

A format is a module here, with its name in :data:`FORMATS` and two functions: ``files(source)`` gives the files that
make up an export of the format, none where ``source`` is something else, and ``samples(source)`` reads its samples one
after another.

Samples come back in their order; what an export leaves out does not: stored video, the outcomes of rows that were not
kept, and what made each part (its pipeline, versions and weights). The dataset has no plan, so that `posecap build`
cannot go on from it; it is read, verified, viewed and exported as any other.

What is imported may come from anybody: each sample is checked as those of a dataset (:mod:`posecap.verify`), and how
much of it is read at once is bounded by each format. In memory are, besides that, the index rows of one part, and all
keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from posecap.files import OutputExistsError, atomic_folder, digest, file_sha256
from posecap.outcomes import ClipOutcome, RowOutcome, tally
from posecap.shards import ShardError, commit_part, write_dataset_list, write_files
from posecap.shards.serialization import arrays_of
from posecap.types import PartName, Sample
from posecap.verify import check_sample

FORMATS = ("fiftyone", "lance", "parquet")
"""Names of formats, which are those of modules of this package and of :mod:`posecap.export`."""

_PART_BYTES, _PART_SAMPLES = 256 << 20, 10_000
"""Of a part's arrays, about, and its samples, at most. Our choice: a file of a size that is copied and read at once,
and a sidecar of some MB."""
_TOLERANCE_SECONDS = 0.05
"""How far frames may lie outside of a clip's span: as `posecap verify` has it."""


class ImportFileError(ValueError):
    """Something cannot be imported; the message names it, the clip, and the remedy."""


def import_dataset(source: Path, folder: Path) -> int:
    """Write the dataset ``folder``, which appears once it is complete; returns the number of clips.

    Consecutive clips of one split make parts of about 256 MiB. Where splits alternate, they are many small ones:
    export again, or sort what you have changed by split.

    Args:
        source: a file or folder that ``posecap export`` wrote in one of :data:`FORMATS`.
        folder: of the dataset; it must not exist.

    Raises:
        ImportFileError: there is no such file or folder, it is damaged, or not what an export writes; or ``folder``
            exists.
        ModuleNotFoundError: the format needs a package that is not installed.
        OSError: the disk is full or fails.
    """
    if not source.exists():
        raise ImportFileError(f"{source}: there is no such file or folder")
    form, files = _form_of(source)
    try:
        with atomic_folder(folder) as partial:
            samples = _write_parts(form.samples(source), _identity(source, files), partial)
            write_dataset_list(partial)
    except OutputExistsError as error:
        raise ImportFileError(str(error)) from error
    except (pa.ArrowException, ValueError, OverflowError) as error:  # NaN and halves of characters in facts, too
        name = form.__name__.rpartition(".")[2]
        raise ImportFileError(f"{source}: {error}; export it again with --format {name}") from error
    return samples


def _form_of(source: Path) -> tuple[ModuleType, list[Path]]:
    """The module of the format that something is of, and its files. Raises ImportFileError where it is of none."""
    for name in FORMATS:
        form = import_module(f"posecap.imports.{name}")
        if files := form.files(source):
            return form, files
    raise ImportFileError(f"{source} is no export that can be imported: {', '.join(FORMATS)} are")


def _identity(source: Path, files: Iterable[Path]) -> str:
    """A hash of the names and contents of what is imported."""
    return digest({str(path.relative_to(source)): file_sha256(path) for path in files})


def _write_parts(samples: Iterator[Sample], made_from: str, folder: Path) -> int:
    """Write the parts; returns the number of samples."""
    numbers, count = Counter[str](), 0
    for (split, _), stretch in groupby(_by_part(_checked(samples)), lambda one: one[0]):
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
        count += files.samples
    if not count:
        raise ShardError("it holds no clips")
    return count


def _checked(samples: Iterator[Sample]) -> Iterator[Sample]:
    """The samples, each of which is sound and there once."""
    known: set[str] = set()
    for sample in samples:
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
