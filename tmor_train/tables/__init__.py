"""Tables of the paper, measured anew by running evaluations. ``TASKS`` has them beside :mod:`tmor_train.tasks`' own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tmor_train import tasks
from tmor_train.evaluation.config import TableConfig

if TYPE_CHECKING:
    from tmor_train.evaluation.runner import Begun


def _run_table(config: TableConfig, folder: Path, begun: Begun) -> Path:
    from tmor_train.tables.run import measure_table

    return measure_table(config, folder)  # whether or not it was begun before, it measures what is missing


TASKS = {
    **tasks.TASKS,
    "TableConfig": tasks.TaskType(
        about="tables of the paper",
        config=TableConfig,
        run=_run_table,
        flags={
            "data-root": ("data_root",),
            "from": ("weights",),
            "rows": ("rows",),
            "texts": ("texts",),
            "seed": ("seeds",),
            "seeds": ("seeds",),
        },
    ),
}
