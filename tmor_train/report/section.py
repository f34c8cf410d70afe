"""The parts of the page as data, with figures as SVG; ``report.html.jinja`` makes HTML of them and escapes all text.

The lines and words of matplotlib's figures take the colour of the page's text, light or dark.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from markupsafe import Markup

# A colour that no chart uses; in the page it is replaced by the colour of the text.
_INK = "#010203"
_SETTINGS = {
    "svg.fonttype": "none",  # words stay words
    "text.parse_math": False,  # a class may be called $x$
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    **dict.fromkeys(("axes.facecolor", "figure.facecolor", "savefig.facecolor", "legend.facecolor"), "none"),
    "legend.edgecolor": "none",
    "legend.framealpha": 0.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.alpha": 0.25,
    "grid.color": "#808080",
}
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
LABEL_CHARACTERS, LEGEND_CHARACTERS = 40, 100

COLOURS = ("#2f81f7", "#d29922", "#2da44e", "#db61a2", "#8957e5", "#e5534b", "#1b9aaa", "#8a8f98", "#a0692c", "#6e8b00")
"""Of series; they differ on white and on black."""


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


def left_out(found: Sized, most: int, what: str) -> Iterator[Block]:
    """A line on how many of ``found`` are not shown, if there are more than ``most``."""
    if len(found) > most:
        yield Block(text=f"{len(found) - most} more {what} are left out.")


def svg(draw: Callable[[Any], None], *, width: float, height: float, name: str) -> Markup | None:
    """What ``draw`` puts on a figure of ``width`` by ``height`` inches, as an SVG element; None without matplotlib.

    Args:
        name: unique in a page, so that elements of different figures have different ids.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        return None
    out = StringIO()
    with rc_context({**_SETTINGS, "svg.hashsalt": name, "svg.id": None}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    # Matplotlib escapes all text that it is given.
    return Markup(_METADATA.sub("", text[text.index("<svg") :]).replace(_INK, "currentColor"))  # noqa: S704


def label(text: object) -> str:
    """Text short enough for an axis."""
    return printable(text, limit=LABEL_CHARACTERS)


def legend(text: object) -> str:
    """Text short enough for a legend. Matplotlib leaves out what begins with an underscore."""
    found = printable(text, limit=LEGEND_CHARACTERS)
    return f" {found}" if found.startswith("_") else found
