"""The ``tmor_train`` command. Only argument parsing is imported at start; each command imports what it needs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from posecap.terminal import add_completion, run_command
from tmor_train import __version__
from tmor_train.commands import export, run

_EPILOG = """\
a first run, on what `posecap build --manifest demo` made:
  tmor_train run pretrain_demo

the two stages:
  tmor_train run stage1 --data SHARDS
  tmor_train run stage2 --data SHARDS --from runs/stage1

the paper's tables with what can be measured, and one page of all results:
  tmor_train run table1 --data-root DIR --from runs/stage2
  tmor_train report runs

actions in a video:
  tmor_train recognize VIDEO --from runs/stage2 --texts "doing push-ups" squatting

any field of a recipe:
  tmor_train show stage1
  tmor_train run stage1 --data SHARDS --set optimizer.lr=0.03 objective.positive_reduction=outside
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    return run_command(
        _parser().parse_args(arguments),
        program="tmor_train",
        traceback_variable="TMOR_TRACEBACK",  # of the environment: if it is set, errors come with tracebacks
        message=_message,
        stopped="stopped; `tmor_train resume DIR` continues from the last checkpoint",
    )


def _message(error: Exception) -> str | None:
    """The message of an error of posecap or tmor_train; None for others, whose type is printed, too."""
    return str(error) if type(error).__module__.startswith(("tmor_train.", "posecap.")) else None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tmor_train",
        description="Pre-training of T-MOR, a skeleton encoder, on skeletons, videos and texts.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tmor_train {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (run, export):
        command.add(commands)
    add_completion(commands, parser)
    return parser
