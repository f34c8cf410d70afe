"""The paper's tables, measured anew with a checkpoint and the benchmarks that are at hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tmor_train.tables.base import TableConfig, TableName

_ABOUT: dict[TableName, str] = {
    "table1": "classification of clips, linear and fine-tuned (--data-root DIR --from CHECKPOINT)",
    "table2": "detection by frames, linear and fine-tuned (--data-root DIR --from CHECKPOINT)",
    "table3": "zero-shot recognition (--data-root DIR --from CHECKPOINT --texts FILE)",
    "table4": "events of PKU-MMD (--data-root DIR --from CHECKPOINT)",
    "table5": "ablation of losses, a checkpoint for each row (--data-root DIR --rows mm=RUN mt=RUN)",
}


def table(name: TableName) -> TableConfig:
    """A table by the recipes that it names."""
    return TableConfig(recipe=name, about=f"the paper's table: {_ABOUT[name]}", table=name)


RECIPES: dict[str, Callable[[], TableConfig]] = {name: partial(table, name) for name in _ABOUT}

__all__ = ["RECIPES", "table"]
