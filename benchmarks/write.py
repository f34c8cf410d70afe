"""What it costs to write down what workers have made: clips per second, CPU seconds and peak memory of the driver.

    python benchmarks/write.py                               # 2,000 rows with 2 MB of video, on threads and on Ray
    python benchmarks/write.py --rows 20000 --video-mb 0     # what a build adds to each row
    python benchmarks/write.py --rows-per-part 2000          # the driver's memory must not follow
    python benchmarks/write.py --output s3://bucket/folder   # in an object store

Whole builds, each in a fresh process, of a pipeline whose one stage makes a sample from nothing, so that all the time
goes into planning, scheduling, staging, writing, reading back and committing. The driver is the process that builds;
with the runner ``local`` it holds the workers too. Clips per second are those of the report, without the workers'
start; CPU seconds are the driver's, user and system time. A disk that takes 150 MB a second, forced to it, takes 75
such clips a second whoever writes them: ``--folder /dev/shm`` measures without it.

Before workers wrote staging files (0.1.0, commit 59add3f) every sample passed through the driver, which held whole
parts: 2,000 rows with 2 MB in parts of 1,000 rows took 8.6 GB in the driver, and 66 clips a second at the beginning of
the build had become 7.6 at its end.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import SUPPRESS, Namespace
from pathlib import Path

from measuring import cpu_seconds, parser_of, peak_bytes

from posecap.storage import open_storage

PIPELINE = """
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from posecap.files import digest
from posecap.pipeline import Pipeline
from posecap.stage import Resources, Stage
from posecap.types import Caption, Row, Sample

FRAMES = 48


@dataclass(frozen=True)
class Make(Stage):
    name: ClassVar[str] = "make"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Sample

    video_bytes: int = 0

    def load(self) -> None:
        self.__dict__["noise"] = np.random.default_rng(0).bytes(self.video_bytes)

    def __call__(self, item: Row) -> Iterator[Sample]:
        rng = np.random.default_rng(int(item.row_id))
        joints, video, text = (rng.random(shape, np.float32) for shape in ((1, FRAMES, 17, 3), 1280, (1, 384)))
        key, end = digest(item.row_id)[:24], FRAMES / 25
        facts = {
            "clip_id": key, "row_id": item.row_id, "uri": item.uri, "source_id": digest(item.uri),
            "start_seconds": 0.0, "end_seconds": end, "pts_span": [0.0, end - 0.04], "video_span": [0.0, end],
            "fps": 25.0, "width": 640, "height": 360, "codec": "h264", "frames": FRAMES, "people": 1, "joints": 17,
            "layout": "coco17", "label": item.label, "split": item.split, "license": "CC0-1.0", "source": "made up",
            "quality": {
                "coverage": 1.0, "mean_score": 0.5, "zero_pose_share": 0.0, "jitter": 0.01, "bone_jump_share": 0.0,
                "identity_switches": 0, "motion": 0.3,
            },
            "models": {"decoder": "none"},
        }
        mp4 = key.encode() + self.__dict__["noise"] if self.video_bytes else None
        yield Sample(
            key=key, joints_MTJ3=joints, pts_T=np.arange(FRAMES) / 25, video_D=video, text_CD=text,
            captions=(Caption("Somebody walks by.", "row"),), facts=facts, video_mp4=mp4,
        )


pipeline = Pipeline(stages=(Make(video_bytes=VIDEO_BYTES),))
"""


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--video-mb", type=float, default=2.0, help="of each row, 10^6 bytes (default: %(default)s)")
    parser.add_argument("--rows-per-part", type=int, default=1000)
    parser.add_argument("--runners", default="local,ray", help="(default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="for the datasets (default: a temporary one)")
    parser.add_argument("--output", metavar="ADDRESS", help="of an object store to write to instead")
    parser.add_argument("--build", nargs=2, metavar=("MANIFEST", "RUNNER"), help=SUPPRESS)
    options = parser.parse_args()
    if options.build:
        print(json.dumps(build_one(Path(options.build[0]), options.build[1], options)))
        return
    size = f"{options.video_mb:g} MB" if options.video_mb else "no"
    print(f"{options.rows:,} rows with {size} video, {options.rows_per_part:,} in a part, {options.workers} workers")
    for runner in options.runners.split(","):
        with tempfile.TemporaryDirectory(prefix="posecap-write-", dir=options.folder) as name:
            manifest = write_manifest(Path(name), options)
            command = [sys.executable, __file__, "--workers", str(options.workers), "--build", str(manifest), runner]
            output = f"{options.output.rstrip('/')}/{Path(name).name}" if options.output else None
            command += ["--output", output] if output else []
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "CI": "1"}, check=True)
            if output:
                open_storage(output).remove_folder("")
        found = json.loads(done.stdout.splitlines()[-1])
        print(
            f"{runner:<6} {found['rate']:8,.1f} clips/s  {found['seconds']:7.1f} s  "
            f"driver {found['cpu']:7.1f} CPU s, {found['peak'] / 1e6:7,.0f} MB at its peak",
            flush=True,
        )


def write_manifest(folder: Path, options: Namespace) -> Path:
    """A manifest of so many rows, with the pipeline that makes their samples."""
    rows, video = options.rows, round(options.video_mb * 1e6)
    (folder / "rows.csv").write_text(
        "id,video,label\n" + "".join(f"{n},made-up-{n}.mp4,label {n % 10}\n" for n in range(rows))
    )
    (folder / "pipeline.py").write_text(PIPELINE.replace("VIDEO_BYTES", str(video)))
    (folder / "manifest.yaml").write_text(
        "name: write\nversion: 1.0.0\nlicense: CC0-1.0\ncontact: https://example.org/contact\n"
        "pipeline: pipeline.py\noutput: dataset\ntables: [{path: rows.csv}]\n"
        f"rows_per_part: {options.rows_per_part}\nstore_video: {'clip' if video else 'none'}\n"
    )
    return folder / "manifest.yaml"


def build_one(manifest: Path, runner: str, options: Namespace) -> dict[str, float]:
    """Build in this process; clips per second and seconds without start, and this process' CPU seconds and memory."""
    from posecap.build import Options, build

    chosen = Options(runner=runner, workers=options.workers)  # type: ignore[arg-type]
    built = build(manifest, output=options.output, options=chosen, log=lambda line: None)
    rates = built.report["rates"]
    seconds = rates["wall_seconds"] - rates["start_seconds"]
    return {"rate": rates["clips_per_second"], "seconds": seconds, "cpu": cpu_seconds(), "peak": peak_bytes()}


if __name__ == "__main__":
    main()
