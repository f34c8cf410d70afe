"""Makes datasets of what ``posecap export`` writes, from the formats that hold enough.

A format is a module of :mod:`posecap.export`, with its name in :data:`FORMATS` and three functions: ``files(source)``
gives the files that make up an export of the format, none where ``source`` is something else; ``samples(source)`` reads
its samples one after another, each with what extra members have for it; and ``made_with(source)`` says what made these
members.

Samples come back in their order, and so do extra members that were exported: vectors of the samples' own captions
alone, without those of members of captions. What an export leaves out does not come back: stored video, the outcomes of
rows that were not kept, and what made each part (its pipeline, versions and weights). The dataset has no plan, so that
`posecap build` cannot go on from it; it is read, verified, viewed and exported as any other.

What is imported may come from anybody: each sample is checked as those of a dataset (:mod:`posecap.verify`), and how
much of it is read at once is bounded by each format. In memory are, besides that, the index rows of one part, and all
keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa

from posecap import legacy
from posecap.export import Extra, MadeWith
from posecap.files import OutputExistsError, atomic_folder, digest, file_sha256
from posecap.outcomes import ClipOutcome, RowOutcome, tally
from posecap.shards import ShardError, commit_part, write_dataset_list, write_files
from posecap.shards.extra import (
    ExtraPart,
    MemberName,
    extra_path,
    extra_sidecar_path,
    inputs_of,
    write_extra,
    write_extra_list,
)
from posecap.shards.serialization import arrays_of
from posecap.storage import open_storage
from posecap.types import PartName, Sample
from posecap.verify import check_sample

FORMATS = ("fiftyone", "lance", "parquet")
"""Names of formats, which are those of modules of :mod:`posecap.export`."""

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
            samples = _write_parts(form.samples(source), _identity(source, files), form.made_with(source), partial)
            write_dataset_list(partial)
            write_extra_list(partial)
    except OutputExistsError as error:
        raise ImportFileError(str(error)) from error
    except (pa.ArrowException, ValueError, OverflowError) as error:  # NaN and halves of characters in facts, too
        name = form.__name__.rpartition(".")[2]
        raise ImportFileError(f"{source}: {error}; export it again with --format {name}") from error
    return samples


def _form_of(source: Path) -> tuple[ModuleType, list[Path]]:
    """The module of the format that something is of, and its files. Raises ImportFileError where it is of none."""
    for name in FORMATS:
        form = import_module(f"posecap.export.{name}")
        if files := form.files(source):
            return form, files
    raise ImportFileError(f"{source} is no export that can be imported: {', '.join(FORMATS)} are")


def _identity(source: Path, files: Iterable[Path]) -> str:
    """A hash of the names and contents of what is imported."""
    return digest({str(path.relative_to(source)): file_sha256(path) for path in files})


def _write_parts(
    samples: Iterator[tuple[Sample, Extra]], made_from: str, made_with: Mapping[MemberName, MadeWith], folder: Path
) -> int:
    """Write the parts, with their extra members; returns the number of samples."""
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
        held = _Held()
        noted = _noted((sample for _, sample in stretch), outcomes, held)
        files = write_files(folder, part, noted, record=record)
        rows = list(outcomes.values())
        described = {"counts": tally(rows).as_json(), "rows": [row.as_json() for row in rows]}
        commit_part(folder, part, files, record={**record, **described})
        for name, made in made_with.items():
            _write_member(folder, name, part, held, made)
        count += files.samples
    if not count:
        raise ShardError("it holds no clips")
    return count


class _Held:
    """Keys and captions of the samples of a part, and what extra members have for them."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.captions: list[list[str]] = []
        self.extra: list[Extra] = []


def _write_member(folder: Path, name: MemberName, part: PartName, held: _Held, made: MadeWith) -> None:
    """Write an extra member of the samples of a part."""
    storage, rows = open_storage(folder), [extra[name] for extra in held.extra]
    with storage.writer(extra_path(name, part)) as file:
        write_extra(file, name.kind, zip(held.keys, rows, strict=True))
        written = file.finish()
        file.publish()
    dimensions = {one.vector.shape[-1] for one in rows if one.vector is not None and one.vector.size}
    if len(dimensions) > 1:
        raise ShardError(f"{name} has vectors of {sorted(dimensions)} numbers")
    found = ExtraPart(
        member=name,
        part=part,
        fingerprint=digest({"configuration": legacy.as_format_1(list(made.pipeline)), "lineage": made.lineage}),
        inputs=inputs_of(name.kind, pa.table({"key": held.keys, "captions": held.captions})),
        pipeline=made.pipeline,
        lineage=made.lineage,
        file={"sha256": written.sha256, "size_bytes": written.size_bytes},
        samples=len(rows),
        dimension=max(dimensions, default=0),
    )
    storage.write(extra_sidecar_path(name, part), found.encode())


def _checked(samples: Iterator[tuple[Sample, Extra]]) -> Iterator[tuple[Sample, Extra]]:
    """The samples, each of which is sound and there once."""
    known: set[str] = set()
    for sample, extra in samples:
        split = sample.facts.get("split")
        if not isinstance(split, str):
            raise ShardError(f"clip {sample.key}: its facts name no split")
        problem = next(check_sample(sample, split=split, tolerance_seconds=_TOLERANCE_SECONDS), None)
        if problem:
            raise ShardError(f"clip {sample.key}: {problem}")
        if sample.key in known:
            raise ShardError(f"clip {sample.key} is in it twice")
        known.add(sample.key)
        yield sample, extra


def _by_part(
    samples: Iterator[tuple[Sample, Extra]],
) -> Iterator[tuple[tuple[str, int], tuple[Sample, Extra]]]:
    """Each sample with its split and the number of its part among all."""
    part = count = size = 0
    for split, stretch in groupby(samples, lambda found: str(found[0].facts["split"])):
        part, count, size = part + 1, 0, 0
        for sample, extra in stretch:
            if count == _PART_SAMPLES or size >= _PART_BYTES:
                part, count, size = part + 1, 0, 0
            count += 1
            size += sum(array.nbytes for array in arrays_of(sample).values())
            size += sum(one.vector.nbytes for one in extra.values() if one.vector is not None)
            yield (split, part), (sample, extra)


def _noted(samples: Iterator[tuple[Sample, Extra]], outcomes: dict[str, RowOutcome], held: _Held) -> Iterator[Sample]:
    """The samples, each of which is entered as a kept clip of its row in ``outcomes``, by the row's id, and in
    ``held`` with what extra members have for it."""
    for sample, extra in samples:
        held.keys.append(sample.key)
        held.captions.append([caption.text for caption in sample.captions])
        held.extra.append(extra)
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
