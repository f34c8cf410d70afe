"""Repairs a dataset: what is damaged is moved aside, and the next build makes only that again.

Nothing is deleted but the report, which the next build writes anew, and clips that were removed on request and are
still held. Files of a damaged part, and those that belong to no part, go to a folder under ``damaged``, where no reader
looks; without its sidecar the part counts as not built. The list of parts is written anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from posecap.finalize import mark_unfinished
from posecap.shards import ShardError, read_tombstones, remove_samples, write_dataset_list
from posecap.shards.paths import DATASET_LIST, TOMBSTONES, file_paths, sidecar_path
from posecap.storage import Location, open_storage
from posecap.types import PartName
from posecap.verify import ORPHAN, Problem

FOLDER = "damaged"
"""Of all that repairs moved aside, in a folder of its own for each second in which one began."""


@dataclass(frozen=True)
class Repair:
    """What was done.

    Args:
        folder: to which files were moved, relative to the dataset's root; empty if none was.
        moved: their names before.
        parts: that the next build makes again.
        left: problems that only people can solve.
    """

    folder: str
    moved: tuple[str, ...]
    parts: tuple[PartName, ...]
    left: tuple[Problem, ...]


def repair(location: Location, problems: Iterable[Problem]) -> Repair:
    """Solve the problems that :func:`posecap.verify.verify` found.

    Raises:
        DatasetLockedError: another process builds or changes the dataset.
        OSError: a file cannot be moved or written.
        ShardError: a part that still holds removed clips is damaged, which is not among ``problems``: verify again.
    """
    storage = open_storage(location)
    problems = tuple(problems)
    folder = f"{FOLDER}/{datetime.now(UTC):%Y-%m-%dT%H-%M-%S}"
    parts = sorted({problem.part for problem in problems if problem.part is not None})
    names = [name for part in parts for name in (sidecar_path(part), *file_paths(part))]
    names += [problem.file for problem in problems if problem.what == ORPHAN and problem.file not in names]
    with storage.lock() as lock:
        mark_unfinished(storage)
        there = [name for name in names if storage.size(name) is not None]
        for name in there:  # sidecars first, so that no reader looks for files that are moved
            lock.check()
            storage.publish({f"{folder}/{name}": name})
        left = tuple(problem for problem in problems if problem.file == TOMBSTONES)
        if not left and read_tombstones(storage):
            remove_samples(storage, (), "")  # no further ones: those that the tombstones name and a part still holds
        try:
            write_dataset_list(storage)
        except ShardError as error:
            left += (Problem(DATASET_LIST, str(error), "run `posecap verify` again"),)
    return Repair(folder if there else "", tuple(there), tuple(parts), left)
