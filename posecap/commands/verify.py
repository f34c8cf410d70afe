"""``posecap verify``: whether a dataset is what its sidecars say."""

from __future__ import annotations

import argparse

from posecap.commands import COMPLETE, ERROR, Commands, command
from posecap.commands.arguments import add_dataset, no_words


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    about = "check every file, sample and count of a dataset, down to a flipped bit"
    add_dataset(command(commands, "verify", run, about=about))


def run(options: argparse.Namespace) -> int:
    from posecap.checks.verify import verify

    found = verify(no_words(options))
    for problem in found.problems:
        print(problem)
    size = f"{found.parts:,} parts, {found.samples:,} samples, {found.size_bytes / 1e6:,.1f} MB"
    if found.problems:
        print(f"{len(found.problems):,} problems in {size}")
        return ERROR
    print(f"sound: {size}")
    return COMPLETE
