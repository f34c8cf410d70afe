"""``posecap manifest``: a manifest from what people already have."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from posecap.commands import COMPLETE, Commands, command

if TYPE_CHECKING:
    from posecap.manifest.importers import Imported


def add(commands: Commands[argparse.ArgumentParser]) -> None:
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


def _kinetics(options: argparse.Namespace) -> int:
    from posecap.manifest.importers import from_kinetics

    return _tell(
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

    return _tell(
        from_folder(
            options.folder,
            options.output or Path(f"{options.folder.resolve().name}.yaml"),
            pipeline=options.pipeline,
            overwrite="yes" if options.overwrite else "no",
        )
    )


def _tell(made: Imported) -> int:
    splits = ", ".join(f"{count:,} {split}" for split, count in sorted(made.rows_by_split.items()))
    print(f"{made.table}: {made.rows:,} rows ({splits}), {made.labels:,} labels")
    if made.missing or made.unusable:
        print(f"left out: {made.missing:,} missing, {made.unusable:,} unusable, such as {', '.join(made.examples)}")
    print(f"{made.manifest}: fill in {' and '.join(made.to_fill)}, then")
    print(f"  posecap plan --manifest {made.manifest}")
    return COMPLETE
