"""A measured table as files: ``table.md`` for people, ``table.json`` for programs and the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tmor_train.atomic_write import atomic_write
from tmor_train.metrics.spread import spread
from tmor_train.tables.cells import Cell
from tmor_train.tables.checkpoints import Weights
from tmor_train.tables.contract import Here, Row, Table

FORMAT = "tmor_train.table/1"
MARKDOWN, JSON = "table.md", "table.json"
_DASH = "–"


@dataclass(frozen=True, eq=False, kw_only=True)
class Figure:
    """What came of a cell: shares from 0 to 1, one a seed, or the ``reason`` why there is none."""

    cell: Cell
    values: tuple[float, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """In percent; over several seeds with half of the 95 % interval."""
        over = spread([100 * value for value in self.values]) if self.values else None
        if over is None:
            return _DASH
        return f"{over.mean:.1f} ± {over.half_width:.1f}" if len(self.values) > 1 else f"{over.mean:.1f}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Measured:
    """A table with the figures that are there so far, and what differs from the recipes."""

    table: Table
    weights: Mapping[str, Weights]
    figures: tuple[Figure, ...]
    changes: tuple[str, ...] = ()


def write(measured: Measured, folder: Path) -> None:
    """Both files, in place of those from before."""
    with atomic_write(folder / JSON, existing="replace") as part:
        part.write_text(json.dumps(as_values(measured), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with atomic_write(folder / MARKDOWN, existing="replace") as part:
        part.write_text(markdown(measured), encoding="utf-8")


def as_values(measured: Measured) -> dict[str, Any]:
    """All of it as JSON values; figures of the paper in percent, those measured here as shares."""
    table = measured.table
    rows = []
    number = 0
    for heading, section in table.sections:
        for row in section:
            # Recipes of different columns are one line to a reader.
            lines = dict.fromkeys((one.key, one.words) for one in row.here if one.key in measured.weights)
            here = [_line_here(measured, number, row, key=key, words=words) for key, words in lines]
            rows.append(
                {
                    "section": heading,
                    "method": row.method,
                    "more": dict(row.more),
                    "paper": list(row.paper),
                    "here": here,
                }
            )
            number += 1
    return {
        "format": FORMAT,
        "name": table.name,
        "title": table.title,
        "columns": [{**asdict(column), "figure": column.metric} for column in table.columns],
        "weights": {key: one.facts() | {"stands_for": table.keys[key]} for key, one in measured.weights.items()},
        "rows": rows,
        "notes": [*table.notes, *(f"changed here: {change}" for change in measured.changes), *_notes(measured)],
        "not_measured": [f"{', '.join(titles)}: {reason}" for reason, titles in _reasons(measured).items()],
    }


def _line_here(measured: Measured, number: int, row: Row, *, key: str, words: str) -> dict[str, Any]:
    """A line of figures measured here; None where one is not asked for, or not yet."""
    own = [one for one in row.here if (one.key, one.words) == (key, words)]
    found: list[dict[str, Any] | None] = []
    for column in measured.table.columns:
        cells = (one for one in measured.figures if (one.cell.row, one.cell.column) == (number, column))
        figure = next((one for one in cells if one.cell.here in own), None)
        if figure is None:
            found.append(None)
        else:
            found.append({"values": list(figure.values), "words": figure.words, "folder": figure.cell.place})
    recipes = " / ".join(dict.fromkeys(_recipe(measured, one) for one in own))
    return {"key": key, "recipe": recipes, "words": words, "figures": found}


def _recipe(measured: Measured, here: Here) -> str:
    """The recipe that a line was measured by, which may stand in the place of the table's."""
    configs = (figure.cell.config for figure in measured.figures if figure.cell.here == here)
    return next((str(config.recipe) for config in configs if config is not None), here.recipe)


def _notes(measured: Measured) -> list[str]:
    """What results say beside their figures, with the column that it is said of."""
    said = ((figure.cell.column.title, note) for figure in measured.figures for note in figure.notes)
    return [f"{title}: {note}" for title, note in dict.fromkeys(said)]


def _reasons(measured: Measured) -> dict[str, list[str]]:
    """Why figures were not measured, each with its columns."""
    found: dict[str, dict[str, None]] = {}
    for figure in measured.figures:
        if figure.reason:
            found.setdefault(" ".join(figure.reason.split()), {})[figure.cell.column.title] = None
    return {reason: list(titles) for reason, titles in found.items()}


def markdown(measured: Measured) -> str:
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
    return f"| {' | '.join(_plain(cell) for cell in cells)} |"


def _plain(words: str) -> str:
    """Words that end no cell of a table."""
    return " ".join(words.split()).replace("|", "\\|")


__all__ = ["FORMAT", "JSON", "MARKDOWN", "Figure", "Measured", "as_values", "markdown", "write"]
