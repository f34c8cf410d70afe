"""Plans the evaluations that measure a table: the checkpoint of each row and the configuration of each metric.

The name of an evaluation's folder ends with a digest of its settings and weights. So two tables in one folder share the
evaluations that both need, and a result of other weights or settings is never mistaken for one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from posecap.files import digest, file_sha256
from tmor_train.configuration import ConfigError, changed, from_json, nearest, tagged
from tmor_train.evaluation.config import SCRATCH, ScratchConfig, StartConfig, TableConfig
from tmor_train.evaluation.encoders import EncoderNotFoundError, scratch_like
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.pretrained.loading import load
from tmor_train.recipes import UnknownRecipeError, recipe
from tmor_train.tables.paper import SCRATCH_KEY, TABLES, Column, Reproduction, Table
from tmor_train.tasks import UnknownTaskError, task_type
from tmor_train.training.config import PretrainConfig

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
