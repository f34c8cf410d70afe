"""A measured table as files: ``table.md`` for people, ``table.json`` for programs and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tmor_train.atomic_write import atomic_write
from tmor_train.metrics.accuracy import spread
from tmor_train.tables.jobs import Job, Weights
from tmor_train.tables.paper import Column, Reproduction, Row, Table

FORMAT = "tmor_train.table/1"
MARKDOWN, JSON = "table.md", "table.json"
_DASH = "–"


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """The outcome of a job: its metric for each seed, shares from 0 to 1, or the ``reason`` why there is none;
    ``notes`` are sentences to print beside it."""

    job: Job
    values: tuple[float, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The mean in percent, with the half width of its 95 % interval where there are several seeds."""
        over = spread([100 * value for value in self.values]) if self.values else None
        if over is None:
            return _DASH
        return f"{over.mean:.1f} ± {over.half_width:.1f}" if len(self.values) > 1 else f"{over.mean:.1f}"


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuredTable:
    """A table with what is measured so far: ``measurements`` of the jobs done, in their order.

    ``weights`` are the checkpoints by key of the rows; ``changes`` are the changes to recipes, as users gave them.
    """

    table: Table
    weights: Mapping[str, Weights]
    measurements: tuple[Measurement, ...]
    changes: tuple[str, ...] = ()


def write_table(measured: MeasuredTable, folder: Path) -> None:
    """Write ``table.json`` and ``table.md`` into ``folder``; earlier ones are replaced."""
    with atomic_write(folder / JSON, existing="replace") as part:
        part.write_text(json.dumps(as_values(measured), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with atomic_write(folder / MARKDOWN, existing="replace") as part:
        part.write_text(markdown(measured), encoding="utf-8")


def as_values(measured: MeasuredTable) -> dict[str, Any]:
    """All of it as JSON values; figures of the paper in percent, those measured here as shares."""
    table = measured.table
    headings = [heading for heading, rows in table.sections for _ in rows]
    notes = {f"{one.job.column.title}: {note}": None for one in measured.measurements for note in one.notes}
    reasons: dict[str, dict[str, None]] = {}
    for one in measured.measurements:
        if one.reason:
            reasons.setdefault(" ".join(one.reason.split()), {})[one.job.column.title] = None
    return {
        "format": FORMAT,
        "name": table.name,
        "title": table.title,
        "columns": [
            {"title": one.title, "benchmark": one.benchmark, "protocol": one.protocol, "figure": one.metric}
            for one in table.columns
        ],
        "weights": {key: one.facts() | {"stands_for": table.keys[key]} for key, one in measured.weights.items()},
        "rows": [
            {
                "section": heading,
                "method": row.method,
                "more": dict(row.more),
                "paper": list(row.paper),
                "here": _lines_here(measured, number, row),
            }
            for number, (heading, row) in enumerate(zip(headings, table.rows, strict=True))
        ],
        "notes": [*table.notes, *(f"changed here: {change}" for change in measured.changes), *notes],
        "not_measured": [f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items()],
    }


def _lines_here(measured: MeasuredTable, number: int, row: Row) -> list[dict[str, Any]]:
    """Lines of what was measured for a row, None in a column that is not asked for, or not yet measured."""
    lines: dict[tuple[str, str], list[Reproduction]] = {}
    for one in row.reproductions:
        if one.key in measured.weights:  # recipes of different columns are one line to a reader
            lines.setdefault((one.key, one.words), []).append(one)
    return [
        {
            "key": key,
            "recipe": " / ".join(dict.fromkeys(_recipe(measured, one) for one in own)),
            "words": words,
            "figures": [_figure(measured, number, own, column) for column in measured.table.columns],
        }
        for (key, words), own in lines.items()
    ]


def _figure(measured: MeasuredTable, number: int, own: list[Reproduction], column: Column) -> dict[str, Any] | None:
    for one in measured.measurements:
        if (one.job.row, one.job.column) == (number, column) and one.job.reproduction in own:
            return {"values": list(one.values), "words": one.words, "folder": one.job.folder}
    return None


def _recipe(measured: MeasuredTable, reproduction: Reproduction) -> str:
    """The recipe that was run; the configuration may replace the table's."""
    configs = (one.job.config for one in measured.measurements if one.job.reproduction == reproduction)
    return next((str(config.recipe) for config in configs if config is not None), reproduction.recipe)


def markdown(measured: MeasuredTable) -> str:
    """The table with the figures measured here in bold below the paper's."""
    values = as_values(measured)
    headings = list(dict.fromkeys(name for row in values["rows"] for name in row["more"]))
    heads = ["Method", *headings, *(column["title"] for column in values["columns"])]
    lines = [f"# {values['title']}", "", *_about(values), ""]
    section = ""
    for row in values["rows"]:
        if row["section"] != section:
            section = row["section"]
            lines += [
                "",
                f"## {section}",
                "",
                _line(heads),
                _line(["---"] * (1 + len(headings)) + ["---:"] * len(row["paper"])),
            ]
        paper = [_DASH if share is None else f"{share:.1f}" for share in row["paper"]]
        lines.append(_line([row["method"], *(row["more"].get(name, "") for name in headings), *paper]))
        for here in row["here"]:
            words = f"↳ **here**: {here['words'] or here['recipe']}, {values['weights'][here['key']]['name']}"
            shown = [
                "" if one is None else f"**{one['words']}**" if one["values"] else _DASH for one in here["figures"]
            ]
            lines.append(_line([words, *("" for _ in headings), *shown]))
    for heading, entries in (("Notes", values["notes"]), ("Not measured", values["not_measured"])):
        if entries:
            lines += ["", f"## {heading}", "", *(f"- {_plain(entry)}" for entry in entries)]
    return "\n".join(lines) + "\n"


def _about(values: dict[str, Any]) -> list[str]:
    lines = [
        "In percent. Lines without a mark are the paper's (arXiv 2606.21607); those marked **here** were measured."
    ]
    for key, one in values["weights"].items():
        trained = f", {' + '.join(one['losses'])} on {', '.join(one['data'])}" if one["losses"] else ""
        digits = f" (SHA-256 {one['sha256'][:12]}…)" if len(one["sha256"]) == 64 else ""
        lines += ["", f"- `{key}`, {one['stands_for']}: {_plain(one['name'])}{digits}{_plain(trained)}"]
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(words: str) -> str:
    """``words`` on one line, with ``|`` escaped, for a cell of a Markdown table."""
    return " ".join(words.split()).replace("|", "\\|")


__all__ = ["FORMAT", "JSON", "MARKDOWN", "MeasuredTable", "Measurement", "as_values", "markdown", "write_table"]
