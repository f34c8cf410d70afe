"""AP of events by hand, and against the two rules as plain loops over events."""

import math
from itertools import pairwise

import numpy as np
import pytest

from tmor_train.metrics.event_ap import Proposal, event_ap


def truth(begin: int, end: int, number: int = 0) -> Proposal:
    return Proposal(begin, end, number, 1.0)


def official(proposals: list[tuple[int, Proposal]], truths: list[tuple[int, Proposal]], theta: float) -> float:
    """PKU-MMD's rule: proposals leave one by one, the least confident first; everything is counted anew."""
    proposals = sorted(proposals, key=lambda entry: entry[1].confidence)
    taken = [best(entry, truths, theta) for entry in proposals]

    def measured(rest: list[int | None]) -> tuple[float, float]:
        positive = len({one for one in rest if one is not None})
        return (positive / len(rest) if rest else 0.0), positive / len(truths)

    highest, recall = measured(taken)
    area = 0.0
    for left, one in enumerate(taken, start=1):
        if one is not None:
            precision, lower = measured(taken[left:])
            highest = max(highest, precision)
            area += highest * (recall - lower)
            recall = lower
    return area


def voc(proposals: list[tuple[int, Proposal]], truths: list[tuple[int, Proposal]], theta: float) -> float:
    """VOC's rule: area under the highest precision at a recall or beyond, a truth found once only."""
    ranked = sorted(proposals, key=lambda entry: entry[1].confidence)[::-1]
    found: set[int] = set()
    curve = [(0.0, 0.0)]
    for rank, entry in enumerate(ranked, start=1):
        one = best(entry, truths, theta)
        if one is not None:
            found.add(one)
        curve.append((len(found) / len(truths), len(found) / rank))
    return sum((b[0] - a[0]) * max(p for r, p in curve if r >= b[0]) for a, b in pairwise(curve))


def best(entry: tuple[int, Proposal], truths: list[tuple[int, Proposal]], theta: float) -> int | None:
    chosen, highest = None, theta
    for number, (recording, one) in enumerate(truths):
        if recording == entry[0] and one.label == entry[1].label:
            held = len(set(range(entry[1].begin, entry[1].end)) & set(range(one.begin, one.end)))
            either = len(set(range(entry[1].begin, entry[1].end)) | set(range(one.begin, one.end)))
            if held and held / either >= highest:
                chosen, highest = number, held / either
    return chosen


def test_the_same_truth_twice_counts_once_or_is_false() -> None:
    proposals = [[Proposal(0, 10, 0, 0.9), Proposal(0, 9, 0, 0.8), Proposal(20, 30, 0, 0.7)]]
    truths = [[truth(0, 10), truth(20, 30)]]
    (many,) = event_ap(proposals, truths, classes=1, overlaps=(0.5,))
    # All three: 2 of 3. Without the third: 1 of 2, recall 1/2. Without the second: 1 of 1. Without the first: 0.
    assert many.map_action == pytest.approx((1 - 1 / 2) * 2 / 3 + 1 / 2 * 1)
    (one,) = event_ap(proposals, truths, classes=1, overlaps=(0.5,), matching="one_to_one")
    assert one.map_action == pytest.approx(1 / 2 * 1 + 1 / 2 * 2 / 3)


def test_the_official_precision_is_read_after_removals() -> None:
    proposals, truths = [[Proposal(0, 10, 0, 0.9), Proposal(20, 30, 0, 0.5)]], [[truth(0, 10)]]
    assert event_ap(proposals, truths, classes=1)[0].map_action == 1 / 2
    assert event_ap(proposals, truths, classes=1, matching="one_to_one")[0].map_action == 1


def test_three_overlaps_in_one_call() -> None:
    found = event_ap([[Proposal(0, 4, 0, 0.9)]], [[truth(0, 10)]], classes=1)  # IoU 0.4
    assert [(at.overlap, at.map_action) for at in found] == [(0.1, 1), (0.3, 1), (0.5, 0)]
    exact = event_ap([[Proposal(0, 5, 0, 0.9)]], [[truth(0, 10)]], classes=1, overlaps=(0.5,))
    assert exact[0].map_action == 1  # at least theta


def test_means_over_actions_and_over_videos_differ() -> None:
    truths = [[truth(0, 10, 0), truth(10, 20, 1)], [truth(0, 10, 0)], []]
    proposals = [[Proposal(0, 10, 0, 0.9)], [], [Proposal(0, 5, 1, 0.1)]]
    (found,) = event_ap(proposals, truths, classes=3, overlaps=(0.5,))
    assert found.per_action_K[:2].tolist() == [0.5, 0]
    assert found.per_video_N[:2].tolist() == [0.5, 0]
    assert math.isnan(found.per_action_K[2])
    assert math.isnan(found.per_video_N[2])
    assert found.map_action == found.map_video == 0.25
    other = event_ap([[Proposal(0, 10, 0, 0.9)], [Proposal(0, 10, 0, 0.8)], []], truths, classes=3, overlaps=(0.5,))[0]
    assert (other.map_action, other.map_video) == (0.5, 0.75)


def test_another_class_or_recording_never_matches() -> None:
    truths = [[truth(0, 10, 0)], []]
    for proposals in ([[Proposal(0, 10, 1, 0.9)], []], [[], [Proposal(0, 10, 0, 0.9)]]):
        assert event_ap(proposals, truths, classes=2)[0].map_action == 0


def test_perfect_proposals_are_perfect_and_none_are_nothing() -> None:
    truths = [[truth(0, 10, 0), truth(15, 20, 1)], [truth(3, 9, 1)]]
    for matching in ("many_to_one", "one_to_one"):
        for found in event_ap(truths, truths, classes=2, matching=matching):
            assert (found.map_action, found.map_video) == (1, 1)
        assert event_ap([[], []], truths, classes=2, matching=matching)[0].map_action == 0
    assert math.isnan(event_ap([[]], [[]], classes=2)[0].map_action)


@pytest.mark.parametrize("seed", range(6))
def test_both_are_their_rules_in_loops(seed: int) -> None:
    random = np.random.default_rng(seed)

    def some(count: int) -> list[list[Proposal]]:
        begins = random.integers(0, 60, (4, count))
        ends, numbers = begins + random.integers(2, 25, (4, count)), random.integers(0, 3, (4, count))
        levels = random.permutation(4 * count).reshape(4, count) / 100
        rows = zip(begins.tolist(), ends.tolist(), numbers.tolist(), levels.tolist(), strict=True)
        return [[Proposal(*one) for one in zip(*row, strict=True)] for row in rows]

    proposals, truths = some(12), some(4)
    for matching, rule in (("many_to_one", official), ("one_to_one", voc)):
        for found in event_ap(proposals, truths, classes=3, matching=matching):
            for number in range(3):
                ours = [(n, p) for n, row in enumerate(proposals) for p in row if p.label == number]
                theirs = [(n, p) for n, row in enumerate(truths) for p in row if p.label == number]
                assert found.per_action_K[number] == pytest.approx(rule(ours, theirs, found.overlap))
            for n in range(4):
                one = rule([(n, p) for p in proposals[n]], [(n, p) for p in truths[n]], found.overlap)
                assert found.per_video_N[n] == pytest.approx(one)


@pytest.mark.parametrize(
    ("proposals", "overlaps", "words"),
    [
        ([], (0.5,), "for 0 recordings and truths for 1"),
        ([[Proposal(0, 1, 2, 0.5)]], (0.5,), "none of the 2 classes"),
        ([[Proposal(3, 3, 0, 0.5)]], (0.5,), "does not end after it begins"),
        ([[Proposal(0, 1, 0, math.nan)]], (0.5,), "confidence is NaN"),
        ([[]], (0.0,), "not all above 0"),
        ([[]], (1.5,), "at most 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(
    proposals: list[list[Proposal]], overlaps: tuple[float, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        event_ap(proposals, [[truth(0, 1)]], classes=2, overlaps=overlaps)


def test_of_equal_confidence_the_last_given_is_the_surest() -> None:
    sure, right, wrong = Proposal(0, 10, 0, 0.9), Proposal(20, 30, 0, 0.5), Proposal(50, 60, 0, 0.5)
    truths = [[truth(0, 10), truth(20, 30)]]
    for matching, wrong_surer in (("many_to_one", 2 / 3), ("one_to_one", (1 + 2 / 3) / 2)):
        for proposals, expected in (([sure, right, wrong], wrong_surer), ([sure, wrong, right], 1)):
            found = event_ap([proposals], truths, classes=1, matching=matching)[0]
            assert found.map_action == pytest.approx(expected)
