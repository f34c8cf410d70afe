"""The commands of ``posecap``: functions ``add…`` declare a command's arguments, functions ``run…`` execute it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_DATASET_FILES = ("plan.parquet", "dataset.json", "data")
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
    """Add the parser of one command."""
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
    """Parse an argument that is a positive integer."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


class DatasetChoiceError(ValueError):
    """No dataset was named and there is not exactly one to choose."""


class FormerFlag(argparse.Action):
    """A flag's former name, which help leaves out: it sets the same value and prints its present name (``const``)."""

    def __init__(self, option_strings: list[str], dest: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, default=argparse.SUPPRESS, help=argparse.SUPPRESS, **settings)

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        print(f"posecap: {option_string} is called {self.const} now", file=sys.stderr)
        setattr(namespace, self.dest, values)


def add_dataset(parser: argparse.ArgumentParser, *, words: str = "", about: str = "") -> None:
    """Accept ``[DATASET] [WORD …]``: a word that is a directory is the dataset, the others belong to the command."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar=f"DATASET {words}".strip(),
        help=f"dataset directory (default: this one, or the only one under datasets/){'; ' + about if about else ''}",
    )


def dataset_and_words(options: argparse.Namespace) -> tuple[Path, list[str]]:
    """The dataset and the other words.

    Raises:
        DatasetChoiceError: none or several could be meant.
    """
    folders = [Path(word) for word in options.words if Path(word).is_dir()]
    others = [word for word in options.words if not Path(word).is_dir()]
    if len(folders) > 1:
        raise DatasetChoiceError(f"{folders[0]} and {folders[1]} are both directories: name one dataset")
    if folders:
        if not _is_dataset(folders[0]):
            raise DatasetChoiceError(f"{folders[0]} is no dataset directory: it has no {' or '.join(_DATASET_FILES)}")
        return folders[0], others
    return _default_dataset(), others


def only_dataset(options: argparse.Namespace) -> Path:
    """The dataset of a command that takes nothing else."""
    root, others = dataset_and_words(options)
    if others:
        raise DatasetChoiceError(f"{others[0]} is no directory")
    return root


def _default_dataset() -> Path:
    if _is_dataset(Path()):
        return Path()
    found = sorted(path for path in Path("datasets").glob("*") if _is_dataset(path))
    if len(found) == 1:
        return found[0]
    seen = f"there are {', '.join(map(str, found))}" if found else "there is none here or under datasets/"
    raise DatasetChoiceError(f"name the dataset directory: {seen}")


def _is_dataset(path: Path) -> bool:
    return any((path / sign).exists() for sign in _DATASET_FILES)
