"""What is printed when a run is done: where it lies, and what it measured."""

from __future__ import annotations

from pathlib import Path

from tmor_train.commands import leads

_TABLE = "table.md"  # of tmor_train.tables.render, which would import torch here


def told(written: Path) -> None:
    """Print a folder's table of the paper, or the figures of the results in and below it, and where they are."""
    if not leads():
        return
    if (written / _TABLE).is_file():
        print((written / _TABLE).read_text(encoding="utf-8"))
    elif written.is_dir():
        from tmor_train.evaluation.runner import summary
        from tmor_train.results import results_under

        for line in summary([result for _, result in results_under(written)]):
            print(line)
    print(f"done: {written}")
