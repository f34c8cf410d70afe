"""The connection to a cluster: refused at once where there is none, given up when it falls silent; and its metrics."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
import urllib.request
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from posecap import metrics as m
from posecap.build import Options, build
from posecap.ledger import Ledger
from posecap.metrics import METRICS, Changes
from posecap.outcomes import tally
from posecap.run import ray_cluster
from posecap.run.ray_cluster import ClusterLostError, Node, RayCluster, RayMetrics, WorkersNotReadyError
from tests import ROOT, small
from tests.programs import program

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("scheme", ["", "ray://"])
def test_a_cluster_that_does_not_answer_is_named_at_once(scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # not listening
        address = f"{scheme}127.0.0.1:{unused.getsockname()[1]}"
        since = time.monotonic()
        with pytest.raises(WorkersNotReadyError, match=f"no Ray cluster answers at {address} .*refused"):
            RayCluster(address)
    assert time.monotonic() - since < 5


def test_an_address_with_a_wrong_port_is_refused():
    with pytest.raises(WorkersNotReadyError, match="'head:6379x' is not the address of a Ray cluster"):
        RayCluster("head:6379x")


def test_without_any_cluster_auto_is_refused(monkeypatch):
    def init(**settings):
        raise ConnectionError("Could not find any running Ray instance.\nnone is running")

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(WorkersNotReadyError, match="no Ray cluster at auto: none is running"):
        RayCluster("auto")


def test_without_an_address_a_build_starts_its_own_ray_beside_any_other(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "dead:6379")
    monkeypatch.setattr(ray, "init", lambda **settings: asked.append(settings["address"]))
    monkeypatch.setattr(ray_cluster, "_ask", dict)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    asked = []
    RayCluster(None).close()
    assert asked == ["local"]


@pytest.fixture
def silence(monkeypatch):
    """A cluster of one node; it does not answer while the event is set."""
    silent = threading.Event()

    def ask():
        while silent.is_set():
            time.sleep(0.01)
        return {"host/1": Node("1" * 56, "host/1", {"CPU": 1.0}, draining=False)}

    monkeypatch.setattr(ray_cluster, "_connect", lambda address: None)
    monkeypatch.setattr(ray_cluster, "_ask", ask)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    for name, seconds in (("_ASK_SECONDS", 0.02), ("_SILENT_SECONDS", 0.3), ("_CONFIRM_SECONDS", 0.2)):
        monkeypatch.setattr(ray_cluster, name, seconds)
    yield silent
    silent.clear()


def ask_for(cluster, *, seconds):
    since = time.monotonic()
    while time.monotonic() - since < seconds:
        cluster.nodes()
        time.sleep(0.01)


def test_a_cluster_that_falls_silent_is_given_up(silence):
    cluster = RayCluster("head:6379")
    assert list(cluster.nodes()) == ["host/1"]
    silence.set()
    since = time.monotonic()
    with pytest.raises(ClusterLostError, match=r"the Ray cluster head:6379 has not answered for .* same command again"):
        ask_for(cluster, seconds=5)
    assert 0.4 < time.monotonic() - since < 4
    cluster.close()


def test_a_process_that_was_halted_itself_asks_again_before_it_gives_up(silence):
    cluster = RayCluster("head:6379")
    silence.set()
    time.sleep(0.6)
    cluster.nodes()  # late, but the cluster may answer yet
    silence.clear()
    time.sleep(0.4)
    assert list(cluster.nodes()) == ["host/1"]
    cluster.close()


def test_a_process_that_hangs_in_ray_is_ended_with_the_message(silence, monkeypatch, capsys):
    ended = threading.Event()
    monkeypatch.setattr(ray_cluster, "_LOOKS_BEFORE_EXIT", 1)
    monkeypatch.setattr(ray_cluster.os, "_exit", lambda code: ended.set() if code == 1 else None)
    cluster = RayCluster("head:6379")
    silence.set()
    assert ended.wait(10)
    assert "posecap: the Ray cluster head:6379 has not answered for" in capsys.readouterr().err
    cluster.close()


def test_closing_does_not_wait_for_a_cluster_that_is_gone(silence, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_CLOSE_SECONDS", 0.1)
    monkeypatch.setattr(ray, "shutdown", lambda: time.sleep(5))
    cluster = RayCluster(None)
    since = time.monotonic()
    cluster.close()
    assert time.monotonic() - since < 2


@pytest.mark.slow
def test_a_build_by_ray_client_gives_the_bytes_of_threads(tmp_path: Path) -> None:
    """By ``ray://``, as from a machine that is none of its nodes."""
    write = program(ROOT / "benchmarks" / "write.py")
    manifest = write.write_manifest(tmp_path, Namespace(rows=9, video_mb=0, rows_per_part=4))
    build(manifest, options=Options(runner="local", workers=1, progress="none"), log=lambda line: None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = {"num_cpus": 2, "object_store_memory": 80 * 1024**2, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**head, "ray_client_server_port": port})
    try:
        command = [sys.executable, "-m", "posecap", "build", "--manifest", str(manifest), "--workers", "1", "--quiet"]
        there = ["--output", str(tmp_path / "there"), "--address", f"ray://127.0.0.1:{port}"]
        until = time.monotonic() + 60  # the server for clients begins to listen some time after the head
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.1)
        # A process of its own, since Ray remembers that it was a client.
        for _ in range(3):  # Ray gives a client's server 30 seconds to start and to answer, too few on a busy machine
            run = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 200, "check": False}
            ended = subprocess.run([*command, *there], **run)
            if "no Ray cluster at" not in ended.stderr:
                break
    finally:
        cluster.shutdown()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert small.published(tmp_path / "there") == small.published(tmp_path / "dataset")


class Recorded:
    """In place of Ray's metrics: what was made of each name, and the calls."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[Any, ...]] = {}
        self.calls: list[tuple[str, str, float, dict[str, str]]] = []

    def of(self, kind: str) -> Any:
        def make(name: str, about: str, *rest: Any) -> Any:
            self.made[name] = (kind, about, *rest)
            calls = self.calls

            class One:
                def _call(self, how: str, value: float, tags: dict[str, str]) -> None:
                    calls.append((how, name, value, tags))

                def inc(self, value: float, tags: dict[str, str]) -> None:
                    assert value > 0, "as Ray demands"
                    self._call("inc", value, tags)

                def set(self, value: float, tags: dict[str, str]) -> None:
                    self._call("set", value, tags)

                def observe(self, value: float, tags: dict[str, str]) -> None:
                    self._call("observe", value, tags)

            return One()

        return make


def test_changes_become_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded()
    for kind in ("Counter", "Gauge", "Histogram"):
        monkeypatch.setattr(ray_cluster, kind, recorded.of(kind))
    export = RayMetrics("kinetics")
    assert recorded.made.keys() == {metric.name for metric in METRICS}
    assert recorded.made["posecap_parts_total"] == ("Counter", m.PARTS.about, ("dataset",))
    assert recorded.made["posecap_item_seconds"][2:] == (list(m.ITEM_SECONDS.buckets), ("dataset", "node", "stage"))
    changes = Changes()
    changes.added[m.STAGE_SECONDS]["a/1", "decode"] = 2.5
    changes.added[m.WRITTEN_BYTES][("a/1",)] = 0
    changes.set[m.QUEUE][("decode",)] = 0
    changes.observed.append((m.ITEM_SECONDS, ("a/1", "decode"), 0.5))
    export(changes)
    of_stage = {"dataset": "kinetics", "node": "a/1", "stage": "decode"}
    assert recorded.calls == [
        ("inc", "posecap_stage_seconds_total", 2.5, of_stage),
        ("set", "posecap_queue_items", 0, {"dataset": "kinetics", "segment": "decode"}),
        ("observe", "posecap_item_seconds", 0.5, of_stage),
    ]


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """One of its own: Ray multiplies what a process counts by how often it has connected to the cluster."""
    head = {"num_cpus": 2, "object_store_memory": 80 * 1024**2, "include_dashboard": False}
    started = Cluster(initialize_head=True, head_node_args=head)
    yield started
    started.shutdown()


@pytest.mark.slow
def test_a_build_on_ray_is_seen_on_the_metrics_port_of_its_node(cluster: Cluster, tmp_path: Path) -> None:
    pytest.importorskip("opencensus", reason="the extra metrics is not installed, without which Ray exports nothing")
    write = program(ROOT / "benchmarks" / "write.py")
    manifest = write.write_manifest(tmp_path, Namespace(rows=12, video_mb=0, rows_per_part=5))
    with (tmp_path / "rows.csv").open("a") as rows:
        rows.write("again,made-up-0.mp4,label 0\n")
    options = Options(address=cluster.address, workers=1, progress="none")
    built = build(manifest, options=options, log=lambda line: None)
    with Ledger(built.root / "ledger.sqlite") as ledger:
        counts = tally(ledger.outcomes()).as_json()
    samples = scraped(cluster.head_node.metrics_export_port, until="ray_posecap_parts_total")

    def by(name: str, label: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for labels, value in samples[f"ray_{name}"]:
            found[labels[label]] = found.get(labels[label], 0.0) + value
        return found

    assert by("posecap_rows_total", "status") == {"kept": 12.0, "rejected": 1.0}
    assert counts["rows"] == {"planned": 13, "kept": 12, "rejected": 1, "failed": 0, "quarantined": 0}
    assert by("posecap_clips_total", "status") == {"kept": counts["clips"]["kept"]}
    assert by("posecap_not_kept_total", "reason") == counts["reasons"] == {"duplicate": 1}
    assert by("posecap_parts_total", "dataset") == {"write": 3.0}
    assert by("posecap_rows_planned", "dataset") == by("posecap_rows_done", "dataset") == {"write": 13.0}
    assert by("posecap_queue_items", "segment") == {"make": 0.0, "write": 0.0}
    assert by("posecap_item_seconds_count", "stage") == {"make": 12.0, "write": 15.0}
    (node,) = by("posecap_written_bytes_total", "node")
    assert by("posecap_rows_total", "node") == {node: 12.0, "": 1.0}
    assert by("posecap_stage_seconds_total", "stage").keys() == {"make", "write"}
    for metric in METRICS:
        of_one = samples.get(f"ray_{metric.name}", samples.get(f"ray_{metric.name}_count", []))
        assert all({"dataset", *metric.labels} <= labels.keys() for labels, _ in of_one)


def scraped(port: int, *, until: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """What a node's metrics port answers, labels and value by name, once one of this name is there."""
    from prometheus_client.parser import text_string_to_metric_families

    ends, samples = time.monotonic() + 60, dict[str, list[tuple[dict[str, str], float]]]()
    while until not in samples and time.monotonic() < ends:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
        samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
        time.sleep(0.5)
    return samples
