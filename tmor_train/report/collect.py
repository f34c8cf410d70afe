"""Finds what a report shows below a folder: results, measured tables, logs of training, and embeddings."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tmor_train.results import RESULT, Result, ResultError, read_result
from tmor_train.tables.run import FORMAT, JSON
from tmor_train.training.metric_logger import JOURNAL

_MOST_BYTES = 64 * 2**20  # of a table.json that is read


@dataclass(frozen=True, slots=True)
class StoredResult:
    """A result and the folder that holds it; ``name`` is its path from the report's folder."""

    folder: Path
    name: str
    result: Result

    @property
    def words(self) -> str:
        """Its mode, encoder, share of labels and seed, which tell it from other results of its benchmark."""
        result = self.result
        labels = "" if result.labels == 1 else f", {100 * result.labels:g} % of labels"
        return f"{result.mode} ({result.checkpoint or 'no encoder'}{labels}, seed {result.seed})"

    @property
    def title(self) -> str:
        """Benchmark, protocol and :attr:`words`."""
        return f"{self.result.benchmark} {self.result.protocol}, {self.words}"


def best_first(results: Iterable[StoredResult]) -> list[StoredResult]:
    """Results from the highest primary metric to the lowest."""
    return sorted(results, key=lambda one: one.result.metrics[one.result.primary_metric], reverse=True)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """Everything to report from ``folder``.

    ``tables`` are the contents of ``table.json`` files, ``runs`` the folders with a ``journal.jsonl``, ``embeddings``
    Parquet files, and ``problems`` a sentence for each file that could not be read.
    """

    folder: Path
    results: Sequence[StoredResult] = ()
    tables: Sequence[dict[str, Any]] = ()
    runs: Sequence[Path] = ()
    embeddings: Sequence[Path] = ()
    problems: Sequence[str] = field(default_factory=tuple)

    def distinct(self) -> list[StoredResult]:
        """The results without duplicates: of equal ones in several folders the first."""
        distinct: dict[str, StoredResult] = {}
        for one in self.results:
            same = (one.result.benchmark, one.result.protocol, one.words, one.result.checkpoint_sha256)
            distinct.setdefault(repr((same, sorted(one.result.metrics.items()), tuple(one.result.per_class))), one)
        return list(distinct.values())

    def name_of(self, folder: Path) -> str:
        """The path of a folder relative to the report's, or as it is where it lies elsewhere."""
        return folder.relative_to(self.folder).as_posix() if folder.is_relative_to(self.folder) else str(folder)


def collect(folder: Path, *, embeddings: Sequence[Path] = ()) -> Collected:
    """Everything to report below a folder; ``embeddings`` are further files of ``tmor_train embed``, from anywhere.

    Raises:
        ResultError: there is no such folder.
    """
    if not folder.is_dir():
        raise ResultError(f"{folder} is not a folder; name one with results of tmor_train")
    results, tables, problems = [], [], []
    for path in sorted(folder.rglob(RESULT)):
        try:
            result = read_result(path.parent)
            results.append(StoredResult(path.parent, path.parent.relative_to(folder).as_posix(), result))
        except ResultError as error:
            problems.append(str(error))
    for path in sorted(folder.rglob(JSON)):
        try:
            tables.append(_table(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            problems.append(f"{path} is not a table of tmor_train: {error}")
    named = {path.resolve() for path in embeddings}
    found = [path for path in sorted(folder.rglob("*.parquet")) if _embeds(path)]
    return Collected(
        folder=folder,
        results=results,
        tables=tables,
        runs=[path.parent for path in sorted(folder.rglob(JOURNAL))],
        embeddings=[*embeddings, *(path for path in found if path.resolve() not in named)],
        problems=problems,
    )


def _table(path: Path) -> dict[str, Any]:
    """The content of a ``table.json``; raises one of several kinds of error for another file."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"larger than {_MOST_BYTES >> 20} MiB")
    table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if table.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    columns = len(table["columns"])
    lines = [line for row in table["rows"] for line in ([row["paper"]] + [here["figures"] for here in row["here"]])]
    if any(len(line) != columns for line in lines):
        raise ValueError(f"a row has no {columns} figures")
    return table


def _embeds(path: Path) -> bool:
    """Whether a Parquet file has the columns of ``tmor_train embed``."""
    try:
        return {"key", "label", "embedding"} <= set(pq.read_schema(path).names)
    except Exception:  # pyarrow raises many kinds for what is no Parquet file
        return False
