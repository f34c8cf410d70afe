"""Section: training curves of runs, out of their journals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tmor_train.report.gathered import Gathered
from tmor_train.report.html import Section, figure, folded, paragraph
from tmor_train.report.svg import COLOURS, drawn, label
from tmor_train.training.journal import read

_SERIES = {
    "step": ("loss", "mm/loss", "mv/loss", "mt/loss", "rate"),
    "epoch": ("train_top1", "rank", "uniformity", "clusters", "noise_share", "largest_share", "ari_labels"),
}
_MOST_RUNS, _MOST_POINTS = 24, 1000


def section(gathered: Gathered) -> Section | None:
    """Losses by step, and figures of epochs, of each run that has any."""
    parts: list[str] = []
    left = 0
    for number, folder in enumerate(gathered.runs):
        curves = _curves(folder)
        if not curves:
            continue
        if len(parts) == _MOST_RUNS:
            left += 1
            continue
        name = gathered.name_of(folder)
        picture = _picture(curves, f"curves-{number}")
        last = ", ".join(f"{key} {points[-1][1]:.4g}" for key, points in curves.items())
        parts.append(folded(name, figure(picture, f"at the end: {last}"), state="open" if not parts else ""))
    if left:
        parts.append(paragraph(f"{left} more runs are left out."))
    return Section("curves", "Training", "".join(parts)) if parts else None


def _curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Points (step, value) of each figure that a run has told; of lines of one step the last holds."""
    found: dict[str, list[tuple[int, float]]] = {}
    for event, keys in _SERIES.items():
        try:
            lines = {int(line["step"]): line for line in read(folder, event)}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # not a journal of tmor_train
        for key in keys:
            points = [(step, line[key]) for step, line in sorted(lines.items()) if _is_number(line.get(key))]
            if len(points) > 1:
                found[key] = points[:: -(-len(points) // _MOST_POINTS)]
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _picture(curves: dict[str, list[tuple[int, float]]], name: str) -> str:
    def draw(figure: Any) -> None:
        columns = min(3, len(curves))
        grid = figure.subplots(-(-len(curves) // columns), columns, squeeze=False)
        for number, axes in enumerate(grid.flat):
            axes.set_visible(number < len(curves))
        for number, (key, points) in enumerate(curves.items()):
            axes = grid.flat[number]
            axes.plot(*zip(*points, strict=True), linewidth=1.4, color=COLOURS[number % len(COLOURS)])
            axes.set_title(label(key), fontsize=9)
            axes.set_xlabel("step")
            axes.grid()

    rows = -(-len(curves) // 3)
    return drawn(draw, width=9.5, height=2.3 * rows, name=name)


__all__ = ["section"]
