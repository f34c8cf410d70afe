"""Does the memory of a build grow with its rows? Whole builds of more and more rows, each in a fresh process.

    python benchmarks/memory.py [--rows 1000,10000,40000]

Every thousandth row is the same short real clip from a pinned package, the others name files that are missing, so
that planning, scheduling, committing and reporting see every row while the models see few. Prints CPU seconds of
the build's process and of those that it starts and waits for, and peak resident memory of the first alone.
"""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import cpu_seconds, parser_of

ROOT = Path(__file__).resolve().parents[1]
CLIP_EVERY = 1000
CLIP_SECONDS = 0.3
"""So many rows have one real clip, of this length; our choices: most of what grows with rows needs no clip."""
BUILD = """
import sys
from pathlib import Path
from measuring import peak_bytes
from posecap.build import Options, build
build(Path(sys.argv[1]), options=Options(runner="local"))
print(peak_bytes())
"""


def write_manifest(folder: Path, rows: int) -> Path:
    """A manifest of ``rows`` rows in parts of a thousand."""
    with (ROOT / "manifests" / "demo.csv").open(newline="", encoding="utf-8") as file:
        video = next(csv.DictReader(file))["video"]
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "video", "start", "end", "label"])
        for i in range(rows):
            real = i % CLIP_EVERY == 0
            # Times a microsecond apart make different rows of the same footage.
            start = i * 1e-6
            table.writerow([i, video if real else f"missing-{i}.mp4", start, start + CLIP_SECONDS, "balancing"])
    manifest = folder / "manifest.yaml"
    manifest.write_text(
        "name: memory\nversion: 1.0.0\nlicense: BSD-3-Clause\ncontact: https://example.org\n"
        f"pipeline: {ROOT / 'pipelines' / 'default.py'}\noutput: out\ntables: [{{path: rows.csv}}]\n"
    )
    return manifest


def measure(rows: int) -> tuple[float, float]:
    """CPU seconds and peak resident memory (MiB) of one build."""
    with tempfile.TemporaryDirectory() as folder:
        manifest = write_manifest(Path(folder), rows)
        before = cpu_seconds(resource.RUSAGE_CHILDREN)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))}
        command = [sys.executable, "-c", BUILD, str(manifest)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    return cpu_seconds(resource.RUSAGE_CHILDREN) - before, int(done.stdout.split()[-1]) / 2**20


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--rows", default="1000,10000,40000", help="of each build (default: %(default)s)")
    options = parser.parse_args()
    for rows in map(int, options.rows.split(",")):
        seconds, peak = measure(rows)
        print(f"{rows:>8,} rows  {seconds:7.1f} CPU s  {peak:7.0f} MiB peak", flush=True)


if __name__ == "__main__":
    main()
