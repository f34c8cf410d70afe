"""Matplotlib's figures as SVG inside of a page: its lines and words take the page's colour, light or dark."""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from typing import Any

from tmor_train.report.html import paragraph, plain

# A colour that no figure has; in the page it becomes that of the text around.
_INK = "#010203"
_SETTINGS = {
    "svg.fonttype": "none",  # words stay words
    "text.parse_math": False,  # a class may be called $x$
    "font.family": "sans-serif",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.facecolor": "none",
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
"""Of series, told apart on white and on black."""


def drawn(draw: Callable[[Any], None], *, width: float, height: float, name: str) -> str:
    """What ``draw`` puts on a figure of so many inches, as an SVG element; a line that says so without matplotlib.

    Args:
        name: another one for each figure of a page, so that their elements have different ids.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        return paragraph("no picture: matplotlib is not installed (pip install 'posecap[train]')")
    out = StringIO()
    with rc_context({**_SETTINGS, "svg.hashsalt": name, "svg.id": None}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(out, format="svg", metadata={"Date": None})
    text = out.getvalue()
    return _METADATA.sub("", text[text.index("<svg") :]).replace(_INK, "currentColor")


def label(words: object) -> str:
    """Words short enough for an axis."""
    return plain(words, most=LABEL_CHARACTERS)


def legend(words: object) -> str:
    """Words short enough for a legend. Matplotlib leaves out what begins with an underscore."""
    found = plain(words, most=LEGEND_CHARACTERS)
    return f" {found}" if found.startswith("_") else found


__all__ = ["COLOURS", "drawn", "label", "legend"]
