"""What ``run`` and ``resume`` have in common: the processes that a Ray cluster starts."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tmor_train.training.ray_team import RayTeam


def add_ray(parser: argparse.ArgumentParser) -> None:
    """The flags that hand pre-training to Ray Train."""
    ray = parser.add_argument_group("Ray", "Pre-train on a cluster; the run's folder lies on storage all nodes share.")
    ray.add_argument("--ray", metavar="ADDRESS", help="of the cluster; auto: that of this machine, local: a new one")
    ray.add_argument("--workers", type=int, default=1, metavar="N", help="processes, a GPU each (default: %(default)s)")
    ray.add_argument("--cpus", type=int, default=1, metavar="N", help="of each process (default: %(default)s)")


def ray_team(options: argparse.Namespace) -> RayTeam | None:
    """The processes that were asked for; None to stay in this one."""
    if options.ray is None:
        return None
    from tmor_train.training.ray_team import RayTeam

    return RayTeam(address=options.ray, workers=options.workers, cpus=options.cpus)
