"""Section: the figure of each class, of several results side by side."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from tmor_train.benchmarks import BENCHMARKS
from tmor_train.report.gathered import Gathered, Kept
from tmor_train.report.html import Section, escaped, figure, paragraph
from tmor_train.report.svg import COLOURS, drawn, label, legend

_MOST_SERIES = 6


def section(gathered: Gathered) -> Section | None:
    """A chart for each benchmark and protocol: accuracy of clips, or average precision of frames and events."""
    known = sorted((one for one in gathered.distinct() if one.result.per_class), key=_task)
    parts = []
    for number, (key, found) in enumerate(groupby(known, _task)):
        some = sorted(found, key=lambda one: -one.result.figures[one.result.headline])
        shown, left = some[:_MOST_SERIES], len(some) - _MOST_SERIES
        benchmark, protocol, classes = key
        task = BENCHMARKS[benchmark].task if benchmark in BENCHMARKS else "clips"
        what = "clips of a class told right" if task == "clips" else "average precision of a class"
        parts.append(f"<h3>{escaped(f'{benchmark} {protocol}')}</h3>\n")
        order = ordered(shown, len(classes))
        picture = _picture(shown, list(classes), order, what, name=f"classes-{number}")
        alone = f"; {len(classes) - len(order)} classes that nothing was measured of are left out"
        parts.append(figure(picture, f"{what}, in percent{alone if len(order) < len(classes) else ''}"))
        if left > 0:
            parts.append(paragraph(f"{left} more with lower figures are left out."))
    return Section("classes", "By class", "".join(parts)) if parts else None


def _task(kept: Kept) -> tuple[str, str, tuple[str, ...]]:
    return kept.result.benchmark, kept.result.protocol, tuple(kept.result.classes)


def ordered(shown: list[Kept], classes: int) -> list[int]:
    """Numbers of the classes that any result has a figure of, from the first result's lowest to its highest."""
    known = [at for at in range(classes) if any(one.result.per_class[at] is not None for one in shown)]
    first = shown[0].result.per_class

    def height(at: int) -> float:
        share = first[at]
        return -1.0 if share is None else share

    return sorted(known, key=height)


def _picture(shown: list[Kept], classes: list[str], order: list[int], what: str, *, name: str) -> str:
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

    return drawn(draw, width=9.0, height=1.2 + 0.25 * len(order) + 0.2 * len(shown), name=name)


__all__ = ["ordered", "section"]
