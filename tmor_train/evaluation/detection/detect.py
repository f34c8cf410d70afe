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

:class:`DetectorTraining` makes, for each seed, an encoder and a head trained on it: the encoder makes features of each
window, the head scores of them, and a frame's score is the mean over the windows that hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import median_filter, uniform_filter1d
from torch import Tensor

from tmor_train.backbones import STRIDE
from tmor_train.data.dataset import Floats
from tmor_train.data.loader import seed_of
from tmor_train.evaluation.config import SCRATCH
from tmor_train.evaluation.detection.config import DetectConfig, DetectEventsConfig, EventConfig, WindowConfig
from tmor_train.evaluation.detection.detector import (
    Detector,
    DetectorTrainer,
    Loss,
    RecordingWindows,
    adapted,
    averaged,
    event_cross_entropy,
    frame_bce,
    padded,
)
from tmor_train.evaluation.encoders import Source, encoder_name, load_encoder
from tmor_train.evaluation.runner import Begun, Metrics, Trial, TrialOutput, run_trials, seed_folders
from tmor_train.evaluation.task import FrameTask, frame_task_of, within
from tmor_train.metrics.average_precision import OVERLAPS, Matching, Proposal, event_ap, frame_ap, iou, points
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.results import FrameScores
from tmor_train.training.metric_logger import Progress

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


_HEAD = 0  # purpose of random numbers: the new head's weights
_FIXED_FEATURES = (
    "features that do not change in training: set train.trains=head, train.statistics=frozen and train.augment=[]"
)
_DTYPES = {"float16": torch.float16, "float32": torch.float32}

Activation = Literal["sigmoid", "softmax"]
"""How logits become scores: by a sigmoid for each class, or by a softmax over all classes and background."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Detected:
    """What a detector gave for the test part.

    ``scores`` has an array (T, K) float32 from 0 to 1 for each recording (K + 1 columns, background first, with
    ``softmax``). ``source`` says where the encoder's weights are from; ``notes`` are sentences to print with the
    metrics.
    """

    scores: list[Floats]
    source: Source
    notes: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Start:
    """An encoder before training, the ``source`` of its weights and ``notes`` on how it was adapted, the windows of
    both parts, and, where the trunk is not trained, the ``features`` of those windows (train, test), each (256, T')."""

    encoder: Pretrained
    source: Source
    notes: tuple[str, ...]
    train: RecordingWindows
    test: RecordingWindows
    features: tuple[list[Tensor], list[Tensor]] | None


class DetectorTraining:
    """Trains a detector of a task for each seed that is asked for, and scores the test recordings with it.

    Features of a frozen trunk are computed once; where the encoder's weights are drawn by seed, once for each seed.

    Args:
        outputs: the number of scores of a frame: K classes, and one more with ``softmax``, the background, first.
        loss: of logits, labels and valid frames; see :data:`~tmor_train.evaluation.detection.detector.Loss`.
        activation: how logits become scores.

    Raises:
        ValueError: ``train.scale`` or ``train.context`` need features that do not change, and they do; or
            ``train.context`` needs other windows (:func:`in_context`).
    """

    def __init__(
        self,
        config: DetectConfig,
        task: FrameTask,
        *,
        outputs: int,
        loss: Loss,
        activation: Activation,
    ) -> None:
        if config.train.scale == "standard" and not config.train.cached:
            raise ValueError(f"train.scale=standard needs {_FIXED_FEATURES}")
        if config.train.context > 1 and not config.train.cached:
            raise ValueError(f"train.context above 1 needs {_FIXED_FEATURES}")
        if config.train.context > 1:
            _check_joining(config.windows)
        self.config, self.task = config, task
        self.outputs, self.loss, self.activation = outputs, loss, activation
        self._known: tuple[int, _Start] | None = None  # a seed and what it begins with

    def train_and_score(self, seed: int, folder: Path) -> Detected:
        """Trains the detector of a seed, with its log and checkpoint in ``folder``, and scores the test recordings.

        Raises:
            RunError, Stopped: as :meth:`tmor_train.evaluation.trainer.Trainer.fit`.
            EncoderNotFoundError, CheckpointError, UnusableEncoderError: as :func:`load_encoder` and :func:`adapted`.
            ValueError: as :func:`in_context`.
            ArithmeticError: as :func:`window_features`.
        """
        start, config = self._start(seed), self.config.train
        detector = self._detector(start.encoder, seed)
        train, test = start.features or (None, None)
        if train is not None and config.scale == "standard":
            detector.scale_to(train)
        detector = DetectorTrainer(detector, start.train, train, loss=self.loss, seed=seed).train(folder)
        if test is None:
            test = window_features(detector, start.test, cache=config.cache)
        scores = list(frame_scores(detector, start.test, test, activation=self.activation))
        return Detected(scores=scores, source=start.source, notes=start.notes)

    def _detector(self, encoder: Pretrained, seed: int) -> Detector:
        torch.manual_seed(seed_of(seed, _HEAD))
        return Detector(encoder, self.config.train, classes=self.outputs)

    def _start(self, seed: int) -> _Start:
        """The encoder and features to train with, kept from the seed before where they do not depend on the seed."""
        config = self.config
        # Weights that are drawn differ by seed; all else is the same for every one.
        drawn = config.start.weights == SCRATCH or config.transfer.how == "trunk"
        if self._known is not None and (not drawn or self._known[0] == seed):
            return self._known[1]
        encoder, source = load_encoder(config.start, seed=seed, device=config.train.device)
        # For weights that ``transfer.how=trunk`` leaves new; the 1 keeps them apart from the head's.
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
        """As :func:`in_context`, for the features of the encoder ``trunk``."""
        config = self.config.train
        return in_context(windows, window_features(trunk, windows, cache=config.cache), context=config.context)


def run_detectors(
    training: DetectorTraining, folder: Path, *, begun: Begun, metrics: Callable[[FrameTask, list[Floats]], Metrics]
) -> Path:
    """Train and measure a detector for each seed without a result, and save each result; returns ``folder``.

    ``metrics`` takes the task and :attr:`Detected.scores`: of each test recording (T, K) for K classes, with the
    activation ``softmax`` (T, K + 1), background first.

    Raises:
        RunError: the run is new, and the folder already holds one; or as :meth:`DetectorTraining.train_and_score`.
    """
    config, task = training.config, training.task
    recordings = task.test

    def measure(seed: int, trial_folder: Path) -> TrialOutput:
        """One seed's detector, trained in ``trial_folder``: its metrics and scores."""
        detected = training.train_and_score(seed, trial_folder)
        measured = metrics(task, detected.scores)
        frames = sum(map(len, detected.scores))
        return TrialOutput(
            metrics=replace(measured, notes=(*detected.notes, *measured.notes)),
            scores=FrameScores.of(
                ((scores_TK, recordings.labels(number)) for number, scores_TK in enumerate(detected.scores)),
                frames=frames,
                key_R=recordings.motions.clips.key_N,
                fps_R=recordings.motions.clips.fps_N,
            ),
            source=detected.source,
            counts={"train": len(task.train.motions), "test": len(recordings.motions), "frames": frames},
        )

    trials = [
        Trial(mode=mode_of(config), name=name, seed=seed, measure=partial(measure, seed))
        for seed, name in seed_folders(config.seeds)
    ]
    return run_trials(trials, task=task, config=config, folder=folder, begun=begun)


def mode_of(config: DetectConfig) -> str:
    """``detect_probe`` or ``detect_finetune``, ``events_…`` for events, and the head where it is not linear."""
    kind = "events" if isinstance(config, DetectEventsConfig) else "detect"
    way = "probe" if config.train.trains == "head" else "finetune"
    return f"{kind}_{way}" if config.train.head == "linear" else f"{kind}_{way}_{config.train.head}"


@torch.no_grad()
def window_features(detector: Detector, windows: RecordingWindows, *, cache: str) -> list[Tensor]:
    """Features of every window by the detector's trunk in evaluation mode, (256, T') each, on the CPU.

    Only windows of one length share a batch: padding would change the features of the shorter ones.

    Raises:
        ArithmeticError: a feature is not finite in the dtype that ``cache`` names; float16 ends at 65,504.
    """
    detector.trunk.eval()
    found: list[Tensor] = [torch.empty(0)] * len(windows.length_W)
    generator = torch.Generator(detector.encoder.device)
    batches = windows.alike(batch=detector.config.batch)
    progress = Progress(steps=len(batches))
    for index_N in batches:
        features = detector.features(windows, index_N, (), generator).to("cpu", _DTYPES[cache])
        if not torch.isfinite(features).all():
            raise ArithmeticError(f"a feature is not finite as {cache}; set train.cache=float32")
        for number, one in zip(index_N.tolist(), features, strict=True):
            found[number] = one.clone()  # a view would keep the batch
        progress.step(clips=len(index_N), waited=0.0, words="features of windows")
    return found


def _check_joining(config: WindowConfig) -> None:
    """Whether features of windows in a row can be joined; ValueError as :func:`in_context`."""
    if config.stride not in (None, config.length) or config.last != "shorter" or config.length % STRIDE:
        raise ValueError(
            "train.context above 1 needs windows that do not overlap (windows.stride=none, windows.last=shorter) and a "
            f"length that is a multiple of {STRIDE}, not {config.length}"
        )


def in_context(
    windows: RecordingWindows, features_W: Sequence[Tensor], *, context: int
) -> tuple[RecordingWindows, list[Tensor]]:
    """The same frames in windows ``context`` times as long, and their features one after the other.

    Raises:
        ValueError: windows overlap, or their length is no multiple of 4, so that feature frames do not join.
    """
    config = windows.config
    if context == 1:
        return windows, list(features_W)
    _check_joining(config)
    longer = WindowConfig(length=context * config.length)
    joined = RecordingWindows(windows.recordings, sampling=windows.sampling, config=longer)
    # Windows are numbered in order, so those of a longer one follow each other.
    counts = -(-joined.length_W // config.length)
    ends = np.cumsum(counts)
    pairs = zip((ends - counts).tolist(), ends.tolist(), strict=True)
    return joined, [torch.cat(list(features_W[begin:end]), 1) for begin, end in pairs]


@torch.no_grad()
def frame_scores(
    detector: Detector,
    windows: RecordingWindows,
    features_W: Sequence[Tensor],
    *,
    activation: Activation,
) -> Iterator[Floats]:
    """How likely each output of the head is for each frame of each recording, (T, outputs) float32: the mean over the
    windows that hold the frame. With ``softmax`` output 0 is the background."""
    detector.head.eval()
    frames_R = windows.recordings.motions.clips.frames_N.tolist()
    for number, frames in enumerate(frames_R):
        members = np.flatnonzero(windows.recording_W == number)
        parts: list[tuple[int, Floats]] = []
        for first in range(0, len(members), detector.config.batch):
            index = members[first : first + detector.config.batch]
            lengths = windows.length_W[index].tolist()
            features = padded([features_W[window] for window in index.tolist()], detector.encoder.device)
            logits_NKT = detector(features, lengths)
            shares = torch.sigmoid(logits_NKT) if activation == "sigmoid" else torch.softmax(logits_NKT, 1)
            for begin, length, one in zip(windows.begin_W[index].tolist(), lengths, shares.cpu().numpy(), strict=True):
                parts.append((begin, one[:, :length].T))
        yield averaged(parts, frames=frames)
