"""Builds on a cluster whose nodes are killed, drained, added and sickened at random, compared with a local build.

Starts a Ray cluster on this machine: a head and one more node that stay well, and a few that are replaced again and
again. A worker of a new node may be killed or raise ``KeyboardInterrupt``, and then the node is killed (SIGKILL) or
drained as an autoscaler does it, loses its disk (``OSError``, no space) or a mount (``not_found``), or its workers exit
at once; each time the fault that was tried least often. A sick node stays until the build has drained and named it,
for two minutes at most; no two are sick of the same at a time. At times the head's control store (GCS) is killed; the
build must then end with status 1 and a message, and go on when it is started again, or finish if it was near its end.
Stages are cheap: each row takes a fixed time and gives a made-up sample; some rows are rejected or fail wherever they
run. Run from the repository's root::

    python benchmarks/cluster.py                             # 20 minutes
    python benchmarks/cluster.py --minutes 90 --seed 7 --kinds kill drain
    python benchmarks/cluster.py --kinds head                # no nodes come and go, the head dies again and again
    python benchmarks/cluster.py --output s3                 # into an S3 server (moto) instead of a directory
    python benchmarks/cluster.py --tally tally.jsonl --faults 100       # until there are 100 of each kind in the file
    python benchmarks/cluster.py --sum tally.jsonl           # what all runs have given that wrote this file

A tally file gets a line as each build ends, so a run can be stopped at any time, and several can write one file, one
after the other or at once. Ends with status 1 if a finished build differs in any byte from the undisturbed local one,
loses or doubles a row, or does not end as it should, or if a new node gets no row within five minutes; those that get
none within one are counted. What a wrong build left stays in the folder that its log is in; else nothing stays. Linux
only: processes are found in /proc.
"""

from __future__ import annotations

import csv
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from cluster_stages import FAULTS, ROW_SECONDS, RUNS_FILE
from fault_tolerance import Reference, differences, outcomes
from measuring import object_store, parser_of

from posecap.outcomes import tally
from posecap.plan_store import work_folder
from posecap.storage import open_storage
from posecap.terminal import ERROR, PARTIAL

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("kill", "drain", "disk_full", "no_mount", "exits", "worker", "interrupt", "head")
"""What happens to a node; ``worker`` (SIGKILL) and ``interrupt`` (KeyboardInterrupt) to one of its workers, ``head`` to
the cluster. ``drain`` is a notice first. In tallies there is ``add`` as well: a node that joined and got a row."""
STICKY = ("disk_full", "no_mount", "exits")
"""Faults by which a node is sick until it is gone."""
LONGEST_BUILD_SECONDS = 900.0
"""From a start of a build to its end. This limit and the next ones are our choice: a build that keeps within them may
be slow, but does not hang."""
LATE_JOIN_SECONDS = 60.0
LONGEST_JOIN_SECONDS = 300.0
"""From adding a node to its first row: after the first it counts as late, after the second as a fault of the build.
Seconds that Ray takes to start the node are among them."""
LONGEST_SICK_SECONDS = 120.0
"""From a sick node's fault until the build has drained and named it."""
LONGEST_GOODBYE_SECONDS = 60.0
"""From the death of the head to the end of the build."""
_INTERRUPT_SECONDS = 12.0
"""Longest wait until a worker of a node runs a row and can be interrupted in it: a node that is about to get no more
rows would be waited for in vain."""
_DRAIN_SECONDS = 3.0
"""From the notice to a node's end: our choice, of some rows; clouds give 30 s to two minutes."""
_CALM_SECONDS = 2.0
"""At most between two things that happen to a node, drawn evenly: some rows long, so that faults fall between rows, in
the first one, and in calls of several."""
_STORE_BYTES = 80 * 1024**2
"""Of each node's object store: a little more than the 75 MB that Ray needs."""
_POLL_SECONDS = 0.2  # between two looks at a build and its nodes: less than a row takes
_HEAD_SECONDS = {"alone": 8.0, "beside": 120.0}
"""Mean time from a build's first row to the death of the head, as the only fault and beside faults of nodes. Our
choice: within a build of the default size, and beside the others late enough that most nodes meet their own fault
first."""

PIPELINE = """\
from cluster_stages import Fetch, Work
from posecap.pipeline import Pipeline

pipeline = Pipeline(stages=(Fetch(), Work()))
"""

MANIFEST = """\
name: cluster
version: 1.0.0
license: CC0-1.0
contact: nobody@example.org
pipeline: pipeline.py
output: dataset
tables:
  - path: rows.csv
rows_per_part: 20
"""


def write_input(folder: Path, rows: int) -> Path:
    """Writes a manifest of which one row in 40 is rejected and one in 50 fails, which :class:`cluster_stages.Work` does
    by their labels ``empty`` and ``broken``."""
    folder.mkdir(parents=True)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "video", "label"))
        for number in range(rows):
            label = "empty" if number % 40 == 7 else "broken" if number % 50 == 9 else "walks"
            writer.writerow((number, f"{number}.mp4", label))
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "manifest.yaml").write_text(MANIFEST)
    return folder / "manifest.yaml"


@dataclass
class Cluster:
    """A Ray cluster on this machine: a head and a second node that are never touched, and those that are added.

    ``ray_cluster`` is Ray's own cluster for tests; None until it is started.
    """

    ray_cluster: Any = None

    def start(self) -> None:
        """Start the head and the second node. Raises what Ray raises if they do not come up in a few tries."""
        from ray.cluster_utils import Cluster as RayCluster

        settings = {"num_cpus": 1, "object_store_memory": _STORE_BYTES}
        cheap = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
        self.ray_cluster = _in_some_tries(
            lambda: RayCluster(initialize_head=True, head_node_args={**settings, **cheap})
        )
        self.add()

    @property
    def address(self) -> str:
        """The head's, ``host:port``, as ``posecap build --address`` takes it."""
        return str(self.ray_cluster.address)

    def add(self) -> Any:
        """Ray's object of a new node with one CPU, so one worker that computes; it joins some seconds later."""
        node = _in_some_tries(
            lambda: self.ray_cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES, wait=False)
        )
        signal.signal(signal.SIGTERM, _stop)  # Ray's own, set by every node, would leave the build behind
        return node

    def kill(self, node: Any) -> None:
        """SIGKILL to every process of the node."""
        self.ray_cluster.remove_node(node, allow_graceful=False)

    def announce_drain(self, node: Any, seconds: float) -> None:
        """As an autoscaler does that takes a node away: the node gets a notice, and is gone some time later."""
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated import autoscaler_pb2

        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        GcsClient(address=self.address).drain_node(
            node.node_id, reason, "benchmark", time.time_ns() // 1_000_000 + int(1000 * seconds)
        )

    def kill_worker(self, node: Any, chance: random.Random) -> bool:
        """SIGKILL to one of the node's processes that run rows (of posecap's actor ``_Worker``, as Ray titles them).
        False: none runs yet."""
        (raylet,) = node.all_processes["raylet"]
        workers = sorted(
            pid for pid, parent, command in _processes() if parent == raylet.process.pid and "_Worker" in command
        )
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
        return bool(workers)

    def kill_head(self) -> None:
        """SIGKILL to the control store; without it no node or worker can be reached."""
        self.ray_cluster.head_node.kill_gcs_server(check_alive=False)

    def stop(self) -> None:
        """End every process of the cluster, and remove its session folder (logs, sockets)."""
        for node in [*self.ray_cluster.worker_nodes, self.ray_cluster.head_node]:
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        shutil.rmtree(self.ray_cluster.head_node.get_session_dir_path(), ignore_errors=True)


def _in_some_tries(start: Callable[[], Any], tries: int = 4) -> Any:
    """What ``start`` gives; on a busy machine Ray's processes may not come up in the time that Ray gives them."""
    for _ in range(tries - 1):
        with suppress(Exception):
            return start()
    return start()


def _stop(*signal_and_frame: object) -> None:
    """On SIGTERM: unwind as on Ctrl-C, so that the build and the cluster are ended."""
    raise SystemExit(1)


def _processes() -> list[tuple[int, int, str]]:
    """Process id, that of its parent, and the command, of every process of this machine."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            found.append((int(entry.name), parent, command))
    return found


@dataclass
class Tally:
    """What was done and what became of it; numbers of faults are by kind.

    ``faults`` hit a running build; ``joined`` are seconds from adding a node to its first row; ``repeated`` are runs of
    rows that had to be done again, by the kind of the node's fault; ``goodbyes`` are seconds from the death of the head
    to the end of the build. Of sick nodes, ``named`` are the seconds until they were drained and named, ``unnamed``
    were not within :data:`LONGEST_SICK_SECONDS`, and of ``cut_short`` the build, or the head, ended first. ``rows`` are
    numbers by status, ``seconds`` the wall seconds of all ``builds``, ``worker_seconds`` those that repeated rows cost;
    ``wrong`` are sentences.
    """

    faults: Counter[str] = field(default_factory=Counter)
    joined: list[float] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)
    goodbyes: list[float] = field(default_factory=list)
    named: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    unnamed: Counter[str] = field(default_factory=Counter)
    cut_short: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    builds: int = 0
    seconds: float = 0.0
    worker_seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add the numbers and lists of another one to these."""
        for each in fields(self):
            mine, others = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, Counter):
                mine.update(others)
            elif isinstance(mine, dict):
                for kind, seconds in others.items():
                    mine[kind] += seconds
            else:
                setattr(self, each.name, mine + others)

    @classmethod
    def read(cls, lines: Iterable[str]) -> Tally:
        """The sum of lines that :meth:`line` gave."""
        found = cls()
        for line in lines:
            given = json.loads(line)
            one = cls()
            for each in fields(cls):
                value = given[each.name]
                setattr(one, each.name, Counter(value) if isinstance(getattr(one, each.name), Counter) else value)
            found.add(one)
        return found

    def line(self, **facts: str | int) -> str:
        """One line of JSON, with ``facts`` of the run before it; seconds to a tenth."""
        rounded = {"joined": [round(seconds, 1) for seconds in self.joined], "seconds": round(self.seconds, 1)}
        return json.dumps({**facts, **vars(self), **rounded}) + "\n"


@dataclass
class Trial:
    """Builds one manifest again and again on a disturbed cluster, into ``datasets``, a folder or an address.

    Logs and copies of datasets go into ``folder``. ``reference`` is what each build must give, and a row takes
    ``row_seconds``. Faults of ``kinds`` are drawn by ``chance``; ``churning`` nodes are replaced again and again.
    ``before`` are faults by kind of earlier builds: the kind that was tried least often comes next. ``tally`` is that
    of the present build.
    """

    manifest: Path
    folder: Path
    datasets: str
    reference: Reference
    cluster: Cluster
    kinds: tuple[str, ...]
    chance: random.Random
    churning: int
    row_seconds: float
    before: Counter[str]
    tally: Tally = field(default_factory=Tally)
    node_kinds: dict[str, str] = field(default_factory=dict)  # node → its fault
    sick: set[str] = field(default_factory=set)  # kinds of the faults of nodes that are sick now
    ended_as_it_should: bool = True  # of the last start: the head was killed, and the build said so

    def run(self, number: int) -> Tally:
        """Build ``number``, until it ends; started again each time the head was killed and the build said so. A dataset
        that is as it must be is removed."""
        output, log_file = f"{self.datasets}/build-{number:03d}", self.folder / f"build-{number:03d}.log"
        self.tally, self.node_kinds = Tally(), {}
        self._runs_file().unlink(missing_ok=True)
        since = time.monotonic()
        while True:
            code = self._disturb(output, log_file)
            if code != ERROR or not self.ended_as_it_should:
                break
        self.tally.builds += 1
        self.tally.seconds += time.monotonic() - since
        if code == PARTIAL:  # some rows fail wherever they run
            root = copied(output, self.folder / "copy")
            self.tally.wrong += [f"build {number}: {found}" for found in differences(root, self.reference)]
            self.tally.rows += Counter(tally(outcomes(root)).as_json()["rows"])
            self._count_repeated()
            if not self.tally.wrong:
                shutil.rmtree(root)
        else:
            self.tally.wrong.append(f"build {number} ended with status {code}; see {log_file}")
        self.before += self.tally.faults
        return self.tally

    def _disturb(self, output: str, log_file: Path) -> int | None:
        """Run the build once, with faults. Its status; None if it did not end in time, and was killed."""
        self.ended_as_it_should = False
        with log_file.open("ab") as log:
            arguments = ["build", "--manifest", str(self.manifest), "--output", output, "--address"]
            build = subprocess.Popen(
                [sys.executable, "-m", "posecap", *arguments, self.cluster.address],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        of_nodes = [kind for kind in self.kinds if kind != "head"]
        lives = [self._life(log_file) for _ in range(self.churning if of_nodes else 0)]
        mean = _HEAD_SECONDS["beside" if of_nodes else "alone"]
        since, ran_before, head_dies_at = time.monotonic(), self._ran(), None
        try:
            while build.poll() is None and time.monotonic() - since < LONGEST_BUILD_SECONDS:
                for number, life in enumerate(lives):
                    if build.poll() is None and next(life, "over") == "over":
                        lives[number] = self._life(log_file)
                if "head" in self.kinds and head_dies_at is None and self._ran() > ran_before:
                    head_dies_at = time.monotonic() + self.chance.expovariate(1 / mean)
                if head_dies_at is not None and time.monotonic() > head_dies_at and build.poll() is None:
                    return self._kill_head(build, log_file)
                time.sleep(_POLL_SECONDS)
            return build.poll()
        finally:
            for life in lives:
                life.close()
            if build.poll() is None:
                build.kill()
                build.wait()

    def _life(self, log_file: Path) -> Generator[None]:
        """The life of one node: it joins, a worker of it may be hit, and then the node itself. Yields while it waits;
        closed when the build ends."""
        node, since = self.cluster.add(), time.monotonic()
        try:
            while node.node_id not in self._runs():
                if time.monotonic() - since > LONGEST_JOIN_SECONDS:
                    self.tally.wrong.append(f"node {node.node_id} had no row after {LONGEST_JOIN_SECONDS:g} s")
                    return
                yield
            self.tally.faults["add"] += 1
            self.tally.joined.append(time.monotonic() - since)
            for kind in ("worker", "interrupt"):
                if kind in self.kinds and self._due(kind):
                    yield from self._pause(_CALM_SECONDS)
                    yield from self._hit_worker(kind, node)
            large = [kind for kind in (*STICKY, "kill", "drain") if kind in self.kinds and kind not in self.sick]
            if large:
                yield from self._pause(_CALM_SECONDS)
                kind = min(large, key=lambda kind: (self._count(kind), self.chance.random()))
                yield from self._hit_node(kind, node, log_file)
        finally:
            self._flag(node).unlink(missing_ok=True)
            if node in self.cluster.ray_cluster.worker_nodes:
                self.cluster.kill(node)

    def _pause(self, longest: float) -> Iterator[None]:
        """A random time of at most so many seconds."""
        until = time.monotonic() + self.chance.uniform(0, longest)
        while time.monotonic() < until:
            yield

    def _count(self, kind: str) -> int:
        """How often a fault was tried, in earlier builds and this one."""
        return self.before[kind] + self.tally.faults[kind]

    def _due(self, kind: str) -> bool:
        """Whether a worker's fault is next: no kind but ``head`` was tried less often."""
        return self._count(kind) <= min((self._count(other) for other in self.kinds if other != "head"), default=0)

    def _hit_worker(self, kind: str, node: Any) -> Iterator[None]:
        """Kill or interrupt a worker of a node; counted where there was one to hit. A worker that interrupts itself
        (:class:`cluster_stages.Work`) removes the node's flag before."""
        if kind == "worker":
            self.tally.faults[kind] += self.cluster.kill_worker(node, self.chance)
            return
        self._flag(node).write_text(kind)
        until = time.monotonic() + _INTERRUPT_SECONDS
        while self._flag(node).exists() and time.monotonic() < until:
            yield
        self.tally.faults[kind] += not self._flag(node).exists()

    def _hit_node(self, kind: str, node: Any, log_file: Path) -> Iterator[None]:
        """Make a node sick or give it a notice, and wait until the caller may kill it; ``kill`` does nothing here."""
        self.node_kinds[node.node_id] = kind
        self.tally.faults[kind] += 1
        if kind in STICKY:
            yield from self._sicken(kind, node, log_file)
        elif kind == "drain":
            self.cluster.announce_drain(node, _DRAIN_SECONDS)
            until = time.monotonic() + _DRAIN_SECONDS
            while time.monotonic() < until:
                yield

    def _sicken(self, kind: str, node: Any, log_file: Path) -> Iterator[None]:
        """Raise the node's flag, and wait until the build's log says that it does without the node."""
        said = re.compile(rf"node \S+/{node.node_id[:8]} (gets no more rows|is left out)")
        since = time.monotonic()
        self.sick.add(kind)
        self._flag(node).write_text(kind)
        try:
            while not said.search(log_file.read_text(errors="replace")):
                if time.monotonic() - since > LONGEST_SICK_SECONDS:
                    self.tally.unnamed[kind] += 1
                    return
                yield
            self.tally.named[kind].append(round(time.monotonic() - since, 1))
        except GeneratorExit:  # the build ended, or the head was killed: the life of the node is closed
            self.tally.cut_short[kind] += 1
            raise
        finally:
            self.sick.discard(kind)

    def _kill_head(self, build: subprocess.Popen[bytes], log: Path) -> int | None:
        """Kill the head, wait for the build to end, and start a new cluster.

        The status with which the build ends: 1 with a message (:mod:`posecap.run.ray_cluster` has it), or that of a
        build which was so near its end that it needed the head no more; None where it does not end in time.
        """
        since, said_before = time.monotonic(), len(log.read_bytes())
        self.cluster.kill_head()
        try:
            code = build.wait(LONGEST_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        self.tally.goodbyes.append(round(time.monotonic() - since, 1))
        self.tally.faults["head"] += 1
        self.ended_as_it_should = code == ERROR and b"has not answered for" in log.read_bytes()[said_before:]
        self.cluster.stop()
        self.cluster.start()
        return code

    def _flag(self, node: Any) -> Path:
        """The file that says what a node suffers from; it is there while it does
        (:func:`cluster_stages.fault_here`)."""
        return Path(os.environ[FAULTS], node.node_id)

    def _runs_file(self) -> Path:
        """The list to which every worker adds the rows that it begins."""
        return Path(os.environ[FAULTS]) / RUNS_FILE

    def _runs(self) -> dict[str, list[str]]:
        """Node → the rows that it has run, in order."""
        runs: defaultdict[str, list[str]] = defaultdict(list)
        for line in self._runs_file().read_text().splitlines() if self._runs_file().exists() else ():
            if len(words := line.split()) == 3:  # not the end of a line of a process that was killed in it
                runs[words[1]].append(words[2])
        return runs

    def _ran(self) -> int:
        """How many rows were run."""
        return sum(map(len, self._runs().values()))

    def _count_repeated(self) -> None:
        """Enter into the tally runs on a faulty node of rows that ran on another one, too, by the fault of the node."""
        runs = self._runs()
        for node, kind in self.node_kinds.items():
            elsewhere = {row for other, rows in runs.items() if other != node for row in rows}
            again = sum(row in elsewhere for row in runs[node])
            self.tally.repeated[kind] += again
            self.tally.worker_seconds += again * self.row_seconds


def copied(output: str, folder: Path) -> Path:
    """Where a dataset can be compared: one in a folder stays where it is; one in an object store is copied to
    ``folder``, with its ledger from this machine's work folder."""
    if "://" not in output:
        return Path(output)
    shutil.rmtree(folder, ignore_errors=True)
    storage = open_storage(output)
    for file in storage.list():
        path = folder / file.name
        path.parent.mkdir(parents=True, exist_ok=True)
        with storage.open(file.name) as source, path.open("wb") as target:
            shutil.copyfileobj(source, target)
    shutil.copyfile(work_folder(storage) / "ledger.sqlite", folder / "ledger.sqlite")
    return folder


def undisturbed(manifest: Path, folder: Path) -> Reference:
    """A local build, with threads and without faults; its rows take no time. Exits where it fails."""
    root, since = folder / "undisturbed", time.monotonic()
    arguments = ["build", "--manifest", str(manifest), "--output", str(root), "--runner", "local"]
    environment = {key: value for key, value in os.environ.items() if key not in (FAULTS, ROW_SECONDS)}
    ended = subprocess.run(
        [sys.executable, "-m", "posecap", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != PARTIAL:
        sys.exit(f"the undisturbed build ended with status {ended.returncode}:\n{ended.stderr}")
    return Reference.of(root, {"local": time.monotonic() - since})


def print_tally(found: Tally) -> None:
    """Print the numbers, FALSE behind a sum that is not right, and a line for everything that is wrong."""
    counted = ", ".join(f"{kind} {found.faults[kind]}" for kind in ("add", *KINDS) if found.faults[kind])
    print(f"{found.builds} builds in {found.seconds:.0f} s; {sum(found.faults.values())} faults: {counted}")
    rows = found.rows
    total = sum(rows[status] for status in ("kept", "rejected", "failed", "quarantined"))
    print(
        f"rows: {rows['planned']:,} planned = {rows['kept']:,} kept + {rows['rejected']:,} rejected + "
        f"{rows['failed']:,} failed + {rows['quarantined']:,} quarantined" + (": FALSE" * (total != rows["planned"]))
    )
    late = sum(seconds > LATE_JOIN_SECONDS for seconds in found.joined)
    print(f"of {len(found.joined)} added nodes, {late} had their first row later than {LATE_JOIN_SECONDS:g} s after")
    for what, seconds in (
        ("from adding a node to its first row", found.joined),
        ("from the death of the head to the end of the build", found.goodbyes),
    ):
        if seconds:
            print(f"{what}: {_spread(seconds)}")
    for kind in (*STICKY, "kill", "drain"):
        if count := found.faults[kind]:
            print(f"  {kind}: {found.repeated[kind] / count:.1f} rows run again for each", end="")
            if kind in STICKY:
                named = found.named.get(kind, [])
                print(f"; {len(named)} of {count} nodes drained and named, after {_spread(named)}", end="")
                print(f"; {found.unnamed[kind]} not, and of {found.cut_short[kind]} the build ended first", end="")
            print()
    print(f"{found.worker_seconds:.0f} worker seconds were lost by rows run again")
    for sentence in found.wrong:
        print(f"WRONG: {sentence}")


def _spread(seconds: list[float]) -> str:
    """Median and maximum in words; - for none."""
    return f"{statistics.median(seconds):.1f} s (median), at most {max(seconds):.1f} s" if seconds else "-"


def print_sum(file: Path) -> int:
    """The tally of all runs that wrote a file, for each kind of output. Status 1: something is wrong."""
    lines: defaultdict[str, list[str]] = defaultdict(list)
    for line in file.read_text().splitlines():
        lines[json.loads(line)["output"]].append(line)
    wrong = False
    for output, of_output in sorted(lines.items()):
        found = Tally.read(of_output)
        print(f"into {'a folder' if output == 'folder' else 'an S3 server'}:")
        print_tally(found)
        wrong |= bool(found.wrong)
    return int(wrong)


def counted(file: Path | None, output: str) -> Counter[str]:
    """Faults by kind that a tally file has for a kind of output; none where there is no file."""
    if file is None or not file.exists():
        return Counter()
    lines = file.read_text().splitlines()
    return Tally.read(line for line in lines if json.loads(line)["output"] == output).faults


def commit() -> str:
    """Of the checkout, shortened; empty where there is none."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="time for all builds (default: %(default)g)")
    parser.add_argument("--rows", type=int, default=300, help="of each build (default: %(default)s)")
    parser.add_argument("--row-seconds", type=float, default=0.3, help="of work for each row (default: %(default)g)")
    parser.add_argument("--churning", type=int, default=2, help="nodes that come and go at a time (default: 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", choices=("folder", "s3"), default="folder", help="where the datasets lie")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of faults (default: all)")
    parser.add_argument("--tally", type=Path, metavar="FILE", help="gets a line of JSON for each build")
    parser.add_argument(
        "--faults", type=int, metavar="N", help="end before the time is over once FILE has so many of each kind"
    )
    parser.add_argument("--sum", type=Path, metavar="FILE", help="print the sum of a tally file, and do nothing else")
    options = parser.parse_args()
    if options.sum is not None:
        return print_sum(options.sum)
    folder = Path(tempfile.mkdtemp(prefix="posecap-cluster-"))
    (folder / "faults").mkdir()
    path = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
    os.environ.update({FAULTS: str(folder / "faults"), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"})
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"})
    manifest = write_input(folder / "input", options.rows)
    reference, cluster, chance = undisturbed(manifest, folder), Cluster(), random.Random(options.seed)
    os.environ[ROW_SECONDS] = str(options.row_seconds)
    facts: dict[str, str | int] = {"output": options.output, "seed": options.seed, "commit": commit()}
    until, found, number = time.monotonic() + 60 * options.minutes, Tally(), 0
    with object_store() if options.output == "s3" else nullcontext(str(folder)) as datasets:
        cluster.start()
        try:
            while time.monotonic() < until and not found.wrong:
                before = counted(options.tally, options.output) if options.tally else found.faults
                if options.faults and all(before[kind] >= options.faults for kind in options.kinds):
                    break
                trial = Trial(
                    manifest,
                    folder,
                    datasets,
                    reference,
                    cluster,
                    tuple(options.kinds),
                    chance,
                    churning=options.churning,
                    row_seconds=options.row_seconds,
                    before=Counter(before),
                )
                one = trial.run(number)
                found.add(one)
                if options.tally:
                    with options.tally.open("a") as file:
                        file.write(one.line(**facts))
                number += 1
                print(f"build {number}: faults so far {sum(found.faults.values())}", flush=True)
        except (KeyboardInterrupt, SystemExit):
            print(f"stopped in build {number}, which does not count")
        finally:
            cluster.stop()
    print_tally(found)
    if not found.wrong:
        shutil.rmtree(folder)
    return 1 if found.wrong or not found.builds else 0


if __name__ == "__main__":
    sys.exit(main())
