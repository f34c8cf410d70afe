"""Builds that are killed at random moments, compared byte by byte with an undisturbed build.

Takes short spans of the demo's footage, a missing file, a server that does not answer and a repeated row, and
builds them once undisturbed. Then builds them again and again, each time killing (SIGKILL) the driver, a Ray
worker or every process of the build, up to three times, at moments drawn over the whole build or right after
a file has appeared; what was killed is started again until it ends by itself. Run from the repository's root::

    python benchmarks/fault_tolerance.py                                # 20 builds, Ray and threads in turn
    python benchmarks/fault_tolerance.py --builds 100 --runner local --seed 7

Ends with status 1 if any build differs in any byte, loses or doubles a row, or does not end by itself; its folder and
log stay then. Processes that outlive their killed driver are counted and killed, not a fault. Linux only: processes are
found in /proc.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from measuring import parser_of

from posecap.ledger import Ledger
from posecap.outcomes import RowOutcome
from posecap.plan import open_plan
from posecap.shards import committed
from posecap.terminal import COMPLETE, PARTIAL
from posecap.verify import verify

ROOT = Path(__file__).resolve().parents[1]
DEMO = ROOT / "manifests" / "demo.csv"

Runner = Literal["ray", "local"]
Victim = Literal["driver", "worker", "all"]

FINISHED = (COMPLETE, PARTIAL)
"""Exit statuses of a build that has ended by itself; a row that fails is in every input, so it is the second."""
WORKERS_KILLED_AT_MOST = 2
"""In one build: a row whose worker dies three times is quarantined, as it should be."""
LONGEST_BUILD_SECONDS = 300.0
"""From a start of a build to its end; our choice, of many times what it takes."""
LONGEST_CLEANUP_SECONDS = 10.0
"""Until the other processes of a killed build must be gone. Our choice; those that are left are counted, and no fault
of the build."""
JUST_AFTER_SECONDS = 0.02
"""At most between a file's appearance and a kill, drawn evenly: our choice, of about what writing a small file
takes."""
_POLL_SECONDS = 0.003
"""Between two looks at a build: short, to hit it right after a file has appeared."""
_KILLED = -signal.SIGKILL
"""Exit status of a killed process, as :mod:`subprocess` gives it."""

MANIFEST = """\
name: fault-tolerance
version: 1.0.0
license: BSD-3-Clause
contact: https://github.com/perfanalytics/pose2sim
pipeline: pipeline.py
output: dataset
tables:
  - path: rows.csv
rows_per_part: 2
"""

PIPELINE = f"""\
from dataclasses import replace
from pathlib import Path

from posecap.engines.http import Http
from posecap.engines.movenet import MoveNet
from posecap.download.retry import RetryPolicy
from posecap.pipeline import load_pipeline

default = load_pipeline(Path({str(ROOT / "pipelines" / "default.py")!r}))
stage = {{s.name: s for s in default.stages}}
http_once = Http(retry_policy=RetryPolicy(attempts=1))
smaller = {{
    "download": {{"fetchers": tuple(http_once if isinstance(f, Http) else f for f in stage["download"].fetchers)}},
    "decode": {{"long_side": 256, "fps_at_most": 20.0}},
    "track": {{"detector": MoveNet(imgsz=192, conf=0.15)}},
    "filter_people": {{"fewest_frames": 4, "shortest_seconds": 0.2}},
    "embed": {{"video": replace(stage["embed"].video, frames=2)}},
}}
pipeline = replace(default, stages=tuple(replace(s, **smaller.get(s.name, {{}})) for s in default.stages))
"""


def write_input(folder: Path) -> Path:
    """Writes the benchmark's own manifest, 13 rows in seven parts: the demo's ten with a span of 0.4 s each, which is
    kept or rejected; a file that is not there (rejected); a server that does not answer (failed); and one row again."""
    with DEMO.open(newline="", encoding="utf-8") as file:
        demo = list(csv.DictReader(file))
    rows = [{**row, "start": "0.05", "end": "0.45"} for row in demo]
    rows.insert(2, {**rows[0], "id": "missing", "video": "nowhere.mp4"})
    rows.insert(5, {**rows[0], "id": "no-answer", "video": "http://127.0.0.1:1/gone.mp4"})
    rows.append({**rows[1], "id": "repeated"})
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(demo[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "pipeline.py").write_text(PIPELINE, encoding="utf-8")
    (folder / "manifest.yaml").write_text(MANIFEST, encoding="utf-8")
    return folder / "manifest.yaml"


def posecap(*arguments: str, log: Path, start_new_session: bool = False) -> subprocess.Popen[bytes]:
    """A command of posecap that has been started, whose output is added to a file."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "posecap", *arguments],
            cwd=ROOT,
            env={**os.environ, "NO_PROXY": "127.0.0.1", "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=start_new_session,
        )


@dataclass
class Build:
    """A running ``posecap build``, in a session of its own, by which all its processes are found.

    ``since`` is its start (``time.monotonic``), ``files_before`` are the files of its dataset at the start.
    """

    process: subprocess.Popen[bytes]
    root: Path
    since: float
    files_before: frozenset[Path]

    @classmethod
    def start(cls, manifest: Path, root: Path, runner: Runner) -> Build:
        """Start it into ``root``; its output is added to ``root`` with the suffix ``.log``."""
        arguments = ["build", "--manifest", str(manifest), "--output", str(root), "--runner", runner]
        files_before = frozenset(files_of(root))
        process = posecap(*arguments, log=root.with_suffix(".log"), start_new_session=True)
        return cls(process, root, time.monotonic(), files_before)

    def alive(self) -> bool:
        """Whether the driver still runs."""
        return self.process.poll() is None

    def until(self, *, seconds: float = 0.0, new_files: int = 0) -> bool:
        """Wait until so much time has passed since the start, and so many files have appeared. False: the build ended
        first."""
        while self.alive():
            enough = len(set(files_of(self.root)) - self.files_before) >= new_files if new_files else True
            if enough and time.monotonic() - self.since >= seconds:
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def kill(self, victim: Victim, chance: random.Random) -> bool:
        """SIGKILL to the driver, to one of Ray's processes that run rows, drawn by ``chance``, or to the driver and all
        others. Waits for a worker where none has started yet. False: the build ended first."""
        if victim == "worker":
            while self.alive():
                workers = sorted(pid for pid, command in self.session() if command.startswith("ray::_Worker"))
                if workers and kill_process(chance.choice(workers)):
                    return True
                time.sleep(_POLL_SECONDS)
            return False
        others = [pid for pid, _ in self.session() if victim == "all" and pid != self.process.pid]
        for pid in (self.process.pid, *others):
            kill_process(pid)
        return self.process.wait() == _KILLED

    def session(self) -> Iterator[tuple[int, str]]:
        """Process id and command of everything that belongs to the build and still runs: not of zombies (state Z,
        X)."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                    command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if int(session) == self.process.pid and state not in "ZX":
                    yield int(entry.name), command

    def kill_leftovers(self) -> list[str]:
        """Commands of processes that outlive the driver for longer than they may; they are killed."""
        until = time.monotonic() + LONGEST_CLEANUP_SECONDS
        while time.monotonic() < until and any(self.session()):
            time.sleep(0.05)
        left = list(self.session())
        for pid, _ in left:
            kill_process(pid)
        return [command.split(maxsplit=1)[0].rpartition("/")[2] for _, command in left if command]


def kill_process(pid: int) -> bool:
    """SIGKILL. False: there is no such process any more."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def files_of(root: Path) -> Iterator[Path]:
    """Every file under a folder, those being written included; none where it is not there yet."""
    for folder, _, names in os.walk(root):
        for name in names:
            yield Path(folder, name)


@dataclass(frozen=True)
class Reference:
    """The files and outcomes of the undisturbed build, its seconds with each runner, and its number of files in all."""

    files: dict[str, bytes]
    outcomes: list[RowOutcome]
    seconds: dict[Runner, float]
    file_count: int

    @classmethod
    def of(cls, root: Path, seconds: dict[Runner, float]) -> Reference:
        return cls(published(root), outcomes(root), seconds, sum(1 for _ in files_of(root)))


def published(root: Path) -> dict[str, bytes]:
    """Every file that must be the same, down to the last byte, by its path in the dataset: shards, index, plan and
    dataset.json. The ledger has times, so it is compared by its :func:`outcomes`."""
    single = [root / "plan.parquet", root / "dataset.json"]
    paths = [path for path in files_of(root) if path.relative_to(root).parts[0] in ("data", "index")]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in (*paths, *single) if path.is_file()}


def outcomes(root: Path) -> list[RowOutcome]:
    """The ledger's, in the order of the plan."""
    with Ledger(root / "ledger.sqlite") as ledger:
        return list(ledger.outcomes())


def differences(root: Path, reference: Reference) -> Iterator[str]:
    """How a finished build differs from the undisturbed one, a sentence for each difference."""
    found = published(root)
    for name in sorted(found.keys() | reference.files.keys()):
        if name not in found:
            yield f"{name} is missing"
        elif name not in reference.files:
            yield f"{name} should not be there"
        elif found[name] != reference.files[name]:
            yield f"{name} differs"
    yield from (str(problem) for problem in verify(root).problems)
    plan = open_plan(root / "plan.parquet", media_root="")
    planned = [row.row.row_id for part in plan.parts() for row in plan.rows(part)]
    entered = outcomes(root)
    if [outcome.row_id for outcome in entered] != planned:
        yield f"the ledger has {len(entered)} rows, not each of the plan's {len(planned)} exactly once"
    elif entered != reference.outcomes:
        yield "the ledger has other outcomes"


@dataclass
class DisturbedBuild:
    """One disturbed build.

    Args:
        kills: what was killed and when, for people.
        victims: what was killed, in order.
        starts: how often the build was started.
        left_behind: commands of processes that outlived a killed driver for too long.
        wrong: how its result differs from the undisturbed one; empty if it does not.
    """

    runner: Runner
    kills: list[str] = field(default_factory=list)
    victims: list[Victim] = field(default_factory=list)
    starts: int = 0
    left_behind: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


@dataclass
class Trial:
    """Disturbs builds of one ``manifest``, in ``folder``, which must give what ``reference`` has."""

    manifest: Path
    folder: Path
    reference: Reference

    def run(self, number: int, runner: Runner, chance: random.Random) -> DisturbedBuild:
        """A build that is killed at least once and then finished: one that ends before it is hit is begun anew."""
        while True:
            root = self.folder / f"build-{number:03d}"
            shutil.rmtree(root, ignore_errors=True)
            result = self._disturb(root, runner, chance)
            if result.victims or result.wrong:
                if not result.wrong:
                    result.wrong += differences(root, self.reference)
                return result

    def _disturb(self, root: Path, runner: Runner, chance: random.Random) -> DisturbedBuild:
        """One build, started again after each kill until it ends by itself."""
        result = DisturbedBuild(runner)
        waiting = draw_victims(runner, chance)
        while True:
            build = Build.start(self.manifest, root, runner)
            result.starts += 1
            while waiting and build.alive():
                self._kill(build, waiting.pop(), result, chance)
            code = finished(build)
            result.left_behind += build.kill_leftovers()
            if code in FINISHED:
                return result
            # Every start but the last must have ended by a kill of ours; killing a worker ends none.
            if code != _KILLED or result.starts > sum(victim != "worker" for victim in result.victims):
                how = f"ended with status {code}" if code is not None else "did not end"
                result.wrong.append(f"start {result.starts} {how}; see {root.with_suffix('.log')}")
                return result

    def _kill(self, build: Build, victim: Victim, result: DisturbedBuild, chance: random.Random) -> None:
        """Kill once, and enter it in ``result`` if the build had not ended. Half of the moments are drawn over the time
        of the undisturbed build, half follow closely on a new file."""
        if chance.random() < 0.5:
            reached = build.until(seconds=chance.uniform(0, self.reference.seconds[result.runner]))
        else:
            missing = max(1, self.reference.file_count - len(build.files_before))
            reached = build.until(new_files=chance.randint(1, missing))
            time.sleep(chance.uniform(0, JUST_AFTER_SECONDS))
        if reached and build.alive() and build.kill(victim, chance):
            seconds, parts = time.monotonic() - build.since, len(committed(build.root))
            result.victims.append(victim)
            result.kills.append(f"{victim} at {seconds:.1f} s ({parts} parts)")


def draw_victims(runner: Runner, chance: random.Random) -> list[Victim]:
    """What is to be killed in one build, one to three times."""
    if runner == "local":
        return ["driver"] * chance.randint(1, 3)
    victims: list[Victim] = []
    for _ in range(chance.randint(1, 3)):
        enough = victims.count("worker") == WORKERS_KILLED_AT_MOST
        victims.append(chance.choice(["driver", "all"] if enough else ["driver", "worker", "all"]))
    return victims


def finished(build: Build) -> int | None:
    """The build's exit status; None when it did not end in time, and was ended."""
    try:
        return build.process.wait(timeout=LONGEST_BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        build.kill("all", random.Random(0))
        return None


def undisturbed(manifest: Path, folder: Path, runners: tuple[Runner, ...]) -> Reference:
    """Build without disturbance, once with each runner. Exits if one fails, or if they differ."""
    seconds: dict[Runner, float] = {}
    for runner in runners:
        build = Build.start(manifest, folder / f"undisturbed-{runner}", runner)
        code = finished(build)
        seconds[runner] = time.monotonic() - build.since
        build.kill_leftovers()
        if code not in FINISHED:
            sys.exit(f"the undisturbed build ended with status {code}; see {build.root.with_suffix('.log')}")
    reference = Reference.of(folder / f"undisturbed-{runners[0]}", seconds)
    for runner in runners[1:]:
        if wrong := list(differences(folder / f"undisturbed-{runner}", reference)):
            sys.exit(f"undisturbed builds with {runners[0]} and {runner} differ: {'; '.join(wrong)}")
    counts = Counter(outcome.status for outcome in reference.outcomes)
    size = sum(map(len, reference.files.values())) / 1e6
    times = ", ".join(f"{spent:.1f} s with {runner}" for runner, spent in seconds.items())
    shares = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    print(
        f"undisturbed: {times}; {len(reference.outcomes)} rows ({shares}), {len(reference.files)} files, {size:.2f} MB"
    )
    return reference


def disturbed(options: argparse.Namespace, trial: Trial, runners: tuple[Runner, ...]) -> list[DisturbedBuild]:
    """Disturb builds one after another, with each runner in turn; a line is printed for each."""
    every = []
    for number in range(options.builds):
        result = trial.run(number, runners[number % len(runners)], random.Random(f"{options.seed}/{number}"))
        every.append(result)
        verdict = "; ".join(result.wrong) or "identical"
        kills = ", ".join(result.kills)
        print(f"{number + 1:3d}  {result.runner:5}  {kills}; {result.starts} starts: {verdict}", flush=True)
        if not result.wrong:
            shutil.rmtree(trial.folder / f"build-{number:03d}")
    return every


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--builds", type=int, default=20, metavar="N")
    parser.add_argument("--runner", choices=("ray", "local", "both"), default="both")
    parser.add_argument("--seed", type=int, default=0, help="of what is killed when")
    parser.add_argument("--manifest", type=Path, metavar="FILE", help="default: short spans of the demo's clips")
    options = parser.parse_args()
    runners: tuple[Runner, ...] = ("ray", "local") if options.runner == "both" else (options.runner,)
    folder = Path(tempfile.mkdtemp(prefix="posecap-fault-tolerance-"))
    manifest = options.manifest or write_input(folder)
    every = disturbed(options, Trial(manifest, folder, undisturbed(manifest, folder, runners)), runners)
    hits = Counter(victim for result in every for victim in result.victims)
    wrong = [result for result in every if result.wrong]
    print(f"{len(every)} builds, {hits.total()} kills: " + ", ".join(f"{n} {victim}" for victim, n in hits.items()))
    print(f"{len(every) - len(wrong)} byte-identical with nothing lost or twice, {len(wrong)} not")
    left = Counter(command for result in every for command in result.left_behind)
    named = "".join(f", {count} {command}" for command, count in left.most_common())
    print(f"{left.total()} processes outlived their driver by more than {LONGEST_CLEANUP_SECONDS:g} s{named}")
    if wrong:
        print(f"what they left is in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
