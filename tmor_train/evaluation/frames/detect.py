"""Frame-wise detection: which actions each frame of long recordings shows, several at a time (TSU, Charades).

An encoder's features are pooled over joints and persons, a head gives logits of each of T' feature frames, which are
interpolated to T frames, and a sigmoid makes scores of them (T-MOR, Sec. III-B). Recordings are seen in windows; every
frame of every measured recording is scored. A linear probe trains the head alone, fine-tuning all of it. The epochs are
a setting like others: what is measured is the detector after the last one, and the measured part is seen then alone.
"""

from __future__ import annotations

from pathlib import Path

from tmor_train.data.arrays import Floats
from tmor_train.evaluation.encoders import named
from tmor_train.evaluation.frames.config import DetectConfig
from tmor_train.evaluation.frames.loss import frame_bce
from tmor_train.evaluation.frames.task import FrameTask, frame_task_of
from tmor_train.evaluation.frames.trial import Detections, Metrics, detected
from tmor_train.evaluation.trials import Begun
from tmor_train.metrics.frame_ap import frame_ap_of, points

_POINTS = ("charades",)
"""Benchmarks whose official measure is at 25 times of each recording."""


def detect(config: DetectConfig, folder: Path, *, begun: Begun = "new") -> Path:
    """A detector for each seed; returns ``folder``. What is measured already is not measured again.

    Raises:
        RunError: the folder holds a run, or a loss is not finite.
        NoTask, NoEncoder: it is not said what is to be measured, or with what.
        CannotUse: the encoder does not take such recordings.
        Stopped: the process was asked to stop; the step it was in is saved.
    """
    named(config.start)
    task = frame_task_of(config.task)
    detections = Detections(config, task, outputs=len(task.classes), loss=frame_bce, answer="sigmoid")
    return detected(detections, folder, begun=begun, metrics=_metrics)


def _metrics(task: FrameTask, scores: list[Floats]) -> Metrics:
    """Per-frame mAP by both means over classes, for Charades also at 25 times, and the AP of each class."""
    labels = task.measured.timelines
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


__all__ = ["detect"]
