"""The parts of the page as data; ``report.html.jinja`` turns them into HTML and escapes all their text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup


def printable(text: object, *, limit: int = 2000) -> str:
    """Text on one line without characters that cannot be printed, cut at ``limit`` characters."""
    found = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return found if len(found) <= limit else found[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Chart:
    """An SVG element, None where matplotlib is not installed, with its caption.

    With a ``title`` the page shows it in an element that a reader opens and closes.
    """

    svg: Markup | None
    caption: str
    title: str = ""
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table: the first cell spans ``span`` columns; ``kind`` is a class of the page's style."""

    cells: Sequence[object]
    span: int = 1
    kind: Literal["", "section", "measured"] = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. The first ``text_columns`` of its columns are text, the others numbers."""

    heads: Sequence[str]
    lines: Sequence[Line]
    text_columns: int


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a section; the page shows its fields in this order, and those that are empty not at all."""

    heading: str = ""
    text: str = ""
    grid: Grid | None = None
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()
    more_notes: Sequence[str] = ()
    """A second list."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: its ``name`` in links, its title, and its blocks from top to bottom."""

    name: str
    title: str
    blocks: Sequence[Block]
