"""Which checkpoint stands in which row of a table."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tmor_train.configuration import from_json
from tmor_train.evaluation.config import SCRATCH, ScratchConfig
from tmor_train.evaluation.encoders import NoEncoder
from tmor_train.pretrain_config import PretrainConfig
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.pretrained.loading import load
from tmor_train.tables.config import TableConfig
from tmor_train.tables.contract import SCRATCH_KEY, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A checkpoint as rows are measured with it: its ``path`` (or ``scratch``), the SHA-256 of its bytes, what it is
    called, what it was trained with, and how an encoder that was never trained sees clips to be compared with it."""

    path: str
    sha256: str
    name: str
    losses: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    scratch: ScratchConfig | None = None

    def facts(self) -> dict[str, Any]:
        """As JSON values, without where it lies."""
        return {name: value for name, value in asdict(self).items() if name not in ("path", "scratch")}


def weights_by_key(config: TableConfig, table: Table) -> dict[str, Weights]:
    """The checkpoint of each key of a table that has one.

    An encoder that was never trained sees clips as the first of the checkpoints does.

    Raises:
        NoEncoder: none is named, or a key is none of the table's.
        tmor_train.training.checkpoint.BadCheckpoint, tmor_train.pretrained.encoder.CannotUse: as
            :func:`tmor_train.load`.
    """
    found: dict[str, Weights] = {}
    for pair in config.rows:
        key, _, place = pair.partition("=")
        if key == SCRATCH_KEY or key not in table.keys:
            known = [name for name in table.keys if name != SCRATCH_KEY]
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise NoEncoder(f"{table.name} has no row {key!r}; {hint}")
        found[key] = _loaded(place)
    if config.weights is not None and config.weights != SCRATCH:
        one = _loaded(config.weights)
        found.setdefault(key_of(table, one), one)
    if not found and config.weights != SCRATCH:
        raise NoEncoder(
            "no encoder is named: say --from CHECKPOINT (a file or a run's folder), --rows KEY=CHECKPOINT, or "
            f"--from {SCRATCH}"
        )
    if SCRATCH_KEY in table.keys and config.scratch == "measured":
        like = next((one.scratch for one in found.values() if one.scratch is not None), None)
        found[SCRATCH_KEY] = Weights(path=SCRATCH, sha256=SCRATCH, name="never trained", scratch=like)
    return found


def key_of(table: Table, weights: Weights) -> str:
    """The row that a checkpoint is for, by its losses.

    Raises:
        NoEncoder: there is no row of such losses.
    """
    exact = "_".join(weights.losses)
    key = exact if exact in table.keys else "vmt" if "mt" in weights.losses or "vm" not in table.keys else "vm"
    if not weights.losses or key not in table.keys:
        known = " ".join(f"{name} ({words})" for name, words in table.keys.items() if name != SCRATCH_KEY)
        raise NoEncoder(
            f"which row of {table.name} {weights.name} is for does not follow from its losses "
            f"({', '.join(weights.losses) or 'not known'}); say --rows KEY={weights.path}, KEY being one of {known}"
        )
    return key


def _loaded(place: str) -> Weights:
    encoder: Pretrained = load(place)
    losses, data, scratch = _trained_with(encoder.config)
    return Weights(
        path=str(encoder.path),
        sha256=encoder.sha256,
        name=f"{Path(place).name}/{encoder.path.name}" if Path(place).is_dir() else encoder.path.name,
        losses=losses,
        data=data,
        scratch=scratch,
    )


def _trained_with(values: Mapping[str, Any] | None) -> tuple[tuple[str, ...], tuple[str, ...], ScratchConfig | None]:
    """Losses, data, and how clips are seen, of a run's configuration."""
    if values is None:
        return (), (), None
    config = from_json(PretrainConfig, values)
    weights = {"mm": config.objective.w_mm, "mv": config.objective.w_mv, "mt": config.objective.w_mt}
    shards = (Path(location.rstrip("/")).name for location in config.data.shards)
    scratch = ScratchConfig(
        encoder=config.encoder, sampling=config.sampling, streams=config.views.streams, still=config.views.still
    )
    # Another work's method has weights of losses, too, and uses none of them.
    losses = () if config.method else tuple(loss for loss, weight in weights.items() if weight)
    return losses, (*shards, *config.data.sets), scratch


__all__ = ["Weights", "key_of", "weights_by_key"]
