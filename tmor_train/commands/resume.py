"""``tmor_train resume``: go on where a run stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from tmor_train.commands import COMPLETE, Commands, command, leads


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "resume", run, about="go on with a run from its newest checkpoint")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run's folder")


def run(options: argparse.Namespace) -> int:
    from tmor_train.runs import resume

    written = resume(options.folder)
    if leads():
        print(f"done: {written}")
    return COMPLETE
