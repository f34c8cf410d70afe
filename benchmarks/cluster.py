"""Builds on a cluster whose nodes are killed, drained, added and sickened at random, compared with a local build.

Starts a Ray cluster on this machine: a head and one more node that stay well, and a third that is replaced again and
again. One worker of each new node is killed, one raises ``KeyboardInterrupt``, and then the node is killed (SIGKILL) or
drained as an autoscaler does it, loses its disk (``OSError``, no space) or a mount (``not_found``), or its workers exit
at once. Now and then the head's control store (GCS) is killed; the build must then end with status 1 and a message, and
go on when it is started again. Stages are cheap: each row takes a fixed time and gives a made-up sample; some rows are
rejected or fail wherever they run. Run from the repository's root::

    python benchmarks/cluster.py                             # 20 minutes
    python benchmarks/cluster.py --minutes 90 --seed 7 --kinds kill drain
    python benchmarks/cluster.py --output s3                 # into an S3 server (moto) instead of a directory

Ends with status 1 if a finished build differs in any byte from the undisturbed local one, loses or doubles a row, or
does not end as it should.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster_stages import FAULTS, ROW_SECONDS, RUNS_FILE
from fault_tolerance import Reference, differences, outcomes
from measuring import parser_of

from posecap.outcomes import tally
from posecap.plan_store import work_folder
from posecap.storage import open_storage

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("kill", "drain", "disk_full", "no_mount", "exits", "worker", "interrupt", "head")
"""What happens to a node; ``worker`` and ``interrupt`` to one of its workers, ``head`` to the cluster."""
STICKY = ("disk_full", "no_mount", "exits")
"""Faults by which a node is sick until it is gone."""
LONGEST_BUILD_SECONDS = 900.0
LONGEST_JOIN_SECONDS = 60.0
LONGEST_GOODBYE_SECONDS = 60.0
"""From the death of the head to the end of the build."""
_SICK_SECONDS = 6.0
_STORE_BYTES = 80 * 1024**2
_POLL_SECONDS = 0.2
_HEAD_SHARE = 0.1
"""Chance that the head is killed after a node."""

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
    """A manifest of which one row in 40 is rejected and one in 50 fails."""
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
    """A Ray cluster on this machine: a head and a second node that are never touched, and those that are added."""

    ray_cluster: Any = None

    def start(self) -> None:
        from ray.cluster_utils import Cluster as RayCluster

        settings = {"num_cpus": 1, "object_store_memory": _STORE_BYTES}
        self.ray_cluster = RayCluster(initialize_head=True, head_node_args={**settings, "include_dashboard": False})
        self.add()

    @property
    def address(self) -> str:
        return str(self.ray_cluster.address)

    def add(self) -> Any:
        return self.ray_cluster.add_node(num_cpus=1, object_store_memory=_STORE_BYTES, wait=False)

    def kill(self, node: Any) -> None:
        self.ray_cluster.remove_node(node, allow_graceful=False)

    def drain(self, node: Any, seconds: int) -> None:
        """As an autoscaler does that takes a node away: the node gets a notice, and is gone some time later."""
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
        from ray.core.generated import autoscaler_pb2

        reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        GcsClient(address=self.address).drain_node(
            node.node_id, reason, "benchmark", time.time_ns() // 1_000_000 + 1000 * seconds
        )
        time.sleep(seconds)
        self.kill(node)

    def kill_worker(self, node: Any, chance: random.Random) -> bool:
        """False: none runs yet."""
        (raylet,) = node.all_processes["raylet"]
        workers = sorted(
            pid for pid, parent, command in _processes() if parent == raylet.process.pid and "_Worker" in command
        )
        if workers:
            os.kill(chance.choice(workers), signal.SIGKILL)
        return bool(workers)

    def kill_head(self) -> None:
        self.ray_cluster.head_node.kill_gcs_server(False)

    def stop(self) -> None:
        for node in [*self.ray_cluster.worker_nodes, self.ray_cluster.head_node]:
            node.kill_all_processes(check_alive=False, allow_graceful=False)


def _processes() -> list[tuple[int, int, str]]:
    """Process id, that of its parent, and the command, of every process."""
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
    """What was done and what became of it.

    ``faults`` counts faults that hit a running build by kind; ``joined`` are seconds from adding a node to its first
    row; ``repeated`` are runs of rows that had to be done again, by the kind of the fault; ``goodbyes`` are seconds
    from the death of the head to the end of the build.
    """

    faults: Counter[str] = field(default_factory=Counter)
    joined: list[float] = field(default_factory=list)
    repeated: Counter[str] = field(default_factory=Counter)
    goodbyes: list[float] = field(default_factory=list)
    rows: Counter[str] = field(default_factory=Counter)
    builds: int = 0
    seconds: float = 0.0
    named: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Trial:
    """Builds one manifest again and again on a disturbed cluster, into ``datasets``, a folder or an address."""

    manifest: Path
    folder: Path
    datasets: str
    reference: Reference
    cluster: Cluster
    kinds: tuple[str, ...]
    chance: random.Random
    tally: Tally = field(default_factory=Tally)
    node_kinds: dict[str, str] = field(default_factory=dict)
    ended_as_it_should: bool = True

    def run(self, number: int) -> None:
        """One build, until it ends; started again each time the head was killed."""
        output, log_file = f"{self.datasets}/build-{number:03d}", self.folder / f"build-{number:03d}.log"
        self.node_kinds = {}
        self._runs_file().unlink(missing_ok=True)
        since = time.monotonic()
        while True:
            code = self._disturb(output, log_file, since)
            if code != 1 or not self.ended_as_it_should:
                break
        self.tally.builds += 1
        self.tally.seconds += time.monotonic() - since
        log = log_file.read_text(errors="replace")
        self.tally.named += log.count("gets no more rows: ") - log.count("the cluster is about to take it away")
        if code != 3:
            self.tally.wrong.append(f"build {number} ended with status {code}; see {log_file}")
            return
        root = copied(output, self.folder / "copy")
        self.tally.wrong += [f"build {number}: {found}" for found in differences(root, self.reference)]
        self.tally.rows += Counter(tally(outcomes(root)).as_json()["rows"])
        self._count_repeated()
        if not self.tally.wrong:
            shutil.rmtree(root)

    def _disturb(self, output: str, log_file: Path, since: float) -> int | None:
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
        try:
            while build.poll() is None and time.monotonic() - since < LONGEST_BUILD_SECONDS:
                self._one_node(build)
                if (
                    "head" in self.kinds
                    and self.chance.random() < _HEAD_SHARE
                    and build.poll() is None
                    and self._runs()
                ):
                    return self._kill_head(build, log_file)
            return build.poll()
        finally:
            if build.poll() is None:
                build.kill()
                build.wait()

    def _one_node(self, build: subprocess.Popen[bytes]) -> None:
        """The life of one node: it joins, a worker of it may be hit, and then the node itself."""
        node, since = self.cluster.add(), time.monotonic()
        try:
            while node.node_id not in self._runs():
                if build.poll() is not None:
                    return
                if time.monotonic() - since > LONGEST_JOIN_SECONDS:
                    self.tally.wrong.append(f"node {node.node_id} had no row after {LONGEST_JOIN_SECONDS:g} s")
                    return
                time.sleep(_POLL_SECONDS)
            self._count("add", build)
            self.tally.joined.append(time.monotonic() - since)
            small = [kind for kind in ("worker", "interrupt") if kind in self.kinds]
            for kind in small:
                time.sleep(self.chance.uniform(0, 2))
                self._hit_worker(kind, node, build)
            large = [kind for kind in (*STICKY, "kill", "drain") if kind in self.kinds]
            if large and build.poll() is None:
                time.sleep(self.chance.uniform(0, 2))
                self._hit_node(
                    min(large, key=lambda kind: (self.tally.faults[kind], self.chance.random())), node, build
                )
        finally:
            self._flag(node).unlink(missing_ok=True)
            if node in self.cluster.ray_cluster.worker_nodes:
                self.cluster.kill(node)

    def _hit_worker(self, kind: str, node: Any, build: subprocess.Popen[bytes]) -> None:
        if build.poll() is not None:
            return
        if kind == "worker":
            if self.cluster.kill_worker(node, self.chance):
                self._count(kind, build)
            return
        self._flag(node).write_text(kind)
        until = time.monotonic() + 2 * _SICK_SECONDS
        while self._flag(node).exists() and time.monotonic() < until and build.poll() is None:
            time.sleep(_POLL_SECONDS)
        if not self._flag(node).exists():
            self._count(kind, build)

    def _hit_node(self, kind: str, node: Any, build: subprocess.Popen[bytes]) -> None:
        self.node_kinds[node.node_id] = kind
        if kind in STICKY:
            self._flag(node).write_text(kind)
            time.sleep(_SICK_SECONDS)
        elif kind == "drain":
            self.cluster.drain(node, seconds=3)
        else:
            self.cluster.kill(node)
        self._count(kind, build)

    def _kill_head(self, build: subprocess.Popen[bytes], log: Path) -> int | None:
        since = time.monotonic()
        self.cluster.kill_head()
        try:
            code = build.wait(LONGEST_GOODBYE_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        self.tally.goodbyes.append(time.monotonic() - since)
        self.tally.faults["head"] += 1
        self.ended_as_it_should = code == 1 and "has not answered for" in log.read_text(errors="replace")
        self.cluster.stop()
        self.cluster.start()
        return code

    def _count(self, kind: str, build: subprocess.Popen[bytes]) -> None:
        if build.poll() is None:
            self.tally.faults[kind] += 1

    def _flag(self, node: Any) -> Path:
        return Path(os.environ[FAULTS], node.node_id)

    def _runs_file(self) -> Path:
        return Path(os.environ[FAULTS]) / RUNS_FILE

    def _runs(self) -> dict[str, list[str]]:
        """Node → the rows that it has run, in order."""
        runs: defaultdict[str, list[str]] = defaultdict(list)
        for line in self._runs_file().read_text().splitlines() if self._runs_file().exists() else ():
            if len(words := line.split()) == 3:
                runs[words[1]].append(words[2])
        return runs

    def _count_repeated(self) -> None:
        """Runs on a faulty node of rows that ran again elsewhere, by the fault of the node."""
        runs = self._runs()
        for node, kind in self.node_kinds.items():
            elsewhere = {row for other, rows in runs.items() if other != node for row in rows}
            self.tally.repeated[kind] += sum(row in elsewhere for row in runs[node])


def copied(output: str, folder: Path) -> Path:
    """A dataset of an object store and its ledger in a folder; one in a folder stays where it is."""
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


@contextmanager
def object_store() -> Iterator[str]:
    """The address of a bucket of an S3 server, which every process that is started in the block reaches."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    os.environ.update({"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"})
    os.environ.update(
        {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    )
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], **quiet)
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.1)
        import s3fs  # type: ignore[import-untyped]

        s3fs.S3FileSystem().mkdir("datasets")
        yield "s3://datasets"
    finally:
        server.kill()


def undisturbed(manifest: Path, folder: Path) -> Reference:
    """A local build, with threads and without faults."""
    root, since = folder / "undisturbed", time.monotonic()
    arguments = ["build", "--manifest", str(manifest), "--output", str(root), "--runner", "local"]
    environment = {key: value for key, value in os.environ.items() if key != FAULTS}
    ended = subprocess.run(
        [sys.executable, "-m", "posecap", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode != 3:
        sys.exit(f"the undisturbed build ended with status {ended.returncode}:\n{ended.stderr}")
    return Reference.of(root, {"local": time.monotonic() - since})


def print_tally(found: Tally, row_seconds: float) -> None:
    counted = ", ".join(f"{kind} {found.faults[kind]}" for kind in ("add", *KINDS) if found.faults[kind])
    print(f"{found.builds} builds in {found.seconds:.0f} s; {sum(found.faults.values())} faults: {counted}")
    rows = found.rows
    total = sum(rows[status] for status in ("kept", "rejected", "failed", "quarantined"))
    print(
        f"rows: {rows['planned']:,} planned = {rows['kept']:,} kept + {rows['rejected']:,} rejected + "
        f"{rows['failed']:,} failed + {rows['quarantined']:,} quarantined" + (": FALSE" * (total != rows["planned"]))
    )
    for what, seconds in (
        ("from adding a node to its first row", found.joined),
        ("from the death of the head to the end of the build", found.goodbyes),
    ):
        if seconds:
            print(f"{what}: {statistics.median(seconds):.1f} s (median), at most {max(seconds):.1f} s")
    print(f"{found.named} nodes were drained and named as sick, of {sum(found.faults[kind] for kind in STICKY)}")
    for kind in (*STICKY, "kill", "drain"):
        if count := found.faults[kind]:
            again = found.repeated[kind] / count
            print(f"  {kind}: {again:.1f} rows run again for each ({row_seconds * again:.1f} worker seconds)")
    for sentence in found.wrong:
        print(f"WRONG: {sentence}")


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=20.0, help="time for all builds (default: %(default)g)")
    parser.add_argument("--rows", type=int, default=300, help="of each build (default: %(default)s)")
    parser.add_argument("--row-seconds", type=float, default=0.3, help="of work for each row (default: %(default)g)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", choices=("folder", "s3"), default="folder", help="where the datasets lie")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, help="of faults (default: all)")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="posecap-cluster-"))
    (folder / "faults").mkdir()
    path = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
    os.environ.update(
        {
            FAULTS: str(folder / "faults"),
            ROW_SECONDS: str(options.row_seconds),
            "PYTHONPATH": path,
            "OMP_NUM_THREADS": "1",
        }
    )
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"})
    manifest = write_input(folder / "input", options.rows)
    reference, cluster, chance = undisturbed(manifest, folder), Cluster(), random.Random(options.seed)
    until = time.monotonic() + 60 * options.minutes
    with object_store() if options.output == "s3" else nullcontext(str(folder)) as datasets:
        trial = Trial(manifest, folder, datasets, reference, cluster, tuple(options.kinds), chance)
        cluster.start()
        try:
            number = 0
            while time.monotonic() < until and not trial.tally.wrong:
                trial.run(number)
                number += 1
                print(f"build {number}: faults so far {sum(trial.tally.faults.values())}", flush=True)
        finally:
            cluster.stop()
    print_tally(trial.tally, options.row_seconds)
    if not trial.tally.wrong:
        shutil.rmtree(folder)
    return 1 if trial.tally.wrong or not trial.tally.builds else 0


if __name__ == "__main__":
    sys.exit(main())
