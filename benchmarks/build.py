"""The share of the pose model in a build: its time alone on the same frames, compared with the whole build's.

    python benchmarks/build.py [--manifest manifests/demo.yaml] [--repeats 3] [--runners local,ray]

Efficiency is the bare model's core-seconds ÷ (wall seconds of the build × cores). Bare means: frames decoded
beforehand, engines loaded, nothing but the pose model on every core at once, clip by clip, as it is in the build; its
core-seconds are those in which it is at work, so that a core that waits for the last clip of another does not count. A
build is a fresh process, from its start to its end, with footage and weights in the cache. Bare runs and builds
alternate, so a machine whose speed drifts is the same for both; medians are printed. Of each build the seconds
beyond the start, which ends when its workers are ready, are printed too.
"""

from __future__ import annotations

import copy
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from measuring import cpu_seconds, parser_of, threaded_seconds

from posecap.interfaces import Detector
from posecap.manifest.manifest_file import read_manifest
from posecap.pipeline import Pipeline, load_pipeline
from posecap.plan import make_plan
from posecap.run.local import cores
from posecap.stages.pose import Track
from posecap.terminal import ALARM, COMPLETE, PARTIAL
from posecap.types import Clip, Pixels

_WARM_UP = 8
"""Frames of each size that are seen before the clock starts: networks are built with the first frame of their size."""


def decoded(pipeline: Pipeline, manifest_path: Path) -> list[Pixels]:
    """The frames of every clip, as the detector is given them."""
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(read_manifest(manifest_path), Path(folder) / "plan.parquet")
        items: list[Any] = [planned.row for part in plan.parts() for planned in plan.rows(part)]
    for stage in pipeline.stages:
        if issubclass(stage.takes, Clip):
            break
        items = [made for item in items for made in stage(item)]
    return [clip.frames_THW3 for clip in items if isinstance(clip, Clip)]


def bare_seconds(pipeline: Pipeline, clips: list[Pixels], workers: int) -> float:
    """Core-seconds of the pose model alone over all clips ÷ ``workers``, with as many threads at once."""
    model = next(stage.detector for stage in pipeline.stages if isinstance(stage, Track))
    busy: list[float] = []

    def detecting(one: Detector) -> Callable[[Pixels], None]:
        def detect(clip: Pixels) -> None:
            since = time.perf_counter()
            one.detect(clip)
            busy.append(time.perf_counter() - since)

        return detect

    models = [copy.deepcopy(model) for _ in range(workers)]
    for one in models:
        for clip in {clip.shape[1:]: clip for clip in clips}.values():
            one.detect(clip[:_WARM_UP])
    threaded_seconds(clips, [detecting(one) for one in models])
    return sum(busy) / workers


def build_seconds(manifest: Path, runner: str) -> tuple[float, float, float]:
    """(wall seconds of one whole build, of those the seconds until its workers were ready, CPU seconds)."""
    output = Path(tempfile.mkdtemp(prefix="posecap-bench-"))
    command = [sys.executable, "-m", "posecap", "build", "--manifest", str(manifest)]
    command += ["--output", str(output), "--runner", runner]
    before = cpu_seconds(resource.RUSAGE_CHILDREN)
    since = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - since
    used = cpu_seconds(resource.RUSAGE_CHILDREN) - before
    if done.returncode not in (COMPLETE, PARTIAL, ALARM):
        raise SystemExit(f"the build failed:\n{done.stderr}")
    start = json.loads((output / "report.json").read_text())["rates"]["start_seconds"]
    shutil.rmtree(output)
    return seconds, float(start), used


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--manifest", type=Path, default=Path("manifests/demo.yaml"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--runners", default="local,ray")
    options = parser.parse_args()
    pipeline = load_pipeline(read_manifest(options.manifest).pipeline)
    clips = decoded(pipeline, options.manifest)
    frames, workers = sum(len(clip) for clip in clips), cores()
    bare: list[float] = []
    builds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in options.runners.split(",")}
    for _ in range(options.repeats):
        bare.append(bare_seconds(pipeline, clips, workers))
        for runner, found in builds.items():
            found.append(build_seconds(options.manifest, runner))
    model = median(bare)
    print(f"{frames} frames, {workers} cores, medians of {options.repeats}")
    print(f"bare pose model  {model:6.1f} s  {frames / model:6.1f} frames/s")
    for runner, found in builds.items():
        seconds = median(wall for wall, _, _ in found)
        work = median(wall - start for wall, start, _ in found)
        used = median(cpu for _, _, cpu in found)
        print(
            f"{runner:<6} build     {seconds:6.1f} s  {frames / seconds:6.1f} frames/s"
            f"  efficiency {model / seconds:.2f}"
            f"  ({work:.1f} s beyond start: {model / work:.2f}; {used:.0f} CPU s of its own process tree)"
        )
    if {"local", "ray"} <= builds.keys():
        beyond = median(wall - start for wall, start, _ in builds["ray"])
        print(f"ray beyond its start ÷ local: {beyond / median(wall for wall, _, _ in builds['local']):.2f}")


if __name__ == "__main__":
    main()
