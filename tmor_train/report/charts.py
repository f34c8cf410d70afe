"""Charts of metrics as SVG, and the sections that are made of them: classes, confusion, and curves of training.

The lines and words of matplotlib's figures take the colour of the page's text, light or dark.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from io import StringIO
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tmor_train.benchmarks import BENCHMARKS
from tmor_train.metrics.accuracy import accuracy
from tmor_train.report.collect import Collected, StoredResult
from tmor_train.report.section import Block, Chart, Section, printable
from tmor_train.results import ResultError, read_scores
from tmor_train.training.metric_logger import read_events

# A colour that no figure has; in the page it becomes that of the text around.
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

_MOST_SERIES, _MOST_MATRICES, _MOST_NUMBERS, _MOST_RUNS, _MOST_POINTS = 6, 12, 20, 24, 1000
_CURVES = {
    "step": ("loss", "mm/loss", "mv/loss", "mt/loss", "rate"),
    "epoch": ("train_top1", "rank", "uniformity", "clusters", "noise_share", "largest_share", "ari_labels"),
}


def svg(draw: Callable[[Any], None], *, width: float, height: float, name: str) -> Markup | None:
    """What ``draw`` puts on a figure of so many inches, as an SVG element; None without matplotlib.

    Args:
        name: another one for each figure of a page, so that their elements have different ids.
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


def per_class(collected: Collected) -> Section | None:
    """A chart for each benchmark and protocol: accuracy of clips, or average precision of frames and events."""

    def task(one: StoredResult) -> tuple[str, str, tuple[str, ...]]:
        return one.result.benchmark, one.result.protocol, tuple(one.result.classes)

    blocks = []
    known = sorted((one for one in collected.distinct() if one.result.per_class), key=task)
    for number, ((benchmark, protocol, classes), group) in enumerate(groupby(known, task)):
        found = sorted(group, key=StoredResult.primary, reverse=True)
        shown = found[:_MOST_SERIES]
        clips = benchmark not in BENCHMARKS or BENCHMARKS[benchmark].task == "clips"
        what = "clips of a class that are recognized" if clips else "average precision of a class"
        order = ordered(shown, len(classes))
        missing = f"; {len(classes) - len(order)} classes that nothing was measured of are left out"
        chart = Chart(
            _draw_classes(shown, classes, order, what, name=f"classes-{number}"),
            f"{what}, in percent{missing if len(order) < len(classes) else ''}",
        )
        blocks.append(Block(heading=f"{benchmark} {protocol}", charts=[chart]))
        if len(found) > _MOST_SERIES:
            blocks.append(Block(text=f"{len(found) - _MOST_SERIES} more with lower figures are left out."))
    return Section("classes", "By class", blocks) if blocks else None


def ordered(shown: list[StoredResult], classes: int) -> list[int]:
    """Numbers of the classes that any result has a share of, from the first result's lowest to its highest."""
    known = [at for at in range(classes) if any(one.result.per_class[at] is not None for one in shown)]
    first = shown[0].result.per_class

    def height(at: int) -> float:
        share = first[at]
        return -1.0 if share is None else share

    return sorted(known, key=height)


def _draw_classes(
    shown: list[StoredResult], classes: tuple[str, ...], order: list[int], what: str, *, name: str
) -> Markup | None:
    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        for number, one in enumerate(shown):
            points = [(one.result.per_class[at], row) for row, at in enumerate(order)]
            known = [(100 * share, row) for share, row in points if share is not None]
            if known:
                axes.plot(*zip(*known, strict=True), "o", markersize=5, color=COLOURS[number], label=legend(one.words))
        axes.set_yticks(range(len(order)), [label(classes[at]) for at in order])
        axes.set_xlim(-2, 102)
        axes.set_xlabel(f"{what} (%)")
        axes.grid(axis="both")
        figure.legend(loc="outside upper left", fontsize=8)

    return svg(draw, width=9.0, height=1.2 + 0.25 * len(order) + 0.2 * len(shown), name=name)


def confusion(collected: Collected) -> Section | None:
    """A confusion matrix for each result of clips, the best of each benchmark first; the rest is only counted."""
    charts: list[Chart] = []
    left_out = 0
    for one in sorted(collected.distinct(), key=StoredResult.primary, reverse=True):
        if (confusion_KK := _confusion(one)) is None:
            continue
        if len(charts) == _MOST_MATRICES:
            left_out += 1
            continue
        drawing = _draw_confusion(one, confusion_KK, f"confusion-{len(charts)}")
        title = f"{one.result.benchmark} {one.result.protocol}, {one.words}"
        charts.append(Chart(drawing, _most_confused(one, confusion_KK), title, is_open=not charts))
    blocks = [Block(charts=charts)]
    if left_out:
        blocks.append(Block(text=f"{left_out} more with lower figures are left out."))
    return Section("confusion", "Confusion of classes", blocks) if charts else None


def _confusion(one: StoredResult) -> NDArray[np.int64] | None:
    """Clips by true and predicted class; None where the result has no scores of clips."""
    try:
        scores = read_scores(one.folder)
        found = accuracy(scores.scores_NK, scores.label_N).confusion_KK
    except (ResultError, ValueError):
        return None
    return found if len(found) == len(one.result.classes) else None


def _draw_confusion(one: StoredResult, confusion_KK: NDArray[np.int64], name: str) -> Markup | None:
    classes = [label(words) for words in one.result.classes]
    share_KK = confusion_KK / np.maximum(confusion_KK.sum(1, keepdims=True), 1)

    def draw(figure: Any) -> None:
        axes = figure.add_subplot()
        image = axes.imshow(share_KK, vmin=0, vmax=1, cmap="Blues", interpolation="nearest")
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        figure.colorbar(image, ax=axes, shrink=0.6, label="share of the true class")
        if len(classes) <= _MOST_NUMBERS:
            for (true, predicted), count in np.ndenumerate(confusion_KK):
                if count:
                    ink = "#ffffff" if share_KK[true, predicted] > 0.5 else "#1b1f24"
                    axes.text(predicted, true, str(count), ha="center", va="center", color=ink, fontsize=7)

    side = 3.0 + 0.22 * len(classes)
    return svg(draw, width=side + 1.0, height=side, name=name)


def _most_confused(one: StoredResult, confusion_KK: NDArray[np.int64]) -> str:
    """The pair that is confused most often, in words."""
    wrong = confusion_KK - np.diag(confusion_KK.diagonal())
    if not wrong.any():
        return f"{one.name}: every clip is recognized"
    true, predicted = divmod(int(wrong.argmax()), len(wrong))
    classes = one.result.classes
    return f"{one.name}: most often {classes[true]} is taken for {classes[predicted]} ({wrong[true, predicted]} clips)"


def training_curves(collected: Collected) -> Section | None:
    """Losses by step, and metrics by epoch, of each run that has any."""
    charts: list[Chart] = []
    left_out = 0
    for number, folder in enumerate(collected.runs):
        if not (curves := _curves(folder)):
            continue
        if len(charts) == _MOST_RUNS:
            left_out += 1
            continue
        last = ", ".join(f"{key} {points[-1][1]:.4g}" for key, points in curves.items())
        drawing = _draw_curves(curves, f"curves-{number}")
        charts.append(Chart(drawing, f"at the end: {last}", collected.name_of(folder), is_open=not charts))
    blocks = [Block(charts=charts)]
    if left_out:
        blocks.append(Block(text=f"{left_out} more runs are left out."))
    return Section("curves", "Training", blocks) if charts else None


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Points (step, value) of each metric that a run has logged; of lines of one step the last holds."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event, keys in _CURVES.items():
        try:
            lines = {int(line["step"]): line for line in read_events(folder, event)}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # not a journal of tmor_train
        for key in keys:
            points = [(step, line[key]) for step, line in sorted(lines.items()) if _is_number(line.get(key))]
            if len(points) > 1:
                found[key] = points[:: -(-len(points) // _MOST_POINTS)]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _draw_curves(curves: dict[str, list[tuple[int, float]]], name: str) -> Markup | None:
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)

    def draw(figure: Any) -> None:
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(curves) :]:
            axes.set_visible(False)
        for number, (key, points) in enumerate(curves.items()):
            axes = grid.flat[number]
            axes.plot(*zip(*points, strict=True), linewidth=1.4, color=COLOURS[number % len(COLOURS)])
            axes.set_title(label(key), fontsize=9)
            axes.set_xlabel("step")
            axes.grid()

    return svg(draw, width=9.5, height=2.3 * rows, name=name)
