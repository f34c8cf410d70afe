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


__all__ = ["RESULT_FORMAT", "result_fields"]
