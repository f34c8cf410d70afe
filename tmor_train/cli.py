"""The ``tmor_train`` command. Only argument parsing is imported at start; each command imports what it needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from tmor_train import __version__
from tmor_train.commands import COMPLETE, ERROR, INTERRUPTED, bench, export, report, run

COMMANDS = (run, bench, report, export)

_EPILOG = """\
a first run, on what `posecap build --manifest manifests/demo.yaml` made:
  tmor_train run pretrain_demo

the two stages:
  tmor_train run stage1 --data SHARDS
  tmor_train run stage2 --data SHARDS --from runs/stage1

the paper's tables with what can be measured, and one page of all results:
  tmor_train run table1 --data-root DIR --from runs/stage2
  tmor_train report runs

any field of a recipe:
  tmor_train show stage1
  tmor_train run stage1 --data SHARDS --set optimizer.lr=0.03 objective.positive_reduction=outside
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        print("\nstopped; `tmor_train resume DIR` goes on from the last checkpoint", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COMPLETE
    except Exception as error:
        if os.environ.get("TMOR_TRACEBACK"):
            raise
        print(f"tmor_train: {error if _ours(error) else f'{type(error).__name__}: {error}'}", file=sys.stderr)
        if not _ours(error):
            print("tmor_train: set TMOR_TRACEBACK=1 for the traceback", file=sys.stderr)
        return ERROR


def _ours(error: Exception) -> bool:
    """Errors that were written for people need no type in front of them."""
    return type(error).__module__.startswith(("tmor_train.", "posecap."))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tmor_train",
        description="Pre-training of T-MOR, a skeleton encoder, on skeletons, videos and texts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tmor_train {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser
