"""Measure a table of the paper anew: every metric whose data and checkpoint are available.

``table.md`` and ``table.json`` are written after each metric, so a run that was stopped keeps what it measured. Run
again in the same folder, with more data or another checkpoint, it measures only what is missing.

A job is the evaluation of one metric: the checkpoint of its row and the configuration that measures it. The name of an
evaluation's folder ends with a digest of its settings and weights. So two tables in one folder share the evaluations
that both need, and a result of other weights or settings is never mistaken for one of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from posecap.files import atomic_path, digest, file_sha256
from tmor_train import tasks
from tmor_train.benchmarks import BENCHMARKS
from tmor_train.configuration import KIND, ConfigError, changed, from_json, nearest, tagged
from tmor_train.data.datasets.files import DamagedFileError, MissingFilesError
from tmor_train.data_sources import MissingTextError
from tmor_train.encoder import UnusableEncoderError
from tmor_train.evaluation.config import SCRATCH, ScratchConfig, StartConfig, TableConfig
from tmor_train.evaluation.encoders import EncoderNotFoundError, scratch_like
from tmor_train.evaluation.task import TaskError
from tmor_train.metrics.accuracy import spread
from tmor_train.pretrained.encoder import Pretrained, load
from tmor_train.recipes import UnknownRecipeError, recipe
from tmor_train.results import Result, ResultError, results_under
from tmor_train.tables.paper import SCRATCH_KEY, TABLES, Column, Reproduction, Row, Table
from tmor_train.tasks import UnknownTaskError, task_type
from tmor_train.training.config import PretrainConfig
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


_DIGITS = 10  # hexadecimal digits of the digest in a folder's name: 40 bits, for some hundreds of evaluations


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A checkpoint that rows are measured with.

    ``path`` is its file, or ``scratch`` for new weights; ``sha256`` the hash of its bytes in hex, or ``scratch``;
    ``name`` how tables call it. ``losses`` (``mm``, ``mv``, ``mt``) and ``data`` (names of datasets) are what it was
    trained with, empty where not known. ``scratch`` describes an untrained encoder like it, None where not known.
    """

    path: str
    sha256: str
    name: str
    losses: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    scratch: ScratchConfig | None = None

    def facts(self) -> dict[str, Any]:
        """The fields that a table stores, as JSON values: all but ``path`` and ``scratch``."""
        return {name: value for name, value in asdict(self).items() if name not in ("path", "scratch")}


def weights_by_key(config: TableConfig, table: Table) -> dict[str, Weights]:
    """The checkpoint for each key of a table's rows, for the keys that one is named for.

    The untrained encoder is like the first checkpoint whose configuration is known (``rows`` in order, then
    ``weights``); without one, like ``start.scratch`` of each metric's recipe.

    Raises:
        EncoderNotFoundError: no checkpoint is named, or a key is not one of the table.
        tmor_train.training.checkpoint.CheckpointError, tmor_train.pretrained.encoder.UnusableEncoderError: as
            :func:`tmor_train.load`.
    """
    by_key: dict[str, Weights] = {}
    for pair in config.rows:
        key, _, path = pair.partition("=")
        if key == SCRATCH_KEY or key not in table.keys:
            known = [name for name in table.keys if name != SCRATCH_KEY]
            raise EncoderNotFoundError(f"{table.name} has no row {key!r}; {nearest(key, known)}")
        by_key[key] = _loaded(path)
    if config.weights is not None and config.weights != SCRATCH:
        one = _loaded(config.weights)
        by_key.setdefault(key_of(table, one), one)
    if not by_key and config.weights != SCRATCH:
        raise EncoderNotFoundError(
            "no encoder is named: give --from CHECKPOINT (a file or a run's folder), --rows KEY=CHECKPOINT, or "
            f"--from {SCRATCH}"
        )
    if SCRATCH_KEY in table.keys and config.scratch == "measured":
        like = next((one.scratch for one in by_key.values() if one.scratch is not None), None)
        by_key[SCRATCH_KEY] = Weights(path=SCRATCH, sha256=SCRATCH, name="never trained", scratch=like)
    return by_key


def key_of(table: Table, weights: Weights) -> str:
    """The key of the row that a checkpoint measures, by the losses that it was trained with, whatever its data: a key
    that names exactly these, else ``vmt`` with text or where the table has no ``vm``, else ``vm``.

    Raises:
        EncoderNotFoundError: the table has no such key, or the losses are not known.
    """
    exact = "_".join(weights.losses)
    key = exact if exact in table.keys else "vmt" if "mt" in weights.losses or "vm" not in table.keys else "vm"
    if not weights.losses or key not in table.keys:
        known = " ".join(f"{name} ({words})" for name, words in table.keys.items() if name != SCRATCH_KEY)
        raise EncoderNotFoundError(
            f"the losses of {weights.name} ({', '.join(weights.losses) or 'not known'}) do not say which row of "
            f"{table.name} it measures; give --rows KEY={weights.path}, where KEY is one of {known}"
        )
    return key


def _loaded(path: str) -> Weights:
    """The checkpoint at ``path`` and what it says of its training; raises as :func:`tmor_train.load`."""
    encoder: Pretrained = load(path)
    name = encoder.path.name
    weights = Weights(
        path=str(encoder.path),
        sha256=encoder.sha256,
        name=f"{Path(path).name}/{name}" if Path(path).is_dir() else name,
    )
    if encoder.config is None:
        return weights
    config = from_json(PretrainConfig, encoder.config)
    objective = {"mm": config.objective.w_mm, "mv": config.objective.w_mv, "mt": config.objective.w_mt}
    return replace(
        weights,
        # The configuration of another work's method has the weights of these losses, too, but does not use them.
        losses=() if config.method else tuple(loss for loss, weight in objective.items() if weight),
        data=(*(Path(location.rstrip("/")).name for location in config.data.shards), *config.data.sets),
        scratch=scratch_like(encoder),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """One metric of a table: that of ``column`` in the row of index ``row``, by one of the row's reproductions.

    ``config`` is the evaluation to run in ``folder``, a name below the table's folder. It is None where the metric
    cannot be measured; ``reason`` then says why.
    """

    row: int
    reproduction: Reproduction
    column: Column
    config: Any | None
    folder: str = ""
    reason: str = ""


def jobs_of(table: Table, config: TableConfig, weights: Mapping[str, Weights]) -> list[Job]:
    """The metrics of all rows that have a checkpoint, row by row, and within a row column by column.

    Raises:
        ConfigError: one of ``config.changes`` suits no evaluation of the table, or one of ``config.recipes`` replaces a
            recipe that no table has.
    """
    # Of all tables: what is given for one may be given for all of them.
    named = sorted({r.recipe for each in TABLES.values() for row in each.rows for r in row.reproductions})
    for pair in config.recipes:
        name = pair.partition("=")[0]
        if name not in named:
            raise ConfigError(f"no table has a recipe {name!r}, which recipes={pair} replaces; {nearest(name, named)}")
    jobs = [
        _job(number, reproduction, column, config, weights[reproduction.key])
        for number, row in enumerate(table.rows)
        for reproduction in row.reproductions
        if reproduction.key in weights
        for column in table.columns
        if reproduction.measures(column)
    ]
    for change in config.changes:
        refusals = [_refusal(job, change) for job in jobs if job.config is not None]
        if refusals and all(refusals):
            raise refusals[0] or ConfigError(change)
    return [_changed(job, config.changes, weights[job.reproduction.key]) for job in jobs]


def _job(row: int, reproduction: Reproduction, column: Column, config: TableConfig, weights: Weights) -> Job:
    """One metric by its recipe, before ``config.changes`` are applied."""
    others = dict(pair.split("=", 1) for pair in config.recipes)
    name = others.get(reproduction.recipe, reproduction.recipe)
    try:
        base = recipe(name)
        task = task_type(base)
    except (UnknownRecipeError, UnknownTaskError) as error:
        return Job(row=row, reproduction=reproduction, column=column, config=None, reason=str(error))
    flags = {
        "benchmark": column.benchmark,
        "protocol": column.protocol,
        "data": str(Path(config.data_root or "") / column.benchmark),
        "from": weights.path,
        "seeds": ",".join(map(str, config.seeds)),
        "seed": str(config.seeds[0]),
        "texts": config.texts,
    }
    if "seeds" in task.flags:  # --seed would set the same field
        del flags["seed"]
    given = {flag: value for flag, value in flags.items() if value is not None and flag in task.flags}
    evaluation = changed(base, task.changes(given))
    start = getattr(evaluation, "start", None)
    if isinstance(start, StartConfig) and weights.scratch is not None:
        evaluation = replace(evaluation, start=replace(start, scratch=weights.scratch))
    return Job(row=row, reproduction=reproduction, column=column, config=evaluation)


def _refusal(job: Job, change: str) -> ConfigError | None:
    """The error that a change gives for a job's configuration; None where it suits."""
    try:
        changed(job.config, [change])
    except ConfigError as error:
        return error
    return None


def _changed(job: Job, changes: tuple[str, ...], weights: Weights) -> Job:
    """The job with those of ``changes`` that its configuration takes, and with the name of its folder."""
    if job.config is None:
        return job
    config = changed(job.config, [change for change in changes if _refusal(job, change) is None])
    name = "-".join((config.recipe, job.reproduction.key, job.column.benchmark, job.column.protocol))
    return replace(job, config=config, folder=f"{name}-{_identity(config, weights)}")


def _identity(config: Any, weights: Weights) -> str:
    """A digest of an evaluation's settings and of the content of its weights and texts.

    The benchmark's folder counts neither by path nor by content: after its files change, measure in a new folder.
    """
    values = tagged(config)
    values.pop("about")
    task, texts = values.get("task"), values.get("texts")
    known = {weights.path: weights.sha256}
    if isinstance(task, dict) and task.get("folder"):
        known[task["folder"]] = "folder"
    if isinstance(texts, str) and Path(texts).is_file():
        known[texts] = file_sha256(Path(texts))
    return digest(_replaced(values, known))[:_DIGITS]


def _replaced(value: Any, known: Mapping[str, str]) -> Any:
    """JSON values in which each text that is a key of ``known`` is replaced by its value."""
    if isinstance(value, dict):
        return {name: _replaced(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, known) for item in value]
    return known.get(value, value) if isinstance(value, str) else value
