"""What the end of a build costs: CPU seconds and peak memory of finishing a dataset, of a build with nothing to do, of
``posecap status``, and of the index of a million clips.

    python benchmarks/finish.py                                        # 1,000 parts of 100 clips
    python benchmarks/finish.py --parts 200 --clips 1000 --index-clips 0
    python benchmarks/finish.py --folder /tmp/many --keep              # measure the dataset that is there

Writes a dataset of made-up clips (1 person, 4 frames, short vectors) with the plan, sidecars and rejected rows that
a build would have left just before its end, then runs each command in a process of its own. The dataset of
``--index-clips`` has indexes and sidecars and no shards. CPU seconds are user and system time of that process, which
other programs on the machine change little; a process that has only imported what it needs counts as well.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from argparse import SUPPRESS
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from measuring import cpu_seconds, made_sample, parser_of, peak_bytes

import posecap
from posecap.build import part_fingerprints
from posecap.cli import main as posecap_main
from posecap.manifest.manifest_file import read_manifest
from posecap.outcomes import ClipOutcome, RowOutcome, tally
from posecap.pipeline import load_pipeline
from posecap.plan import PLAN_FILE, PlannedPart, PlannedRow, make_plan
from posecap.shards import INDEX_SCHEMA, write_part
from posecap.shards.paths import index_path, sidecar_path
from posecap.stages.pack import Pack
from posecap.types import PartName, Sample

MANIFEST = """\
name: many-parts
version: 1.0.0
license: CC0-1.0
contact: https://example.org/contact
pipeline: default
output: dataset
media_root: https://videos.example.org
tables:
  - path: rows.csv
rows_per_part: {rows}
"""
REJECTED_IN = 10
"""After so many kept rows comes a rejected one."""
CLIPS_PER_INDEX = 1000
"""Of the large index."""
# Of the rejected rows, in turn.
REASONS = ("no_person_found", "not_found", "too_short")


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--parts", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=100, help="in each part (default: %(default)s)")
    parser.add_argument("--index-clips", type=int, default=1_000_000, help="0 leaves it out (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="for the datasets (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="use a dataset that is in the folder already")
    parser.add_argument("--measure", nargs=2, metavar=("WHAT", "FOLDER"), help=SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, folder = options.measure
        print(json.dumps(measured(STEPS[what], Path(folder))))
        return
    with tempfile.TemporaryDirectory(prefix="posecap-finish-") as name:
        folder = options.folder or Path(name)
        if not (options.keep and (folder / "dataset").is_dir()):
            since, cpu = perf_counter(), cpu_seconds()
            make_dataset(folder, parts=options.parts, clips=options.clips)
            show("made", perf_counter() - since, cpu_seconds() - cpu, peak_bytes() / 1e6)
        steps = ["import", "finish", "nothing to do", "status", "status, open", "index"]
        if options.index_clips:
            if not (folder / "index_only").is_dir():
                make_index(folder / "index_only", clips=options.index_clips)
            steps += ["large index"]
        print(f"{options.parts:,} parts, {options.parts * options.clips:,} clips")
        for what in steps:
            command = [sys.executable, __file__, "--measure", what, str(folder)]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{what} failed:\n{done.stdout}{done.stderr}")
            show(what, **json.loads(done.stdout))


def show(what: str, wall: float, cpu: float, peak_mb: float, note: str = "") -> None:
    print(f"{what:<14} {wall:7.2f} s  {cpu:7.2f} CPU s  {peak_mb:6.0f} MB  {note}", flush=True)


def measured(step: Callable[[Path], str], folder: Path) -> dict[str, Any]:
    """Wall seconds of the step, and CPU seconds and peak memory of this process, imports included."""
    since, cpu = perf_counter(), 0.0
    with redirect_stdout(sys.stderr):
        note = step(folder)
    return {
        "wall": perf_counter() - since,
        "cpu": cpu_seconds() - cpu,
        "peak_mb": peak_bytes() / 1e6,
        "note": note,
    }


def finish(folder: Path) -> str:
    (folder / "dataset" / "report.json").unlink(missing_ok=True)
    posecap_main(["build", "--manifest", str(folder / "manifest.yaml"), "--runner", "local"])
    report = json.loads((folder / "dataset" / "report.json").read_text())
    return f"{report['counts']['clips']['kept']:,} clips"


def nothing_to_do(folder: Path) -> str:
    posecap_main(["build", "--manifest", str(folder / "manifest.yaml"), "--runner", "local"])
    return ""


def status(folder: Path) -> str:
    posecap_main(["status", str(folder / "dataset")])
    return ""


def status_of_open(folder: Path) -> str:
    """As of a build that has not ended yet: sidecars are read, since there is no report."""
    report = folder / "dataset" / "report.json"
    aside = report.rename(folder / "report.json")
    try:
        return status(folder)
    finally:
        aside.rename(report)


def index(folder: Path) -> str:
    return scanned(folder / "dataset")


def large_index(folder: Path) -> str:
    return scanned(folder / "index_only")


def scanned(root: Path) -> str:
    """Take each batch of the whole index once, and count."""
    table = posecap.index(root)
    return f"{sum(batch.num_rows for batch in table.to_batches()):,} clips"


STEPS: dict[str, Callable[[Path], str]] = {
    "import": lambda folder: "",
    "finish": finish,
    "nothing to do": nothing_to_do,
    "status": status,
    "status, open": status_of_open,
    "index": index,
    "large index": large_index,
}


def make_dataset(folder: Path, *, parts: int, clips: int) -> None:
    """A dataset in ``folder``/dataset as a build leaves it before it writes dataset.json and the report."""
    rows = clips + clips // REJECTED_IN
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.yaml").write_text(MANIFEST.format(rows=rows), encoding="utf-8")
    with (folder / "rows.csv").open("w", encoding="utf-8") as file:
        file.write("id,video,start,end,label,split,license\n")
        for number in range(rows * parts):
            where = f"{number % 997:03d}/{number:07d}.mp4,{number % 7},{number % 7 + 0.16}"
            file.write(f"row-{number:07d},{where},action {number % 400},train,CC-BY-4.0\n")
    manifest = read_manifest(folder / "manifest.yaml")
    pipeline = load_pipeline(manifest.pipeline)
    *before, last = pipeline.stages
    if isinstance(last, Pack):
        pipeline = replace(pipeline, stages=(*before, replace(last, store_video=manifest.store_video)))
    root = folder / "dataset"
    root.mkdir()
    plan = make_plan(manifest, root / PLAN_FILE)
    fingerprints = part_fingerprints(pipeline, plan)
    record = {"pipeline": pipeline.configuration(), "lineage": pipeline.lineage()}
    for part in plan.parts():
        outcomes, samples = results(part, plan.rows(part))
        counts = {"counts": tally(outcomes).as_json(), "rows": [outcome.as_json() for outcome in outcomes]}
        write_part(root, part.name, samples, record={"fingerprint": fingerprints[part.name], **record, **counts})


def results(part: PlannedPart, rows: list[PlannedRow]) -> tuple[list[RowOutcome], list[Sample]]:
    """Outcomes of a part's rows, and a made-up sample of each that is kept."""
    outcomes, samples = [], []
    for place, planned in enumerate(rows):
        row = planned.row
        if place % (REJECTED_IN + 1) == REJECTED_IN:
            reason = REASONS[place % len(REASONS)]
            lost = RowOutcome(row_id=row.row_id, uri=row.uri, status="rejected", stage="filter_people", reason=reason)
            outcomes.append(lost)
            continue
        sample = made_up(part.name.number * len(rows) + place, row.row_id, row.uri, row.label or "")
        span = (sample.facts["start_seconds"], sample.facts["end_seconds"])
        kept = ClipOutcome(status="kept", clip_id=sample.key, start_seconds=span[0], end_seconds=span[1])
        outcomes.append(RowOutcome(row_id=row.row_id, uri=row.uri, status="kept", clips=(kept,)))
        samples.append(sample)
    return outcomes, samples


def made_up(number: int, row_id: str, uri: str, label: str) -> Sample:
    rng = np.random.default_rng(number)
    joints, video, text = (rng.random(shape, np.float32) for shape in ((1, 4, 17, 3), 64, (1, 32)))
    sample = made_sample(number, joints, video_D=video, text_CD=text, caption=f"a person does the {label}")
    return replace(sample, facts={**sample.facts, "row_id": row_id, "uri": uri, "label": label})


def make_index(root: Path, *, clips: int) -> None:
    """Indexes and empty sidecars of ``clips`` clips: enough for whoever reads the index only."""
    fresh = "index_of_one_part"
    first, parts = PartName("train", 0), -(-clips // CLIPS_PER_INDEX)
    samples = (made_up(n, f"row-{n}", f"{n:07d}.mp4", f"action {n % 400}") for n in range(CLIPS_PER_INDEX))
    write_part(root / fresh, first, samples, record={"fingerprint": "f" * 64})
    table = pq.read_table(root / fresh / index_path(first))
    for folder in {Path(name(first)).parent for name in (index_path, sidecar_path)}:
        (root / folder).mkdir(parents=True)
    for number in range(parts):
        part = PartName("train", number)
        keys = [f"{number * CLIPS_PER_INDEX + place:024x}" for place in range(min(CLIPS_PER_INDEX, clips))]
        pq.write_table(_of_part(table, part, keys), root / index_path(part), compression="zstd")
        (root / sidecar_path(part)).write_bytes(b"{}")


def _of_part(table: Any, part: PartName, keys: list[str]) -> Any:
    made = {"key": pa.array(keys), "part": pa.array([str(part)] * len(keys))}
    table = table.slice(0, len(keys))
    for name, column in made.items():
        table = table.set_column(INDEX_SCHEMA.get_field_index(name), INDEX_SCHEMA.field(name), column)
    return table


if __name__ == "__main__":
    main()
