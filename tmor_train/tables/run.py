"""Measure a table of the paper anew: every metric whose data and checkpoint are available.

``table.md`` and ``table.json`` are written after each metric, so a run that was stopped keeps what it measured. Run
again in the same folder, with more data or another checkpoint, it measures only what is missing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posecap.files import atomic_path
from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import KIND, tagged
from tmor_train.data.datasets.files import DamagedFileError, MissingFilesError
from tmor_train.data_sources import MissingTextError
from tmor_train.encoder import UnusableEncoderError
from tmor_train.evaluation.config import TableConfig
from tmor_train.evaluation.task import TaskError
from tmor_train.metrics.accuracy import spread
from tmor_train.results import Result, ResultError, results_under
from tmor_train.tables.jobs import Job, Weights, jobs_of, weights_by_key
from tmor_train.tables.paper import TABLES, Column, Reproduction, Row, Table
from tmor_train.training.metric_logger import Progress
from tmor_train.training.runs import CONFIG, RunError, read_config, run_lock, write_config

FORMAT = "tmor_train.table/1"
MARKDOWN, JSON = "table.md", "table.json"
_DASH = "–"  # in place of a figure that there is not
_SHOWN = 3  # missing files of a benchmark that are named
# What makes one metric impossible, while others may be measured; any other exception ends the table.
_REASONS = (
    ResultError,
    UnusableEncoderError,
    DamagedFileError,
    MissingFilesError,
    TaskError,
    MissingTextError,
    RunError,
    tasks.UnknownTaskError,
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Measurement:
    """The outcome of a job: the ``values`` of its metric for each seed, shares from 0 to 1, or the ``reason`` why there
    is none; ``notes`` are sentences to print beside it."""

    job: Job
    values: tuple[float, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The mean in percent, with the half width of its 95 % interval where there are several seeds."""
        over = spread([100 * value for value in self.values]) if self.values else None
        if over is None:
            return _DASH
        return f"{over.mean:.1f} ± {over.half_width:.1f}" if len(self.values) > 1 else f"{over.mean:.1f}"


@dataclass(frozen=True, eq=False, kw_only=True)
class MeasuredTable:
    """A table with what is measured so far: ``measurements`` of the jobs done, in their order.

    ``weights`` are the checkpoints by key of the rows; ``changes`` are the changes to recipes, as users gave them.
    """

    table: Table
    weights: Mapping[str, Weights]
    measurements: tuple[Measurement, ...]
    changes: tuple[str, ...] = ()


def measure_table(config: TableConfig, folder: Path) -> Path:
    """Measure every metric of a table that can be; returns ``folder``.

    Raises:
        TaskError: no folder of benchmarks is named.
        EncoderNotFoundError, ConfigError: as :func:`weights_by_key` and :func:`jobs_of`.
        RunError: the folder holds another run, or another process is working on it.
        ResultError: the folder of a job holds a damaged result.
    """
    if config.data_root is None:
        raise TaskError(
            "no folder of benchmarks is named: give --data-root DIR, which has a folder for each benchmark, of its name"
        )
    table = TABLES[config.table]
    weights = weights_by_key(config, table)
    jobs = jobs_of(table, config, weights)
    with run_lock(folder):
        return _measured(config, folder, table, weights, jobs)


def _measured(
    config: TableConfig, folder: Path, table: Table, weights: Mapping[str, Weights], jobs: Sequence[Job]
) -> Path:
    """Measures the jobs in their order and writes the table after each."""
    _begin(config, folder)
    changes = (*(f"recipe {pair}" for pair in config.recipes), *config.changes)
    done: dict[str, str] = {}
    measurements: list[Measurement] = []
    progress = Progress(steps=len(jobs))
    for number, job in enumerate(jobs):
        what = f"{job.reproduction.recipe} {job.reproduction.key} on {job.column.title}"
        progress.log(f"{table.name} {number + 1}/{len(jobs)}: {what}")
        measurements.append(_measurement(job, config, folder, done))
        if reason := measurements[-1].reason:
            progress.log(f"  not measured: {reason.splitlines()[0]}")
        measured = MeasuredTable(table=table, weights=weights, measurements=tuple(measurements), changes=changes)
        write_table(measured, folder)
    return folder


def _begin(config: TableConfig, folder: Path) -> None:
    """Write the configuration, in place of an earlier one of the same table: the latest counts. RunError where the
    folder holds another run."""
    if (folder / CONFIG).exists():
        known = read_config(folder)
        same_kind = isinstance(known, dict) and known.get(KIND) == type(config).__name__
        if not same_kind or known.get("table") != config.table:
            raise RunError(f"{folder} holds another run; choose another --output")
    write_config(tagged(config), folder)


def _measurement(job: Job, config: TableConfig, folder: Path, done: dict[str, str]) -> Measurement:
    """The metric of a job, measured unless its folder has the results.

    ``done``: by ``job.folder``, why it could not be measured, '' if it was, so that jobs that share a folder run once.
    """
    if job.config is None:
        return Measurement(job=job, reason=job.reason)
    job_folder = folder / job.folder
    results = _results(job, job_folder)
    # The evaluation's own seeds: a change may have set others than the table's. Equal ones share a result.
    wanted = len(set(getattr(job.config, "seeds", (0,))))
    if len(results) < wanted:
        if job.folder not in done:
            done[job.folder] = lacking(job, config) or _run(job, job_folder)
        if done[job.folder]:
            return Measurement(job=job, reason=done[job.folder])
        results = _results(job, job_folder)
    column, mode = job.column, job.reproduction.mode
    known = BENCHMARKS.get(column.benchmark)
    if known is not None and any(result.reading != known.reading for result in results):
        reason = f"measured by a version that read the files of {column.benchmark} otherwise; delete {job_folder}"
        return Measurement(job=job, reason=reason)
    values = tuple(result.metrics[column.metric] for result in results if column.metric in result.metrics)
    if not values:
        reason = f"{job.reproduction.recipe} gave no {column.metric} of {mode}"
        if "visual" in mode:
            reason = f"motion + visual needs video vectors, which the clips of {column.benchmark} do not have"
        return Measurement(job=job, reason=reason)
    notes = tuple(dict.fromkeys(note for result in results for note in result.notes))
    return Measurement(job=job, values=values, notes=notes)


def lacking(job: Job, config: TableConfig) -> str:
    """The missing files of a metric, with where to get them; '' if none is missing."""
    column = job.column
    if column.benchmark not in BENCHMARKS:
        return f"there is no benchmark {column.benchmark!r} in this version"
    place = Path(config.data_root or "") / column.benchmark
    missing = BENCHMARKS[column.benchmark].missing(place, column.protocol)
    more = f" (and {len(missing) - _SHOWN:,} more files)" if len(missing) > _SHOWN else ""
    return "; ".join(map(str, missing[:_SHOWN])) + more


def _run(job: Job, place: Path) -> str:
    """Run or resume an evaluation; why that could not be, or ''."""
    try:
        if (place / CONFIG).exists():
            tasks.resume(place)
        else:
            tasks.run(job.config, place)
    except _REASONS as error:
        return str(error)
    return ""


def _results(job: Job, place: Path) -> Sequence[Result]:
    """The results in ``place`` and below it that are of the job's mode; all where it names none."""
    return [result for _, result in results_under(place) if job.reproduction.mode in ("", result.mode)]


def write_table(measured: MeasuredTable, folder: Path) -> None:
    """Write ``table.json`` and ``table.md`` into ``folder``; earlier ones are replaced."""
    with atomic_path(folder / JSON, existing="replace") as part:
        part.write_text(json.dumps(as_values(measured), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with atomic_path(folder / MARKDOWN, existing="replace") as part:
        part.write_text(markdown(measured), encoding="utf-8")


def as_values(measured: MeasuredTable) -> dict[str, Any]:
    """All of it as JSON values; figures of the paper in percent, those measured here as shares."""
    table = measured.table
    headings = [heading for heading, rows in table.sections for _ in rows]
    notes = {f"{one.job.column.title}: {note}": None for one in measured.measurements for note in one.notes}
    reasons: dict[str, dict[str, None]] = {}
    for one in measured.measurements:
        if one.reason:
            reasons.setdefault(" ".join(one.reason.split()), {})[one.job.column.title] = None
    return {
        "format": FORMAT,
        "name": table.name,
        "title": table.title,
        "columns": [
            {"title": one.title, "benchmark": one.benchmark, "protocol": one.protocol, "figure": one.metric}
            for one in table.columns
        ],
        "weights": {key: one.facts() | {"stands_for": table.keys[key]} for key, one in measured.weights.items()},
        "rows": [
            {
                "section": heading,
                "method": row.method,
                "more": dict(row.more),
                "paper": list(row.paper),
                "here": _lines_here(measured, number, row),
            }
            for number, (heading, row) in enumerate(zip(headings, table.rows, strict=True))
        ],
        "notes": [*table.notes, *(f"changed here: {change}" for change in measured.changes), *notes],
        "not_measured": [f"{', '.join(titles)}: {reason}" for reason, titles in reasons.items()],
    }


def _lines_here(measured: MeasuredTable, number: int, row: Row) -> list[dict[str, Any]]:
    """Lines of what was measured for a row, None in a column that is not asked for, or not yet measured."""
    lines: dict[tuple[str, str], list[Reproduction]] = {}
    for one in row.reproductions:
        if one.key in measured.weights:  # recipes of different columns are one line to a reader
            lines.setdefault((one.key, one.words), []).append(one)
    return [
        {
            "key": key,
            "recipe": " / ".join(dict.fromkeys(_recipe(measured, one) for one in own)),
            "words": words,
            "figures": [_figure(measured, number, own, column) for column in measured.table.columns],
        }
        for (key, words), own in lines.items()
    ]


def _figure(measured: MeasuredTable, number: int, own: list[Reproduction], column: Column) -> dict[str, Any] | None:
    for one in measured.measurements:
        if (one.job.row, one.job.column) == (number, column) and one.job.reproduction in own:
            return {"values": list(one.values), "words": one.words, "folder": one.job.folder}
    return None


def _recipe(measured: MeasuredTable, reproduction: Reproduction) -> str:
    """The recipe that was run; the configuration may replace the table's."""
    configs = (one.job.config for one in measured.measurements if one.job.reproduction == reproduction)
    return next((str(config.recipe) for config in configs if config is not None), reproduction.recipe)


def markdown(measured: MeasuredTable) -> str:
    """The table with the figures measured here in bold below the paper's."""
    values = as_values(measured)
    headings = list(dict.fromkeys(name for row in values["rows"] for name in row["more"]))
    heads = ["Method", *headings, *(column["title"] for column in values["columns"])]
    lines = [f"# {values['title']}", "", *_about(values), ""]
    section = ""
    for row in values["rows"]:
        if row["section"] != section:
            section = row["section"]
            lines += [
                "",
                f"## {section}",
                "",
                _line(heads),
                _line(["---"] * (1 + len(headings)) + ["---:"] * len(row["paper"])),
            ]
        paper = [_DASH if share is None else f"{share:.1f}" for share in row["paper"]]
        lines.append(_line([row["method"], *(row["more"].get(name, "") for name in headings), *paper]))
        for here in row["here"]:
            words = f"↳ **here**: {here['words'] or here['recipe']}, {values['weights'][here['key']]['name']}"
            shown = [
                "" if one is None else f"**{one['words']}**" if one["values"] else _DASH for one in here["figures"]
            ]
            lines.append(_line([words, *("" for _ in headings), *shown]))
    for heading, entries in (("Notes", values["notes"]), ("Not measured", values["not_measured"])):
        if entries:
            lines += ["", f"## {heading}", "", *(f"- {_plain(entry)}" for entry in entries)]
    return "\n".join(lines) + "\n"


def _about(values: dict[str, Any]) -> list[str]:
    lines = [
        "In percent. Lines without a mark are the paper's (arXiv 2606.21607); those marked **here** were measured."
    ]
    for key, one in values["weights"].items():
        trained = f", {' + '.join(one['losses'])} on {', '.join(one['data'])}" if one["losses"] else ""
        digits = f" (SHA-256 {one['sha256'][:12]}…)" if len(one["sha256"]) == 64 else ""
        lines += ["", f"- `{key}`, {one['stands_for']}: {_plain(one['name'])}{digits}{_plain(trained)}"]
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(map(_plain, cells))} |"


def _plain(words: str) -> str:
    """``words`` on one line, with ``|`` escaped, for a cell of a Markdown table."""
    return " ".join(words.split()).replace("|", "\\|")
