"""What ``run`` and ``show`` have in common: a recipe, and what is to be different."""

from __future__ import annotations

import argparse
from typing import Any

_SEVERAL = ("data", "sets", "seeds", "rows")
_FLAGS = (*_SEVERAL, "data-root", "folder", "texts", "benchmark", "protocol", "from", "epochs", "seed")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """The recipe's name, the flags that set a field, and ``--set`` for all others."""
    parser.add_argument("recipe", metavar="RECIPE", help="its name; `tmor_train list` has them all")
    flag = parser.add_argument
    flag(
        "--data",
        nargs="+",
        metavar="DATA",
        help="what it works on: posecap datasets to train on (folders or URLs), or the folder of a benchmark's files",
    )
    flag("--texts", metavar="FILE", help="vectors of captions, or of the prompts of zero-shot recognition (Parquet)")
    flag("--from", metavar="CHECKPOINT", help="begin with these weights (file or run; to evaluate, also: scratch)")
    flag("--epochs", metavar="N", help="how often every clip is seen in training")
    flag("--seed", metavar="N", help="of everything that is drawn (default: 0)")
    flag(
        "--set",
        dest="changes",
        nargs="+",
        action="extend",
        default=[],
        metavar="FIELD=VALUE",
        help="any field, e.g. optimizer.rate=0.03; `tmor_train show RECIPE` lists them",
    )
    training = parser.add_argument_group("pre-training")
    training.add_argument("--sets", nargs="+", metavar="NAME", help="published skeleton sets, e.g. penn_action:train")
    training.add_argument("--folder", metavar="DIR", help="where the skeleton sets lie, each under its name")
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument("--benchmark", metavar="NAME", help="what is measured, e.g. penn_action")
    evaluation.add_argument("--protocol", metavar="NAME", help="one of the benchmark's splits (default: its first)")
    evaluation.add_argument("--seeds", nargs="+", metavar="N", help="several seeds, a measurement for each")
    tables = parser.add_argument_group("tables of the paper")
    tables.add_argument("--data-root", metavar="DIR", help="a folder for each benchmark, of its name")
    tables.add_argument("--rows", nargs="+", metavar="KEY=CHECKPOINT", help="checkpoints of rows, e.g. mm=runs/a")


def config_of(options: argparse.Namespace) -> Any:
    """The recipe with what the command line changes; ``--set`` has the last word.

    Raises:
        tmor_train.recipes.NoRecipe: no such recipe.
        tmor_train.kinds.NoKind: a flag that means nothing to it.
        tmor_train.configuration.BadConfig: no such field or value.
    """
    from tmor_train.configuration import changed
    from tmor_train.kinds import kind_of
    from tmor_train.recipes import recipe

    config = recipe(options.recipe)
    named = {name: getattr(options, name.replace("-", "_")) for name in _FLAGS}
    given = {name: value for name, value in named.items() if value is not None}
    flags = {name: ",".join(value) if name in _SEVERAL else value for name, value in given.items()}
    return changed(config, [*kind_of(config).changes(flags), *options.changes])
