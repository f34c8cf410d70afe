"""``tmor_train bench``: which benchmarks there are, what of their files is there, and how to get the rest."""

from __future__ import annotations

import argparse
from pathlib import Path

from tmor_train.commands import COMPLETE, Commands, command


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    bench = commands.add_parser("bench", help="say which benchmarks there are, and which of their files are missing")
    actions = bench.add_subparsers(metavar="ACTION", required=True)
    listed = command(actions, "list", _list, about="a line for each benchmark")
    listed.add_argument("--data-root", type=Path, metavar="DIR", help="look for files in DIR/NAME")
    shown = command(actions, "show", _show, about="one benchmark and its missing files")
    shown.add_argument("name")
    shown.add_argument("--data", type=Path, metavar="DIR", help="its folder")


def _list(options: argparse.Namespace) -> int:
    from tmor_train.benchmarks import BENCHMARKS

    print(f"{'name':14}{'task':8}{'protocols':26}{'clips':>7}{'classes':>9}  {'files':11}about")
    for name, found in BENCHMARKS.items():
        root: Path | None = options.data_root
        lacking = [found.missing(root / name, protocol) for protocol in found.protocols] if root else []
        missing = list(dict.fromkeys(entry for entries in lacking for entry in entries))
        state = "there" if root and not missing else f"{len(missing)} missing" if root else "-"
        clips, classes = found.clips or "any", found.classes or "any"
        print(f"{name:14}{found.task:8}{' '.join(found.protocols):26}{clips:>7}{classes:>9}  {state:11}{found.about}")
        for entry in missing[:2]:
            print(f"    {entry}")
    return COMPLETE


def _show(options: argparse.Namespace) -> int:
    from tmor_train.benchmarks import benchmark

    found = benchmark(options.name)
    print(f"{found.name}: {found.about}\ntask: {found.task}\nheadline: {found.headline}")
    for protocol in found.protocols:
        print(f"protocol {protocol}")
        for entry in found.missing(options.data or Path(found.name), protocol)[:20]:
            print(f"  {entry}")
    return COMPLETE
