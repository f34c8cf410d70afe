"""Events out of class probabilities of frames."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.arrays import Floats
from tmor_train.metrics.proposal import Proposal, iou


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
    """Temporal non-maximum suppression: none whose overlap (IoU) with a surer one of its class is above ``overlap``."""
    kept: list[Proposal] = []
    for one in sorted(proposals, key=lambda p: (-p.confidence, p.begin, p.end, p.number)):
        if all(one.number != other.number or iou(one, other) <= overlap for other in kept):
            kept.append(one)
    return kept
