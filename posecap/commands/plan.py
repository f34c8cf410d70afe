"""``posecap plan``: what a build would do."""

from __future__ import annotations

import argparse
from pathlib import Path

from posecap.commands import COMPLETE, Commands, command


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "plan", run, about="print what a build would do, and do nothing")
    parser.add_argument("--manifest", type=Path, required=True, metavar="FILE", help="the dataset's YAML")


def run(options: argparse.Namespace) -> int:
    import tempfile

    from rich.console import Console

    from posecap.manifest.manifest_file import read_manifest
    from posecap.planning.plan import make_plan, show, summarise
    from posecap.planning.plan_file import PLAN_FILE

    manifest = read_manifest(options.manifest)
    with tempfile.TemporaryDirectory(prefix="posecap-plan-") as folder:
        plan = make_plan(manifest, Path(folder) / PLAN_FILE)
        show(summarise(plan, store_video=manifest.store_video), Console())
    return COMPLETE
