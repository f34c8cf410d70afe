"""Writes and reads ``plan.parquet``: the planned rows of a dataset, one row group for each part.

Videos below a local media root are stored relative to it, so a plan names no directory of the machine on which it was
made, unless a table does; the same tables give the same bytes on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet

from posecap import legacy
from posecap.manifest.rows import ROW_SCHEMA, located
from posecap.types import PartName, Row

PLAN_SCHEMA = pa.schema([*ROW_SCHEMA, pa.field("duplicate_of", pa.string())])
FORMAT = "posecap.planning.plan/1"
PLAN_FILE = "plan.parquet"
"""Its name in a dataset."""
_KEY = b"posecap.planning.plan"
_POSITION_COLUMNS = ("table", "row")


class PlanError(ValueError):
    """A plan cannot be read; the message names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part: its name, how many rows it has, a SHA-256 over them, and which row group of the plan holds them.

    ``rows_digest`` covers a row's content (id, video, span, label, captions, split, license, source, whether it
    repeats another) but not its position in a table.
    """

    name: PartName
    rows: int
    rows_digest: str
    row_group: int


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A row and, where it repeats an earlier one (same video, span and label), that row's id."""

    row: Row
    duplicate_of: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan on disk. Relative video paths start at ``media_root``; with ``""`` they stay relative."""

    path: Path
    media_root: str
    _parts: tuple[PlannedPart, ...]

    def parts(self) -> Sequence[PlannedPart]:
        """Every part, ordered by split and number."""
        return self._parts

    def rows(self, part: PlannedPart) -> list[PlannedRow]:
        """The rows of one part, in manifest order; no other part is read."""
        with pyarrow.parquet.ParquetFile(self.path) as file:
            table = file.read_row_group(part.row_group, use_threads=False)
        return [self._planned(found) for found in table.to_pylist()]

    def _planned(self, found: dict[str, Any]) -> PlannedRow:
        row = Row(
            row_id=found["id"],
            uri=found["uri"],
            start_seconds=found["start"],
            end_seconds=found["end"],
            label=found["label"],
            captions=tuple(found["captions"] or ()),
            split=found["split"],
            license=found[legacy.column_of("license", found)],
            source=found["source"],
            location=located(found["uri"], self.media_root),
            place=f"{found['table']}:{found['row']}",
        )
        return PlannedRow(row, found["duplicate_of"])


def open_plan(path: Path, *, media_root: str) -> Plan:
    """Open a plan.

    Args:
        media_root: the manifest's; ``""`` leaves relative videos relative.

    Raises:
        PlanError: the file is missing, damaged or no plan.
    """
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            written = json.loads((file.metadata.metadata or {})[_KEY])
            known = written["format"] == FORMAT and file.num_row_groups == len(written["parts"])
        if not known:
            raise ValueError(f"its format is {written['format']!r}, expected {FORMAT!r}")
        parts = [
            PlannedPart(PartName(split, number), rows, digest, group)
            for group, (split, number, rows, digest) in enumerate(written["parts"])
        ]
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise PlanError(f"{path} is no readable plan ({error}); delete it and plan again") from error
    return Plan(path, media_root, tuple(parts))


class PlanWriter:
    """Writes parts as row groups, in the order of their names, and their list into the file's metadata."""

    def __init__(self, path: Path) -> None:
        self._writer = pyarrow.parquet.ParquetWriter(
            path,
            PLAN_SCHEMA,
            compression="zstd",
            use_dictionary=["label", "split", "license", "source", "table"],
            write_statistics=False,
            store_schema=False,
        )
        self._parts: list[tuple[str, int, int, str]] = []

    def write(self, name: PartName, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=rows.num_rows)
        self._parts.append((name.split, name.number, rows.num_rows, rows_digest(rows)))

    def close(self) -> None:
        listed = json.dumps({"format": FORMAT, "parts": self._parts}, separators=(",", ":"))
        self._writer.add_key_value_metadata({_KEY: listed.encode()})
        self._writer.close()


def rows_digest(rows: pa.Table) -> str:
    """SHA-256 over planned rows, independent of batches and of positions in tables.

    Hashed column by column: its name; then lengths of lists and of texts as int32 (-1 for null) and the UTF-8 bytes,
    or float64 with NaN for null; little-endian.
    """
    hashed = hashlib.sha256()
    for name in rows.schema.names:
        if name in _POSITION_COLUMNS:
            continue
        column = rows.column(name).combine_chunks()
        hashed.update(f"{legacy.format_1_word(name)}:{len(column)}\0".encode())
        if pa.types.is_list(column.type):
            hashed.update(pc.fill_null(pc.list_value_length(column), -1).to_numpy().astype("<i4"))
            column = pc.list_flatten(column)
        if pa.types.is_floating(column.type):
            hashed.update(column.to_numpy(zero_copy_only=False).astype("<f8"))
            continue
        hashed.update(pc.fill_null(pc.binary_length(column), -1).to_numpy().astype("<i4"))
        hashed.update(_bytes_of(pc.fill_null(column, "")))
    return hashed.hexdigest()


def _bytes_of(texts: pa.StringArray) -> memoryview:
    """The UTF-8 bytes of every text, one after another, without copying."""
    _, offsets, data = texts.buffers()
    if data is None or len(texts) == 0:
        return memoryview(b"")
    ends = np.frombuffer(offsets, np.int32)
    return memoryview(data)[ends[texts.offset] : ends[texts.offset + len(texts)]]
