"""What files of earlier versions call things, so that they can still be read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_ENCODERS = {"averaged": "ema", "live": "online"}

RESULT_FORMAT = "tmor_train.result/1"
_RESULT_FIELDS = {"figures": "metrics", "headline": "primary_metric"}
_RESULT_COUNTS = {"measured": "test"}


def result_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ``result.json`` of format 1 by their names of today; what was never a field is left as it is."""
    found = {_RESULT_FIELDS.get(name, name): value for name, value in values.items()}
    if isinstance(counts := found.get("counts"), dict):
        found["counts"] = {_RESULT_COUNTS.get(name, name): count for name, count in counts.items()}
    if isinstance(name := found.get("checkpoint"), str):  # ends with the encoder's word in brackets
        found["checkpoint"] = re.sub(r"(?<= \()\w+(?=\)$)", lambda word: encoder_word(word[0]), name)
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


_CONFIG_VALUES = {  # words that a field took, and what they are now
    ("ClusteringConfig", "of"): _ENCODERS,
    ("StartConfig", "of"): _ENCODERS,
    ("Sampling", "draw"): {"centre": "deterministic"},
}


def config_value(kind: str, name: str, value: Any) -> Any:
    """The value of today of the field ``name`` of the configuration class ``kind``; all but renamed words stay."""
    words = _CONFIG_VALUES.get((kind, name), {})
    return words.get(value, value) if isinstance(value, str) else value


def encoder_word(word: str) -> str:
    """The word of today for one of a run's two encoders."""
    return _ENCODERS.get(word, word)


def train_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """A stored state of training by its names of today; averages of version 0.1 also counted their updates."""
    found = {encoder_word(name): value for name, value in dict(state).items()}
    if isinstance(found.get("ema"), Mapping):
        found["ema"] = {name: value for name, value in found["ema"].items() if name != "n_averaged"}
    return found
