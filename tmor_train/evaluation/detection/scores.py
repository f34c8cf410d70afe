"""Scores of every frame of recordings: features of all windows, a head on them, and the mean over windows.

Baselines that see no frame say what chance reaches, and what nothing can surpass.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tmor_train.backbones import STRIDE
from tmor_train.data.arrays import Floats
from tmor_train.evaluation.detection.config import WindowConfig
from tmor_train.evaluation.detection.detector import Detector, padded
from tmor_train.evaluation.detection.windows import RecordingWindows, averaged
from tmor_train.training.progress import Progress

Answer = Literal["sigmoid", "softmax"]
Cache = Literal["float16", "float32"]
_DTYPES = {"float16": torch.float16, "float32": torch.float32}


@torch.no_grad()
def window_features(detector: Detector, windows: RecordingWindows, *, cache: Cache) -> list[Tensor]:
    """Features of every window by the detector's trunk in evaluation mode, (256, T') each, on the CPU.

    Only windows of one length share a batch, so that no frame of one depends on another.

    Raises:
        ArithmeticError: a feature is too large for ``cache``, or not finite.
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
    if config.stride not in (None, config.length) or config.last != "shorter" or config.length % STRIDE:
        raise ValueError(
            "train.context above 1 needs windows that do not overlap (windows.stride=none, windows.last=shorter) and a "
            f"length that is a multiple of {STRIDE}, not {config.length}"
        )
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
    answer: Answer,
) -> Iterator[Floats]:
    """How likely each class is for each frame of each recording, (T, K) float32, the mean over windows that hold it."""
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
            shares = torch.sigmoid(logits_NKT) if answer == "sigmoid" else torch.softmax(logits_NKT, 1)
            for begin, length, one in zip(windows.begin_W[index].tolist(), lengths, shares.cpu().numpy(), strict=True):
                parts.append((begin, one[:, :length].T))
        yield averaged(parts, frames=frames)


def class_shares(labels: Iterable[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Each class's share of positive frames over recordings with labels (T, K) bool: (K,) float64.

    Raises:
        ValueError: there is no frame.
    """
    frames, positive_K = 0, None
    for label_TK in labels:
        count_K = label_TK.sum(0, dtype=np.int64)
        positive_K = count_K if positive_K is None else positive_K + count_K
        frames += len(label_TK)
    if positive_K is None or not frames:
        raise ValueError("there is no frame to count classes in")
    share_K: NDArray[np.float64] = positive_K / frames
    return share_K


def prior_scores(share_K: NDArray[np.float64], frames: int) -> Floats:
    """The shares of :func:`class_shares` as the score of every frame: (T, K) float32."""
    return np.broadcast_to(share_K.astype(np.float32), (frames, len(share_K)))


def perfect_scores(label_TK: NDArray[np.bool_]) -> Floats:
    """1 where a class is labelled and 0 elsewhere, (T, K) float32."""
    return label_TK.astype(np.float32)
