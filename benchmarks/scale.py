"""Millions of clips on paper: small pieces measured here, assumptions for the rest, and what follows from both.

    python benchmarks/scale.py                          # measures, then prints the tables of docs/scale.md
    python benchmarks/scale.py --pieces pieces.json     # keeps what was measured, or takes it from there
    python benchmarks/scale.py --pieces pieces.json --gpu-frames-per-second 400 --cores 64

Each piece is measured at two or three sizes in processes of their own, so that a row's share is a difference and no
start counts. CPU seconds are user and system time of the process, which other programs change little. Measured are:

- the driver: builds on Ray of a pipeline with two segments, as the default pipeline has, whose rows sleep for 60 ms, so
  that each is a call of its own; and of write.py's pipeline, whose rows take next to no time and are sent together;
- the end of a build, a build with nothing to do, with its ledger and without, and files by row (finish.py's dataset);
- planning (plan.py's table);
- requests to an object store: builds on threads against moto, counted where s3fs sends them, by parts and rows.

Every assumption is an option, and printed. All resources of a build work at the same time, so it is as slow as the
slowest of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from argparse import SUPPRESS, Namespace
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import finish
import plan
import write
from measuring import parser_of

TWO_SEGMENTS = """
import io
import time

from PIL import Image

from posecap.types import Video


@dataclass(frozen=True)
class Fetch(Stage):
    name: ClassVar[str] = "download"
    takes: ClassVar[type] = Row
    gives: ClassVar[type] = Video
    resources = Resources(cpus=0, concurrency=16)

    def __call__(self, item: Row) -> Iterator[Video]:
        yield Video(row=item, path=Path("nowhere"), source_id=digest(item.uri), size_bytes=1)


@dataclass(frozen=True)
class FromVideo(Make):
    takes: ClassVar[type] = Video
    resources = Resources(concurrency=16)

    seconds: float = 0.0

    def __call__(self, item: Video) -> Iterator[Sample]:
        time.sleep(self.seconds)
        picture = io.BytesIO()
        Image.new("RGB", (64, 36)).save(picture, "JPEG")
        yield from (replace(sample, thumbnail_jpeg=picture.getvalue()) for sample in super().__call__(item.row))


pipeline = Pipeline(stages=(Fetch(), FromVideo(seconds=SECONDS)))
"""
SLEEP_SECONDS = 0.06
"""Of a row, more than the 0.05 s that a call of several rows may take (``_CALL_SECONDS`` of posecap.run.pool)."""
ROWS = 400, 3200
"""Of the two builds on Ray from which a row's share follows. These sizes and the next ones are our choice: the larger
is at least four times the smaller, so that the difference is far above what one run differs from the next, and
measuring takes minutes."""
ROWS_PER_PART, CLIPS_PER_PART = 200, 500
"""Of the builds on Ray, and of the made-up datasets whose end is measured."""
PARTS = 16, 64
"""Of the two made-up datasets."""
PLANNED = 100_000, 400_000
"""Rows of the two tables that are planned."""
STORED = ((60, 30), (120, 60), (120, 30))
"""Rows, and rows in a part, of the three builds from which requests by row, by part and by build follow. No part has
fewer rows than the 24 that get a preview."""
# The kind of request by s3fs's name of the call; others are counted as "other", and among writes.
CALLS = {
    "put_object": "PUT", "get_object": "GET", "copy_object": "COPY", "delete_object": "DELETE",
    "delete_objects": "DELETE", "head_object": "HEAD", "list_objects_v2": "LIST",
}  # fmt: skip
# Clips and nodes for which a build is estimated.
CASES = [(clips, nodes) for clips in (1_000_000, 100_000_000) for nodes in (1, 10, 100)]


@dataclass(frozen=True)
class Pieces:
    """What was measured: a fixed amount and one for each row (of the index: clip), in CPU seconds or bytes.

    ``driver`` is the build's process, with rows of a call each, and with ``quick`` ones that are sent together;
    ``finish`` the end of a build, ``resume`` a build with nothing to do; seconds are CPU seconds, and bytes the peak of
    the process or, of plan file, ledger, index and sidecars, those of the files. ``requests`` are those of kinds by
    row, by part and by build.
    """

    driver_seconds: tuple[float, float]
    driver_seconds_quick: tuple[float, float]
    driver_bytes: tuple[float, float]
    plan_seconds: tuple[float, float]
    plan_bytes: tuple[float, float]
    plan_file_bytes: tuple[float, float]
    finish_seconds: tuple[float, float]
    finish_bytes: tuple[float, float]
    resume_seconds: tuple[float, float]
    resume_bytes: tuple[float, float]
    resume_without_ledger_seconds: tuple[float, float]
    ledger_bytes: tuple[float, float]
    index_bytes: tuple[float, float]
    sidecar_bytes: tuple[float, float]
    requests: Mapping[str, Mapping[str, float]]


def main() -> None:
    """Print the tables; with ``--measure``, in a process of its own, one step's figures as JSON instead."""
    options = parsed()
    if options.measure:
        print(json.dumps(STEPS[options.measure[0]](Path(options.measure[1]), int(options.measure[2]))))
        return
    if options.pieces and options.pieces.is_file():
        pieces = Pieces(**json.loads(options.pieces.read_text()))
    else:
        pieces = measured()
        if options.pieces:
            options.pieces.write_text(json.dumps(vars(pieces), indent=1))
    for line in (*shown(pieces), "", *assumptions(options), "", *cases(pieces, options)):
        print(line)


def parsed(arguments: list[str] | None = None) -> Namespace:
    """The options; ``arguments`` None takes those of the command line."""
    parser = parser_of(__doc__)
    parser.add_argument("--pieces", type=Path, help="a JSON file of what was measured; it is written if not there")
    parser.add_argument("--rows-per-part", type=int, default=1000, help="the default of manifests (%(default)s)")
    of_rows = parser.add_argument_group("assumed of each row, which gives one clip")
    of_rows.add_argument("--download-seconds", type=float, default=5.0, help="(default: %(default)s)")
    of_rows.add_argument("--video-mb", type=float, default=10.0, help="fetched, 10^6 bytes (default: %(default)s)")
    of_rows.add_argument("--stored-mb", type=float, default=0.06, help="as posecap plan estimates it without video")
    of_rows.add_argument("--frames", type=int, default=300, help="10 s at 30 frames a second (default: %(default)s)")
    of_nodes = parser.add_argument_group("assumed of each node")
    of_nodes.add_argument("--downloads", type=int, default=8, help="at once, the default pipeline's (%(default)s)")
    of_nodes.add_argument("--cores", type=int, default=16, help="(default: %(default)s)")
    of_nodes.add_argument("--gbit", type=float, default=10.0, help="network, 10^9 bit/s (default: %(default)s)")
    of_nodes.add_argument(
        "--core-ms", type=float, default=14.0,
        help="of one core for a frame: 11 of the default's detector (docs/results/people.md), and the 28 %% that a "
        "whole build takes more than its detector (docs/results/build.md) (default: %(default)s)",
    )  # fmt: skip
    of_nodes.add_argument("--gpus", type=int, default=1, help="(default: %(default)s)")
    of_nodes.add_argument(
        "--gpu-frames-per-second", type=float, default=70.0,
        help="of one GPU, detector, pose and vectors together; one worker on an H200 (docs/results/gpu.md) "
        "(default: %(default)s)",
    )  # fmt: skip
    of_store = parser.add_argument_group("assumed of the object store (S3 states both, for each prefix of names)")
    of_store.add_argument("--writes-per-second", type=float, default=3500.0, help="(default: %(default)s)")
    of_store.add_argument("--reads-per-second", type=float, default=5500.0, help="(default: %(default)s)")
    parser.add_argument("--measure", nargs=3, metavar=("STEP", "FOLDER", "SIZE"), help=SUPPRESS)
    return parser.parse_args(arguments)


# Measuring


def measured() -> Pieces:
    """Run every step. Takes minutes; exits where one fails."""
    found: dict[str, Any] = {}
    for name, step in (("driver_seconds", "slow rows"), ("driver_seconds_quick", "quick rows")):
        small, large = (run(step, rows) for rows in ROWS)
        found[name] = line(ROWS, small["cpu"], large["cpu"])
        if step == "slow rows":
            # The build holds open parts, not rows, so nothing is added for each row: benchmarks/memory.py shows it.
            found["driver_bytes"] = large["peak"], 0.0
    small, large = (plan.run(rows) for rows in PLANNED)
    for name, key, unit in (
        ("plan_seconds", "cpu_seconds", 1),
        ("plan_bytes", "peak_mb", 1e6),
        ("plan_file_bytes", "plan_file_mb", 1e6),
    ):
        found[name] = line(PLANNED, unit * small[key], unit * large[key])
    ends = [run("end", parts) for parts in PARTS]
    clips = [parts * CLIPS_PER_PART for parts in PARTS]
    found |= {name: line(clips, ends[0][name], ends[1][name]) for name in ends[0]}
    found["requests"] = requests_by([run("requests", number) for number in range(len(STORED))])
    return Pieces(**found)


def line(sizes: Any, small: float, large: float) -> tuple[float, float]:
    """The fixed amount, and that of each: of the straight line through what two sizes took."""
    each = (large - small) / (sizes[1] - sizes[0])
    return small - each * sizes[0], each


def run(step: str, size: int) -> dict[str, Any]:
    """A step's figures, from a process of its own with a folder of its own."""
    with tempfile.TemporaryDirectory(prefix="posecap-scale-") as name:
        return in_process([__file__, "--measure", step, name, str(size)])


def in_process(command: list[str]) -> dict[str, Any]:
    """The last line of a Python program's output, which is JSON. Exits with its output where the program fails."""
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, env={**os.environ, "CI": "1"})
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def rows_on_ray(pipeline: str) -> Callable[[Path, int], dict[str, float]]:
    """The step that builds so many rows on Ray: :func:`write.build_one`, with the pipeline of write.py where none is
    given."""

    def step(folder: Path, rows: int) -> dict[str, float]:
        manifest = write_manifest(folder, rows, ROWS_PER_PART, pipeline)
        return write.build_one(manifest, "ray", Namespace(workers=2, output=None))

    return step


def write_manifest(folder: Path, rows: int, rows_per_part: int, pipeline: str) -> Path:
    """write.py's manifest without video; ``pipeline`` takes the place of its pipeline, "" leaves that."""
    manifest: Path = write.write_manifest(folder, Namespace(rows=rows, video_mb=0.0, rows_per_part=rows_per_part))
    if pipeline:
        before, _, _ = (folder / "pipeline.py").read_text().partition("\npipeline = ")
        imports = "from dataclasses import replace\nfrom pathlib import Path\n"
        (folder / "pipeline.py").write_text(imports + before + pipeline)
    return manifest


def end(folder: Path, parts: int) -> dict[str, float]:
    """What the end of a build and the next ones take, with ledger and without, and the bytes of files."""
    finish.make_dataset(folder, parts=parts, clips=CLIPS_PER_PART)
    root = folder / "dataset"
    program = str(Path(__file__).with_name("finish.py"))
    found: dict[str, float] = {}
    for name, what in (("finish", "finish"), ("resume", "nothing to do"), ("resume_without_ledger", "nothing to do")):
        if name == "resume_without_ledger":
            for suffix in ("", "-wal", "-shm"):
                (root / f"ledger.sqlite{suffix}").unlink(missing_ok=True)
        took = in_process([program, "--measure", what, str(folder)])
        found[f"{name}_seconds"] = took["cpu"]
        if name != "resume_without_ledger":
            found[f"{name}_bytes"] = took["peak_mb"] * 1e6
        if name == "finish":
            found["ledger_bytes"] = (root / "ledger.sqlite").stat().st_size
            for kind, pattern in (("index", "index/**/*.parquet"), ("sidecar", "data/**/*.json")):
                found[f"{kind}_bytes"] = sum(path.stat().st_size for path in root.glob(pattern))
    return found


def requests(folder: Path, number: int) -> dict[str, Any]:
    """Requests of the build ``number`` of :data:`STORED` into S3, by their kind; its numbers of rows and parts."""
    import s3fs
    from moto.server import ThreadedMotoServer

    rows, rows_per_part = STORED[number]
    # Rows that take next to no time would share staging files.
    manifest = write_manifest(folder, rows, rows_per_part, TWO_SEGMENTS.replace("SECONDS", str(SLEEP_SECONDS)))
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "NO_PROXY": host}
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    try:
        s3fs.S3FileSystem().mkdir("clips")
        with counted(s3fs.S3FileSystem) as counts:
            write.build_one(manifest, "local", Namespace(workers=2, output="s3://clips/poses"))
    finally:
        server.stop()
    return {"rows": rows, "parts": -(-rows // rows_per_part), "counts": counts}


@contextmanager
def counted(file_system: Any) -> Iterator[Counter[str]]:
    """Counts requests where s3fs sends them, those that it repeats once."""
    counts: Counter[str] = Counter()
    send = file_system._call_s3

    async def call(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        counts[CALLS.get(method, "other")] += 1
        return await send(self, method, *args, **kwargs)

    file_system._call_s3 = call
    try:
        yield counts
    finally:
        file_system._call_s3 = send


def requests_by(builds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """By row, part and build: the first two builds have as many parts, the last two as many rows."""
    few, many, parted = (Counter(build["counts"]) for build in builds)
    found: dict[str, dict[str, float]] = {"row": {}, "part": {}, "build": {}}
    for kind in sorted({*few, *many, *parted}):
        row = (many[kind] - few[kind]) / (builds[1]["rows"] - builds[0]["rows"])
        part = (parted[kind] - many[kind]) / (builds[2]["parts"] - builds[1]["parts"])
        found["row"][kind], found["part"][kind] = row, part
        found["build"][kind] = few[kind] - row * builds[0]["rows"] - part * builds[0]["parts"]
    return found


# What a process of its own measures, by name, given a folder and a size (of requests: a number of STORED).
STEPS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "slow rows": rows_on_ray(TWO_SEGMENTS.replace("SECONDS", str(SLEEP_SECONDS))),
    "quick rows": rows_on_ray(""),
    "end": end,
    "requests": requests,
}


# What follows


@dataclass(frozen=True)
class Estimate:
    """Of one case: ``hours`` of each resource if it worked alone, and what else was asked for.

    Hours of downloads, GPUs and cores are those of one connection, GPU and core. ``driver`` is the build's process,
    ``finish`` the end of the build, ``resume`` a build with nothing left to do, on the same machine or ``elsewhere``,
    that is without its ledger. GB are memory, of the ledger disk.
    """

    hours: Mapping[str, float]
    downloads_hours: float
    gpu_hours: float
    core_hours: float
    requests: float
    driver_gb: float
    finish_gb: float
    finish_seconds: float
    ledger_gb: float
    resume_seconds: float
    resume_elsewhere_seconds: float

    @property
    def slowest_first(self) -> list[str]:
        """Names of the resources."""
        return sorted(self.hours, key=lambda name: -self.hours[name])


def estimate(pieces: Pieces, options: Namespace, *, clips: int, nodes: int, compute: str) -> Estimate:
    """Of ``clips`` rows with one clip each; ``compute`` is ``cores`` or ``gpus``."""
    parts = clips / options.rows_per_part
    kinds = {
        kind: clips * pieces.requests["row"][kind] + parts * pieces.requests["part"][kind]
        for kind in pieces.requests["row"]
    }
    reads = sum(count for kind, count in kinds.items() if kind in ("GET", "HEAD"))
    writes = sum(kinds.values()) - reads
    downloads_hours = clips * options.download_seconds / 3600
    core_hours = clips * options.frames * options.core_ms / 1000 / 3600
    gpu_hours = clips * options.frames / options.gpu_frames_per_second / 3600
    # A sample is fetched with its video, staged, read back, and written with its part.
    moved_gbit = clips * (options.video_mb + 3 * options.stored_mb) * 8 / 1000
    computing = {"cores": core_hours / nodes / options.cores, "gpus": gpu_hours / nodes / options.gpus}
    return Estimate(
        hours={
            "downloads": downloads_hours / nodes / options.downloads,
            compute: computing[compute],
            "network": moved_gbit / options.gbit / nodes / 3600,
            "driver": _of(pieces.driver_seconds, clips) / 3600,
            "object store": (reads / options.reads_per_second + writes / options.writes_per_second) / 3600,
        },
        downloads_hours=downloads_hours,
        gpu_hours=gpu_hours,
        core_hours=core_hours,
        requests=reads + writes,
        driver_gb=max(_of(pieces.resume_bytes, clips), _of(pieces.driver_bytes, 0)) / 1e9,
        finish_gb=_of(pieces.finish_bytes, clips) / 1e9,
        finish_seconds=_of(pieces.finish_seconds, clips),
        ledger_gb=_of(pieces.ledger_bytes, clips) / 1e9,
        resume_seconds=_of(pieces.resume_seconds, clips),
        resume_elsewhere_seconds=_of(pieces.resume_without_ledger_seconds, clips),
    )


def _of(piece: tuple[float, float], count: float) -> float:
    """What a piece takes for so many rows."""
    return piece[0] + piece[1] * count


def shown(pieces: Pieces) -> Iterator[str]:
    """Lines that print what was measured."""
    yield "measured: fixed, and for each 100,000 rows"
    for name, found in vars(pieces).items():
        if name == "requests":
            continue
        unit, digits, by = ("CPU s", 1, 1.0) if name.split("_")[-1] != "bytes" and "seconds" in name else ("MB", 0, 1e6)
        yield f"  {name.replace('_', ' '):<34} {found[0] / by:9,.{digits}f} + {found[1] * 1e5 / by:9,.{digits}f} {unit}"
    yield "requests to an object store"
    for each, counts in pieces.requests.items():
        kinds = ", ".join(f"{count:.2f} {kind}" for kind, count in counts.items() if round(count, 2))
        yield f"  by {each:<6} {sum(counts.values()):8.2f}: {kinds}"


def assumptions(options: Namespace) -> Iterator[str]:
    """Lines that print the options which are assumptions."""
    yield "assumed"
    passed_over = ("pieces", "measure")  # where and what to measure, no assumptions
    for name, value in vars(options).items():
        if name not in passed_over:
            yield f"  --{name.replace('_', '-'):<24} {value:g}"


def cases(pieces: Pieces, options: Namespace) -> Iterator[str]:
    """Lines of the tables of docs/scale.md."""
    for compute in ("cores", "gpus"):
        found = {case: estimate(pieces, options, clips=case[0], nodes=case[1], compute=compute) for case in CASES}
        first = next(iter(found.values()))
        yield f"| days on {compute} | nodes | {' | '.join(first.hours)} | slowest | then |"
        yield "| --- " * (len(first.hours) + 4) + "|"
        for (clips, nodes), case in found.items():
            days = " | ".join(f"{hours / 24:,.2f}" for hours in case.hours.values())
            yield f"| {clips / 1e6:g} M clips | {nodes} | {days} | {' | '.join(case.slowest_first[:2])} |"
        yield ""
    hours, sizes = "downloads, h | core hours | GPU hours", "ledger, GB | driver, GB | end, GB"
    yield f"| | {hours} | requests, M | {sizes} | end, h | resume, h | without ledger, h |"
    yield "| --- " * 11 + "|"
    for clips in dict.fromkeys(clips for clips, _ in CASES):
        of = estimate(pieces, options, clips=clips, nodes=1, compute="cores")
        sizes = f"{of.requests / 1e6:,.1f} | {of.ledger_gb:,.1f} | {of.driver_gb:,.1f} | {of.finish_gb:,.1f}"
        times = (of.finish_seconds, of.resume_seconds, of.resume_elsewhere_seconds)
        hours = f"{of.downloads_hours:,.0f} | {of.core_hours:,.0f} | {of.gpu_hours:,.0f}"
        yield f"| {clips / 1e6:g} M | {hours} | {sizes} | {' | '.join(f'{s / 3600:.2f}' for s in times)} |"


if __name__ == "__main__":
    main()
