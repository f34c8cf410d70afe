"""What measuring a table of the paper can be told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

TableName = Literal["table1", "table2", "table3", "table4", "table5"]


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """A table of the paper, measured anew; see :mod:`tmor_train.tables.measuring`.

    ``data_root`` has a folder for each benchmark, of its name. ``weights`` is a checkpoint or a run's folder; which row
    it is for follows from its losses. ``rows`` name checkpoints for rows, ``KEY=CHECKPOINT`` each, and go before it.
    ``texts`` are the vectors of prompts that zero-shot recognition needs. ``recipes`` puts other recipes in the place
    of the table's, ``finetune=finetune_cpu`` say. ``changes`` are made to each evaluation that has such a field, as
    ``--set`` writes them. ``scratch`` says whether rows of an encoder that was never trained are measured.
    """

    recipe: str
    about: str
    table: TableName
    data_root: str | None = None
    weights: str | None = None
    rows: tuple[str, ...] = ()
    texts: str | None = None
    recipes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    scratch: Literal["measured", "left_out"] = "measured"
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for pair in (*self.rows, *self.recipes):
            if not all(pair.partition("=")):
                raise ValueError(f"{pair!r} is no pair such as vmt=runs/stage2")
        if not self.seeds:
            raise ValueError("there is at least one seed")


__all__ = ["TableConfig", "TableName"]
