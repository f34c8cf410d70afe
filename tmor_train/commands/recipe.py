"""What ``run`` and ``show`` have in common: a recipe, and what is to be different."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmor_train.pretrain_config import PretrainConfig

_SEEDS = ("loop.seed", "batching.seed", "objective.seed", "clusters.how.seed")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", metavar="RECIPE", help="its name; `tmor_train list` has them all")
    parser.add_argument("--data", nargs="+", metavar="SHARDS", help="posecap datasets to train on, folders or URLs")
    parser.add_argument("--sets", nargs="+", metavar="NAME", help="published skeleton sets, e.g. penn_action:train")
    parser.add_argument("--folder", metavar="DIR", help="where the skeleton sets lie, each under its name")
    parser.add_argument("--texts", metavar="FILE", help="vectors of the sets' captions, a Parquet file")
    parser.add_argument("--from", dest="start", metavar="CHECKPOINT", help="begin with these weights (file or run)")
    parser.add_argument("--epochs", metavar="N", help="how often every clip is seen")
    parser.add_argument("--seed", metavar="N", help="of everything that is drawn (default: 0)")
    parser.add_argument(
        "--set",
        dest="changes",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="any field, e.g. optimizer.rate=0.03; `tmor_train show RECIPE` lists them",
    )


def config_of(options: argparse.Namespace) -> PretrainConfig:
    """The recipe with what the command line changes; ``--set`` has the last word."""
    from tmor_train.configuration import changed
    from tmor_train.recipes import recipe

    changes = []
    if options.data is not None:
        changes += [f"data.shards={','.join(options.data)}"] + ([] if options.sets else ["data.sets="])
    if options.sets is not None:
        changes += [f"data.sets={','.join(options.sets)}"] + ([] if options.data else ["data.shards="])
    for value, field in (
        (options.folder, "data.folder"),
        (options.texts, "data.texts"),
        (options.start, "loop.start_from"),
        (options.epochs, "loop.epochs"),
    ):
        if value is not None:
            changes.append(f"{field}={value}")
    if options.seed is not None:
        changes += [f"{field}={options.seed}" for field in _SEEDS]
    if options.start is not None:
        changes.append("loop.start=checkpoint")
    return changed(recipe(options.recipe), [*changes, *options.changes])
