"""Cheap stages for benchmarks/cluster.py, and the faults of the node on which they run; workers import them."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
from measuring import made_sample

from posecap.files import scratch_folder
from posecap.stage import PermanentError, Reject, Resources, Stage
from posecap.types import Row, Sample, Video

FAULTS = "POSECAP_FAULTS"
"""Names the folder with a file for each faulty node, named by its Ray id, and with the list of runs."""
ROW_SECONDS = "POSECAP_ROW_SECONDS"
"""Names how long a row takes; none where it is not set."""
RUNS_FILE = "runs"
"""In that folder, a line for each row that was begun: time, node and row."""


def node_id() -> str:
    """Of the Ray node on which a worker runs; empty in a thread of a local build."""
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().get_node_id()) if ray and ray.is_initialized() else ""


def fault_here(*kinds: str) -> str | None:
    """What the node on which a worker runs suffers from, if it is among ``kinds``; else None, as in a local build."""
    folder, node = os.environ.get(FAULTS), node_id()
    if not folder or not node:
        return None
    try:
        kind = (Path(folder) / node).read_text()
    except FileNotFoundError:
        return None
    return kind if kind in kinds else None


@dataclass(frozen=True)
class Fetch(Stage):
    """A temporary file for each row, which only this node has."""

    name: ClassVar[str] = "download"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Video
    resources = Resources(cpus=0)

    def __call__(self, item: Row) -> Iterator[Video]:
        if fault_here("no_mount"):
            raise Reject("not_found", f"{item.uri} cannot be opened", machine_dependent=True)
        path = scratch_folder() / f"{item.row_id}-{time.monotonic_ns()}.mp4"
        path.write_text(node_id())
        yield Video(row=item, path=path, source_id=source_of(item), size_bytes=1, keeping="temporary")


@dataclass(frozen=True)
class Work(Stage):
    """Takes a fixed time and gives a sample that depends on the row alone, unless its label or the node forbid it."""

    name: ClassVar[str] = "pack"
    takes: ClassVar[type] = Video
    gives: ClassVar[type] = Sample

    def __call__(self, item: Video) -> Iterator[Sample]:
        if item.path.read_text() != node_id():
            # A row's stages must stay on the node that holds its temporary file; the comparison finds this error.
            raise PermanentError("misplaced", "the file is on another node")
        folder = os.environ.get(FAULTS)
        if folder:
            with (Path(folder) / RUNS_FILE).open("a") as runs:
                runs.write(f"{time.time():.2f} {node_id()} {item.row.row_id}\n")
        kind = fault_here("disk_full", "exits", "interrupt")
        if kind == "disk_full":
            raise OSError(errno.ENOSPC, "No space left on device")
        if kind == "exits":
            os._exit(1)
        if kind == "interrupt":
            (Path(folder or "") / node_id()).unlink(missing_ok=True)
            raise KeyboardInterrupt
        time.sleep(float(os.environ.get(ROW_SECONDS, "0")))
        if item.row.label == "broken":
            raise PermanentError("broken", "as its label says")
        if item.row.label == "empty":
            raise Reject("no_person_found", "as its label says")
        yield sample_of(item.row)


def sample_of(row: Row) -> Sample:
    """The same for the same row, wherever it runs."""
    number = int(sha256(row.row_id.encode()).hexdigest()[:12], 16)
    joints = np.random.default_rng(number).random((1, 20, 17, 3), dtype=np.float32)
    video, text = np.eye(1, 1280, dtype=np.float32)[0], np.eye(1, 384, dtype=np.float32)
    made = made_sample(number, joints, video_D=video, text_CD=text, caption="somebody walks")
    facts = {**made.facts, "row_id": row.row_id, "uri": row.uri, "source_id": source_of(row)}
    return Sample(**{**{f.name: getattr(made, f.name) for f in fields(made)}, "facts": facts})


def source_of(row: Row) -> str:
    """In place of the SHA-256 of a video's bytes."""
    return sha256(row.row_id.encode()).hexdigest()
