"""Results in lines for a terminal: a row for each kind of measurement, over its seeds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

from tmor_train.metrics.spread import spread
from tmor_train.results import Result

_WORDS = {
    "top1": "Top-1",
    "mean_per_class": "mean per class",
    "nonzero": "frame mAP, classes above 0",
    "all_classes": "frame mAP, all classes",
    "points25": "mAP at 25 times",
}
_EVENTS = re.compile(r"(action|video)_(0\.\d+)(_one_to_one)?")


def summary(results: Sequence[Result]) -> Iterator[str]:
    """A table for each benchmark and protocol: its metrics in percent, with a 95 % interval where there are several
    seeds. The metric of the paper's table is named last."""
    for (benchmark, protocol), found in groupby(sorted(results, key=_task), _task):
        some = list(found)
        names = list(dict.fromkeys(name for result in some for name in result.metrics))
        rows = [[_row_words(key), *_cells(list(same), names)] for key, same in groupby(sorted(some, key=_row), _row)]
        notes = "; ".join(dict.fromkeys(note for result in some for note in result.notes))
        clips = " to ".join(f"{count:,}" for count in sorted({result.counts.get("test", 0) for result in some}))
        yield f"{benchmark} {protocol}, {clips} measured" + (f" ({notes})" if notes else "")
        heads = ["", *map(_metric_words, names)]
        widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
        for row in [heads, *rows]:
            cells = [
                row[0].ljust(widths[0]),
                *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
            yield "  " + "  ".join(cells)
        primaries = dict.fromkeys(_metric_words(result.primary_metric) for result in some)
        yield f"  the paper's table has {', '.join(primaries)}"


def _metric_words(name: str) -> str:
    """``action_0.5_one_to_one`` is ``mAP_a 0.5 1:1``: the mean over actions, each truth found once."""
    if (event := _EVENTS.fullmatch(name)) is not None:
        return f"mAP_{event[1][0]} {event[2]}" + (" 1:1" if event[3] else "")
    return _WORDS.get(name, name.replace("_", " "))


def _task(result: Result) -> tuple[str, str]:
    return result.benchmark, result.protocol


def _row(result: Result) -> tuple[str, float, str, str]:
    return result.mode, -result.labels, result.checkpoint or "raw coordinates", result.recipe


def _row_words(key: tuple[str, float, str, str]) -> str:
    mode, labels, checkpoint, _ = key
    return f"{mode}  {checkpoint}" + (f"  {-100 * labels:g} % of labels" if labels > -1 else "")


def _cells(same: Sequence[Result], names: Sequence[str]) -> list[str]:
    """Each metric of one kind of measurement over its seeds, in words."""
    cells = []
    for name in names:
        values = [100 * result.metrics[name] for result in same if name in result.metrics]
        if len(values) > 1:
            over = spread(values)
            cells.append(f"{over.mean:.2f} ± {over.half_width:.2f} %")
        else:
            cells.append(f"{values[0]:.2f} %" if values else "–")
    return cells


__all__ = ["summary"]
