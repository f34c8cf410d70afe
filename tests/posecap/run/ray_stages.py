"""Stages that misbehave on demand, in a module that Ray's workers can import."""

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

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

    ``dies`` and ``dies once`` end the process, ``sleeps`` lasts an hour.
    ``meets 1 2`` waits until the stage runs on the rows 1 and 2 too, and gives nothing if it does not in 20 seconds.
    """

    name: ClassVar[str] = "pack"
    takes: ClassVar[type] = Video
    gives: ClassVar[type] = Sample

    samples: tuple[Sample, ...] = ()

    def __call__(self, item: Video) -> Iterator[Sample]:
        if item.row.label == "dies":
            os._exit(1)
        if item.row.label == "dies once":
            mark = item.path.with_suffix(".died")
            if not mark.exists():
                mark.touch()
                os._exit(1)
        if item.row.label == "sleeps":
            time.sleep(3600)
        if (item.row.label or "").startswith("meets"):
            item.path.with_suffix(".here").touch()
            others = [item.path.with_name(f"{i}.here") for i in (item.row.label or "").split()[1:]]
            until = time.monotonic() + 20
            while not all(other.exists() for other in others) and time.monotonic() < until:
                time.sleep(0.01)
            if time.monotonic() >= until:
                return
        yield self.samples[0]


@dataclass(frozen=True)
class Unready(Finish):
    def load(self) -> None:
        raise RuntimeError("weights are missing: fetch them")
