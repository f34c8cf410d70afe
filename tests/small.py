"""Whole builds small enough for tests: real people, real models, half a second at a time.

small.manifest(folder, rows)                writes rows.csv, pipeline.py and manifest.yaml; returns the manifest's path
small.build(manifest)                       builds it with one thread of this process
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from posecap.build import BuildResult, Options
from posecap.build import build as build_dataset
from posecap.storage import Location, open_storage
from tests import ROOT

DEFAULT = ROOT / "pipelines" / "default.py"
COLUMNS = ("id", "video", "start", "end", "label", "captions", "split", "license")
KEPT = {
    "id": "kept",
    "video": "people.mp4",
    "start": 0,
    "end": 0.5,
    "label": "balancing",
    "captions": "A man balances.",
}
MISSING = {"id": "missing", "video": "nowhere.mp4", "label": "gone"}
SILENT = {"id": "silent", "video": "http://127.0.0.1:1/late.mp4", "label": "late"}
MODELS = (
    "movenet-multipose-lightning",
    "efficientnet-lite0-imagenet",
    "minilm-l6-v2-int8",
    "minilm-l6-v2-tokenizer",
)

PIPELINE = f"""\
from dataclasses import replace
from pathlib import Path

from posecap.engines.http import Http
from posecap.engines.movenet import MoveNet
from posecap.download.retry import RetryPolicy
from posecap.pipeline import load_pipeline

default = load_pipeline(Path({str(DEFAULT)!r}))
stage = {{s.name: s for s in default.stages}}
http_once = Http(retry_policy=RetryPolicy(attempts=1))
smaller = {{
    "download": {{"fetchers": tuple(http_once if isinstance(f, Http) else f for f in stage["download"].fetchers)}},
    "split": {{"threshold": 20.0, "shortest_seconds": 0.3}},
    "decode": {{"long_side": 256, "fps_at_most": 30.0}},
    "track": {{"detector": MoveNet(imgsz=192, conf=0.15)}},
    "filter_people": {{"fewest_frames": 4, "shortest_seconds": 0.3, "motion": LEAST_MOTION}},
    "embed": {{"video": replace(stage["embed"].video, frames=2)}},
}}
pipeline = replace(default, stages=tuple(replace(s, **smaller.get(s.name, {{}})) for s in default.stages))
"""


def pictures(path: Path, *, first: int = 0, count: int = 15, every: int = 2, long_side: int = 320) -> list[np.ndarray]:
    """``count`` frames (H, W, 3) of a video, shrunk to ``long_side``: each ``every``-th from number ``first`` on."""
    found = []
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number >= first and (number - first) % every == 0:
                scale = long_side / max(frame.width, frame.height)
                width, height = (round(side * scale / 2) * 2 for side in (frame.width, frame.height))
                found.append(frame.reformat(width, height, format="rgb24").to_ndarray())
                if len(found) == count:
                    break
    return found


def film(path: Path, frames: Sequence[np.ndarray], *, fps: int = 30) -> Path:
    """Write frames of one size as H.264, one thread, so that the same frames give the same file."""
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "16"})
        stream.width, stream.height, stream.pix_fmt, stream.thread_count = width, height, "yuv420p", 1
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def manifest(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    rows_per_part: int = 2,
    store_video: str = "none",
    media_root: Path | str = ".",
    motion: float = 0.0,
) -> Path:
    """A manifest in ``folder`` with its table and pipeline; its dataset is ``folder/dataset``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, restval="")
        writer.writeheader()
        writer.writerows(rows)
    (folder / "pipeline.py").write_text(PIPELINE.replace("LEAST_MOTION", repr(motion)), encoding="utf-8")
    path = folder / "manifest.yaml"
    path.write_text(
        "name: small\nversion: 1.0.0\nlicense: BSD-3-Clause\ncontact: https://example.org/contact\n"
        f"pipeline: pipeline.py\noutput: dataset\nmedia_root: {media_root}\ntables:\n  - path: rows.csv\n"
        f"rows_per_part: {rows_per_part}\nstore_video: {store_video}\n",
        encoding="utf-8",
    )
    return path


def build(path: Path, *, output: str | Path | None = None, **options: Any) -> BuildResult:
    """Build a manifest with one thread of this process; ``options`` are those of a build."""
    chosen = Options(**{"runner": "local", "workers": 1, **options})
    return build_dataset(path, output=output, options=chosen, log=lambda line: None)


def published(location: Location) -> dict[str, bytes]:
    """The files of a dataset that must be the same on every machine, with their bytes."""
    storage = open_storage(location)
    names = [file.name for top in ("data", "index") for file in storage.list(top)]
    return {name: storage.read(name, limit=1 << 30) for name in (*names, "plan.parquet", "dataset.json")}
