"""Average precision (AP) of detected events at an overlap: the official one of PKU-MMD, and that of PASCAL VOC.

A truth is a labelled event. A proposal is matched with the truth of its class and recording that it overlaps most (IoU,
in frames, end excluded; of equal ones the last), where that overlap is at least the threshold theta. Of equally
confident proposals the last one given ranks first.

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
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray


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
        lists: list[list[int]] = [[] for _ in range(groups)]
        for entry, truth in zip(proposed, matched, strict=True):
            lists[group_of(entry)].append(truth)
        counts = Counter(map(group_of, true))
        precision = _MEASURES[matching]
        return np.array([precision(lists[g], counts[g]) if counts[g] else np.nan for g in range(groups)], np.float64)

    def at(overlap: float) -> EventAP:
        matched = [number if found >= overlap else -1 for found, number in matches]
        per_action_K = of(matched, lambda entry: entry[1].label, classes)
        per_video_N = of(matched, lambda entry: entry[0], len(truths))
        return EventAP(overlap, matching, per_action_K, per_video_N, _mean(per_action_K), _mean(per_video_N))

    return tuple(at(overlap) for overlap in overlaps)


def _mean(values: NDArray[np.float64]) -> float:
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
