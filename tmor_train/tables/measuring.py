"""Measure a table of the paper anew: every figure whose data and checkpoint are at hand, kept in the run's folder.

``table.md`` and ``table.json`` are written after each figure, so a run that was stopped has what it measured. Doing the
same again in the same folder, later with more data or another checkpoint, measures only what is not there yet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tmor_train import kinds
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import KIND, as_json
from tmor_train.data.datasets.files import DamagedFile, MissingFiles
from tmor_train.encoder.heads import CannotUse
from tmor_train.evaluation.task import NoTask
from tmor_train.evaluation.trials import Begun
from tmor_train.prompts import NoText
from tmor_train.results import BadResult, Result, results_under
from tmor_train.tables import TABLES
from tmor_train.tables.cells import Cell, cells_of
from tmor_train.tables.checkpoints import weights_by_key
from tmor_train.tables.config import TableConfig
from tmor_train.tables.written import Figure, Measured, write
from tmor_train.training.progress import Progress
from tmor_train.training.runs import CONFIG, RunError

_SHOWN = 3
_REASONS = (BadResult, CannotUse, DamagedFile, MissingFiles, NoTask, NoText, RunError, kinds.NoKind)


def measure_table(config: TableConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """Every figure of a table that can be measured; returns ``folder``.

    Raises:
        NoTask: it is not said where the benchmarks lie.
        NoEncoder, BadConfig: as :func:`weights_by_key` and :func:`cells_of`.
        RunError: the folder holds a run of another kind.
    """
    if config.data_root is None:
        raise NoTask("where the benchmarks lie is not said: --data-root DIR, a folder for each benchmark, of its name")
    table = TABLES[config.table]
    weights = weights_by_key(config, table)
    cells = cells_of(table, config, weights)
    _begin(config, folder)
    changes = (*(f"recipe {pair}" for pair in config.recipes), *config.changes)
    done: dict[str, str] = {}
    figures: list[Figure] = []
    progress = Progress(steps=len(cells))
    for number, cell in enumerate(cells):
        progress.say(
            f"{table.name} {number + 1}/{len(cells)}: {cell.here.recipe} {cell.here.key} on {cell.column.title}"
        )
        figures.append(_figure(cell, config, folder, done))
        if reason := figures[-1].reason:
            progress.say(f"  not measured: {reason.splitlines()[0]}")
        write(Measured(table=table, weights=weights, figures=tuple(figures), changes=changes), folder)
    return folder


def _begin(config: TableConfig, folder: Path) -> None:
    path = folder / CONFIG
    kind = type(config).__name__
    if path.exists():
        known = json.loads(path.read_text())
        if known.get(KIND) != kind or known.get("table") != config.table:
            raise RunError(f"{folder} holds another run; choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({KIND: kind} | as_json(config), indent=2) + "\n")


def _figure(cell: Cell, config: TableConfig, folder: Path, done: dict[str, str]) -> Figure:
    """The figure of a cell, measured if it is not there. ``done`` keeps why a folder could not be measured, '' if it
    was, so that cells that share one ask once."""
    if cell.config is None:
        return Figure(cell=cell, reason=cell.reason)
    place = folder / cell.place
    found = _results(cell, place)
    if len(found) < _wanted(cell, config):
        if cell.place not in done:
            done[cell.place] = lacking(cell, config) or _measured(cell, place)
        if done[cell.place]:
            return Figure(cell=cell, reason=done[cell.place])
        found = _results(cell, place)
    values = tuple(result.metrics[cell.column.metric] for result in found if cell.column.metric in result.metrics)
    if not values:
        return Figure(cell=cell, reason=_no_figure(cell))
    notes = tuple(dict.fromkeys(note for result in found for note in result.notes))
    return Figure(cell=cell, values=values, notes=notes)


def _no_figure(cell: Cell) -> str:
    if "visual" in cell.here.mode:
        return f"motion + visual needs video vectors, which the clips of {cell.column.benchmark} do not have"
    return f"{cell.here.recipe} gave no {cell.column.metric} of {cell.here.mode}"


def _wanted(cell: Cell, config: TableConfig) -> int:
    """How many results a figure is the mean of."""
    return len(config.seeds) if hasattr(cell.config, "seeds") else 1


def lacking(cell: Cell, config: TableConfig) -> str:
    """Which files a figure needs that are not there, and where they are had; '' if all are."""
    column = cell.column
    if column.benchmark not in BENCHMARKS:
        return f"there is no benchmark {column.benchmark!r} in this version"
    place = Path(config.data_root or "") / column.benchmark
    missing = BENCHMARKS[column.benchmark].missing(place, column.protocol)
    more = f" (and {len(missing) - _SHOWN:,} more files)" if len(missing) > _SHOWN else ""
    return "; ".join(map(str, missing[:_SHOWN])) + more


def _measured(cell: Cell, place: Path) -> str:
    """Run or go on with an evaluation; why that could not be, or ''."""
    try:
        if (place / CONFIG).exists():
            kinds.resume(place)
        else:
            kinds.run(cell.config, place)
    except _REASONS as error:
        return str(error)
    return ""


def _results(cell: Cell, place: Path) -> Sequence[Result]:
    if not place.is_dir():
        return ()
    return [result for _, result in results_under(place) if cell.here.mode in ("", result.mode)]


__all__ = ["lacking", "measure_table"]
