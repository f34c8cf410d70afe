"""The commands, a file each: how it is asked for (``add``) and what it does."""

from __future__ import annotations

import argparse
from collections.abc import Callable

COMPLETE, ERROR, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130

Commands = argparse._SubParsersAction  # argparse gives the type no public name


def command(
    commands: Commands[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    *,
    about: str,
    more: str = "",
) -> argparse.ArgumentParser:
    """A command's own parser, its help in the house style."""
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    return parser


def at_least_one(text: str) -> int:
    """An argument that counts something."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number
