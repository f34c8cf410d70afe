"""The ``posecap`` command. Only argument parsing is imported at start; each command imports what it needs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from posecap import __version__

COMPLETE, ERROR, USAGE, PARTIAL, INTERRUPTED = 0, 1, 2, 3, 130

_EPILOG = """\
a first dataset, from real footage, in a few minutes:
  posecap build --manifest manifests/demo.yaml
  posecap view --sheet datasets/demo
  posecap verify datasets/demo

from your own videos:
  posecap manifest folder VIDEOS --output mine.yaml
  posecap plan --manifest mine.yaml
  posecap build --manifest mine.yaml

exit codes: 0 complete, 3 partial (some rows failed and are recorded), 1 error, 2 wrong usage, 130 interrupted
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return COMPLETE
    except Exception as error:
        if os.environ.get("POSECAP_TRACEBACK"):
            raise
        print(f"posecap: {error if _ours(error) else f'{type(error).__name__}: {error}'}", file=sys.stderr)
        if not _ours(error):
            print("posecap: set POSECAP_TRACEBACK=1 for the traceback", file=sys.stderr)
        return ERROR


def _ours(error: Exception) -> bool:
    """Errors that were written for people need no type in front of them."""
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
    _add_plan(commands)
    _add_build(commands)
    _add_manifest(commands)
    _add_status(commands)
    _add_verify(commands)
    _add_inspect(commands)
    _add_view(commands)
    _add_forget(commands)
    return parser


Commands = argparse._SubParsersAction  # argparse gives the type no public name


def _command(
    commands: Commands[argparse.ArgumentParser], name: str, run: Callable[[argparse.Namespace], int], *, about: str, more: str = ""
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=about,
        description=f"{about[0].upper()}{about[1:]}.",
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(command=run)
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return number


def _dataset(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=Path, help="dataset directory, as `posecap build` made it")


# --- plan ---------------------------------------------------------------------------------------------------


def _add_plan(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "plan", _plan, about="print what a build would do, and do nothing")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="the dataset's YAML")


def _plan(options: argparse.Namespace) -> int:
    import tempfile

    from rich.console import Console

    from posecap.manifest import read_manifest
    from posecap.plan import make_plan, show, summarise

    manifest = read_manifest(options.manifest)
    with tempfile.TemporaryDirectory(prefix="posecap-plan-") as folder:
        show(summarise(make_plan(manifest, Path(folder) / "plan.parquet")), Console())
    return COMPLETE


# --- build --------------------------------------------------------------------------------------------------


def _add_build(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "build",
        _build,
        about="build the dataset that a manifest describes, or finish building it",
        more=(
            "A build can be stopped at any moment, by Ctrl-C or kill -9: the same command goes on where the last\n"
            "finished part ended. A finished build does nothing. A changed pipeline or manifest is explained."
        ),
    )
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="the dataset's YAML")
    parser.add_argument("--output", type=Path, metavar="DIR", help="dataset directory (default: the manifest's)")
    parser.add_argument("--runner", choices=("ray", "local"), default="ray", help="Ray actors (default) or threads of this process")
    parser.add_argument("--workers", type=_positive, metavar="N", help="computing workers (default: all cores, or all GPUs)")
    parser.add_argument("--address", metavar="ADDRESS", help="of a running Ray cluster, such as auto or ray://head:10001")
    parser.add_argument(
        "--retry-failed",
        nargs="?",
        const="",
        metavar="REASON,…",
        help="also try again what failed before: all that may pass by itself, or what failed for these reasons",
    )
    parser.add_argument("--update", action="store_true", help="rebuild the parts that a changed manifest or pipeline touches")
    parser.add_argument("--row-seconds", type=float, default=3600.0, metavar="S", help="longest time for one row on Ray (default: 3600)")


def _build(options: argparse.Namespace) -> int:
    from rich.console import Console

    from posecap.build import Options, build
    from posecap.report import show

    if options.address and options.runner == "local":
        print("posecap: --address is for --runner ray", file=sys.stderr)
        return USAGE
    retry = None if options.retry_failed is None else tuple(r for r in options.retry_failed.split(",") if r)
    try:
        built = build(
            options.manifest,
            output=options.output,
            options=Options(
                runner=options.runner,
                workers=options.workers,
                address=options.address,
                retry=retry,
                on_change="update" if options.update else "refuse",
                row_seconds=options.row_seconds,
            ),
        )
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept. Go on with the same command:", file=sys.stderr)
        print(f"  posecap {' '.join(sys.argv[1:])}", file=sys.stderr)
        _leave(INTERRUPTED)
    show(built.report, Console())
    print(f"dataset: {built.root}")
    if built.exit_code == PARTIAL:
        print("some rows failed: `posecap status` lists them, `posecap build --retry-failed …` tries them again", file=sys.stderr)
    return built.exit_code


def _leave(code: int) -> NoReturn:
    """End now: worker threads in the middle of a frame would hold up an orderly exit."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# --- manifest -----------------------------------------------------------------------------------------------


def _add_manifest(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("manifest", help="make a manifest from the field's usual inputs")
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    kinetics = _command(kinds, "kinetics", _kinetics, about="a manifest from a Kinetics list (label, youtube_id, time_start, time_end, split)")
    kinetics.add_argument("file", type=Path, help="the list, as CSV")
    kinetics.add_argument("--videos", type=Path, metavar="DIR", help="where the clips lie, under their usual names (default: YouTube)")
    folder = _command(kinds, "folder", _folder, about="a manifest from a folder of videos (sub-folders are labels)")
    folder.add_argument("folder", type=Path)
    for kind in (kinetics, folder):
        kind.add_argument("--output", type=Path, required=True, metavar="FILE.yaml", help="the manifest to write; its table lies beside it")
        kind.add_argument("--pipeline", type=Path, default=Path("pipelines/demo.py"), metavar="FILE", help="default: %(default)s")
        kind.add_argument("--overwrite", action="store_true", help="replace files that are there")


# --- status, verify, inspect --------------------------------------------------------------------------------


def _add_status(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "status", _status, about="how far a build is, and which rows were refused or failed")
    _dataset(parser)
    parser.add_argument("--failed", action="store_true", help="list every failed row")


def _add_verify(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "verify", _verify, about="check every file, sample and count of a dataset")
    _dataset(parser)


def _add_inspect(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "inspect", _inspect, about="print one sample with axes and units")
    _dataset(parser)
    parser.add_argument("key", nargs="?", help="a clip's key, or its beginning (default: the first clip)")


# --- view ---------------------------------------------------------------------------------------------------


def _add_view(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(commands, "view", _view, about="draw the skeletons over a clip, or many clips on one sheet")
    _dataset(parser)
    parser.add_argument("key", nargs="?", help="a clip's key, or its beginning")
    parser.add_argument("--sheet", action="store_true", help="a contact sheet of many clips")
    parser.add_argument("--count", type=_positive, default=24, help="clips on the sheet (default: %(default)s)")
    parser.add_argument("--blank", action="store_true", help="draw on a dark ground, without the people's pictures")
    parser.add_argument("--out", type=Path, metavar="FILE", help=".mp4 or .gif for a clip, .jpg or .png for a sheet")


# --- forget -------------------------------------------------------------------------------------------------


def _add_forget(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = _command(
        commands,
        "forget",
        _forget,
        about="remove clips from shards, columns and index for good, when a person in them asks",
        more="Removed clips stay removed: later builds refuse them, and readers skip them.",
    )
    _dataset(parser)
    parser.add_argument("keys", nargs="*", help="keys of clips")
    parser.add_argument("--source", action="append", default=[], metavar="SHA256", help="every clip of a source video (source_id)")
    parser.add_argument("--reason", default="on request", help="what the tombstone says (default: %(default)s)")
