"""Runs that train and measure detectors of actions in long recordings, by frames and as events.

By frames (TSU, Charades): which actions each frame shows, several at a time. An encoder's features are pooled over
joints and persons, a head gives logits of each of T' feature frames, which are interpolated to T frames, and a sigmoid
turns them into scores (T-MOR, Sec. III-B). Recordings are cut into windows; every frame of every test recording is
scored. A linear probe trains the head alone, fine-tuning the encoder too. The number of epochs is a setting: the
detector is measured after the last one, and the test part is not used before.

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

from tmor_train.data.dataset import Floats
from tmor_train.evaluation.detection.config import DetectConfig, DetectEventsConfig, EventConfig
from tmor_train.evaluation.detection.detector import event_cross_entropy, frame_bce
from tmor_train.evaluation.detection.runner import DetectorTraining, run_detectors
from tmor_train.evaluation.encoders import encoder_name
from tmor_train.evaluation.runner import Begun, Metrics
from tmor_train.evaluation.task import FrameTask, frame_task_of, within
from tmor_train.metrics.average_precision import OVERLAPS, Matching, Proposal, event_ap, frame_ap, iou, points

_POINTS = ("charades",)
"""Benchmarks whose official measure takes 25 evenly spaced frames of each recording instead of all."""


def detect(config: DetectConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """Train and measure a detector of frames for each seed; returns ``folder``. Seeds that have a result are skipped.

    Raises:
        RunError: the run is new and the folder already holds one, or a loss is not finite.
        TaskError, EncoderNotFoundError: no benchmark or no encoder is named, or files are missing; and other errors of
            :func:`~tmor_train.evaluation.task.frame_task_of` and :func:`~tmor_train.evaluation.encoders.load_encoder`.
        UnusableEncoderError: the encoder does not take such recordings.
        Stopped: the process was asked to stop; the step it was in is saved.
    """
    encoder_name(config.start)
    task = frame_task_of(config.task)
    training = DetectorTraining(config, task, outputs=len(task.classes), loss=frame_bce, activation="sigmoid")
    return run_detectors(training, folder, begun=begun, metrics=_metrics)


def _metrics(task: FrameTask, scores: list[Floats]) -> Metrics:
    """Per-frame mAP by both means over classes, for Charades also at 25 frames of each recording, and the AP of each
    class; ``scores`` has an array (T, K) for each test recording."""
    labels = task.test.timelines
    found = frame_ap((scores_TK, labels.labels(number)) for number, scores_TK in enumerate(scores))
    metrics = {"nonzero": found.nonzero, "all_classes": found.all_classes}
    if task.benchmark.name in _POINTS:
        at_points = (
            (scores_TK[points(len(scores_TK))], labels.labels_at_points(number))
            for number, scores_TK in enumerate(scores)
        )
        metrics["points25"] = frame_ap(at_points).all_classes
    # A benchmark of events, measured by frames, has none of its own here.
    primary_metric = task.benchmark.primary_metric if task.benchmark.primary_metric in metrics else "all_classes"
    return Metrics(metrics=metrics, primary_metric=primary_metric, per_class_K=found.per_class_K)


def runs(mask_T: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First frame and end (excluded) of every stretch of true frames, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], mask_T, [False])).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def grouped(probabilities_TK: Floats, *, threshold: float = 0.4) -> list[Proposal]:
    """One event for each run of frames with 1 - p(background) >= ``threshold`` (Graph Distillation, ECCV 2018).

    Column 0 is the background. An event has the class of the largest mean probability, which is its confidence.
    """
    found = []
    for begin, end in runs(1 - probabilities_TK[:, 0] >= threshold):
        mean_K = probabilities_TK[begin:end, 1:].mean(0)
        found.append(Proposal(begin, end, int(mean_K.argmax()), float(mean_K.max())))
    return found


def per_class(probabilities_TK: Floats, *, thresholds: Iterable[float], overlap: float = 0.5) -> list[Proposal]:
    """One event for each run of a class's frames at or above each of ``thresholds``, its confidence the mean
    probability; then :func:`suppressed`. Column 0 is the background."""
    found = [
        Proposal(begin, end, number, float(score_T[begin:end].mean()))
        for threshold in thresholds
        for number, score_T in enumerate(probabilities_TK[:, 1:].T)
        for begin, end in runs(score_T >= threshold)
    ]
    return suppressed(found, overlap=overlap)


def suppressed(proposals: Iterable[Proposal], *, overlap: float = 0.5) -> list[Proposal]:
    """Temporal non-maximum suppression: drops each proposal whose IoU with a more confident one of its class is above
    ``overlap``; those left, the most confident first. Of equally confident ones the earlier counts as more so."""
    kept: list[Proposal] = []
    for one in sorted(proposals, key=lambda p: (-p.confidence, p.begin, p.end, p.label)):
        if all(one.label != other.label or iou(one, other) <= overlap for other in kept):
            kept.append(one)
    return kept


PRIMARY_METRIC = "action_0.5"
"""The metric of Table IV by which settings are chosen, too."""
# Ways of proposing events that settings are chosen among; and each matching with the ending of its metrics' names.
_PROPOSALS: tuple[Literal["grouped", "per_class"], ...] = ("grouped", "per_class")
_MATCHINGS: tuple[tuple[Matching, str], ...] = (("many_to_one", ""), ("one_to_one", "_one_to_one"))


def detect_events(config: DetectEventsConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """Train and measure a detector of events for each seed; returns ``folder``. Seeds that have a result are skipped.

    Raises:
        RunError, TaskError, EncoderNotFoundError, UnusableEncoderError, Stopped: as
            :func:`tmor_train.evaluation.detection.detect.detect`.
    """
    encoder_name(config.start)
    task = frame_task_of(config.task)
    return run_detectors(_event_training(config, task), folder, begun=begun, metrics=_Measure(config, folder))


def _event_training(config: DetectEventsConfig, task: FrameTask) -> DetectorTraining:
    loss = partial(event_cross_entropy, background=config.events.background)
    return DetectorTraining(config, task, outputs=len(task.classes) + 1, loss=loss, activation="softmax")


class _Measure:
    """Metrics of scores. The settings of events are fixed, or chosen once, with the first seed, for all seeds."""

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
        training = _event_training(self.config, inner)
        scores = training.train_and_score(self.config.seeds[0], self.folder / "holdout").scores
        metrics: dict[str, float] = {}
        best, highest = events, -1.0
        for proposals, width in product(_PROPOSALS, events.widths):
            candidate = replace(events, proposals=proposals, width=width)
            share = metrics_of(inner, scores, candidate, {}).metrics[PRIMARY_METRIC]
            metrics[f"{proposals} {width}"] = round(share, 4)
            if share > highest:
                best, highest = candidate, share
        return best, {"proposals": best.proposals, "width": best.width, "held_out": metrics}


def smoothed(probabilities_TK: Floats, config: EventConfig) -> Floats:
    """Each column's median or mean over the ``width`` frames around each frame, (T, K); beyond the ends, the first and
    the last frame are repeated."""
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
    """Metrics of events, for ``scores`` (T, 1 + K), background first, of each test recording.

    ``action_0.5`` and ``video_0.5`` are by the official matching, those that end in ``_one_to_one`` by VOC's, and so at
    each overlap; the figure of each class is its official AP at 0.5. ``chosen`` is stored with them.
    """
    proposals = [events_of(scores_TK, config) for scores_TK in scores]
    timelines = task.test.timelines
    truths = [timelines.truths(number) for number in range(len(timelines))]
    metrics: dict[str, float] = {}
    per_action_K = np.full(len(task.classes), np.nan)
    for matching, after in _MATCHINGS:
        for one in event_ap(proposals, truths, classes=len(task.classes), overlaps=OVERLAPS, matching=matching):
            metrics[f"action_{one.overlap:g}{after}"] = one.map_action
            metrics[f"video_{one.overlap:g}{after}"] = one.map_video
            if f"action_{one.overlap:g}{after}" == PRIMARY_METRIC:
                per_action_K = one.per_action_K
    note = "per class: AP of events at an overlap of 0.5, official matching"
    return Metrics(
        metrics=metrics, primary_metric=PRIMARY_METRIC, per_class_K=per_action_K, chosen=chosen, notes=(note,)
    )
