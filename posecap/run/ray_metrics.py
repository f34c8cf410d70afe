"""Hands a build's metrics to Ray, which exports them with its own on the metrics port of the driver's node.

Ray puts ``ray_`` before every name and exports only where it is installed as ``ray[default]`` (the extra
``posecap[metrics]``); without, it drops what it is handed. Of a histogram it exports the counts of buckets as they are,
but a sum that it makes from them: seconds are exact in the counters alone.
"""

from __future__ import annotations

from typing import Any

from ray.util.metrics import Counter, Gauge, Histogram

from posecap.metrics import METRICS, Changes, Labels, Metric


class RayMetrics:
    """Takes the changes of :class:`posecap.metrics.BuildMetrics`, while this process is connected to a cluster.

    Args:
        dataset: the value of the label ``dataset``.
    """

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        self._metrics: dict[Metric, Any] = {metric: _made(metric) for metric in METRICS}
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


def _made(metric: Metric) -> Any:
    labels = ("dataset", *metric.labels)
    if metric.kind == "histogram":
        return Histogram(metric.name, metric.about, list(metric.buckets), labels)
    return {"counter": Counter, "gauge": Gauge}[metric.kind](metric.name, metric.about, labels)
