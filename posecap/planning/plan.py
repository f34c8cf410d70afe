"""Divides the rows of a manifest into parts; a build follows the plan and is resumed by it.

Parts are numbered by split in manifest order, ``rows_per_part`` rows each. Rows that repeat an earlier one are in the
plan too, marked as duplicates, so that every row of the manifest has an outcome. The plan is deterministic: the same
tables give the same bytes.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing
from pathlib import Path

from posecap.manifest.manifest_file import Manifest, ManifestError
from posecap.manifest.tables import read_tables
from posecap.planning.dedup import DedupedRows, RowSpool
from posecap.planning.plan_file import PLAN_FILE, Plan, PlanWriter, open_plan
from posecap.types import PartName

MOST_PARTS = 30_000
"""Most parts of one plan: a Parquet file holds at most 32,767 row groups."""


def make_plan(manifest: Manifest, destination: Path) -> Plan:
    """Read, check and plan every row of a manifest, in bounded memory, into ``destination`` (replaced if present).

    Rows are kept in a temporary folder beside ``destination``; one that a killed run left is removed first. The plan
    gets its name only when it is complete.

    Raises:
        ManifestError: a table or row is wrong, two different rows share an id, or there is nothing to plan.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    folder = destination.with_name(destination.name + ".spool")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        with closing(RowSpool(folder)) as spool:
            for batch in read_tables(manifest):
                spool.add(batch)
            deduped = spool.deduplicate()
        _check_parts(deduped, manifest)
        _write(deduped, manifest.rows_per_part, folder / PLAN_FILE)
        (folder / PLAN_FILE).replace(destination)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return open_plan(destination, media_root=manifest.media_root)


def _check_parts(deduped: DedupedRows, manifest: Manifest) -> None:
    rows = sum(deduped.counts.values())
    if not rows:
        raise ManifestError(f"{manifest.path}: its tables have no rows; add some, or check 'tables'")
    parts = sum(-(-count // manifest.rows_per_part) for count in deduped.counts.values())
    if parts > MOST_PARTS:
        raise ManifestError(
            f"{manifest.path}: key 'rows_per_part' is {manifest.rows_per_part}, which makes {parts:,} parts of "
            f"{rows:,} rows, more than {MOST_PARTS:,}; write at least {-(-rows // (MOST_PARTS - len(deduped.counts)))}"
        )


def _write(deduped: DedupedRows, rows_per_part: int, path: Path) -> None:
    with closing(PlanWriter(path)) as writer:
        for split in sorted(deduped.counts):
            for number, rows in enumerate(deduped.parts(split, rows_per_part)):
                writer.write(PartName(split, number), rows)
    with path.open("rb") as file:
        os.fsync(file.fileno())
