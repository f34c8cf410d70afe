"""``tmor_train report``: results as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path

from posecap.terminal import COMPLETE, Commands, command

_MORE = """\
The page has the paper's tables with what was measured, every result, figures by class, confusion matrices, recordings
with true and predicted actions, maps of embeddings and training curves: all that lies in DIR and below it. It is one
file that loads nothing, to be opened in a browser or sent.

examples:
  tmor_train report runs
  tmor_train report runs --embeddings penn.parquet --output results.html
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``report``."""
    parser = command(commands, "report", run, about="write one HTML page of all results below a folder", more=_MORE)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a run's folder, or one with several runs")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: DIR/report.html)")
    parser.add_argument(
        "--embeddings",
        type=Path,
        nargs="+",
        default=(),
        metavar="FILE",
        help="embeddings of `tmor_train embed` to draw, beside those below DIR",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page; returns the exit code."""
    from tmor_train.report.page import report

    output = options.output or options.folder / "report.html"
    results = report(options.folder, output, embeddings=tuple(options.embeddings))
    print(f"{output}: {results} results")
    return COMPLETE
