"""``tmor_train list`` and ``tmor_train show``: what recipes there are, and every field of one."""

from __future__ import annotations

import argparse
import json

from tmor_train.commands import COMPLETE, Commands, command
from tmor_train.commands.recipe import add_recipe, config_of


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    command(commands, "list", _list, about="name the recipes")
    show = command(commands, "show", _show, about="print every field of a recipe, as --set takes it")
    add_recipe(show)
    show.add_argument("--json", action="store_true", help="as a run's config.json has it")


def _list(options: argparse.Namespace) -> int:
    from tmor_train.kinds import kind_of
    from tmor_train.recipes import RECIPES

    heading, width = "", max(map(len, RECIPES)) + 2
    for name, made in RECIPES.items():
        config = made()
        if (about := kind_of(config).about) != heading:
            print(f"{about}:")
            heading = about
        print(f"  {name:{width}}{config.about}")
    return COMPLETE


def _show(options: argparse.Namespace) -> int:
    from tmor_train.configuration import as_json, described

    config = config_of(options)
    if options.json:
        print(json.dumps(as_json(config), indent=2))
    else:
        for path, value in described(config):
            print(f"{path}={value}")
    return COMPLETE
