"""The parts of the report's page as data, with charts as SVG; ``report.html.jinja`` turns them into HTML and escapes
all text.

Lines and text of the charts have the colour of the page's text, in its light and in its dark style.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from io import StringIO
from typing import Any, Literal

from markupsafe import Markup

# A placeholder: no chart uses this colour, and in the SVG it is replaced by the colour of the page's text.
_INK = "#010203"
_SETTINGS = {  # matplotlib's rcParams
    "svg.fonttype": "none",  # text as text, not as outlines
    "text.parse_math": False,  # the name of a class may have dollar signs
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
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)  # which matplotlib writes, with its version
LABEL_CHARACTERS, LEGEND_CHARACTERS = 40, 100
"""Length at which text of axes and of legends is cut; our choices for what fits beside a figure."""

COLOURS = ("#2f81f7", "#d29922", "#2da44e", "#db61a2", "#8957e5", "#e5534b", "#1b9aaa", "#8a8f98", "#a0692c", "#6e8b00")
"""Colours of series, chosen to differ from each other on white and on black."""


def printable(text: object, *, limit: int = 2000) -> str:
    """Text on one line without characters that cannot be printed, cut at ``limit`` characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class Chart:
    """An element ``svg``, None where matplotlib is not installed, with its caption.

    With a ``title`` the page shows it in an element that opens and closes by a click, at first as ``is_open`` says;
    without one ``is_open`` is not used.
    """

    svg: Markup | None
    caption: str
    title: str = ""
    is_open: bool = True


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a table. The first of ``cells`` spans ``span`` columns; ``kind`` is its class in the page's style
    sheet."""

    cells: Sequence[object]
    span: int = 1
    kind: Literal["", "section", "measured"] = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of ``lines`` with the headings ``heads``. The first ``text_columns`` columns hold text, the others
    numbers."""

    heads: Sequence[str]
    lines: Sequence[Line]
    text_columns: int


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a section; the page shows the fields that are not empty, in this order. ``notes`` and ``more_notes``
    are lists of sentences."""

    heading: str = ""
    text: str = ""
    grid: Grid | None = None
    charts: Sequence[Chart] = ()
    notes: Sequence[str] = ()
    more_notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: the ``name`` of its anchor, its title, and its blocks from top to bottom."""

    name: str
    title: str
    blocks: Sequence[Block]


def left_out(items: Sized, most: int, what: str) -> Iterator[Block]:
    """A line on how many of ``items`` are not shown, if there are more than ``most``."""
    if len(items) > most:
        yield Block(text=f"{len(items) - most} more {what} are left out.")


def svg(draw: Callable[[Any], None], *, width: float, height: float, name: str) -> Markup | None:
    """A chart as an SVG element: ``draw`` gets a matplotlib figure of ``width`` by ``height`` inches. None without
    matplotlib.

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
        figure.savefig(out, format="svg", metadata={"Date": None})  # equal results give equal bytes
    text = out.getvalue()
    # Matplotlib escapes all text that it is given.
    return Markup(_METADATA.sub("", text[text.index("<svg") :]).replace(_INK, "currentColor"))  # noqa: S704


def label(text: object) -> str:
    """Text short enough for an axis."""
    return printable(text, limit=LABEL_CHARACTERS)


def legend(text: object) -> str:
    """Text short enough for a legend. Matplotlib leaves out what begins with an underscore."""
    line = printable(text, limit=LEGEND_CHARACTERS)
    return f" {line}" if line.startswith("_") else line
