"""``tmor_train bench``: which benchmarks there are, which of their files are missing, and how to get them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posecap.terminal import COMPLETE, Commands, command

_MOST_SHOWN = 20  # missing files of a protocol; some benchmarks have a thousand

if TYPE_CHECKING:
    from tmor_train.benchmarks import Benchmark


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``bench`` with its actions."""
    bench = commands.add_parser("bench", help="list the benchmarks and their missing files")
    actions = bench.add_subparsers(metavar="ACTION", required=True)
    listed = command(actions, "list", _list, about="a line for each benchmark")
    listed.add_argument("--data-root", type=Path, metavar="DIR", help="look for files in DIR/NAME")
    shown = command(actions, "show", _show, about="one benchmark and its missing files")
    shown.add_argument("name")
    shown.add_argument("--data", type=Path, metavar="DIR", help="its folder (default: one of its name)")


def _list(options: argparse.Namespace) -> int:
    from tmor_train.benchmarks import BENCHMARKS

    print(f"{'name':14}{'task':8}{'protocols':32}{'clips':>7}{'classes':>9}  {'files':11}about")
    for name, benchmark in BENCHMARKS.items():
        state, lines = ("-", []) if options.data_root is None else _files(benchmark, options.data_root / name)
        clips, classes = benchmark.clips or "any", benchmark.classes or "any"
        protocols = " ".join(benchmark.protocols)
        print(f"{name:14}{benchmark.task:8}{protocols:32}{clips:>7}{classes:>9}  {state:11}{benchmark.about}")
        for line in lines:
            print(f"    {line}")
    return COMPLETE


def _files(benchmark: Benchmark, folder: Path) -> tuple[str, list[str]]:
    """The state of a benchmark's files in one word or two (``there``, ``2 missing``, ``damaged``), and a line on each
    of the first two that are missing, or on the damaged one."""
    from tmor_train.data.datasets.files import DamagedFileError

    try:
        lacking = [entry for protocol in benchmark.protocols for entry in benchmark.missing(folder, protocol)]
    except DamagedFileError as error:
        return "damaged", [str(error)]
    missing = list(dict.fromkeys(map(str, lacking)))
    return (f"{len(missing)} missing" if missing else "there"), missing[:2]


def _show(options: argparse.Namespace) -> int:
    from tmor_train.benchmarks import benchmark

    chosen = benchmark(options.name)
    print(f"{chosen.name}: {chosen.about}\ntask: {chosen.task}\nprimary metric: {chosen.primary_metric}")
    for protocol in chosen.protocols:
        print(f"protocol {protocol}")
        missing = chosen.missing(options.data or Path(chosen.name), protocol)
        for entry in missing[:_MOST_SHOWN]:
            print(f"  {entry}")
        if len(missing) > _MOST_SHOWN:
            print(f"  … and {len(missing) - _MOST_SHOWN} more are missing")
    return COMPLETE
