"""What is printed when a run is done: where it lies, and what it measured."""

from __future__ import annotations

from pathlib import Path

from tmor_train.commands import leads


def told(written: Path) -> None:
    """Print the figures of the results in and below a folder, if there are any, and where they are."""
    if not leads():
        return
    if written.is_dir():
        from tmor_train.evaluation.summary import summary
        from tmor_train.results import results_under

        for line in summary([result for _, result in results_under(written)]):
            print(line)
    print(f"done: {written}")
