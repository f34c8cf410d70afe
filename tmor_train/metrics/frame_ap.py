"""Average precision (AP) of frames: what tables of TSU, Charades and MultiTHUMOS call per-frame mAP.

Frames of all recordings form one list. The AP of a class is the mean, over its positive frames, of the precision at
their rank in descending order of score, without interpolation. Frames of equal score share the rank of the last of
them, so that the order of frames never matters: for a positive frame of score s the precision is positives with a score
of s or more, divided by frames with a score of s or more. A constant score thus gets the share of positive frames.

Two means over classes are in use. Super-events, TGM and MS-TCT divide by all classes (``all_classes``); the evaluation
of TSU divides by the classes with an AP above 0 (``nonzero``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.arrays import Floats, Numbers

Marks = NDArray[np.bool_]
"""Which classes each frame shows, several at a time: (T, K) bool."""


@dataclass(frozen=True, eq=False, slots=True)
class FrameAP:
    """Shares from 0 to 1. ``per_class_K`` float64 is NaN for a class without a positive frame.

    ``all_classes`` is the mean over all K classes, where one without positives counts 0. ``nonzero`` is the mean over
    classes with an AP above 0, NaN where there is none.
    """

    per_class_K: NDArray[np.float64]
    all_classes: float
    nonzero: float


def frame_ap(scores_TK: Floats, label_TK: Marks) -> FrameAP:
    """AP of each class over frames that are already one list.

    Args:
        scores_TK: any scores, (T, K) float32; more is likelier.
        label_TK: which classes each frame has, (T, K) bool.

    Raises:
        ValueError: no frames, shapes that do not fit, labels that are not bool, or a score that is NaN.
    """
    scores_TK, label_TK = _checked(scores_TK, label_TK)
    columns = zip(scores_TK.T, label_TK.T, strict=True)
    return _means([_average_precision(score_T, score_T[label_T]) for score_T, label_T in columns])


def frame_ap_of(recordings: Iterable[tuple[Floats, Marks]]) -> FrameAP:
    """:func:`frame_ap` of recordings that come one by one as (scores_TK, label_TK). Labels are not kept, so it needs
    the memory of all scores.

    Raises:
        ValueError: no recordings, one without frames, shapes that do not fit, labels that are not bool, or a score
            that is NaN.
    """
    scores: list[Floats] = []
    positive: list[list[Floats]] = []
    for scores_TK, label_TK in recordings:
        scores_TK, label_TK = _checked(scores_TK, label_TK)
        positive = positive or [[] for _ in range(scores_TK.shape[1])]
        if scores_TK.shape[1] != len(positive):
            raise ValueError(f"recordings have {len(positive)} classes and {scores_TK.shape[1]}")
        scores.append(np.array(scores_TK.T, np.float32, order="C"))  # a row a class, copied out of the caller's array
        for found, score_T, label_T in zip(positive, scores[-1], label_TK.T, strict=True):
            found.append(score_T[label_T])
    if not scores:
        raise ValueError("there are no recordings")
    return _means(
        [
            _average_precision(np.concatenate([score_KT[number] for score_KT in scores]), np.concatenate(found))
            for number, found in enumerate(positive)
        ]
    )


def points(frames: int, *, count: int = 25) -> Numbers:
    """The frames shown at ``count`` evenly spaced times of a recording, from its first: floor(j · frames / count) for j
    from 0, (count,) int64; frames of a recording shorter than ``count`` repeat.

    Charades' official localisation scores 25 times, (j - 1) / 25 · length, and a class is positive at a time from its
    begin to its end, both included (``Charades_v1_localize``). The labels at these times, which lie between frames,
    are :meth:`tmor_train.benchmarks.base.Timelines.labels_at_points`.

    Raises:
        ValueError: no frames or no times.
    """
    if frames < 1 or count < 1:
        raise ValueError(f"{count} times in {frames} frames: both are at least 1")
    return np.arange(count, dtype=np.int64) * frames // count


def times(length: float, *, count: int = 25) -> NDArray[np.float64]:
    """The times of :func:`points`, from the recording's first frame and in the unit of its ``length``: (j / count) ·
    length for j from 0, (count,) float64. Divided first and then multiplied, as the owners do: the other order rounds
    differently."""
    return np.arange(count, dtype=np.float64) / count * length


def _checked(scores_TK: Floats, label_TK: Marks) -> tuple[Floats, Marks]:
    scores_TK, label_TK = np.asarray(scores_TK), np.asarray(label_TK)
    if scores_TK.ndim != 2 or scores_TK.shape != label_TK.shape or not scores_TK.size:
        raise ValueError(f"scores {scores_TK.shape} and labels {label_TK.shape} are not of the same frames, or of none")
    if label_TK.dtype != np.bool_:
        raise ValueError(f"labels are {label_TK.dtype}, expected bool")
    if np.isnan(scores_TK).any():
        raise ValueError(f"{int(np.isnan(scores_TK).any(1).sum())} of {len(scores_TK)} frames have a score that is NaN")
    return scores_TK, label_TK


def _average_precision(score_T: Floats, positive_P: Floats) -> float:
    """AP from the scores of all frames and those of the positive ones; NaN where none is positive."""
    if not len(positive_P):
        return float("nan")
    sorted_T, sorted_P = np.sort(score_T), np.sort(positive_P)
    above_P = len(sorted_T) - np.searchsorted(sorted_T, sorted_P)  # frames of this score or a higher one
    found_P = len(sorted_P) - np.searchsorted(sorted_P, sorted_P)
    return float((found_P / above_P).mean())


def _means(per_class: list[float]) -> FrameAP:
    per_class_K = np.array(per_class, np.float64)
    known_K = per_class_K[per_class_K > 0]
    return FrameAP(
        per_class_K=per_class_K,
        all_classes=float(known_K.sum() / len(per_class_K)),
        nonzero=float(known_K.mean()) if len(known_K) else float("nan"),
    )


def class_shares(labels: Iterable[NDArray[np.bool_]]) -> NDArray[np.float64]:
    """Each class's share of positive frames over recordings with labels (T, K) bool: (K,) float64, from 0 to 1.

    This is the AP of a score that is the same for all frames, the level of chance.

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
