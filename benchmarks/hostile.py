"""Builds from generated damaged videos: one typed outcome for each, the same from both runners, nothing hangs or grows.

Writes small videos of every container and codec that FFmpeg's libraries can write here, and damages copies of them:
cuts, flipped bits, overwritten and removed bytes, false 32-bit fields, false picture sizes, halves of two files in one,
repeated and shuffled blocks. Half of the rows have a span, half are read whole. Then it makes a manifest of the folder
(:func:`posecap.manifest.importers.from_folder`), which must list or count every file, and builds the rows with threads
and with Ray: download, split and decode as in the default pipeline, and a last stage that keeps a digest of every
clip's frames and times. Run from the repository's root::

    python benchmarks/hostile.py                            # 2,000 files
    python benchmarks/hostile.py --files 200 --seed 7 --keep /tmp/hostile

Ends with status 1 if a row has no outcome or an untyped one (an exception that no stage expected, a worker that died, a
row or block that took too long), a process crashes or outgrows 2 GiB, or the two builds differ in any byte.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT))  # tests.footage and tests.damage: small videos, and their damage

from fault_tolerance import Build, Runner, outcomes, published  # noqa: E402
from measuring import parser_of  # noqa: E402

from posecap.outcomes import ClipOutcome, RowOutcome  # noqa: E402
from posecap.terminal import COMPLETE, PARTIAL  # noqa: E402
from tests.damage import HARMS, harmed  # noqa: E402
from tests.footage import write_video  # noqa: E402

SIZE = (160, 96)
"""Width and height of the videos, pixels."""
# Options of encoders: fast, silent, and with a keyframe every 12 frames.
_FAST = {"cpu-used": "8", "deadline": "realtime", "g": "12"}
_QUIET = {"x265-params": "log-level=none:keyint=12"}
VIDEOS: Mapping[str, Mapping[str, Any]] = {
    "h264.mp4": {"options": {"x264-params": "keyint=12:bframes=3:b-adapt=0"}},
    "open_gop.mp4": {"options": {"x264-params": "keyint=12:open-gop=1:bframes=8:b-adapt=0:b-pyramid=normal"}},
    "fragments.mp4": {"options": {"g": "12"}, "muxing": {"movflags": "frag_keyframe+empty_moov"}},
    "hevc.mp4": {"codec": "libx265", "options": _QUIET},
    "b_frames.mov": {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}},
    "mjpeg.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "prores.mov": {"codec": "prores_ks", "pixels": "yuv422p10le"},
    "turned.mp4": {"rotation": 90},
    "h264.f4v": {},
    "mpeg4.3g2": {"codec": "mpeg4"},
    "h263.3gp": {"codec": "h263", "size": (176, 144)},
    "h264.mkv": {"options": {"x264-params": "keyint=12:bframes=3"}},
    "ffv1.mkv": {"codec": "ffv1"},
    "vp9.webm": {"codec": "libvpx-vp9", "options": _FAST},
    "vp8.webm": {"codec": "libvpx", "options": _FAST},
    "mpeg4.avi": {"codec": "mpeg4", "options": {"g": "12"}},
    "msmpeg4.avi": {"codec": "msmpeg4"},
    "mjpeg.avi": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "h264.avi": {"options": {"bf": "0", "g": "12"}},
    "h264.MTS": {"options": {"g": "12"}},
    "mpeg2.m2ts": {"codec": "mpeg2video"},
    "mpeg2.VOB": {"codec": "mpeg2video"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "h264.flv": {"options": {"g": "12"}},
    "flv1.flv": {"codec": "flv"},
    "wmv2.wmv": {"codec": "wmv2"},
    "vp8.ogv": {"codec": "libvpx", "options": _FAST},
    "mpeg2.mxf": {"codec": "mpeg2video"},
    "rv20.rm": {"codec": "rv20", "size": (176, 144)},
    "vp8.ivf": {"codec": "libvpx", "options": _FAST},
    "bare.h264": {},
    "bare.hevc": {"codec": "libx265", "options": _QUIET},
    "animated.gif": {"codec": "gif", "pixels": "rgb8"},
    "bare.mjpeg": {"codec": "mjpeg", "pixels": "yuvj420p"},
}
"""By name, with what :func:`tests.footage.write_video` takes; 40 frames at 25 a second each."""
LONGEST_BUILD_SECONDS = 3600.0
LONGEST_ROW_SECONDS = 30.0
"""Of a row on Ray, and twice what a block of frames may take: our choices, of many times what they take."""
LARGEST_PROCESS = 2 * 1024**3
"""Peak resident bytes of any process of a build. The default pipeline may decode 1,800 frames of 512 x 512 pixels into
a clip, 1.4 GB; videos of some 40 frames stay far below this unless a header's lie is believed."""
CRASHES_AT_MOST = 20
"""Of one build with threads, each of which ends the process; the same command is then given again."""
_TYPED = ("kept", "rejected", "failed")
"""Statuses that a damaged file may have, unless for one of the reasons below."""
_UNTYPED_REASONS = frozenset({"error", "out_of_memory", "timeout", "decode_timeout", "worker_died"})
_POLL_SECONDS = 0.25

PIPELINE = f"""\
from dataclasses import replace
from pathlib import Path

from hostile_stages import Digest

from posecap.engines.pyav import PyAV
from posecap.pipeline import Pipeline, load_pipeline

default = load_pipeline(Path({str(ROOT / "pipelines" / "default.py")!r}))
stage = {{s.name: s for s in default.stages}}
prober = PyAV(seconds_per_block={LONGEST_ROW_SECONDS / 2!r})
decoders = tuple(prober if isinstance(d, PyAV) else d for d in stage["decode"].decoders)
decode = replace(stage["decode"], prober=prober, decoders=decoders)
pipeline = Pipeline(
    stages=(stage["download"], stage["split"], decode, Digest()), expected_rejections={{"download": 1, "decode": 1}}
)
"""

MANIFEST = """\
name: hostile
version: 1.0.0
license: CC0-1.0
contact: https://github.com/posecap/posecap
pipeline: pipeline.py
output: dataset
media_root: media
tables:
  - path: rows.csv
rows_per_part: 50
"""


def _cut(whole: bytes, others: list[bytes], chance: random.Random) -> bytes:
    return whole[: chance.randrange(len(whole))]


def _false_size(whole: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Width or height, wherever a container writes it in 16 bits, as something else."""
    content, false = bytearray(whole), chance.choice((0, 1, 4096, 8192, 16384, 32767, 65535))
    order: Literal["big", "little"] = chance.choice(("big", "little"))
    side = chance.choice(SIZE).to_bytes(2, order)
    found = content.find(side)
    while found >= 0:
        content[found : found + 2] = false.to_bytes(2, order)
        found = content.find(side, found + 2)
    return bytes(content)


def _spliced(whole: bytes, others: list[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return whole[: chance.randrange(len(whole))] + other[chance.randrange(len(other)) :]


def _shuffled(whole: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Two blocks of up to a quarter of the file swap places, or one is there a few times."""
    size = chance.randrange(1, max(2, len(whole) // 4))
    a, b = sorted(chance.randrange(max(1, len(whole) - size)) for _ in range(2))
    if chance.random() < 0.5:
        return whole[:a] + whole[a : a + size] * chance.randrange(2, 9) + whole[a + size :]
    b = max(b, a + size)
    return whole[:a] + whole[b : b + size] + whole[a + size : b] + whole[a : a + size] + whole[b + size :]


def _of_kind(kind: str) -> Callable[[bytes, list[bytes], random.Random], bytes]:
    return lambda whole, others, chance: harmed(whole, kind, chance)


DAMAGE: Mapping[str, Callable[[bytes, list[bytes], random.Random], bytes]] = {
    "cut": _cut,
    "size": _false_size,
    "splice": _spliced,
    "shuffle": _shuffled,
    **{kind: _of_kind(kind) for kind in HARMS},
}


@dataclass
class Hostile:
    """One damaged file: its name in the folder of media, and the names of its video and its damage."""

    name: str
    video: str
    damage: str


def write_input(folder: Path, count: int, seed: int) -> list[Hostile]:
    """The damaged files, and the manifest that names them, which is the same for equal ``count`` and ``seed``."""
    whole_folder, media = folder / "whole", folder / "media"
    whole_folder.mkdir(parents=True)
    media.mkdir()
    whole = {
        name: write_video(whole_folder / name, frames=40, fps=25, **{"size": SIZE, **options}).read_bytes()
        for name, options in VIDEOS.items()
    }
    made, every = [], list(whole.values())
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "video", "start", "end"))
        for number in range(count):
            chance = random.Random(f"{seed}/{number}")
            video = list(VIDEOS)[number % len(VIDEOS)]
            damage = list(DAMAGE)[number // len(VIDEOS) % len(DAMAGE)]
            one = Hostile(f"{number:05d}_{damage}_{video}", video, damage)
            (media / one.name).write_bytes(DAMAGE[damage](whole[video], every, chance))
            start = round(chance.uniform(0, 1.2), 2)
            span = (start, round(start + chance.uniform(0.1, 1.0), 2)) if chance.random() < 0.5 else ("", "")
            writer.writerow((number, one.name, *span))
            made.append(one)
    (folder / "pipeline.py").write_text(PIPELINE, encoding="utf-8")
    (folder / "manifest.yaml").write_text(MANIFEST, encoding="utf-8")
    return made


@dataclass
class BuildRecord:
    """How one build went: exit status of every start, peak bytes of its largest process, and wall seconds."""

    root: Path
    statuses: list[int | None] = field(default_factory=list)
    peak_bytes: int = 0
    seconds: float = 0.0


def run(manifest: Path, root: Path, runner: Runner, workers: int) -> BuildRecord:
    """Build, and start it again after each crash."""
    record, since = BuildRecord(root), time.monotonic()
    more = ("--row-seconds", str(LONGEST_ROW_SECONDS)) if runner == "ray" else ()
    while not record.statuses or ((record.statuses[-1] or 0) < 0 and len(record.statuses) <= CRASHES_AT_MOST):
        build = _started(manifest, root, "--runner", runner, "--workers", str(workers), "--accept-alarms", *more)
        until = time.monotonic() + LONGEST_BUILD_SECONDS
        while build.alive() and time.monotonic() < until:
            record.peak_bytes = max([record.peak_bytes, *(peak_of(pid) for pid, _ in build.session())])
            time.sleep(_POLL_SECONDS)
        if build.alive():
            build.kill("all", random.Random(0))
            record.statuses.append(None)
            break
        record.statuses.append(build.process.returncode)
        build.kill_leftovers()
    record.seconds = time.monotonic() - since
    return record


def _started(manifest: Path, root: Path, *more: str) -> Build:
    """A build in a session of its own, whose log lies beside its dataset."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
    with root.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "posecap", "build", "--manifest", manifest, "--output", root, *more],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return Build(process, root, time.monotonic(), frozenset())


def peak_of(pid: int) -> int:
    """Peak resident bytes of a process; 0 where it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 if "VmHWM:" in status else 0


def faults(record: BuildRecord, runner: Runner, entered: list[RowOutcome], made: list[Hostile]) -> Iterator[str]:
    """What is wrong with one build, a sentence each."""
    if record.statuses[-1] not in (COMPLETE, PARTIAL) or len(record.statuses) > 1:
        yield f"{runner}: ended with {record.statuses}; see {record.root.with_suffix('.log')}"
    if record.peak_bytes > LARGEST_PROCESS:
        yield f"{runner}: a process took {record.peak_bytes / 1e6:,.0f} MB"
    if [outcome.row_id for outcome in entered] != [str(number) for number in range(len(made))]:
        yield f"{runner}: {len(entered)} outcomes, not exactly one for each of {len(made)} rows"
    for outcome in entered:
        ends: list[RowOutcome | ClipOutcome] = [outcome, *outcome.clips]
        for end in ends:
            if end.status not in _TYPED or end.reason in _UNTYPED_REASONS:
                yield f"{runner}: {outcome.uri}: {end.status} {end.stage} {end.reason}: {end.detail}"
                break


def differences(local: BuildRecord, ray: BuildRecord) -> Iterator[str]:
    """Rows and files in which two builds differ."""
    for one, other in zip(outcomes(local.root), outcomes(ray.root), strict=False):
        if one != other:
            ends = [f"{end.status} {end.reason} {end.detail!r}" for end in (one, other)]
            yield f"{one.uri}: {ends[0]}, with Ray {ends[1]}"
    files, others = published(local.root), published(ray.root)
    for name in sorted(files.keys() | others.keys()):
        if files.get(name) != others.get(name):
            yield f"{name} differs between threads and Ray"


def imported(folder: Path) -> Iterator[str]:
    """List the folder; yields what is wrong."""
    from posecap.manifest.importers import from_folder

    since, used = time.monotonic(), sum(os.times()[:2])
    found = from_folder(folder / "media", folder / "listed.yaml")
    files = sum(1 for _ in (folder / "media").iterdir())
    seconds, cpu = time.monotonic() - since, sum(os.times()[:2]) - used
    passed_over = sum(found.passed_over.values())
    print(f"import: {found.rows} listed, {passed_over} passed over, {seconds:.1f} s, {cpu:.1f} s of CPU")
    if found.rows + passed_over + found.unusable != files:
        yield f"import: {found.rows} + {passed_over} + {found.unusable} files, not {files}"


def show(made: list[Hostile], entered: list[RowOutcome]) -> None:
    """Outcomes by damage, by video, and the decoders of what was kept."""
    for title, key in (("damage", "damage"), ("video", "video")):
        table: dict[str, Counter[str]] = defaultdict(Counter)
        for one, outcome in zip(made, entered, strict=True):
            table[getattr(one, key)][outcome.reason or outcome.status] += 1
        columns = sorted({word for row in table.values() for word in row}, key=lambda word: (word != "kept", word))
        print("| " + " | ".join((title, *columns)) + " |")
        print("| --- |" + " ---: |" * len(columns))
        for name in sorted(table):
            print("| " + " | ".join((name, *(str(table[name][column] or "") for column in columns))) + " |")
        print()


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--files", type=int, default=2000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2, help="computing workers of each build (default: %(default)s)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="an empty or new folder for what is made")
    options = parser.parse_args()
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="posecap-hostile-"))).resolve()
    made = write_input(folder, options.files, options.seed)
    size = sum(path.stat().st_size for path in (folder / "media").iterdir())
    print(f"{len(made)} files, {size / 1e6:.1f} MB, of {len(VIDEOS)} videos and {len(DAMAGE)} kinds of damage")
    wrong = list(imported(folder))
    records: dict[Runner, BuildRecord] = {}
    runners: tuple[Runner, ...] = ("local", "ray")
    for runner in runners:
        record = records[runner] = run(folder / "manifest.yaml", folder / runner, runner, options.workers)
        entered = outcomes(record.root)
        counts = Counter(outcome.status for outcome in entered)
        print(
            f"{runner}: {record.seconds:.1f} s, largest process {record.peak_bytes / 1e6:,.0f} MB, "
            + ", ".join(f"{count} {status}" for status, count in sorted(counts.items())),
            flush=True,
        )
        wrong += faults(record, runner, entered, made)
    wrong += differences(records["local"], records["ray"])
    show(made, outcomes(records["local"].root))
    print("\n".join(wrong) or "one typed outcome for each file, both builds the same")
    if not wrong and options.keep is None:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
