"""The ``posecap`` command. Only argument parsing is imported at start; each command imports what it needs."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from posecap import __version__
from posecap.commands import build, datasets, models, output
from posecap.terminal import add_completion, run_command

RENAMED = {"forget": "remove"}
"""Former names of commands, which still work."""

_EPILOG = """\
a first dataset, from real footage, in a few minutes:
  posecap build --manifest demo
  posecap view --sheet
  posecap verify

to others:
  posecap push datasets/demo OWNER/demo --dry-run

from your own videos:
  posecap manifest folder VIDEOS --output mine.yaml
  posecap plan --manifest mine.yaml
  posecap build --manifest mine.yaml

weights, before a machine goes offline:
  posecap models list
  posecap models pull yolo11n rtmpose-m

exit codes: 0 complete, 3 partial (some rows failed and are recorded), 4 alarms (a stage of a build lost far more than
expected), 1 error (also a missing or damaged dataset), 2 wrong usage, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(_renamed(sys.argv[1:] if arguments is None else arguments))
    return run_command(options, program="posecap", traceback_variable="POSECAP_TRACEBACK", message=_message)


_OTHER_PLACE = "get the right to read and write there, or name another place"
_FREE_SPACE = "free some space, or write to another disk"
_REMEDIES = {
    errno.EACCES: _OTHER_PLACE,
    errno.EPERM: _OTHER_PLACE,
    errno.EROFS: _OTHER_PLACE,
    errno.EDQUOT: _FREE_SPACE,
    errno.ENOSPC: _FREE_SPACE,
}
"""What to do about errors of the system that no bug of posecap causes."""


def _message(error: Exception) -> str | None:
    """What to print of an error of posecap or of a missing package; None for all others, which are bugs."""
    if isinstance(error, ModuleNotFoundError):
        return build.missing_package(error)
    if isinstance(error, OSError) and error.filename is not None and error.errno in _REMEDIES:
        return f"{os.fspath(error.filename)}: {error.strerror}; {_REMEDIES[error.errno]}"
    return str(error) if type(error).__module__.startswith("posecap.") else None


def _renamed(arguments: Sequence[str]) -> Sequence[str]:
    """Replace the former name of a command by its present one, with a hint."""
    if not arguments or arguments[0] not in RENAMED:
        return arguments
    name = RENAMED[arguments[0]]
    print(f"posecap: the command {arguments[0]} is called {name} now", file=sys.stderr)
    return [name, *arguments[1:]]


def _parser() -> argparse.ArgumentParser:
    """The parser of all commands, each of which sets the function that runs it."""
    parser = argparse.ArgumentParser(
        prog="posecap",
        description="From a list of videos to a dataset of synchronized video, skeleton and text.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"posecap {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for group in (build, datasets, output, models):
        group.add(commands)
    add_completion(commands, parser)
    return parser
