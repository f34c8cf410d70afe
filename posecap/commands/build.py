"""``posecap build``, and ``posecap plan``, which prints what a build would do."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

from posecap.commands import COMPLETE, INTERRUPTED, PARTIAL, USAGE, Commands, at_least_one, command

_MORE = """\
A build can be stopped at any moment, by Ctrl-C or kill -9: the same command resumes it after the last finished
part. A finished build does nothing. If the pipeline or manifest has changed, the command stops and says what changed.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    about = "build the dataset that a manifest describes, or finish building it"
    parser = command(commands, "build", run, about=about, more=_MORE)
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="the dataset's YAML")
    parser.add_argument("--output", type=Path, metavar="DIR", help="dataset directory (default: the manifest's)")
    parser.add_argument(
        "--runner",
        choices=("ray", "local"),
        default="ray",
        help="Ray actors, or threads of this process (default: %(default)s)",
    )
    parser.add_argument(
        "--workers", type=at_least_one, metavar="N", help="computing workers (default: all cores, or all GPUs)"
    )
    parser.add_argument(
        "--address", metavar="ADDRESS", help="of a running Ray cluster, such as auto or ray://head:10001"
    )
    parser.add_argument(
        "--retry-failed",
        nargs="?",
        const="",
        metavar="REASON,…",
        help="also try again what failed and may pass by itself, or whatever ended for these reasons (not_found …)",
    )
    parser.add_argument(
        "--update", action="store_true", help="rebuild the parts that a changed manifest or pipeline touches"
    )
    parser.add_argument(
        "--row-seconds",
        type=float,
        default=3600.0,
        metavar="S",
        help="longest time for one row on Ray (default: %(default)g)",
    )


def run(options: argparse.Namespace) -> int:
    if options.address and options.runner == "local":
        print("posecap: --address is for --runner ray", file=sys.stderr)
        return USAGE
    from rich.console import Console

    from posecap.build import Options, build
    from posecap.release.report import show

    retry = None if options.retry_failed is None else tuple(r for r in options.retry_failed.split(",") if r)
    chosen = Options(
        runner=options.runner,
        workers=options.workers,
        address=options.address,
        retry=retry,
        on_change="update" if options.update else "refuse",
        row_seconds=options.row_seconds,
    )
    try:
        built = build(options.manifest, output=options.output, options=chosen)
    except KeyboardInterrupt:
        print("\nstopped; what is finished is kept. Go on with the same command:", file=sys.stderr)
        print(f"  posecap {shlex.join(sys.argv[1:])}", file=sys.stderr)
        _exit_now(INTERRUPTED)
    show(built.report, Console())
    print(f"dataset: {_relative_to_here(built.root)}")
    if built.exit_code == PARTIAL:
        print("some rows failed: `posecap status --failed` lists them, `posecap build --retry-failed …` tries again")
    return built.exit_code


def add_plan(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "plan", run_plan, about="print what a build would do, and do nothing")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="the dataset's YAML")


def run_plan(options: argparse.Namespace) -> int:
    import tempfile

    from rich.console import Console

    from posecap.manifest.manifest_file import read_manifest
    from posecap.planning.plan import make_plan
    from posecap.planning.plan_file import PLAN_FILE
    from posecap.planning.summary import show, summarise

    manifest = read_manifest(options.manifest)
    with tempfile.TemporaryDirectory(prefix="posecap-plan-") as folder:
        plan = make_plan(manifest, Path(folder) / PLAN_FILE)
        show(summarise(plan, store_video=manifest.store_video), Console())
    return COMPLETE


def _exit_now(code: int) -> NoReturn:
    """Exit without waiting for worker threads, which may be in the middle of a video."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _relative_to_here(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
