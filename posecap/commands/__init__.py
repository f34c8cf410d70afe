"""The commands of ``posecap``: functions ``add…`` declare a command's arguments, functions ``run…`` execute it."""

from __future__ import annotations

import argparse
from pathlib import Path

_DATASET_FILES = ("plan.parquet", "dataset.json", "data")


def at_least_one(text: str) -> int:
    """Parse an argument that is a positive integer."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


class DatasetChoiceError(ValueError):
    """No dataset was named and there is not exactly one to choose."""


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
