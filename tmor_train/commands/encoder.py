"""What ``embed`` and ``export`` have in common: which encoder, and a file to write."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_encoder(parser: argparse.ArgumentParser, *, writes: str) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a checkpoint, a run's folder (its newest one), or UNIK's weights"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=f"{writes} to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    parser.add_argument(
        "--of",
        choices=("averaged", "live"),
        help="which of the run's encoders: the average over its steps, or the one that was trained "
        "(default: the one whose features were clustered)",
    )
