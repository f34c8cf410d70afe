"""``tmor_train bench``: which benchmarks there are, which of their files are missing, and how to get them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posecap.terminal import COMPLETE, Commands, command

if TYPE_CHECKING:
    from tmor_train.benchmarks import Benchmark


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser("bench", help="list the benchmarks and their missing files")
    actions = bench.add_subparsers(metavar="ACTION", required=True)
    listed = command(actions, "list", _list, about="a line for each benchmark")
    listed.add_argument("--data-root", type=Path, metavar="DIR", help="look for files in DIR/NAME")
    shown = command(actions, "show", _show, about="one benchmark and its missing files")
    shown.add_argument("name")
    shown.add_argument("--data", type=Path, metavar="DIR", help="its folder")


def _list(options: argparse.Namespace) -> int:
    from tmor_train.benchmarks import BENCHMARKS

    print(f"{'name':14}{'task':8}{'protocols':32}{'clips':>7}{'classes':>9}  {'files':11}about")
    for name, found in BENCHMARKS.items():
        state, lines = ("-", []) if options.data_root is None else _files(found, options.data_root / name)
        clips, classes = found.clips or "any", found.classes or "any"
        print(f"{name:14}{found.task:8}{' '.join(found.protocols):32}{clips:>7}{classes:>9}  {state:11}{found.about}")
        for line in lines:
            print(f"    {line}")
    return COMPLETE


def _files(found: Benchmark, folder: Path) -> tuple[str, list[str]]:
    """The state of a benchmark's files in one word or two, and lines on the first that are missing or damaged."""
    from tmor_train.data.datasets.files import DamagedFileError

    try:
        lacking = [entry for protocol in found.protocols for entry in found.missing(folder, protocol)]
    except DamagedFileError as error:
        return "damaged", [str(error)]
    missing = list(dict.fromkeys(map(str, lacking)))
    return (f"{len(missing)} missing" if missing else "there"), missing[:2]


def _show(options: argparse.Namespace) -> int:
    from tmor_train.benchmarks import benchmark

    found = benchmark(options.name)
    print(f"{found.name}: {found.about}\ntask: {found.task}\nprimary metric: {found.primary_metric}")
    for protocol in found.protocols:
        print(f"protocol {protocol}")
        for entry in found.missing(options.data or Path(found.name), protocol)[:20]:
            print(f"  {entry}")
    return COMPLETE
