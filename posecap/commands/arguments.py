"""What the arguments of several commands have in common: which dataset is meant, and former names of flags."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

_SIGNS = ("plan.parquet", "dataset.json", "data")


class WhichDataset(ValueError):
    """No dataset was named and there is not exactly one at hand."""


class FormerFlag(argparse.Action):
    """A flag's former name, which help leaves out: it sets the same value and says its name now (``const``)."""

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
    """Take ``[DATASET] [WORD …]``: a word that is a directory is the dataset, the others are the command's own."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar=f"DATASET {words}".strip(),
        help=f"dataset directory (default: this one, or the only one under datasets/){'; ' + about if about else ''}",
    )


def split_words(options: argparse.Namespace) -> tuple[Path, list[str]]:
    """The dataset and the other words.

    Raises:
        WhichDataset: none or several could be meant.
    """
    folders = [Path(word) for word in options.words if Path(word).is_dir()]
    others = [word for word in options.words if not Path(word).is_dir()]
    if len(folders) > 1:
        raise WhichDataset(f"{folders[0]} and {folders[1]} are both directories: name one dataset")
    if folders:
        if not _is_dataset(folders[0]):
            raise WhichDataset(f"{folders[0]} is no dataset directory: it has no {' or '.join(_SIGNS)}")
        return folders[0], others
    return _at_hand(), others


def no_words(options: argparse.Namespace) -> Path:
    """The dataset of a command that takes nothing else."""
    root, others = split_words(options)
    if others:
        raise WhichDataset(f"{others[0]} is no directory")
    return root


def _at_hand() -> Path:
    if _is_dataset(Path()):
        return Path()
    found = sorted(path for path in Path("datasets").glob("*") if _is_dataset(path))
    if len(found) == 1:
        return found[0]
    seen = f"there are {', '.join(map(str, found))}" if found else "there is none here or under datasets/"
    raise WhichDataset(f"name the dataset directory: {seen}")


def _is_dataset(path: Path) -> bool:
    return any((path / sign).exists() for sign in _SIGNS)
