"""The connection to a Ray cluster: its nodes as they come and go, whether it answers at all, and metrics for it.

A thread asks the cluster every two seconds. Ray's own calls wait for a control store (GCS) that does not answer, and
end the process after a minute; so only the thread asks, and a build that hears nothing for a while ends with a message.

Ray exports a build's metrics with its own on the metrics port of the driver's node, ``ray_`` before every name, and
only where it is installed as ``ray[default]`` (the extra ``posecap[metrics]``); without, it drops what it is handed. Of
a histogram it exports the counts of buckets as they are, but a sum that it makes from them: seconds are exact in the
counters alone.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

import ray
from ray.util.metrics import Counter, Gauge, Histogram

from posecap.metrics import METRICS, Changes, Labels, Metric

_OBJECT_STORE_BYTES = 512 * 1024**2
"""Of a Ray that the build starts itself; only paths and small arrays pass through it."""
_CONNECT_SECONDS = 10.0
"""Longest wait for each network address of a cluster's host."""
_ASK_SECONDS = 2.0
"""Time between two questions to the cluster."""
_SILENT_SECONDS = 25.0
"""Without an answer for so long a cluster is given up, well before Ray ends the process (60 s)."""
_CONFIRM_SECONDS = 5.0
"""How much longer an answer is waited for, so that a process that was halted itself does not take that for silence."""
_LOOKS_BEFORE_EXIT = 22
"""Seconds of silence beyond that after which the process is ended, if it hangs: still before Ray does it."""
_CLOSE_SECONDS = 15.0
"""Longest wait for Ray to end; without its control store it takes some seconds. These times are our choices, but those
of which Ray's are given."""
_DISCONNECT_SECONDS = 60.0
"""Longest wait, before a new connection, for an earlier one whose end took longer than that."""


class WorkersNotReadyError(RuntimeError):
    """The actors could not be started; the message says why."""


class ClusterLostError(RuntimeError):
    """The cluster does not answer any more; the message says what to do."""


@dataclass(frozen=True)
class Node:
    """A node that is alive.

    ``name`` is its host's name and the beginning of ``ray_id``, which is unique; ``resources`` are what it has in all,
    as ``CPU`` and ``GPU``. The cluster is about to take away a node that is ``draining``.
    """

    ray_id: str
    name: str
    resources: Mapping[str, float]
    draining: bool


class RayCluster:
    """A connection to a cluster, one for each process.

    Args:
        address: of a running cluster; None starts Ray on this machine, until :meth:`close`.

    Raises:
        WorkersNotReadyError: no cluster answers at the address.
    """

    _ending: ClassVar[threading.Thread | None] = None
    """Disconnects the process from the cluster that it was connected to last."""

    def __init__(self, address: str | None) -> None:
        self._name = address or "on this machine"
        if RayCluster._ending is not None:  # the end of it, in the midst of a new connection, would undo that
            RayCluster._ending.join(_DISCONNECT_SECONDS)
        _connect(address)
        self._nodes = _ask()
        self._answered = time.monotonic()
        self._doubted_since: float | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="posecap-ray-nodes", daemon=True).start()
        threading.Thread(target=self._guard, name="posecap-ray-guard", daemon=True).start()

    def nodes(self) -> Mapping[str, Node]:
        """The nodes that were alive when the cluster last answered, by name.

        Raises:
            ClusterLostError: that is too long ago.
        """
        now, answered = time.monotonic(), self._answered
        silent = now - answered
        if silent <= _SILENT_SECONDS:
            self._doubted_since = None
        elif self._doubted_since is None:
            self._doubted_since = now
        elif now - self._doubted_since > _CONFIRM_SECONDS:
            raise self.lost()
        return self._nodes

    def lost(self) -> ClusterLostError:
        """The error that says that the cluster does not answer."""
        silent = time.monotonic() - self._answered
        return ClusterLostError(
            f"the Ray cluster {self._name} has not answered for {silent:.0f} s: its head is gone or out of reach. "
            "Finished parts are kept; give the same command again once a cluster runs, or without --address"
        )

    def close(self) -> None:
        """Disconnect, and end a Ray that was started here. Does not wait long for a cluster that is gone."""
        self._closed.set()
        RayCluster._ending = ending = threading.Thread(target=ray.shutdown, daemon=True)
        ending.start()
        ending.join(_CLOSE_SECONDS)
        if ending.is_alive():
            atexit.unregister(ray.shutdown)  # it would wait again

    def _guard(self) -> None:
        """End the process when nobody asked for :meth:`nodes` meanwhile: without its own node a driver hangs in Ray."""
        silent_looks = 0
        while not self._closed.wait(1.0) and silent_looks < _LOOKS_BEFORE_EXIT:
            silent = time.monotonic() - self._answered > _SILENT_SECONDS
            silent_looks = silent_looks + 1 if silent else 0
        if silent_looks >= _LOOKS_BEFORE_EXIT:
            sys.stderr.write(f"posecap: {self.lost()}\n")
            sys.stderr.flush()
            os._exit(1)

    def _watch(self) -> None:
        while not self._closed.wait(_ASK_SECONDS):
            try:
                self._nodes = _ask()
            except Exception:  # noqa: S112 - no answer, or one while the connection ends
                continue
            self._answered = time.monotonic()


def _ask() -> dict[str, Node]:
    """The nodes that are alive, by name."""
    draining = _draining()
    nodes = (
        Node(
            ray_id=found["NodeID"],
            name=f"{found['NodeManagerHostname']}/{found['NodeID'][:8]}",
            resources=found["Resources"],
            draining=found["NodeID"] in draining,
        )
        for found in ray.nodes()
        if found["Alive"]
    )
    return {node.name: node for node in sorted(nodes, key=lambda node: node.ray_id)}


def _draining() -> Mapping[str, Any]:
    """Ray ids of nodes that the cluster drains; Ray has no public way to ask for them."""
    if ray.util.client.ray.is_connected():
        return {}  # through ray:// they cannot be asked for; what runs there is lost with the node
    from ray._private.state import state

    found: Mapping[str, Any] = state.get_draining_nodes()
    return found


def _connect(address: str | None) -> None:
    """Start Ray in this process; raises WorkersNotReadyError where no cluster answers at the address."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is not None:
        _check_reachable(address)
        try:
            ray.init(address=address, **quiet)
        except ConnectionError as error:
            raise WorkersNotReadyError(
                f"no Ray cluster at {address}: {cause(error)} (one that was started where there is ~/.ray/auth_token "
                "asks for this token: set RAY_AUTH_MODE=token here, and have the same file)"
            ) from error
    else:
        # Without an address, Ray would join whatever cluster was started last on this machine, dead or alive.
        own = {"num_cpus": os.cpu_count() or 1, "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
        ray.init(address="local", **own, **quiet)
    # Ray also prints the last lines of a dead node's log to stdout, and has no setting against it.
    ray._private.worker.print_to_stdstream = lambda *message, **settings: None


def _check_reachable(address: str) -> None:
    """Open a connection to the host and port of an address, since Ray tries one that does not answer for minutes.

    An address without host and port, as ``auto``, is left to Ray.

    Raises:
        WorkersNotReadyError: nothing answers there, or the port is not a number.
    """
    try:
        server = urlsplit(address if "://" in address else f"ray://{address}")
        host, port = server.hostname, server.port
    except ValueError as error:
        raise WorkersNotReadyError(f"{address!r} is not the address of a Ray cluster: {error}") from error
    if host is None or port is None:
        return
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise WorkersNotReadyError(
            f"no Ray cluster answers at {address} ({error}): is it running, and reachable from here? "
            "`ray status` on its head node says; without --address a build starts Ray on this machine"
        ) from error


def cause(error: BaseException) -> str:
    """The last line of a remote traceback: what the engine itself said."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__


class RayMetrics:
    """Hands the changes of :class:`posecap.metrics.BuildMetrics` to Ray, while this process is connected to a cluster.

    Args:
        dataset: the value of the label ``dataset``.
    """

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._metrics: dict[Metric, Any] = {metric: _ray_metric(metric) for metric in METRICS}
        self._tags_of: dict[tuple[Metric, Labels], dict[str, str]] = {}

    def __call__(self, changes: Changes) -> None:
        for metric, added in changes.added.items():
            for labels, value in added.items():
                if value > 0:  # Ray refuses to add 0
                    self._metrics[metric].inc(value, self._tags(metric, labels))
        for metric, values in changes.set.items():
            for labels, value in values.items():
                self._metrics[metric].set(value, self._tags(metric, labels))
        for metric, labels, value in changes.observed:
            self._metrics[metric].observe(value, self._tags(metric, labels))

    def _tags(self, metric: Metric, labels: Labels) -> dict[str, str]:
        tags = self._tags_of.get((metric, labels))
        if tags is None:
            tags = {"dataset": self._dataset, **dict(zip(metric.labels, labels, strict=True))}
            self._tags_of[metric, labels] = tags
        return tags


def _ray_metric(metric: Metric) -> Any:
    labels = ("dataset", *metric.labels)
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.about, list(metric.buckets), labels)
    return {"counter": Counter, "gauge": Gauge}[metric.kind](metric.name, metric.about, labels)
