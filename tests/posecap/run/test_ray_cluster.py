"""The connection to a cluster: refused at once where there is none, given up when it falls silent."""

import socket
import subprocess
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from posecap.build import Options, build
from posecap.run import ray_cluster
from posecap.run.ray_cluster import ClusterLostError, Node, RayCluster, WorkersNotReadyError
from tests import ROOT, small
from tests.programs import program

pytestmark = [pytest.mark.ray]


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
@pytest.mark.filterwarnings("ignore")
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
        # A process of its own, since Ray remembers that it was a client.
        for _ in range(3):  # Ray gives a client's server 30 seconds to start, which may not do on a busy machine
            run = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 200, "check": False}
            ended = subprocess.run([*command, *there], **run)
            if "Starting Ray client server failed" not in ended.stderr:
                break
    finally:
        cluster.shutdown()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert small.published(tmp_path / "there") == small.published(tmp_path / "dataset")
