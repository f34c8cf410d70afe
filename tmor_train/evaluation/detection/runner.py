"""Detectors one after another: for each seed an encoder, a head trained on it, and scores of the test recordings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmor_train.configuration import as_json
from tmor_train.data.arrays import Floats
from tmor_train.data.hash_rng import seed_of
from tmor_train.evaluation.config import SCRATCH
from tmor_train.evaluation.detection.config import DetectConfig, DetectEventsConfig
from tmor_train.evaluation.detection.detector import Detector, DetectorTrainer, Loss, adapted
from tmor_train.evaluation.detection.scores import Answer, frame_scores, in_context, window_features
from tmor_train.evaluation.detection.task import FrameTask
from tmor_train.evaluation.detection.windows import RecordingWindows
from tmor_train.evaluation.encoders import Source, load_encoder
from tmor_train.evaluation.runner import Begun, begin_run, seed_folders
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.results import RESULT, FrameScores, Result, save

_HEAD = 0


@dataclass(frozen=True, eq=False, kw_only=True)
class Detected:
    """Scores of each measured recording, (T, K) float32, and whose features they are made of."""

    scores: list[Floats]
    source: Source
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Metrics:
    """Metrics of scores: shares by name, of which ``primary_metric`` is the paper's, and one of each class (NaN where
    it never occurs); ``chosen`` is what was chosen on a hold-out, and ``notes`` say what the metrics are."""

    metrics: dict[str, float]
    primary_metric: str
    per_class_K: NDArray[np.float64]
    chosen: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class _Start:
    """An encoder as it begins, its windows, and features of them by it where its trunk does not change."""

    encoder: Pretrained
    source: Source
    notes: tuple[str, ...]
    train: RecordingWindows
    test: RecordingWindows
    features: tuple[list[Tensor], list[Tensor]] | None


class Detections:
    """Detectors of a task. Features of a frozen trunk are computed once, those of new weights once for each seed."""

    def __init__(
        self,
        config: DetectConfig | DetectEventsConfig,
        task: FrameTask,
        *,
        outputs: int,
        loss: Loss,
        answer: Answer,
    ) -> None:
        if config.train.scale == "standard" and not config.train.cached:
            raise ValueError("train.scale=standard needs a trunk that stays as it is, without augmentations")
        if config.train.context > 1 and not config.train.cached:
            raise ValueError("train.context above 1 needs a trunk that stays as it is, without augmentations")
        self.config, self.task = config, task
        self.outputs, self.loss, self.answer = outputs, loss, answer
        self._known: tuple[int, _Start] | None = None

    def of(self, seed: int, folder: Path) -> Detected:
        """The detector of a seed, trained in ``folder``, and its scores.

        Raises:
            RunError, Stopped: as :meth:`tmor_train.evaluation.trainer.Trainer.fit`.
        """
        start, config = self._start(seed), self.config.train
        detector = self._detector(start.encoder, seed)
        train, test = start.features or (None, None)
        if train is not None and config.scale == "standard":
            detector.scale_to(train)
        detector = DetectorTrainer(detector, start.train, train, loss=self.loss, seed=seed).train(folder)
        if test is None:
            test = window_features(detector, start.test, cache=config.cache)
        scores = list(frame_scores(detector, start.test, test, answer=self.answer))
        return Detected(scores=scores, source=start.source, notes=start.notes)

    def _detector(self, encoder: Pretrained, seed: int) -> Detector:
        torch.manual_seed(seed_of(seed, _HEAD))
        return Detector(encoder, self.config.train, classes=self.outputs)

    def _start(self, seed: int) -> _Start:
        config = self.config
        # Weights that are drawn differ by seed; all else is the same for every one.
        drawn = config.start.weights == SCRATCH or config.transfer.how == "trunk"
        if self._known is not None and (not drawn or self._known[0] == seed):
            return self._known[1]
        encoder, source = load_encoder(config.start, seed=seed, device=config.train.device)
        torch.manual_seed(seed_of(seed, _HEAD, 1))
        encoder, notes = adapted(encoder, config.transfer, start=config.start, motions=self.task.train.motions)
        train, test = (
            RecordingWindows(part, sampling=encoder.sampling, config=config.windows)
            for part in (self.task.train, self.task.test)
        )
        features = None
        if config.train.cached:
            trunk = self._detector(encoder, seed)
            train, first = self._windows_and_features(trunk, train)
            same = self.task.test is self.task.train
            test, second = (train, first) if same else self._windows_and_features(trunk, test)
            features = first, second
        self._known = seed, _Start(encoder, source, notes, train, test, features)
        return self._known[1]

    def _windows_and_features(
        self, trunk: Detector, windows: RecordingWindows
    ) -> tuple[RecordingWindows, list[Tensor]]:
        config = self.config.train
        return in_context(windows, window_features(trunk, windows, cache=config.cache), context=config.context)


def run_detectors(
    detections: Detections, folder: Path, *, begun: Begun, metrics: Callable[[FrameTask, list[Floats]], Metrics]
) -> Path:
    """A measurement for each seed that has none yet, saved as soon as it is there; returns ``folder``.

    Raises:
        RunError: a new run, and the folder holds one; or as :meth:`Detections.of`.
    """
    config, task = detections.config, detections.task
    begin_run(config, folder, begun)
    for seed, name in seed_folders(config.seeds):
        place, began = folder / name, monotonic()
        if (place / RESULT).exists():
            continue
        found = detections.of(seed, place)
        measured = metrics(task, found.scores)
        result = result_of(config, task, found, metrics=measured, seed=seed, seconds=monotonic() - began)
        save(result, place, scores=stored_scores(task, found))
    return folder


def mode_of(config: DetectConfig | DetectEventsConfig) -> str:
    """``detect_probe`` or ``detect_finetune``, ``events_…`` for events, and the head where it is not linear."""
    kind = "events" if isinstance(config, DetectEventsConfig) else "detect"
    way = "probe" if config.train.trains == "head" else "finetune"
    return f"{kind}_{way}" if config.train.head == "linear" else f"{kind}_{way}_{config.train.head}"


def result_of(
    config: DetectConfig | DetectEventsConfig,
    task: FrameTask,
    found: Detected,
    *,
    metrics: Metrics,
    seed: int,
    seconds: float,
) -> Result:
    """A measurement of a detector."""
    return Result(
        benchmark=task.benchmark.name,
        protocol=task.protocol,
        mode=mode_of(config),
        recipe=config.recipe,
        seed=seed,
        checkpoint=found.source.name,
        checkpoint_sha256=found.source.sha256,
        metrics=metrics.metrics,
        primary_metric=metrics.primary_metric,
        per_class=tuple(None if np.isnan(share) else float(share) for share in metrics.per_class_K),
        classes=task.classes,
        counts={
            "train": len(task.train.motions),
            "test": len(task.test.motions),
            "frames": sum(len(scores_TK) for scores_TK in found.scores),
        },
        seconds=round(seconds, 1),
        config=as_json(config),
        chosen=dict(metrics.chosen),
        notes=(*task.notes, *found.notes, *metrics.notes),
    )


def stored_scores(task: FrameTask, found: Detected) -> FrameScores:
    """The scores of some frames with their labels, to be stored beside a result."""
    recordings = task.test
    return FrameScores.of(
        ((scores_TK, recordings.labels(number)) for number, scores_TK in enumerate(found.scores)),
        frames=sum(map(len, found.scores)),
        key_R=recordings.motions.clips.key_N,
        fps_R=recordings.motions.clips.fps_N,
    )
