"""The evaluations that measure a table: the checkpoint of each row and the configuration of each metric.

The name of an evaluation's folder ends with a digest of its settings and weights. So tables in one folder share a
metric that both have, and one of other weights or settings is never taken for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from posecap.files import digest, file_sha256
from tmor_train.configuration import ConfigError, changed, from_json, nearest, tagged
from tmor_train.evaluation.config import SCRATCH, ScratchConfig, StartConfig, TableConfig
from tmor_train.evaluation.encoders import EncoderNotFoundError
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.pretrained.loading import load
from tmor_train.recipes import UnknownRecipeError, recipe
from tmor_train.tables.paper import SCRATCH_KEY, Column, Reproduction, Table
from tmor_train.tasks import UnknownTaskError, task_type
from tmor_train.training.config import PretrainConfig

_DIGITS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A checkpoint that rows are measured with: its ``path`` (or ``scratch``), the SHA-256 of its bytes, its name, and
    the losses and data it was trained with. ``scratch`` is an untrained encoder to compare it with."""

    path: str
    sha256: str
    name: str
    losses: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    scratch: ScratchConfig | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON values, without paths."""
        return {name: value for name, value in asdict(self).items() if name not in ("path", "scratch")}


def weights_by_key(config: TableConfig, table: Table) -> dict[str, Weights]:
    """The checkpoint of each key of a table that has one.

    The encoder that was never trained has the architecture and sampling of the first checkpoint.

    Raises:
        EncoderNotFoundError: none is named, or a key is none of the table's.
        tmor_train.training.checkpoint.CheckpointError, tmor_train.pretrained.encoder.UnusableEncoderError: as
            :func:`tmor_train.load`.
    """
    found: dict[str, Weights] = {}
    for pair in config.rows:
        key, _, place = pair.partition("=")
        if key == SCRATCH_KEY or key not in table.keys:
            known = [name for name in table.keys if name != SCRATCH_KEY]
            raise EncoderNotFoundError(f"{table.name} has no row {key!r}; {nearest(key, known)}")
        found[key] = _loaded(place)
    if config.weights is not None and config.weights != SCRATCH:
        one = _loaded(config.weights)
        found.setdefault(key_of(table, one), one)
    if not found and config.weights != SCRATCH:
        raise EncoderNotFoundError(
            "no encoder is named: give --from CHECKPOINT (a file or a run's folder), --rows KEY=CHECKPOINT, or "
            f"--from {SCRATCH}"
        )
    if SCRATCH_KEY in table.keys and config.scratch == "measured":
        like = next((one.scratch for one in found.values() if one.scratch is not None), None)
        found[SCRATCH_KEY] = Weights(path=SCRATCH, sha256=SCRATCH, name="never trained", scratch=like)
    return found


def key_of(table: Table, weights: Weights) -> str:
    """The key of the row that a checkpoint is for, by its losses.

    Raises:
        EncoderNotFoundError: there is no row of such losses.
    """
    exact = "_".join(weights.losses)
    key = exact if exact in table.keys else "vmt" if "mt" in weights.losses or "vm" not in table.keys else "vm"
    if not weights.losses or key not in table.keys:
        known = " ".join(f"{name} ({words})" for name, words in table.keys.items() if name != SCRATCH_KEY)
        raise EncoderNotFoundError(
            f"which row of {table.name} {weights.name} is for does not follow from its losses "
            f"({', '.join(weights.losses) or 'not known'}); give --rows KEY={weights.path}, KEY being one of {known}"
        )
    return key


def _loaded(place: str) -> Weights:
    encoder: Pretrained = load(place)
    name = encoder.path.name
    weights = Weights(
        path=str(encoder.path),
        sha256=encoder.sha256,
        name=f"{Path(place).name}/{name}" if Path(place).is_dir() else name,
    )
    if encoder.config is None:
        return weights
    config = from_json(PretrainConfig, encoder.config)
    objective = {"mm": config.objective.w_mm, "mv": config.objective.w_mv, "mt": config.objective.w_mt}
    return replace(
        weights,
        # Another work's method has weights of losses, too, and uses none of them.
        losses=() if config.method else tuple(loss for loss, weight in objective.items() if weight),
        data=(*(Path(location.rstrip("/")).name for location in config.data.shards), *config.data.sets),
        scratch=ScratchConfig(
            encoder=config.encoder, sampling=config.sampling, streams=config.views.streams, still=config.views.still
        ),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Job:
    """One metric: that of ``column`` in the table's row number ``row``, measured as one of its reproductions.

    ``config`` is the evaluation to run in ``folder``, below the table's; where it is None, ``reason`` is why not.
    """

    row: int
    reproduction: Reproduction
    column: Column
    config: Any | None
    folder: str = ""
    reason: str = ""


def jobs_of(table: Table, config: TableConfig, weights: Mapping[str, Weights]) -> list[Job]:
    """All metrics of the rows that have a checkpoint, a column at a time within a row.

    Raises:
        ConfigError: a change that no evaluation of the table takes.
    """
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
    """One metric by its recipe, before changes."""
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
    made = changed(base, task.changes(given))
    start = getattr(made, "start", None)
    if isinstance(start, StartConfig) and weights.scratch is not None:
        made = replace(made, start=replace(start, scratch=weights.scratch))
    return Job(row=row, reproduction=reproduction, column=column, config=made)


def _refusal(job: Job, change: str) -> ConfigError | None:
    try:
        changed(job.config, [change])
    except ConfigError as error:
        return error
    return None


def _changed(job: Job, changes: tuple[str, ...], weights: Weights) -> Job:
    """The metric with the changes that it takes, and its folder."""
    if job.config is None:
        return job
    config = changed(job.config, [change for change in changes if _refusal(job, change) is None])
    name = "-".join((config.recipe, job.reproduction.key, job.column.benchmark, job.column.protocol))
    return replace(job, config=config, folder=f"{name}-{_identity(config, weights)}")


def _identity(config: Any, weights: Weights) -> str:
    """A digest of everything that a metric depends on, with the content of files in place of their paths."""
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
    """JSON values with the texts that ``known`` has replaced."""
    if isinstance(value, dict):
        return {name: _replaced(item, known) for name, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, known) for item in value]
    return known.get(value, value) if isinstance(value, str) else value
