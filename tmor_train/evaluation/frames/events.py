"""Detection of events: when each action begins and ends (PKU-MMD).

A softmax over K actions and background, first, is trained on frames; windows overlap, and probabilities are averaged
over them and smoothed. Proposals come of them by :mod:`tmor_train.evaluation.frames.proposals`. Metrics are the average
precision of events at overlaps of 0.1, 0.3 and 0.5, by PKU-MMD's official matching and by that of VOC, as a mean over
actions and over recordings. The paper's Table IV names neither; its comparators use the official mean over actions.
Smoothing and proposals are settings; they can be chosen on recordings that are held out of the train part.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.ndimage import median_filter, uniform_filter1d

from tmor_train.data.arrays import Floats
from tmor_train.evaluation.encoders import named
from tmor_train.evaluation.frames.config import DetectEventsConfig, EventConfig
from tmor_train.evaluation.frames.loss import event_cross_entropy
from tmor_train.evaluation.frames.proposals import grouped, per_class
from tmor_train.evaluation.frames.task import FrameTask, frame_task_of, within
from tmor_train.evaluation.frames.trial import Detections, Metrics, detected
from tmor_train.evaluation.trials import Begun
from tmor_train.metrics.event_ap import OVERLAPS, Matching, event_ap
from tmor_train.metrics.proposal import Proposal

PRIMARY_METRIC = "action_0.5"
_PROPOSALS: tuple[Literal["grouped", "per_class"], ...] = ("grouped", "per_class")
_MATCHINGS: tuple[tuple[Matching, str], ...] = (("many_to_one", ""), ("one_to_one", "_one_to_one"))


def detect_events(config: DetectEventsConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """A detector for each seed; returns ``folder``. What is measured already is not measured again.

    Raises:
        RunError, NoTask, NoEncoder, CannotUse, Stopped: as :func:`tmor_train.evaluation.frames.detect.detect`.
    """
    named(config.start)
    task = frame_task_of(config.task)
    return detected(_detections(config, task), folder, begun=begun, metrics=_Measure(config, folder))


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
    timelines = task.measured.timelines
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


__all__ = ["PRIMARY_METRIC", "detect_events", "events_of", "metrics_of", "smoothed"]
