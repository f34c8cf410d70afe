"""What a table is: columns of benchmarks, rows of methods with the paper's figures, and what is measured beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One figure of one protocol: ``metric`` is its name among those of a result, ``title`` the paper's words."""

    title: str
    benchmark: str
    protocol: str
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What measures a row anew.

    ``recipe`` is run for each column with the checkpoint of the row's ``key``. ``mode`` says which of its results count
    (empty: all of them). ``words`` tell several of one row apart. ``columns`` restricts it to benchmarks by name (none:
    all of them), where rows take another recipe for clips than for frames.
    """

    key: str
    recipe: str
    mode: str
    words: str = ""
    columns: tuple[str, ...] = ()

    def measures(self, column: Column) -> bool:
        return not self.columns or column.benchmark in self.columns


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the paper. ``paper`` has a figure in percent for each column, none where the paper has a dash.
    ``more`` are its other words, by heading; ``here`` is empty for what others measured."""

    method: str
    paper: tuple[float | None, ...]
    more: Mapping[str, str] = field(default_factory=dict)
    here: tuple[Here, ...] = ()


def pretrained_row(method: str, data: str, backbone: str, *paper: float | None, here: Here | None = None) -> Row:
    """A line of Tables I and II, which say of each method its pre-training and its backbone."""
    more = {"Pre-training": data, "Backbone": backbone}
    return Row(method=method, more=more, paper=paper, here=() if here is None else (here,))


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
            if unknown := [here.key for here in row.here if here.key not in self.keys]:
                raise ValueError(f"{self.name}: {row.method} is measured with {unknown[0]!r}, which is no key")

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for _, rows in self.sections for row in rows)


SCRATCH_KEY = "scratch"
"""The key of rows that are measured with an encoder that was never trained; no checkpoint is named for it."""

__all__ = ["SCRATCH_KEY", "Column", "Here", "Row", "Table", "pretrained_row"]
