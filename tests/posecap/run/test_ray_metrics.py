"""Metrics of a build on their way to Ray, and out of it."""

from __future__ import annotations

import time
import urllib.request
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray.cluster_utils import Cluster

from posecap import metrics as m
from posecap.build import Options, build
from posecap.ledger import Ledger
from posecap.metrics import METRICS, Changes
from posecap.outcomes import tally
from posecap.run import ray_metrics
from posecap.run.ray_metrics import RayMetrics
from tests import ROOT
from tests.programs import program

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


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
        monkeypatch.setattr(ray_metrics, kind, recorded.of(kind))
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
