"""``tmor_train run``: train by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from tmor_train.commands import COMPLETE, Commands, command, leads
from tmor_train.commands.recipe import add_recipe, config_of

_MORE = """\
several GPUs:
  torchrun --nproc-per-node 8 -m tmor_train run stage1 --data SHARDS
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "run", run, about="train by a recipe", more=_MORE)
    add_recipe(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="the run's folder (default: runs/RECIPE)")


def run(options: argparse.Namespace) -> int:
    from tmor_train.runs import pretrain

    config = config_of(options)
    folder = options.out or Path("runs") / config.recipe
    if leads():
        print(f"{config.recipe}: {config.about}", flush=True)
    written = pretrain(config, folder)
    if leads():
        print(f"done: {written}")
    return COMPLETE
