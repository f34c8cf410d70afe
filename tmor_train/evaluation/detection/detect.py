"""Detection of actions in long recordings, by frames and as events.

By frames (TSU, Charades): which actions each frame shows, several at a time. An encoder's features are pooled over
joints and persons, a head gives logits of each of T' feature frames, which are interpolated to T frames, and a sigmoid
makes scores of them (T-MOR, Sec. III-B). Recordings are seen in windows; every frame of every test recording is scored.
A linear probe trains the head alone, fine-tuning all of it. The epochs are a setting like others: what is measured is
the detector after the last one, and the test part is seen then alone.

As events (PKU-MMD): when each action begins and ends. A softmax over K actions and background, first, is trained on
frames; windows overlap, and probabilities are averaged over them and smoothed; proposals are runs of frames above
thresholds. Metrics are the average precision of events at overlaps of 0.1, 0.3 and 0.5, by PKU-MMD's official matching
and by that of VOC, as a mean over actions and over recordings. The paper's Table IV names neither; its comparators use
the official mean over actions. Smoothing and proposals are settings; they can be chosen on recordings that are held out
of the train part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d

from tmor_train.data.arrays import Floats
from tmor_train.evaluation.detection.config import DetectConfig, DetectEventsConfig, EventConfig
from tmor_train.evaluation.detection.detector import event_cross_entropy, frame_bce
from tmor_train.evaluation.detection.runner import Detections, run_detectors
from tmor_train.evaluation.encoders import encoder_name
from tmor_train.evaluation.runner import Begun, Metrics
from tmor_train.evaluation.task import FrameTask, frame_task_of, within
from tmor_train.metrics.event_ap import OVERLAPS, Matching, Proposal, event_ap, iou
from tmor_train.metrics.frame_ap import frame_ap_of, points

_POINTS = ("charades",)
"""Benchmarks whose official measure is at 25 times of each recording."""


def detect(config: DetectConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """A detector for each seed; returns ``folder``. What is measured already is not measured again.

    Raises:
        RunError: the folder holds a run, or a loss is not finite.
        TaskError, EncoderNotFoundError: no benchmark or no encoder is named, or files are missing.
        UnusableEncoderError: the encoder does not take such recordings.
        Stopped: the process was asked to stop; the step it was in is saved.
    """
    encoder_name(config.start)
    task = frame_task_of(config.task)
    detections = Detections(config, task, outputs=len(task.classes), loss=frame_bce, answer="sigmoid")
    return run_detectors(detections, folder, begun=begun, metrics=_metrics)


def _metrics(task: FrameTask, scores: list[Floats]) -> Metrics:
    """Per-frame mAP by both means over classes, for Charades also at 25 times, and the AP of each class."""
    labels = task.test.timelines
    found = frame_ap_of((scores_TK, labels.labels(number)) for number, scores_TK in enumerate(scores))
    metrics = {"nonzero": found.nonzero, "all_classes": found.all_classes}
    if task.benchmark.name in _POINTS:
        at_points = (
            (scores_TK[points(len(scores_TK))], labels.labels_at_points(number))
            for number, scores_TK in enumerate(scores)
        )
        metrics["points25"] = frame_ap_of(at_points).all_classes
    primary_metric = task.benchmark.primary_metric if task.benchmark.primary_metric in metrics else "all_classes"
    return Metrics(metrics=metrics, primary_metric=primary_metric, per_class_K=found.per_class_K)


def runs(mask_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Begin and end (excluded) of every stretch of true frames."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask_T, [False])).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def grouped(probabilities_TK: Floats, *, threshold: float = 0.4) -> list[Proposal]:
    """Runs of frames with 1 - p(background) >= ``threshold``, an event each (Graph Distillation, ECCV 2018).

    Column 0 is background. An event's class has the largest mean probability, which is its confidence.
    """
    found = []
    for begin, end in runs(1 - probabilities_TK[:, 0] >= threshold):
        mean_K = probabilities_TK[begin:end, 1:].mean(0)
        found.append(Proposal(begin, end, int(mean_K.argmax()), float(mean_K.max())))
    return found


def per_class(probabilities_TK: Floats, *, thresholds: Iterable[float], overlap: float = 0.5) -> list[Proposal]:
    """Runs of each class at several thresholds, then :func:`suppressed`. Column 0 is background."""
    found = [
        Proposal(begin, end, number, float(score_T[begin:end].mean()))
        for threshold in thresholds
        for number, score_T in enumerate(probabilities_TK[:, 1:].T)
        for begin, end in runs(score_T >= threshold)
    ]
    return suppressed(found, overlap=overlap)


def suppressed(proposals: Iterable[Proposal], *, overlap: float = 0.5) -> list[Proposal]:
    """Temporal non-maximum suppression: no proposal overlaps (IoU) a more confident one of its
    class by more than ``overlap``."""
    kept: list[Proposal] = []
    for one in sorted(proposals, key=lambda p: (-p.confidence, p.begin, p.end, p.number)):
        if all(one.number != other.number or iou(one, other) <= overlap for other in kept):
            kept.append(one)
    return kept


PRIMARY_METRIC = "action_0.5"
_PROPOSALS: tuple[Literal["grouped", "per_class"], ...] = ("grouped", "per_class")
_MATCHINGS: tuple[tuple[Matching, str], ...] = (("many_to_one", ""), ("one_to_one", "_one_to_one"))


def detect_events(config: DetectEventsConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """A detector for each seed; returns ``folder``. What is measured already is not measured again.

    Raises:
        RunError, TaskError, EncoderNotFoundError, UnusableEncoderError, Stopped: as
            :func:`tmor_train.evaluation.detection.detect.detect`.
    """
    encoder_name(config.start)
    task = frame_task_of(config.task)
    return run_detectors(_detections(config, task), folder, begun=begun, metrics=_Measure(config, folder))


def _detections(config: DetectEventsConfig, task: FrameTask) -> Detections:
    loss = partial(event_cross_entropy, background=config.events.background)
    return Detections(config, task, outputs=len(task.classes) + 1, loss=loss, answer="softmax")


class _Measure:
    """Metrics of scores, with settings that are fixed or chosen once, for all seeds, with the first of them."""

    def __init__(self, config: DetectEventsConfig, folder: Path) -> None:
        self.config, self.folder = config, folder
        self._chosen: tuple[EventConfig, dict[str, Any]] | None = None

    def __call__(self, task: FrameTask, scores: list[Floats]) -> Metrics:
        if self._chosen is None:
            fixed = self.config.events.settings == "fixed"
            self._chosen = (self.config.events, {}) if fixed else self._choose(task)
        return metrics_of(task, scores, *self._chosen)

    def _choose(self, task: FrameTask) -> tuple[EventConfig, dict[str, Any]]:
        """The settings that are best on what is held out of the train part, and the metrics of all of them."""
        inner, events = within(task, self.config.task.holdout), self.config.events
        scores = _detections(self.config, inner).of(self.config.seeds[0], self.folder / "holdout").scores
        metrics: dict[str, float] = {}
        best, highest = events, -1.0
        for proposals, width in product(_PROPOSALS, events.widths):
            one = replace(events, proposals=proposals, width=width)
            share = metrics_of(inner, scores, one, {}).metrics[PRIMARY_METRIC]
            metrics[f"{proposals} {width}"] = round(share, 4)
            if share > highest:
                best, highest = one, share
        return best, {"proposals": best.proposals, "width": best.width, "held_out": metrics}


def smoothed(probabilities_TK: Floats, config: EventConfig) -> Floats:
    """Each class's probability over ``width`` frames, the first and last frame repeated beyond the ends; (T, K)."""
    if config.smoothing == "none" or config.width == 1:
        return probabilities_TK
    if config.smoothing == "mean":
        mean: Floats = uniform_filter1d(probabilities_TK, config.width, axis=0, mode="nearest")
        return mean
    median: Floats = median_filter(probabilities_TK, size=(config.width, 1), mode="nearest")
    return median


def events_of(probabilities_TK: Floats, config: EventConfig) -> list[Proposal]:
    """The events that a recording's class probabilities, background first, propose."""
    smooth_TK = smoothed(probabilities_TK, config)
    if config.proposals == "grouped":
        return grouped(smooth_TK, threshold=config.threshold)
    return per_class(smooth_TK, thresholds=config.thresholds, overlap=config.overlap)


def metrics_of(task: FrameTask, scores: list[Floats], config: EventConfig, chosen: dict[str, Any]) -> Metrics:
    """``action_0.5`` and ``video_0.5`` by the official matching, the same with ``_one_to_one`` by VOC's, at each
    overlap; and the official AP of each action at 0.5."""
    found = [events_of(scores_TK, config) for scores_TK in scores]
    timelines = task.test.timelines
    truths = [timelines.truths(number) for number in range(len(timelines))]
    metrics: dict[str, float] = {}
    per_action_K = np.full(len(task.classes), np.nan)
    for matching, after in _MATCHINGS:
        for one in event_ap(found, truths, classes=len(task.classes), overlaps=OVERLAPS, matching=matching):
            metrics[f"action_{one.overlap:g}{after}"] = one.map_action
            metrics[f"video_{one.overlap:g}{after}"] = one.map_video
            if f"action_{one.overlap:g}{after}" == PRIMARY_METRIC:
                per_action_K = one.per_action_K
    note = "per class: AP of events at an overlap of 0.5, official matching"
    return Metrics(
        metrics=metrics, primary_metric=PRIMARY_METRIC, per_class_K=per_action_K, chosen=chosen, notes=(note,)
    )
