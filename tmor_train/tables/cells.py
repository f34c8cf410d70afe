"""A figure of a table as an evaluation to run: its recipe's configuration, and the folder that its results are in.

A folder's name ends with a digest of everything that the figure depends on and that a configuration says. So a figure
is measured once, whatever table asks for it again, and never taken for one of other weights or settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from posecap.hashing import digest, file_sha256
from tmor_train.configuration import KIND, BadConfig, as_json, changed
from tmor_train.evaluation.config import StartConfig
from tmor_train.kinds import NoKind, kind_of
from tmor_train.recipes import NoRecipe, recipe
from tmor_train.tables.checkpoints import Weights
from tmor_train.tables.config import TableConfig
from tmor_train.tables.contract import Column, Here, Table

_DIGITS = 10


@dataclass(frozen=True, eq=False, kw_only=True)
class Cell:
    """One figure: of the row number ``row`` in the table, measured as ``here`` says in ``column``.

    ``config`` is what runs; where it is None, ``reason`` says why nothing can. ``place`` is the folder of its results
    below the table's.
    """

    row: int
    here: Here
    column: Column
    config: Any | None
    place: str = ""
    reason: str = ""


def cells_of(table: Table, config: TableConfig, weights: Mapping[str, Weights]) -> list[Cell]:
    """All figures of the rows that have a checkpoint, a column at a time within a row.

    Raises:
        BadConfig: a change that no evaluation of the table takes.
    """
    cells = [
        _cell(number, here, column, config, weights[here.key])
        for number, row in enumerate(table.rows)
        for here in row.here
        if here.key in weights
        for column in table.columns
        if here.measures(column)
    ]
    for change in config.changes:
        refusals = [_refusal(cell, change) for cell in cells if cell.config is not None]
        if refusals and all(refusals):
            raise refusals[0] or BadConfig(change)
    return [_changed(cell, config.changes, weights[cell.here.key]) for cell in cells]


def _cell(row: int, here: Here, column: Column, config: TableConfig, weights: Weights) -> Cell:
    """One figure by its recipe, before changes."""
    others = dict(pair.split("=", 1) for pair in config.recipes)
    name = others.get(here.recipe, here.recipe)
    try:
        base = recipe(name)
        kind = kind_of(base)
    except (NoRecipe, NoKind) as error:
        return Cell(row=row, here=here, column=column, config=None, reason=str(error))
    flags = {
        "benchmark": column.benchmark,
        "protocol": column.protocol,
        "data": str(Path(config.data_root or "") / column.benchmark),
        "from": weights.path,
        "seeds": ",".join(map(str, config.seeds)),
        "seed": str(config.seeds[0]),
        "texts": config.texts,
    }
    both = "seeds" in kind.flags  # then --seed would set the same field
    given = {
        flag: value
        for flag, value in flags.items()
        if value is not None and flag in kind.flags and not (both and flag == "seed")
    }
    made = changed(base, kind.changes(given))
    start = getattr(made, "start", None)
    if isinstance(start, StartConfig) and weights.scratch is not None:
        made = replace(made, start=replace(start, scratch=weights.scratch))
    return Cell(row=row, here=here, column=column, config=made)


def _refusal(cell: Cell, change: str) -> BadConfig | None:
    try:
        changed(cell.config, [change])
    except BadConfig as error:
        return error
    return None


def _changed(cell: Cell, changes: tuple[str, ...], weights: Weights) -> Cell:
    """The figure with the changes that it takes, and its place."""
    if cell.config is None:
        return cell
    config = changed(cell.config, [change for change in changes if _refusal(cell, change) is None])
    name = "-".join((config.recipe, cell.here.key, cell.column.benchmark, cell.column.protocol))
    return replace(cell, config=config, place=f"{name}-{_identity(config, weights)}")


def _identity(config: Any, weights: Weights) -> str:
    """Digits of everything that a figure depends on, without where files lie."""
    values = {KIND: type(config).__name__} | as_json(config)
    values.pop("about")
    task, texts = values.get("task"), values.get("texts")
    known = {weights.path: weights.sha256}
    if isinstance(task, dict) and task.get("folder"):
        known[task["folder"]] = "folder"
    if isinstance(texts, str) and Path(texts).is_file():
        known[texts] = file_sha256(Path(texts))
    return digest(_replaced(values, known))[:_DIGITS]


def _replaced(value: Any, known: Mapping[str, str]) -> Any:
    """JSON values with some words in place of others."""
    if isinstance(value, dict):
        return {name: _replaced(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, known) for item in value]
    return known.get(value, value) if isinstance(value, str) else value


__all__ = ["Cell", "cells_of"]
