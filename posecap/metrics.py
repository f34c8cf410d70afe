"""What a build can be watched by: the names, units and labels of all metrics, and their values as the build goes on.

:data:`METRICS` lists them once. Names follow Prometheus: base units in the name (``seconds``, ``bytes``), ``_total`` at
the end of counters. The driver counts them from what workers hand back anyway, so they cost the workers nothing. Where
they go: to Ray, which exports them (:class:`posecap.run.ray_cluster.RayMetrics`), into a file of the text format
(:meth:`BuildMetrics.text`), and into the JSON lines of :mod:`posecap.progress`.

Label values come from closed sets: names of stages and engines of the pipeline, of nodes and of the dataset, statuses,
and reasons, which are words of the code. A reason of another form, which a stage of somebody else might make from a
URI, is counted as :data:`OTHER`, and so is the 257th different one.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Literal

from posecap.outcomes import ClipOutcome, RowOutcome, RowResult
from posecap.run.execute import ItemResult
from posecap.run.pool import Finished, Load, NodeChange, WorkerLost
from posecap.shards import PartFiles
from posecap.stage import Resources

OTHER = "other"
"""In place of a reason that is no snake_case word, or one too many."""
# A snake_case word.
_WORD = re.compile(r"[a-z0-9_]{1,60}")
_REASONS_AT_MOST = 256
_SAMPLE_SECONDS = 1.0
"""Shortest time between two looks at queues and workers, and between two exports."""
_FILE_SECONDS = 10.0
"""Shortest time between two writings of a file. Our choices: a reader of metrics, as Prometheus, asks every
10 to 60 seconds, and a look once a second costs a build little."""


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric; ``about`` is a sentence for people. ``labels`` are those beside ``dataset``, which all have;
    ``buckets`` are the upper bounds of a histogram, in the unit of its name, chosen by us."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


ROWS = Metric("posecap_rows_total", "counter", "Rows that are done, by outcome.", ("node", "status"))
CLIPS = Metric("posecap_clips_total", "counter", "Clips that are done, by outcome.", ("node", "status"))
NOT_KEPT = Metric(
    "posecap_not_kept_total",
    "counter",
    "Clips, and rows without clips, that were rejected, failed or quarantined, by the stage and reason.",
    ("node", "status", "stage", "reason"),
)
FRAMES = Metric("posecap_frames_total", "counter", "Frames that were decoded for rows that are done.", ("node",))
VIDEO_BYTES = Metric("posecap_video_bytes_total", "counter", "Bytes of the videos of rows that are done.", ("node",))
WRITTEN_BYTES = Metric("posecap_written_bytes_total", "counter", "Bytes of the files of parts.", ("node",))
PARTS = Metric("posecap_parts_total", "counter", "Parts that are committed.")
STAGE_SECONDS = Metric(
    "posecap_stage_seconds_total",
    "counter",
    "Worker seconds by stage, also on rows that start over.",
    ("node", "stage"),
)
ENGINE_SECONDS = Metric(
    "posecap_engine_seconds_total",
    "counter",
    "Worker seconds within engines, by the stage that called them; part of its seconds.",
    ("node", "stage", "engine"),
)
ITEM_SECONDS = Metric(
    "posecap_item_seconds",
    "histogram",
    "Seconds that a stage spent on one item: a row or its video, all of its clips together, or a part that is written.",
    ("node", "stage"),
    (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0),
)
GPU_SECONDS = Metric(
    "posecap_gpu_seconds_total",
    "counter",
    "GPU seconds of workers that had an item, in shares of a GPU as they reserve it.",
    ("node",),
)
GPU_RESERVED_SECONDS = Metric(
    "posecap_gpu_reserved_seconds_total", "counter", "GPU seconds that workers reserve, at work or not.", ("node",)
)
WORKER_LOSSES = Metric(
    "posecap_worker_losses_total", "counter", "Workers that died or were stopped on a row.", ("node", "reason")
)
ROWS_PLANNED = Metric("posecap_rows_planned", "gauge", "Rows of the whole dataset.")
ROWS_DONE = Metric("posecap_rows_done", "gauge", "Rows of the whole dataset that are done, in this run and before.")
QUEUE = Metric("posecap_queue_items", "gauge", "Items that wait in the driver for a worker of a segment.", ("segment",))
SLOTS = Metric(
    "posecap_worker_slots",
    "gauge",
    "Threads of workers, each of which processes items one by one.",
    ("node", "segment"),
)
ITEMS = Metric(
    "posecap_worker_items", "gauge", "Items that workers were given and are not done with.", ("node", "segment")
)
BUSY = Metric("posecap_worker_slots_busy", "gauge", "Of the slots, those at work.", ("node", "segment"))
NODE_USED = Metric(
    "posecap_node_used", "gauge", "1 for a node that gets work, 0 for one that does not any more.", ("node",)
)

METRICS = (
    ROWS, CLIPS, NOT_KEPT, FRAMES, VIDEO_BYTES, WRITTEN_BYTES, PARTS, STAGE_SECONDS, ENGINE_SECONDS, ITEM_SECONDS,
    GPU_SECONDS, GPU_RESERVED_SECONDS, WORKER_LOSSES, ROWS_PLANNED, ROWS_DONE, QUEUE, SLOTS, ITEMS, BUSY, NODE_USED,
)  # fmt: skip

Labels = tuple[str, ...]
"""Values of :attr:`Metric.labels`, in their order."""


@dataclass
class Changes:
    """What has changed since the last export: what to add to counters, new values of gauges, and single observations of
    histograms."""

    added: dict[Metric, dict[Labels, float]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(float)))
    set: dict[Metric, dict[Labels, float]] = field(default_factory=lambda: defaultdict(dict))
    observed: list[tuple[Metric, Labels, float]] = field(default_factory=list)


@dataclass
class _Histogram:
    """``counts`` of observations up to each bound and above the one before, the last of those above all bounds; and
    the ``total`` of all observations."""

    counts: list[int]
    total: float = 0.0


class BuildMetrics:
    """The metrics of one run of a build, which its driver feeds.

    Args:
        dataset: its name in the manifest.
        segments: the name of the first stage, and the resources of a worker, of each segment that the pool has.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        dataset: str,
        segments: Sequence[tuple[str, Resources]] = (),
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.dataset = dataset
        self._segments = [name for name, _ in segments]
        self._gpus = [worker.gpus for _, worker in segments]
        self._gpus_per_item = [worker.gpus / worker.concurrency for _, worker in segments]
        self._exports: list[Callable[[Changes], None]] = []
        self._clock = clock
        self._values: dict[Metric, dict[Labels, float]] = {metric: defaultdict(float) for metric in METRICS}
        self._histograms: dict[Labels, _Histogram] = {}
        self._changes = Changes()
        self._reasons: set[str] = set()
        self._sampled = clock()

    def export_to(self, export: Callable[[Changes], None]) -> None:
        """Have what has changed from now on given to ``export``, at most once a second and at the end."""
        self._exports.append(export)

    def row(self, done: RowResult) -> None:
        """Count a row that is done, with its clips. One that was not executed in this run has an empty ``node``."""
        node, outcome = done.node, done.outcome
        self._add(ROWS, 1, node, outcome.status)
        if done.frames and node:
            self._add(FRAMES, done.frames, node)
        if done.bytes_read:
            self._add(VIDEO_BYTES, done.bytes_read, node)
        for clip in outcome.clips:
            self._add(CLIPS, 1, node, clip.status)
            if clip.status != "kept":
                self._lost(node, clip)
        if not outcome.clips and outcome.status != "kept":
            self._lost(node, outcome)

    def part(self) -> None:
        """Count a part that is committed."""
        self._add(PARTS, 1)

    def finished(self, done: Finished, queues: Callable[[], Sequence[int]], load: Callable[[], Iterable[Load]]) -> None:
        """Count what a worker spent on an item, whatever becomes of the row. If the last time is a second ago, look at
        queues and workers, too, and export.

        Args:
            queues: gives the items that wait for each segment.
            load: gives the load of each node's workers.
        """
        result, node = done.result, done.node
        if isinstance(result, WorkerLost):
            self._add(WORKER_LOSSES, 1, node, self._word(result.reason))
        elif isinstance(result, ItemResult):
            self._spent(done.task.segment, node, result)
            if done.task.writes:
                files = [output for output in result.outputs if isinstance(output, PartFiles)]
                self._add(WRITTEN_BYTES, sum(one.size_bytes for file in files for one in file.written.values()), node)
        seconds = self._clock() - self._sampled
        if seconds >= _SAMPLE_SECONDS:
            for segment, waiting in zip(self._segments, queues(), strict=True):
                self._set(QUEUE, waiting, segment)
            self._enter_load(load(), seconds)
            self._export()

    def _spent(self, segment: int, node: str, result: ItemResult) -> None:
        for stage, seconds in result.seconds.items():
            self._add(STAGE_SECONDS, seconds, node, stage)
            self._observe(ITEM_SECONDS, seconds, node, stage)
        for (stage, engine), seconds in result.engine_seconds.items():
            self._add(ENGINE_SECONDS, seconds, node, stage, engine)
        if gpus := self._gpus_per_item[segment]:
            self._add(GPU_SECONDS, gpus * sum(result.seconds.values()), node)

    def node(self, changed: NodeChange) -> None:
        """Enter that a node gets work, or no longer."""
        self._set(NODE_USED, float(changed.state == "used"), changed.node)

    def rows_done(self, done: int, planned: int) -> None:
        """Enter how many rows of the dataset are done, of how many."""
        self._set(ROWS_PLANNED, planned)
        self._set(ROWS_DONE, done)

    def end(self) -> None:
        """Enter that nothing waits and nobody works any more, and export what has changed."""
        for segment in self._segments:
            self._set(QUEUE, 0, segment)
        self._enter_load((), 0.0)
        self._export()

    def _export(self) -> None:
        """Give what has changed since the last time to all exports."""
        self._sampled = self._clock()
        changes, self._changes = self._changes, Changes()
        for export in self._exports:
            export(changes)

    def _enter_load(self, loads: Iterable[Load], seconds: float) -> None:
        """Enter the load of each node's workers, who reserved their GPUs for these seconds."""
        for metric in (SLOTS, ITEMS, BUSY):
            for labels in self._values[metric]:
                self._set(metric, 0, *labels)  # of nodes that are gone
        for load in loads:
            of = (load.node, self._segments[load.segment])
            self._set(SLOTS, load.slots, *of)
            if (load.node,) not in self._values[NODE_USED]:  # of one that was there at the start no change is reported
                self._set(NODE_USED, 1, load.node)
            self._set(ITEMS, load.items, *of)
            self._set(BUSY, load.busy, *of)
            if gpus := self._gpus[load.segment] * load.workers:
                self._add(GPU_RESERVED_SECONDS, gpus * seconds, load.node)

    def values(self, metric: Metric) -> Mapping[Labels, float]:
        """The values of a counter or gauge by labels."""
        return self._values[metric]

    def total(self, metric: Metric) -> float:
        """The sum of a counter or gauge over all labels."""
        return sum(self._values[metric].values())

    def by(self, metric: Metric, *labels: str) -> dict[str, float]:
        """The sums of a counter or gauge over all but one label, or of several, joined by ``/``."""
        places = [metric.labels.index(label) for label in labels]
        found: dict[str, float] = defaultdict(float)
        for key, value in self._values[metric].items():
            found["/".join(key[place] for place in places)] += value
        return dict(found)

    def text(self) -> str:
        """All metrics in Prometheus' text format, as a textfile collector reads it."""
        return "".join(f"{line}\n" for metric in METRICS for line in self._lines(metric))

    def _lines(self, metric: Metric) -> Iterator[str]:
        """A metric in the text format, of a histogram the counts of all observations up to each bound."""
        yield f"# HELP {metric.name} {metric.about}"
        yield f"# TYPE {metric.name} {metric.kind}"
        names = ("dataset", *metric.labels)
        if metric.kind != "histogram":
            for key, value in sorted(self._values[metric].items()):
                yield f"{metric.name}{_braced(names, (self.dataset, *key))} {value:.16g}"
            return
        for key, histogram in sorted(self._histograms.items()):
            of, below = (self.dataset, *key), 0
            for bound, count in zip((*map(str, metric.buckets), "+Inf"), histogram.counts, strict=True):
                below += count
                yield f"{metric.name}_bucket{_braced((*names, 'le'), (*of, bound))} {below}"
            yield f"{metric.name}_sum{_braced(names, of)} {histogram.total:.16g}"
            yield f"{metric.name}_count{_braced(names, of)} {below}"

    def _lost(self, node: str, outcome: RowOutcome | ClipOutcome) -> None:
        """Count a clip, or a row without clips, that was not kept."""
        stage, reason = self._word(outcome.stage), self._word(outcome.reason)
        self._add(NOT_KEPT, 1, node, outcome.status, stage, reason)

    def _word(self, reason: str) -> str:
        """The stage or reason itself, or :data:`OTHER`, as the module describes it."""
        if reason in self._reasons:
            return reason
        if len(self._reasons) >= _REASONS_AT_MOST or not _WORD.fullmatch(reason):
            return OTHER
        self._reasons.add(reason)
        return reason

    def _add(self, metric: Metric, value: float, *labels: str) -> None:
        self._values[metric][labels] += value
        self._changes.added[metric][labels] += value

    def _set(self, metric: Metric, value: float, *labels: str) -> None:
        self._values[metric][labels] = value
        self._changes.set[metric][labels] = value

    def _observe(self, metric: Metric, value: float, *labels: str) -> None:
        histogram = self._histograms.get(labels)
        if histogram is None:
            histogram = self._histograms[labels] = _Histogram([0] * (len(metric.buckets) + 1))
        histogram.counts[bisect_left(metric.buckets, value)] += 1
        histogram.total += value
        if self._exports:
            self._changes.observed.append((metric, labels, value))


class TextFile:
    """Writes metrics into a file in Prometheus' text format, each time as a whole: now, at most every ten seconds, and
    at the end. It is for the textfile collector of node_exporter, or for a look at it. A build goes on when the file
    can no longer be written.

    Args:
        path: of the file; node_exporter reads names that end in ``.prom``.
        metrics: what to write.
        clock: monotonic seconds.

    Raises:
        OSError: the file cannot be written now.
    """

    def __init__(self, path: Path, metrics: BuildMetrics, *, clock: Callable[[], float] = monotonic) -> None:
        self._path, self._metrics, self._clock = path, metrics, clock
        self._write()

    def __call__(self, changes: Changes) -> None:
        if self._clock() >= self._written + _FILE_SECONDS:
            self.end()

    def end(self) -> None:
        """Write the file now."""
        with suppress(OSError):
            self._write()

    def _write(self) -> None:
        new = self._path.with_name(f".{self._path.name}.new")
        new.write_text(self._metrics.text(), encoding="utf-8")
        new.replace(self._path)
        self._written = self._clock()


def _braced(names: Iterable[str], values: Iterable[str]) -> str:
    written = ",".join(f'{name}="{_escaped(value)}"' for name, value in zip(names, values, strict=True))
    return f"{{{written}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def snapshot(metrics: BuildMetrics) -> dict[str, Any]:
    """What the JSON lines of a build say beside rows and clips: see :mod:`posecap.progress`."""
    nodes: dict[str, dict[str, float]] = defaultdict(dict)
    of_nodes = {
        "used": NODE_USED, "rows": ROWS, "clips": CLIPS, "frames": FRAMES, "video_bytes": VIDEO_BYTES,
        "slots": SLOTS, "busy": BUSY,
    }  # fmt: skip
    for name, metric in of_nodes.items():
        for node, value in metrics.by(metric, "node").items():
            if node:
                nodes[node][name] = round(value)
    return {
        "bytes": {"video": round(metrics.total(VIDEO_BYTES)), "written": round(metrics.total(WRITTEN_BYTES))},
        "stage_seconds": _rounded(metrics.by(STAGE_SECONDS, "stage")),
        "engine_seconds": _rounded(metrics.by(ENGINE_SECONDS, "stage", "engine")),
        "worker_losses": {word: round(count) for word, count in metrics.by(WORKER_LOSSES, "reason").items()},
        "queues": {segment: round(count) for segment, count in metrics.by(QUEUE, "segment").items()},
        "nodes": dict(sorted(nodes.items())),
    }


def _rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in sorted(seconds.items())}
