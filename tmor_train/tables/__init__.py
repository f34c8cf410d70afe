"""The paper's tables with its figures as data, a file each, and what measures them anew with a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping

from tmor_train.tables import table1, table2, table3, table4, table5
from tmor_train.tables.contract import Table

TABLES: Mapping[str, Table] = {
    found.name: found for found in (table1.TABLE, table2.TABLE, table3.TABLE, table4.TABLE, table5.TABLE)
}
"""By name."""

__all__ = ["TABLES", "Table"]
