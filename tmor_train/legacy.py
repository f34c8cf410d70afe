"""What files of earlier versions call things, so that they can still be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RESULT_FORMAT = "tmor_train.result/1"
_RESULT_FIELDS = {"figures": "metrics", "headline": "primary_metric"}
_RESULT_COUNTS = {"measured": "test"}


def result_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ``result.json`` of format 1 by their names of today; what was never a field is left as it is."""
    found = {_RESULT_FIELDS.get(name, name): value for name, value in values.items()}
    if isinstance(counts := found.get("counts"), dict):
        found["counts"] = {_RESULT_COUNTS.get(name, name): count for name, count in counts.items()}
    return found


_CONFIG_FIELDS = {  # fields that a configuration's class had, and what they are now
    "OptimizerConfig": {"rate": "lr", "decay": "weight_decay"},
    "ScheduleConfig": {"floor": "min_lr_ratio", "drops": "milestones"},
    "DescentConfig": {"decay": "weight_decay", "drops": "milestones"},
    "TuneConfig": {"head_rate": "head_lr_ratio"},
    "DetectorConfig": {"head_rate": "head_lr_ratio"},
}


def config_field(kind: str, name: str) -> str:
    """The name of today of a field of the configuration class ``kind``, in a stored or typed configuration."""
    return _CONFIG_FIELDS.get(kind, {}).get(name, name)


_STATE = {"averaged": "ema"}


def train_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A stored state of training by its names of today; version 0.1's averages also counted their updates."""
    found = {_STATE.get(name, name): value for name, value in state.items()}
    if isinstance(found.get("ema"), Mapping):
        found["ema"] = {name: value for name, value in found["ema"].items() if name != "n_averaged"}
    return found
