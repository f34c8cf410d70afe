"""The ledger of a dataset: an SQLite file with the outcomes of all rows so far.

The sidecars are authoritative: a part is done when its sidecar exists. The ledger answers questions about rows quickly,
and stores what differs from run to run and so belongs in no sidecar: times, and the rows on which workers died. A lost
or damaged ledger is rebuilt from the sidecars. Only the driver process writes it.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posecap import legacy
from posecap.outcomes import RowOutcome, sum_seconds
from posecap.types import PartName

# One JSON object is in each record, outcome and seconds (by stage); `sidecar` is the SHA-256 of a part's sidecar.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS parts (
  part TEXT PRIMARY KEY, sidecar TEXT NOT NULL, seconds TEXT NOT NULL, frames INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS rows (
  part TEXT NOT NULL, position INTEGER NOT NULL, row_id TEXT NOT NULL, status TEXT NOT NULL, stage TEXT NOT NULL,
  reason TEXT NOT NULL, retryable INTEGER NOT NULL, outcome TEXT NOT NULL, PRIMARY KEY (part, position));
CREATE INDEX IF NOT EXISTS rows_by_status ON rows (status, reason);
CREATE TABLE IF NOT EXISTS losses (row_id TEXT PRIMARY KEY, times INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS nodes (node TEXT PRIMARY KEY, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS open_rows (record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS finished_rows (digest TEXT PRIMARY KEY, pipeline TEXT NOT NULL, record TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS pipelines (pipeline TEXT PRIMARY KEY, made_with TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stored_files (file TEXT PRIMARY KEY, made_with TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stored_rows (digest TEXT PRIMARY KEY, file TEXT NOT NULL, record TEXT NOT NULL);
"""
_VERSION, _VERSIONS_WITH_FORMER_NAMES = 4, (2, 3)
"""Of the tables, as SQLite's ``user_version``; a new file has 0."""
_ROWS_PER_WRITE = 10_000
"""Outcomes in memory at a time while they are exported: a row group of the Parquet file."""
_COUNTED = ("kept", "rejected", "failed")  # of clips, which are never quarantined: only rows are
_TEXTS = ("part", "row_id", "uri", "status", "stage", "reason", "detail")
"""Fields of a row's outcome, and columns of the export, that are text."""
_EXPORT = pa.schema(
    [
        *((name, pa.string()) for name in _TEXTS),
        ("retryable", pa.bool_()),
        *((f"clips_{status}", pa.int32()) for status in _COUNTED),
    ]
)


LEDGER_FILE = "ledger.sqlite"
"""In the folder of :func:`posecap.plan_store.work_folder`."""
OWN_OF_ADD = ".add.sqlite"
"""Beside it: of `posecap add`, while it runs or after it was stopped (:mod:`posecap.enrichment`)."""


def delete_ledger(path: Path) -> None:
    """Delete a ledger, with the files that SQLite keeps beside it; nothing happens where there is none."""
    for ending in ("", "-wal", "-shm"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


class Ledger:
    """The ledger of one dataset, on local disk. Use as a context manager.

    Every method may raise sqlite3.OperationalError: the disk is full or fails, or another process has the file locked.
    """

    def __init__(self, path: Path) -> None:
        self._db = _connect(path)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self._db.close()

    def record_part(
        self,
        part: PartName,
        sidecar: str,
        outcomes: Iterable[RowOutcome],
        *,
        seconds: Mapping[str, float],
        frames: int,
    ) -> None:
        """Enter a committed part, replacing an earlier entry.

        Args:
            sidecar: SHA-256 of the bytes of its sidecar.
            outcomes: of all its rows, in plan order.
            seconds: worker seconds by stage; empty if they are not known. Of a part of which only some rows were tried
                again, those of these rows.
            frames: number of frames decoded for it, as for ``seconds``.
        """
        with self._db:
            self._db.execute("DELETE FROM rows WHERE part = ?", (str(part),))
            self._db.execute(
                "INSERT OR REPLACE INTO parts VALUES (?, ?, ?, ?)",
                (str(part), sidecar, json.dumps(dict(seconds), sort_keys=True), frames),
            )
            self._db.executemany(
                "INSERT INTO rows VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (str(part), i, o.row_id, o.status, o.stage, o.reason, o.retryable, json.dumps(o.as_json()))
                    for i, o in enumerate(outcomes)
                ),
            )

    def remove_part(self, part: str) -> None:
        """Delete the entry of a part."""
        with self._db:
            self._db.execute("DELETE FROM rows WHERE part = ?", (part,))
            self._db.execute("DELETE FROM parts WHERE part = ?", (part,))

    def record_loss(self, row_id: str) -> None:
        """Count one more worker that died on a row."""
        with self._db:
            self._db.execute(
                "INSERT INTO losses VALUES (?, 1) ON CONFLICT (row_id) DO UPDATE SET times = times + 1", (row_id,)
            )

    def losses(self) -> dict[str, int]:
        """Row id → how often a worker has died on the row, over all runs, for rows that have no outcome yet. A row with
        an outcome that is tried again starts at 0."""
        query = "SELECT row_id, times FROM losses WHERE row_id NOT IN (SELECT row_id FROM rows)"
        return dict(self._db.execute(query).fetchall())

    def record_nodes(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Enter what is known of the nodes of the present run (:meth:`posecap.run.pool.Health.as_json`), replacing
        what was entered before."""
        with self._db:
            self._db.execute("DELETE FROM nodes")
            self._db.executemany(
                "INSERT INTO nodes VALUES (?, ?)", ((record["node"], json.dumps(dict(record))) for record in records)
            )

    def record_open_rows(self, record: Mapping[str, Any] | None) -> None:
        """Enter what is known of rows that are done in parts under way (:mod:`posecap.open_rows`); None for none."""
        with self._db:
            self._db.execute("DELETE FROM open_rows")
            if record is not None:
                self._db.execute("INSERT INTO open_rows VALUES (?)", (json.dumps(dict(record)),))

    def record_finished_rows(self, pipeline: str, records: Mapping[str, str]) -> None:
        """Enter rows that are done in parts under way, by digest (:mod:`posecap.open_rows`).

        Args:
            pipeline: the fingerprint of the pipeline that they were made with.
        """
        with self._db:
            self._db.executemany(
                "INSERT OR REPLACE INTO finished_rows VALUES (?, ?, ?)",
                ((digest, pipeline, record) for digest, record in records.items()),
            )

    def finished_rows_of(self, digests: Sequence[str]) -> dict[str, str]:
        """What :meth:`record_finished_rows` was given for these digests, by digest; of others there is nothing."""
        query = "SELECT digest, record FROM finished_rows WHERE digest IN (SELECT value FROM json_each(?))"
        return dict(self._db.execute(query, (json.dumps(digests),)).fetchall())

    def finished_rows(self) -> Iterator[str]:
        """What :meth:`record_finished_rows` was given, of all rows, one after another."""
        for (record,) in self._db.execute("SELECT record FROM finished_rows"):
            yield record

    def record_pipeline(self, pipeline: str, made_with: str) -> None:
        """Enter JSON of what stored results are made with that rows of a pipeline, by its fingerprint, have."""
        with self._db:
            self._db.execute("INSERT OR REPLACE INTO pipelines VALUES (?, ?)", (pipeline, made_with))

    def rows_of_other_pipelines(self, pipeline: str) -> Iterator[tuple[str, str]]:
        """What :meth:`record_finished_rows` was given of rows of other pipelines than this one, each with what
        :meth:`record_pipeline` was given for its pipeline."""
        query = "SELECT record, made_with FROM finished_rows JOIN pipelines USING (pipeline) WHERE pipeline != ?"
        yield from self._db.execute(query, (pipeline,))

    def forget_finished_rows(self, digests: Iterable[str] | None, *, but_of: str = "") -> None:
        """Delete what :meth:`record_finished_rows` was given for these digests; with None for all rows but those of the
        pipeline with the fingerprint ``but_of`` (empty: none)."""
        with self._db:
            if digests is None:
                self._db.execute("DELETE FROM finished_rows WHERE pipeline != ?", (but_of,))
                self._db.execute("DELETE FROM pipelines WHERE pipeline != ?", (but_of,))
            else:
                self._db.executemany("DELETE FROM finished_rows WHERE digest = ?", ((one,) for one in digests))

    def record_stored_rows(self, files: Iterable[tuple[str, str, Mapping[str, str]]]) -> None:
        """Enter rows of which files have stored results, by digest (:mod:`posecap.open_rows`). Rows that are entered
        already are replaced.

        Args:
            files: of each its name, JSON of what its results were made with, and the records of its rows.
        """
        with self._db:
            for file, made_with, records in files:
                self._db.execute("INSERT OR REPLACE INTO stored_files VALUES (?, ?)", (file, made_with))
                self._db.executemany(
                    "INSERT OR REPLACE INTO stored_rows VALUES (?, ?, ?)",
                    ((digest, file, record) for digest, record in records.items()),
                )

    def stored_rows_of(self, digests: Sequence[str]) -> dict[str, tuple[str, str, str]]:
        """Of rows with stored results, by digest: their file, what it was made with, and the row's record."""
        query = (
            "SELECT digest, file, made_with, record FROM stored_rows JOIN stored_files USING (file) "
            "WHERE digest IN (SELECT value FROM json_each(?))"
        )
        return {found[0]: found[1:] for found in self._db.execute(query, (json.dumps(digests),))}

    def stored_files(self) -> dict[str, str]:
        """Files that have stored results of rows, each with what it was made with."""
        return dict(self._db.execute("SELECT file, made_with FROM stored_files ORDER BY file").fetchall())

    def forget_stored_rows(self) -> None:
        """Delete what is known of stored results."""
        with self._db:
            self._db.execute("DELETE FROM stored_rows")
            self._db.execute("DELETE FROM stored_files")

    def nodes(self) -> list[dict[str, Any]]:
        """The records of :meth:`record_nodes`, by name of the node; of the last run where none is under way."""
        return [json.loads(record) for (record,) in self._db.execute("SELECT record FROM nodes ORDER BY node")]

    def parts(self) -> dict[str, str]:
        """Part name → SHA-256 of the sidecar it was entered from."""
        return dict(self._db.execute("SELECT part, sidecar FROM parts").fetchall())

    def outcomes(self, part: str | None = None) -> Iterator[RowOutcome]:
        """The outcome of every row of a part, in plan order; with None of all parts, one after another by name."""
        if part is None:
            found = self._db.execute("SELECT outcome FROM rows ORDER BY part, position")
        else:
            found = self._db.execute("SELECT outcome FROM rows WHERE part = ? ORDER BY position", (part,))
        for (written,) in found:
            yield RowOutcome.from_json(json.loads(written))

    def seconds(self) -> tuple[dict[str, float], int]:
        """Sums over the parts whose times are known: worker seconds by stage, and the number of frames decoded."""
        parts = self._db.execute("SELECT seconds, frames FROM parts ORDER BY part").fetchall()
        return sum_seconds(json.loads(seconds) for seconds, _ in parts), sum(frames for _, frames in parts)

    def export(self, target: Any) -> None:
        """Write the outcomes of all rows as a Parquet file: reasons of rows, and numbers of clips by outcome.

        Args:
            target: a path, or a file open for writing.

        Raises:
            OSError: it cannot be written.
        """
        cursor = self._db.execute("SELECT part, outcome FROM rows ORDER BY part, position")
        with pq.ParquetWriter(target, _EXPORT) as writer:
            while batch := cursor.fetchmany(_ROWS_PER_WRITE):
                writer.write_table(pa.Table.from_pylist([_flat(part, json.loads(o)) for part, o in batch], _EXPORT))


@contextmanager
def reading(path: Path) -> Iterator[Ledger]:
    """A ledger to read in the block. Of one in a folder that cannot be written, where SQLite opens none, it is a copy.

    Raises:
        FileNotFoundError: there is none in such a folder.
    """
    if os.access(path.parent, os.W_OK):
        with Ledger(path) as ledger:
            yield ledger
        return
    with TemporaryDirectory(prefix="posecap-ledger-") as folder:
        copy = Path(shutil.copyfile(path, Path(folder, path.name)))
        with suppress(FileNotFoundError):  # what a process wrote last and did not enter, since it was killed
            shutil.copyfile(f"{path}-wal", f"{copy}-wal")
        with Ledger(copy) as ledger:
            yield ledger


def read_nodes(path: Path) -> list[dict[str, Any]]:
    """:meth:`Ledger.nodes` of a ledger that may be in use, without changing it; empty where it has none."""
    return _records(path, "SELECT record FROM nodes ORDER BY node")


def read_open_rows(path: Path) -> dict[str, Any] | None:
    """What :meth:`Ledger.record_open_rows` entered last in a ledger that may be in use, without changing it; None where
    that was None, or the ledger is missing, damaged or of an earlier version."""
    return next(iter(_records(path, "SELECT record FROM open_rows")), None)


def _records(path: Path, query: str) -> list[dict[str, Any]]:
    """The JSON objects that a query gives of a ledger, which is opened for reading only; none where it cannot be
    read."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return [json.loads(record) for (record,) in db.execute(query)]
    except (sqlite3.DatabaseError, ValueError):  # none yet, of an earlier version, or damaged: it only informs
        return []


def _upgrade(db: sqlite3.Connection) -> None:
    """Bring a ledger to the present names of statuses, stages and reasons; replacing it would lose its times."""
    rows = []
    for part, position, written in db.execute("SELECT part, position, outcome FROM rows"):
        outcome = RowOutcome.from_json(json.loads(written))
        rows.append((outcome.status, outcome.stage, outcome.reason, json.dumps(outcome.as_json()), part, position))
    times = [
        (json.dumps({legacy.STAGES.get(stage, stage): took for stage, took in json.loads(seconds).items()}), part)
        for part, seconds in db.execute("SELECT part, seconds FROM parts")
    ]
    with db:
        db.executemany(
            "UPDATE rows SET status = ?, stage = ?, reason = ?, outcome = ? WHERE part = ? AND position = ?", rows
        )
        db.executemany("UPDATE parts SET seconds = ? WHERE part = ?", times)


def _flat(part: str, outcome: dict[str, Any]) -> dict[str, Any]:
    """A row's outcome as a row of the export."""
    statuses = [clip["status"] for clip in outcome.pop("clips")]
    return {"part": part, **outcome, **{f"clips_{status}": statuses.count(status) for status in _COUNTED}}


def _connect(path: Path) -> sqlite3.Connection:
    """Open or create a ledger. One of version 2 or 3 is upgraded; any other file that is no ledger of this version is
    replaced, since sidecars can rebuild all but times and deaths of workers.

    Raises:
        sqlite3.OperationalError: the disk is full, or the file cannot be opened or is locked; it is left alone.
    """
    try:
        return _opened(path)
    except sqlite3.OperationalError:
        raise
    except sqlite3.DatabaseError:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        return _opened(path)


def _opened(path: Path) -> sqlite3.Connection:
    """A ledger of this version, created or upgraded.

    Raises:
        sqlite3.DatabaseError: the file is no ledger, or one of another version; or as :func:`_connect`.
    """
    db = sqlite3.connect(path)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version in _VERSIONS_WITH_FORMER_NAMES:
            _upgrade(db)
        elif version not in (0, _VERSION):
            raise sqlite3.DatabaseError(f"ledger format {version}, expected {_VERSION}")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_VERSION}")
    except BaseException:
        db.close()
        raise
    return db
