"""Stages that misbehave on demand, in a module that Ray's workers can import."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import ray

from posecap.stage import Resources, Stage
from posecap.types import Row, Sample, Video


@dataclass(frozen=True)
class Fetch(Stage):
    """Every row's video is an empty file of the given folder."""

    name: ClassVar[str] = "download"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Video
    resources = Resources(cpus=0)

    folder: str = ""

    def __call__(self, item: Row) -> Iterator[Video]:
        path = Path(self.folder) / item.uri
        path.touch()
        yield Video(row=item, path=path, source_id="0" * 64, size_bytes=0)


@dataclass(frozen=True)
class Finish(Stage):
    """Gives a sample after doing what the row's label says.

    ``dies`` and ``dies once`` end the process, ``interrupted once`` interrupts it, ``sleeps`` lasts an hour and
    ``slow`` a second. On a node whose Ray id has a file ``ID.sick`` beside the videos nothing works.
    ``meets 1 2`` waits until the stage runs on the rows 1 and 2 too, and gives nothing if it does not in 20 seconds.
    """

    name: ClassVar[str] = "pack"
    takes: ClassVar[type] = Video
    gives: ClassVar[type] = Sample

    samples: tuple[Sample, ...] = ()

    def __call__(self, item: Video) -> Iterator[Sample]:
        here, (what, *words) = item.path, (item.row.label or "fine").split()
        if here.with_name(f"{ray.get_runtime_context().get_node_id()}.sick").exists():
            raise OSError("no space left on device")
        if words == ["once"]:
            what = what if not here.with_suffix(".begun").exists() else "fine"
            here.with_suffix(".begun").touch()
        if what == "dies":
            os._exit(1)
        if what == "interrupted":
            raise KeyboardInterrupt
        if what in ("slow", "sleeps"):
            time.sleep({"slow": 1, "sleeps": 3600}[what])
        if what == "meets" and not self._meet(here, words):
            return
        yield self.samples[0]

    def _meet(self, here: Path, others: list[str]) -> bool:
        here.with_suffix(".here").touch()
        until = time.monotonic() + 20
        while not all(here.with_name(f"{other}.here").exists() for other in others) and time.monotonic() < until:
            time.sleep(0.01)
        return time.monotonic() < until


@dataclass(frozen=True)
class Unready(Finish):
    def load(self) -> None:
        raise RuntimeError("weights are missing: fetch them")


@dataclass(frozen=True)
class DiesLoading(Finish):
    def load(self) -> None:
        os._exit(1)
