"""``tmor_train run``: train or evaluate by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path

from tmor_train.commands import COMPLETE, Commands, command, leads
from tmor_train.commands.on_ray import add_ray, ray_team
from tmor_train.commands.recipe import add_recipe, config_of
from tmor_train.commands.told import told

_MORE = """\
train:
  tmor_train run stage1 --data SHARDS
  torchrun --nproc-per-node 8 -m tmor_train run stage1 --data SHARDS
  tmor_train run stage1 --data SHARDS --ray auto --workers 16

evaluate an encoder, and one that was never trained:
  tmor_train run probe --benchmark penn_action --data DIR --from runs/stage2
  tmor_train run probe --benchmark penn_action --data DIR --from scratch --out runs/scratch
  tmor_train run finetune_cpu --benchmark penn_action --data DIR --from runs/stage2 --seeds 0 1 2
  tmor_train run fewshot --benchmark penn_action --data DIR --from runs/stage2
  tmor_train run logistic --benchmark penn_action --data DIR

An evaluation prints every figure and keeps it: result.json and scores.npz in the run's folder.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "run", run, about="train or evaluate by a recipe", more=_MORE)
    add_recipe(parser)
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="the run's folder (default: runs/RECIPE, or runs/RECIPE-BENCHMARK)"
    )
    add_ray(parser)


def run(options: argparse.Namespace) -> int:
    from tmor_train.kinds import run as run_kind

    config = config_of(options)
    name = config.recipe if options.benchmark is None else f"{config.recipe}-{options.benchmark}"
    if leads():
        print(f"{config.recipe}: {config.about}", flush=True)
    folder = options.out or Path("runs") / name
    if (team := ray_team(options)) is not None:
        from tmor_train.training.ray_team import pretrain_on_ray

        told(pretrain_on_ray(config, folder, team))
    else:
        told(run_kind(config, folder))
    return COMPLETE
