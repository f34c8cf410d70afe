"""``posecap inspect``: one sample in words."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from posecap.commands import COMPLETE, Commands, command
from posecap.commands.arguments import add_dataset, split_words

if TYPE_CHECKING:
    from posecap.shards import Dataset


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "inspect", run, about="print one sample with axes and units")
    add_dataset(parser, words="KEY", about="a clip's key or its beginning (default: the first clip)")


def run(options: argparse.Namespace) -> int:
    from posecap.shards import Dataset
    from posecap.visualization.describe import describe
    from posecap.visualization.view import whole_key

    root, keys = split_words(options)
    dataset = Dataset(root)
    for key in keys or [""]:
        print(describe(dataset.sample(whole_key(dataset, key) if key else _first(dataset))), end="")
    return COMPLETE


def _first(dataset: Dataset) -> str:
    from posecap.shards import ShardError

    keys = dataset.index()["key"]
    if len(keys) == 0:
        raise ShardError("the dataset holds no samples; `posecap status` says why")
    return str(keys[0])
