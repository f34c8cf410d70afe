"""Translates the names in files of earlier versions (configurations, results, checkpoints) to those of today."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# Each mapping is from a former word to that of today.
MODULES: Mapping[str, str] = {
    "tmor_train.backbones.graph": "tmor_train.backbones.layers",
    "tmor_train.backbones.weights": "tmor_train.backbones.unik",
    "tmor_train.body_parts": "posecap.joints",
    "tmor_train.clustering.blockwise": "tmor_train.clustering.neighbours",
    "tmor_train.data.datasets.part_descriptions": "tmor_train.data.datasets.action_descriptions",
    "tmor_train.detection_heads": "tmor_train.evaluation.detection.heads",
    "tmor_train.evaluation.clips.classifier": "tmor_train.evaluation.clips.linear_probe",
    "tmor_train.evaluation.detection.runner": "tmor_train.evaluation.detection.detect",
    "tmor_train.evaluation.detection.windows": "tmor_train.evaluation.detection.detector",
    "tmor_train.evaluation.part_pooling": "tmor_train.evaluation.rescoring",
    "tmor_train.evaluation.skeleton_cache": "tmor_train.evaluation.rescoring",
    "tmor_train.evaluation.text_contrast": "tmor_train.evaluation.rescoring",
    "tmor_train.losses.decorrelation": "tmor_train.losses.frames",
    "tmor_train.losses.frame_contrast": "tmor_train.losses.frames",
    "tmor_train.losses.frame_text": "tmor_train.losses.frames",
    "tmor_train.methods.parts": "tmor_train.methods.base",
    "tmor_train.pretrained.embedding": "tmor_train.pretrained.encoder",
    "tmor_train.pretrained.loading": "tmor_train.pretrained.encoder",
    "tmor_train.pretrained.onnx_backbone": "tmor_train.pretrained.export",
    "tmor_train.pretrained.quantization": "tmor_train.pretrained.export",
    "tmor_train.recipes.comparisons": "tmor_train.recipes.pretrain",
    "tmor_train.report.section": "tmor_train.report.charts",
    "tmor_train.tables.jobs": "tmor_train.tables.run",
    "tmor_train.training.representation_metrics": "tmor_train.training.metric_logger",
}
"""Modules that programs may import by their former names (:class:`posecap.FormerNames`)."""

_ENCODERS = {"averaged": "ema", "live": "online"}

RESULT_FORMAT = "tmor_train.result/1"
_RESULT_FIELDS = {"figures": "metrics", "headline": "primary_metric"}
_RESULT_COUNTS = {"measured": "test"}


def result_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a ``result.json`` of format 1 by their names of today; unknown names are left as they are."""
    translated = {_RESULT_FIELDS.get(name, name): value for name, value in values.items()}
    if isinstance(counts := translated.get("counts"), dict):
        translated["counts"] = {_RESULT_COUNTS.get(name, name): count for name, count in counts.items()}
    if isinstance(name := translated.get("checkpoint"), str):  # ends with the encoder's word in brackets
        translated["checkpoint"] = re.sub(r"(?<= \()\w+(?=\)$)", lambda word: encoder_word(word[0]), name)
    return translated


_CONFIG_FIELDS = {  # by configuration class: former name of a field, name of today
    "OptimizerConfig": {"rate": "lr", "decay": "weight_decay"},
    "ScheduleConfig": {"floor": "min_lr_ratio", "drops": "milestones"},
    "DescentConfig": {"decay": "weight_decay", "drops": "milestones"},
    "TuneConfig": {"head_rate": "head_lr_ratio"},
    "DetectorConfig": {"head_rate": "head_lr_ratio"},
}


def config_field(kind: str, name: str) -> str:
    """The name of today of a field of the configuration class ``kind``, in a stored or typed configuration."""
    return _CONFIG_FIELDS.get(kind, {}).get(name, name)


_CONFIG_VALUES = {  # by configuration class and field: former value, value of today
    ("ClusteringConfig", "of"): _ENCODERS,
    ("StartConfig", "of"): _ENCODERS,
    ("Sampling", "draw"): {"centre": "deterministic"},
}


def config_value(kind: str, name: str, value: Any) -> Any:
    """A ``value`` of the field ``name`` of the configuration class ``kind``, translated if it is a word that was
    renamed; any other value is returned as it is."""
    words = _CONFIG_VALUES.get((kind, name), {})
    return words.get(value, value) if isinstance(value, str) else value


def encoder_word(word: str) -> str:
    """The word of today for one of a run's two encoders."""
    return _ENCODERS.get(word, word)


def train_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state of training in a checkpoint by its names of today. In former checkpoints the EMA also holds the number
    of its updates, ``n_averaged``, which nothing reads any more and is left out."""
    translated = {encoder_word(name): value for name, value in dict(state).items()}
    if isinstance(translated.get("ema"), Mapping):
        translated["ema"] = {name: value for name, value in translated["ema"].items() if name != "n_averaged"}
    return translated
