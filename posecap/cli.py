"""The ``posecap`` command. Only argument parsing is imported at start; each command imports what it needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from posecap import __version__
from posecap.commands import COMPLETE, ERROR, INTERRUPTED, build, datasets, models

RENAMED = {"forget": "remove"}
"""Former names of commands, which still work."""

_EPILOG = """\
a first dataset, from real footage, in a few minutes:
  posecap build --manifest manifests/demo.yaml
  posecap view --sheet
  posecap verify

from your own videos:
  posecap manifest folder VIDEOS --output mine.yaml
  posecap plan --manifest mine.yaml
  posecap build --manifest mine.yaml

weights, before a machine goes offline:
  posecap models list
  posecap models pull yolo11n rtmpose-m

exit codes: 0 complete, 3 partial (some rows failed and are recorded), 1 error, 2 wrong usage, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(_renamed(sys.argv[1:] if arguments is None else arguments))
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COMPLETE
    except ModuleNotFoundError as error:
        if os.environ.get("POSECAP_TRACEBACK"):
            raise
        remedy = f"{error.name} is not installed; to build, run pip install 'posecap[build]'"
        # Engines with an extra of their own name it.
        print(f"posecap: {error if 'posecap[' in str(error) else remedy}", file=sys.stderr)
        return ERROR
    except Exception as error:
        if os.environ.get("POSECAP_TRACEBACK"):
            raise
        print(f"posecap: {error if _ours(error) else f'{type(error).__name__}: {error}'}", file=sys.stderr)
        if not _ours(error):
            print("posecap: set POSECAP_TRACEBACK=1 for the traceback", file=sys.stderr)
        return ERROR


def _renamed(arguments: Sequence[str]) -> Sequence[str]:
    """Replace the former name of a command by its present one, with a hint."""
    if not arguments or arguments[0] not in RENAMED:
        return arguments
    name = RENAMED[arguments[0]]
    print(f"posecap: the command {arguments[0]} is called {name} now", file=sys.stderr)
    return [name, *arguments[1:]]


def _ours(error: Exception) -> bool:
    """Whether the message is written for users and needs no exception type in front of it."""
    return type(error).__module__.startswith("posecap.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="posecap",
        description="From a list of videos to a dataset of synchronized video, skeleton and text.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"posecap {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in (build, datasets, models):
        group.add(commands)
    return parser
