"""Training and scoring of detectors: for each seed an encoder, a head trained on it, and scores of the test recordings.

The encoder makes features of each window, the head makes scores of them, and a frame's score is the mean over the
windows that hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tmor_train.backbones import STRIDE
from tmor_train.data.dataset import Floats
from tmor_train.data.loader import seed_of
from tmor_train.evaluation.config import SCRATCH
from tmor_train.evaluation.detection.config import DetectConfig, DetectEventsConfig, WindowConfig
from tmor_train.evaluation.detection.detector import Detector, DetectorTrainer, Loss, adapted, padded
from tmor_train.evaluation.detection.windows import RecordingWindows, averaged
from tmor_train.evaluation.encoders import Source, load_encoder
from tmor_train.evaluation.runner import Begun, Metrics, Trial, TrialOutput, run_trials, seed_folders
from tmor_train.evaluation.task import FrameTask
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.results import FrameScores
from tmor_train.training.metric_logger import Progress

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
