"""``posecap pipeline``: list and print the pipelines that come with posecap."""

from __future__ import annotations

import argparse
import sys

from posecap.terminal import COMPLETE, ERROR, Commands, command

_MORE = """\
  posecap pipeline list
  posecap pipeline show default > mine.py      a copy to edit; then write 'pipeline: mine.py' in the manifest
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``pipeline`` with its actions."""
    about = "list and print the pipelines that come with posecap"
    parser = command(commands, "pipeline", _list, about=about, more=_MORE)
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    command(actions, "list", _list, about="names and what they are for")
    showing = command(actions, "show", _show, about="print a pipeline's file, every parameter in it", more=_MORE)
    showing.add_argument("name", metavar="NAME", help="a name of `posecap pipeline list`")


def _list(_: argparse.Namespace) -> int:
    from posecap.builtin import pipelines, summary

    found = pipelines()
    width = max(map(len, found), default=0)
    for name, path in found.items():
        print(f"{name.ljust(width)}  {summary(path)}")
    return COMPLETE


def _show(options: argparse.Namespace) -> int:
    from posecap.builtin import nearest_pipeline, pipelines

    path = pipelines().get(options.name)
    if path is None:
        print(f"posecap: no pipeline named {options.name!r}: {nearest_pipeline(options.name)}", file=sys.stderr)
        return ERROR
    print(path.read_text("utf-8"), end="")
    return COMPLETE
