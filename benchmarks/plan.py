"""Seconds and peak memory of planning large manifests.

Writes a CSV with splits, spans, labels, licenses and 1 % repeated rows into a temporary folder, then plans and
summarises it in a fresh process, once for each size. Run from the repository's root::

    python benchmarks/plan.py            # 100,000 and 1,000,000 rows
    python benchmarks/plan.py --two-million
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import SUPPRESS
from pathlib import Path
from time import perf_counter

from measuring import cpu_seconds, parser_of, peak_bytes

MANIFEST = """\
name: many-rows
version: 1.0.0
license: CC-BY-4.0
contact: https://example.org/contact
pipeline: unused.py
output: dataset
media_root: https://videos.example.org
tables:
  - path: rows.csv
rows_per_part: 1000
"""


def write_rows(path: Path, count: int) -> None:
    """A table whose every hundredth row repeats the row before it; one row in twenty is for validation."""
    with path.open("w", encoding="utf-8") as file:
        file.write("video,start,end,label,split,license\n")
        for row in range(count):
            number = row - 1 if row % 100 == 99 else row
            start = number % 600 / 2
            split = "val" if number % 20 == 0 else "train"
            video = f"{number % 997:03d}/clip-{number:08d}.mp4"
            file.write(f"{video},{start},{start + 10},action {number % 400},{split},CC-BY-4.0\n")


def measure(folder: Path) -> dict[str, float]:
    """Plan the manifest in ``folder``; for a process of its own, whose peak memory is then this work's."""
    from posecap.manifest.manifest_file import read_manifest
    from posecap.plan import make_plan
    from posecap.plan_check import summarise

    imported, since, cpu = peak_bytes(), perf_counter(), cpu_seconds()
    plan = make_plan(read_manifest(folder / "manifest.yaml"), folder / "plan.parquet")
    planned = perf_counter()
    summary = summarise(plan)
    return {
        "rows": summary.rows,
        "duplicates": summary.duplicates,
        "parts": summary.parts,
        "plan_seconds": planned - since,
        "summary_seconds": perf_counter() - planned,
        "cpu_seconds": cpu_seconds() - cpu,
        "imports_mb": imported / 1e6,
        "peak_mb": peak_bytes() / 1e6,
        "plan_file_mb": plan.path.stat().st_size / 1e6,
    }


def run(count: int) -> dict[str, float]:
    """What :func:`measure` gives for a table of ``count`` rows, in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="posecap-plan-") as name:
        folder = Path(name)
        (folder / "manifest.yaml").write_text(MANIFEST, encoding="utf-8")
        write_rows(folder / "rows.csv", count)
        command = [sys.executable, __file__, "--measure", name]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found: dict[str, float] = json.loads(done.stdout)
        return found


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--two-million", action="store_true", help="2,000,000 rows as well")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help=SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(measure(options.measure)))
        return
    print("     rows  duplicates  parts  plan s  summary s  cpu s  imports MB  peak MB  plan file MB")
    for count in (100_000, 1_000_000, *((2_000_000,) if options.two_million else ())):
        m = run(count)
        sizes = f"{m['rows']:9,} {m['duplicates']:11,} {m['parts']:6,}"
        times = f"{m['plan_seconds']:7.2f} {m['summary_seconds']:10.2f} {m['cpu_seconds']:6.2f}"
        print(f"{sizes} {times} {m['imports_mb']:11.0f} {m['peak_mb']:8.0f} {m['plan_file_mb']:13.1f}")


if __name__ == "__main__":
    main()
