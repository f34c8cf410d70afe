"""What a table of the paper is, and the settings of a run that measures one; imports nothing of what measures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

TableName = Literal["table1", "table2", "table3", "table4", "table5"]

SCRATCH_KEY = "scratch"
"""The key of rows that are measured with an encoder that was never trained; no checkpoint is named for it."""


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """A table of the paper, measured anew; see :mod:`tmor_train.tables.run`.

    ``data_root`` has a folder for each benchmark, of its name. ``weights`` is a checkpoint or a run's folder; which row
    it is for follows from its losses. ``rows`` name checkpoints for rows, ``KEY=CHECKPOINT`` each, and go before it.
    ``texts`` are the vectors of prompts that zero-shot recognition needs. ``recipes`` puts other recipes in the place
    of the table's, ``finetune=finetune_cpu`` say. ``changes`` are made to each evaluation that has such a field, as
    ``--set`` writes them. ``scratch`` says whether rows of an encoder that was never trained are measured.
    """

    recipe: str
    about: str
    table: TableName
    data_root: str | None = None
    weights: str | None = None
    rows: tuple[str, ...] = ()
    texts: str | None = None
    recipes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    scratch: Literal["measured", "left_out"] = "measured"
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for pair in (*self.rows, *self.recipes):
            if not all(pair.partition("=")):
                raise ValueError(f"{pair!r} is no pair such as vmt=runs/stage2")
        if not self.seeds:
            raise ValueError("there is at least one seed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One metric of one protocol: ``metric`` is its name among those of a result, ``title`` the paper's words."""

    title: str
    benchmark: str
    protocol: str
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction:
    """What measures a row anew.

    ``recipe`` is run for each column with the checkpoint of the row's ``key``. ``mode`` says which of its results count
    (empty: all of them). ``words`` distinguish several of one row. ``benchmarks`` restricts it to these (empty: all of
    them), where rows take another recipe for clips than for frames.
    """

    key: str
    recipe: str
    mode: str
    words: str = ""
    benchmarks: tuple[str, ...] = ()

    def measures(self, column: Column) -> bool:
        return not self.benchmarks or column.benchmark in self.benchmarks


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the paper. ``paper`` has a figure in percent for each column, none where the paper has a dash.
    ``more`` are its other words, by heading; ``reproductions`` is empty for what others measured."""

    method: str
    paper: tuple[float | None, ...]
    more: Mapping[str, str] = field(default_factory=dict)
    reproductions: tuple[Reproduction, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table of the paper.

    ``sections`` are its parts from top to bottom, with a heading each. ``keys`` are the rows that a checkpoint can be
    named for, each with what it stands for. ``notes`` are what is to be known to compare.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    sections: tuple[tuple[str, tuple[Row, ...]], ...]
    keys: Mapping[str, str]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.paper) != len(self.columns):
                raise ValueError(
                    f"{self.name}: {row.method} has {len(row.paper)} figures for {len(self.columns)} columns"
                )
            if unknown := [one.key for one in row.reproductions if one.key not in self.keys]:
                raise ValueError(f"{self.name}: {row.method} is measured with {unknown[0]!r}, which is no key")

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for _, rows in self.sections for row in rows)
