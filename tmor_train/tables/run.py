"""Measure a table of the paper anew: every metric whose data and checkpoint are available.

``table.md`` and ``table.json`` are written after each metric, so a run that was stopped keeps what it measured. Run
again in the same folder, with more data or another checkpoint, it measures only what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import KIND, tagged
from tmor_train.data.datasets.files import DamagedFileError, MissingFilesError
from tmor_train.encoder import UnusableEncoderError
from tmor_train.evaluation.config import TableConfig
from tmor_train.evaluation.task import TaskError
from tmor_train.prompts import MissingTextError
from tmor_train.results import Result, ResultError, results_under
from tmor_train.tables.jobs import Job, Weights, jobs_of, weights_by_key
from tmor_train.tables.paper import TABLES, Table
from tmor_train.tables.render import MeasuredTable, Measurement, write_table
from tmor_train.training.progress import Progress
from tmor_train.training.runs import CONFIG, RunError, read_config, run_lock, write_config

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
    """Write the configuration, in place of an earlier one of the same table: the latest counts."""
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
    return [result for _, result in results_under(place) if job.reproduction.mode in ("", result.mode)]
