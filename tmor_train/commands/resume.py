"""``tmor_train resume``: go on where a run stopped."""

from __future__ import annotations

import argparse
from pathlib import Path

from tmor_train.commands import COMPLETE, Commands, command
from tmor_train.commands.on_ray import add_ray, ray_team
from tmor_train.commands.told import told


def add(commands: Commands[argparse.ArgumentParser]) -> None:
    parser = command(commands, "resume", run, about="go on with a run where it was stopped")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the run's folder")
    add_ray(parser)


def run(options: argparse.Namespace) -> int:
    from tmor_train.kinds import resume

    if (team := ray_team(options)) is not None:
        from tmor_train.training.ray_team import resume_on_ray

        told(resume_on_ray(options.folder, team))
    else:
        told(resume(options.folder))
    return COMPLETE
