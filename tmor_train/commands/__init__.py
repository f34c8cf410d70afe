"""The commands: each module adds its parsers (``add``) and does what they ask for."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable

COMPLETE, ERROR, INTERRUPTED = 0, 1, 130

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


def is_main() -> bool:
    """Whether this is the process that prints, of those that torchrun started: rank 0."""
    return os.environ.get("RANK", "0") == "0"
