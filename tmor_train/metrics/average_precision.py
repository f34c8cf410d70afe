"""Average precision (AP): of frames, which tables of TSU, Charades and MultiTHUMOS call per-frame mAP, and of detected
events at an overlap, by the official rule of PKU-MMD and by that of PASCAL VOC.

Frames of all recordings form one list. The AP of a class is the mean, over its positive frames, of the precision at
their rank in descending order of score, without interpolation. Frames of equal score share the rank of the last of
them, so that the order of frames never matters: for a positive frame of score s the precision is positives with a score
of s or more, divided by frames with a score of s or more. A constant score thus gets the share of positive frames.

Two means over classes are in use. Super-events, TGM and MS-TCT divide by all classes (``all_classes``); the evaluation
of TSU divides by the classes with an AP above 0 (``nonzero``).

Of events, a truth is a labelled one. A proposal is matched with the truth of its class and recording that it overlaps
most (IoU, in frames, end excluded; of equal ones the last), where that overlap is at least the threshold theta. Of
equally confident proposals the last one given ranks first.

``many_to_one`` is PKU-MMD's ``evaluate.py`` (C. Liu et al., 2017; the version that counts a truth once however many
proposals match it). Precision is matched truths / proposals, recall matched truths / truths. Both are computed with all
proposals, and again after each matched proposal is removed, from the least confident on. A step of recall counts with
the highest precision computed so far, that after the removal included. This is not VOC's envelope: a single truth found
by the more confident of two proposals gets 1/2 here and 1 there.

``one_to_one`` is VOC's (M. Everingham et al., 2010, all points): the most confident proposal of a truth is true, later
ones of the same truth are false, and a step of recall counts with the highest precision at that recall or a higher one.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.dataset import Floats, Numbers

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


def frame_ap(recordings: Iterable[tuple[Floats, Marks]]) -> FrameAP:
    """AP of each class over the frames of all recordings.

    Args:
        recordings: of each its scores, (T, K) float32, more is likelier, and its labels, (T, K) bool. They are taken
            one by one and labels are not kept, so the memory of all scores is needed.

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
    """The two as arrays; raises as :func:`frame_ap`."""
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
    """The APs of the classes, NaN for one without a positive frame, with both means."""
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


@dataclass(frozen=True, slots=True)
class Proposal:
    """An event in one recording, detected or labelled: frames ``begin`` to ``end`` (excluded) show the class of
    index ``label``, counted from 0 without the background. ``confidence`` is any finite or infinite number, more is
    likelier; of labelled events it is not read."""

    begin: int
    end: int
    label: int
    confidence: float


def iou(one: Proposal, other: Proposal) -> float:
    """Intersection over union of two events of one recording, from 0 to 1: frames in both / frames in either."""
    both = max(0, min(one.end, other.end) - max(one.begin, other.begin))
    return both / (one.end - one.begin + other.end - other.begin - both)


Matching = Literal["many_to_one", "one_to_one"]
"""The rule by which proposals find truths: PKU-MMD's or VOC's."""
OVERLAPS = (0.1, 0.3, 0.5)
"""The thresholds theta, IoU, of Graph Distillation (ECCV 2018) and of Table IV of the T-MOR paper."""


@dataclass(frozen=True, eq=False, slots=True)
class EventAP:
    """AP at the threshold ``overlap`` (IoU) by one ``matching``, as shares from 0 to 1.

    ``per_action_K`` float64 is the AP of each class over all recordings, ``per_video_N`` that of each recording over
    all classes; both are NaN where there is no truth. ``map_action`` and ``map_video`` are their means without NaN, and
    NaN where nothing is left.
    """

    overlap: float
    matching: Matching
    per_action_K: NDArray[np.float64]
    per_video_N: NDArray[np.float64]
    map_action: float
    map_video: float


def event_ap(
    proposals: Sequence[Sequence[Proposal]],
    truths: Sequence[Sequence[Proposal]],
    *,
    classes: int,
    overlaps: Sequence[float] = OVERLAPS,
    matching: Matching = "many_to_one",
) -> tuple[EventAP, ...]:
    """AP at each of ``overlaps``, in their order.

    Args:
        proposals: those of each recording.
        truths: the labelled events of each recording, in the same order; their confidence does not count, but NaN is
            an error there, too.
        classes: their number K, without the background; ``Proposal.label`` is below it.

    Raises:
        ValueError: not the same recordings, a class out of range, an event that does not end after it begins, a
            confidence that is NaN, or an overlap that is not above 0 and at most 1.
    """
    if len(proposals) != len(truths):
        raise ValueError(f"there are proposals for {len(proposals)} recordings and truths for {len(truths)}")
    if any(not 0 < overlap <= 1 for overlap in overlaps):
        raise ValueError(f"overlaps {tuple(overlaps)} are not all above 0 and at most 1")
    true = [(recording, one) for recording, found in enumerate(truths) for one in found]
    proposed = [(recording, one) for recording, found in enumerate(proposals) for one in found]
    proposed.sort(key=lambda entry: entry[1].confidence)
    for _, one in (*proposed, *true):
        if not 0 <= one.label < classes:
            raise ValueError(f"{one} has none of the {classes} classes")
        if one.end <= one.begin or one.confidence != one.confidence:
            raise ValueError(f"{one} does not end after it begins, or its confidence is NaN")
    known = defaultdict[tuple[int, int], list[tuple[int, Proposal]]](list)
    for number, (recording, one) in enumerate(true):
        known[recording, one.label].append((number, one))
    matches = [  # overlap and number of the truth that each proposal overlaps most
        max(((iou(one, truth), number) for number, truth in known[recording, one.label]), default=(0.0, -1))
        for recording, one in proposed
    ]

    def of(matched: list[int], group_of: Callable[[tuple[int, Proposal]], int], groups: int) -> NDArray[np.float64]:
        """AP of each group (class or recording); ``matched`` is each proposal's truth, or -1."""
        lists: list[list[int]] = [[] for _ in range(groups)]
        for entry, truth in zip(proposed, matched, strict=True):
            lists[group_of(entry)].append(truth)
        counts = Counter(map(group_of, true))
        precision = _MEASURES[matching]
        return np.array([precision(lists[g], counts[g]) if counts[g] else np.nan for g in range(groups)], np.float64)

    def at(overlap: float) -> EventAP:
        """All APs at one threshold."""
        matched = [number if found >= overlap else -1 for found, number in matches]
        per_action_K = of(matched, lambda entry: entry[1].label, classes)
        per_video_N = of(matched, lambda entry: entry[0], len(truths))
        return EventAP(overlap, matching, per_action_K, per_video_N, _mean(per_action_K), _mean(per_video_N))

    return tuple(at(overlap) for overlap in overlaps)


def _mean(values: NDArray[np.float64]) -> float:
    """The mean without NaN; NaN where nothing is left."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")


def _many_to_one(matched: list[int], truths: int) -> float:
    """AP by the official rule. ``matched``: the truth that each proposal matches, or -1; the least confident first."""
    count = Counter(truth for truth in matched if truth >= 0)
    left, positive = len(matched), len(count)
    highest = positive / left if left else 0.0
    area, recall = 0.0, positive / truths
    for truth in matched:
        left -= 1
        if truth < 0:
            continue
        count[truth] -= 1
        positive -= count[truth] == 0
        highest = max(highest, positive / left if left else 0.0)
        area += highest * (recall - positive / truths)
        recall = positive / truths
    return area


def _one_to_one(matched: list[int], truths: int) -> float:
    """AP by VOC's rule. ``matched``: the truth that each proposal matches, or -1; the least confident first."""
    found: set[int] = set()
    precisions = []
    for rank, truth in enumerate(reversed(matched), start=1):
        if truth >= 0 and truth not in found:
            found.add(truth)
            precisions.append(len(found) / rank)
    highest, area = 0.0, 0.0
    for precision in reversed(precisions):
        highest = max(highest, precision)
        area += highest / truths
    return area


_MEASURES: dict[Matching, Callable[[list[int], int], float]] = {
    "many_to_one": _many_to_one,
    "one_to_one": _one_to_one,
}
