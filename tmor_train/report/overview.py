"""Section: a line for each result."""

from __future__ import annotations

from itertools import groupby

from tmor_train.benchmarks import BENCHMARKS
from tmor_train.report.gathered import Gathered, Kept
from tmor_train.report.html import Section, bullets, escaped, paragraph, row, table


def section(gathered: Gathered) -> Section | None:
    """A table for each benchmark and protocol, its figures in percent and the headline's first."""
    if not gathered.results and not gathered.trouble:
        return None
    parts = [bullets([f"not read: {words}" for words in gathered.trouble])]
    for (benchmark, protocol), found in groupby(sorted(gathered.results, key=_task), _task):
        some = sorted(found, key=lambda one: -one.result.figures[one.result.headline])
        about = paragraph(BENCHMARKS[benchmark].about) if benchmark in BENCHMARKS else ""
        parts.append(f"<h3>{escaped(f'{benchmark} {protocol}')}</h3>\n{about}{_table(some)}")
        parts.append(bullets(_notes(some)))
    return Section("results", "Results", "".join(parts))


def _task(kept: Kept) -> tuple[str, str]:
    return kept.result.benchmark, kept.result.protocol


def _notes(some: list[Kept]) -> list[str]:
    """What is to be said beside figures, each with the ways of measuring that it is said of."""
    modes: dict[str, dict[str, None]] = {}
    for one in some:
        for note in one.result.notes:
            modes.setdefault(note, {})[one.result.mode] = None
    return [f"{', '.join(of)}: {note}" for note, of in modes.items()]


def _table(some: list[Kept]) -> str:
    first = dict.fromkeys(one.result.headline for one in some)
    names = list(dict.fromkeys([*first, *(name for one in some for name in one.result.figures)]))
    rows = []
    for one in some:
        found = one.result
        figures = [f"{100 * found.figures[name]:.2f}" if name in found.figures else "–" for name in names]
        counts = [f"{found.counts[name]:,}" if name in found.counts else "–" for name in ("train", "measured")]
        labels = "" if found.labels == 1 else f"{100 * found.labels:g} % of labels"
        words = [found.mode, found.checkpoint or "–", labels, one.name]
        rows.append(row([*words, found.seed, *counts, *figures], words=len(words)))
    heads = ["Way", "Encoder", "Labels", "Folder", "Seed", "Trained on", "Measured"]
    return table([*heads, *(f"{name.replace('_', ' ')} (%)" for name in names)], rows, words=4)


__all__ = ["section"]
