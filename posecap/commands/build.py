"""``posecap plan`` and ``posecap build``, and ``posecap manifest``, which makes a manifest from what people have."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from posecap.commands import COMPLETE, INTERRUPTED, PARTIAL, USAGE, Commands, at_least_one, command

if TYPE_CHECKING:
    from posecap.manifest.importers import Imported

_MORE = """\
A build can be stopped at any moment, by Ctrl-C or kill -9: the same command resumes it after the last finished
part. A finished build does nothing. If the pipeline or manifest has changed, the command stops and says what changed.
"""


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add ``plan``, ``build`` and ``manifest``."""
    _add_plan(commands)
    _add_build(commands)
    _add_manifest(commands)


def _add_plan(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "plan", _plan, about="print what a build would do, and do nothing")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="the dataset's YAML")


def _add_build(commands: Commands[argparse.ArgumentParser]) -> None:
    about = "build the dataset that a manifest describes, or finish building it"
    parser = command(commands, "build", _build, about=about, more=_MORE)
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


def _add_manifest(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("manifest", help="make a manifest from the field's usual inputs")
    kinds = parser.add_subparsers(metavar="KIND", required=True)
    about = "a manifest from a Kinetics list (label, youtube_id, time_start, time_end, split)"
    kinetics = command(kinds, "kinetics", _kinetics, about=about)
    kinetics.add_argument("file", type=Path, metavar="FILE.csv", help="the list")
    kinetics.add_argument(
        "--videos", type=Path, metavar="DIR", help="where the clips lie, under their usual names (default: YouTube)"
    )
    folder = command(kinds, "folder", _folder, about="a manifest from a folder of videos; sub-folders are labels")
    folder.add_argument("folder", type=Path, metavar="DIR")
    for kind in (kinetics, folder):
        kind.add_argument(
            "--output",
            type=Path,
            metavar="FILE.yaml",
            help="the manifest to write, its table beside it (default: named after the input)",
        )
        kind.add_argument(
            "--pipeline", type=Path, default=Path("pipelines/demo.py"), metavar="FILE", help="default: %(default)s"
        )
        kind.add_argument("--overwrite", action="store_true", help="replace files that are there")


def _build(options: argparse.Namespace) -> int:
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


def _plan(options: argparse.Namespace) -> int:
    import tempfile

    from rich.console import Console

    from posecap.manifest.manifest_file import read_manifest
    from posecap.plan import PLAN_FILE, make_plan
    from posecap.plan_summary import show, summarise

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


def _kinetics(options: argparse.Namespace) -> int:
    from posecap.manifest.importers import from_kinetics

    return _show_imported(
        from_kinetics(
            options.file,
            options.output or Path(f"{options.file.stem}.yaml"),
            pipeline=options.pipeline,
            videos=options.videos,
            overwrite="yes" if options.overwrite else "no",
        )
    )


def _folder(options: argparse.Namespace) -> int:
    from posecap.manifest.importers import from_folder

    return _show_imported(
        from_folder(
            options.folder,
            options.output or Path(f"{options.folder.resolve().name}.yaml"),
            pipeline=options.pipeline,
            overwrite="yes" if options.overwrite else "no",
        )
    )


def _show_imported(made: Imported) -> int:
    splits = ", ".join(f"{count:,} {split}" for split, count in sorted(made.rows_by_split.items()))
    print(f"{made.table}: {made.rows:,} rows ({splits}), {made.labels:,} labels")
    if made.missing or made.unusable:
        print(f"left out: {made.missing:,} missing, {made.unusable:,} unusable, such as {', '.join(made.examples)}")
    print(f"{made.manifest}: fill in {' and '.join(made.to_fill)}, then")
    print(f"  posecap plan --manifest {made.manifest}")
    return COMPLETE
