"""AP of frames and of events by hand, and against the definitions as plain loops."""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests import DATA
from tmor_train.benchmarks import charades, tsu
from tmor_train.benchmarks.base import Timelines
from tmor_train.metrics.average_precision import (
    FrameAP,
    Proposal,
    class_shares,
    event_ap,
    frame_ap,
    points,
    times,
)


def loops(scores_TK: np.ndarray, label_TK: np.ndarray) -> list[float]:
    """AP of each class: for each positive frame, positives and frames with its score or more."""
    found = []
    for score_T, label_T in zip(scores_TK.T.tolist(), label_TK.T.tolist(), strict=True):
        precisions = []
        for score, positive in zip(score_T, label_T, strict=True):
            if positive:
                above = [label for other, label in zip(score_T, label_T, strict=True) if other >= score]
                precisions.append(sum(above) / len(above))
        found.append(sum(precisions) / len(precisions) if precisions else math.nan)
    return found


def test_a_case_by_hand() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4]], np.float32)
    label = np.array([[True, False], [False, False], [True, False], [False, True]])
    found = frame_ap([(scores, label)])
    assert found.per_class_K.tolist() == pytest.approx([(1 / 1 + 2 / 3) / 2, 1.0])
    assert found.all_classes == found.nonzero == pytest.approx((5 / 6 + 1) / 2)


def test_frames_of_equal_score_share_the_last_rank_whatever_their_order() -> None:
    scores = np.array([[0.9], [0.5], [0.5], [0.5], [0.1]], np.float32)
    for positive in (1, 2, 3):
        label = np.zeros((5, 1), np.bool_)
        label[positive] = True
        assert frame_ap([(scores, label)]).all_classes == pytest.approx(1 / 4)


def test_a_constant_gets_the_share_of_positive_frames() -> None:
    label = np.arange(10)[:, None] < np.array([[3, 7]])
    assert frame_ap([(np.full((10, 2), 0.5, np.float32), label)]).per_class_K.tolist() == pytest.approx([0.3, 0.7])


def test_two_means_treat_a_class_without_positives_differently() -> None:
    label = np.array([[True, False, False], [False, True, False]])
    found = frame_ap([(np.array([[1, 0, 1], [0, 1, 1]], np.float32), label)])
    assert math.isnan(found.per_class_K[2])
    assert (found.all_classes, found.nonzero) == (pytest.approx(2 / 3), 1.0)
    nothing = frame_ap([(np.ones((2, 1), np.float32), np.zeros((2, 1), np.bool_))])
    assert nothing.all_classes == 0
    assert math.isnan(nothing.nonzero)


@pytest.mark.parametrize("levels", [4, 1000])
def test_it_is_the_definition_in_loops(levels: int) -> None:
    random = np.random.default_rng(levels)
    scores = random.integers(0, levels, (120, 5)).astype(np.float32)
    label = random.random((120, 5)) < 0.2
    label[:, 4] = False
    assert frame_ap([(scores, label)]).per_class_K == pytest.approx(loops(scores, label), nan_ok=True)


def test_recordings_one_by_one_are_one_list_of_frames() -> None:
    random = np.random.default_rng(0)
    scores, label = random.random((90, 4), np.float32), random.random((90, 4)) < 0.1
    whole = frame_ap([(scores, label)])
    buffer = np.empty((40, 4), np.float32)

    def recordings():
        for begin, end in ((0, 40), (40, 41), (41, 90)):
            part = scores[begin:end]
            if len(part) <= 40:  # the caller may use its array again
                buffer[: len(part)] = part
                part = buffer[: len(part)]
            yield part, label[begin:end]

    found = frame_ap(recordings())
    assert np.array_equal(found.per_class_K, whole.per_class_K, equal_nan=True)
    assert (found.all_classes, found.nonzero) == (whole.all_classes, whole.nonzero)


def test_points_are_the_frames_shown_at_even_times() -> None:
    assert points(50).tolist() == list(range(0, 50, 2))
    assert points(10, count=4).tolist() == [0, 2, 5, 7]
    assert times(10, count=4).tolist() == [0, 2.5, 5, 7.5]
    assert points(3).max() == 2  # fewer frames than times: some frames count twice
    with pytest.raises(ValueError, match="at least 1"):
        points(0)


@pytest.mark.parametrize(
    ("scores", "label", "words"),
    [
        (np.zeros((0, 2)), np.zeros((0, 2), np.bool_), "or of none"),
        (np.zeros((2, 2)), np.zeros((3, 2), np.bool_), "not of the same frames"),
        (np.zeros((2, 2)), np.zeros((2, 2), np.int64), "int64, expected bool"),
        (np.array([[0, np.nan], [0, 1]]), np.zeros((2, 2), np.bool_), "1 of 2 frames have a score that is NaN"),
    ],
)
def test_what_cannot_be_ranked_is_refused(scores: np.ndarray, label: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        frame_ap([(scores, label)])


def test_recordings_are_some_and_of_the_same_classes() -> None:
    with pytest.raises(ValueError, match="no recordings"):
        frame_ap([])
    one, other = (np.zeros((2, n), np.float32) for n in (2, 3))
    with pytest.raises(ValueError, match="2 classes and 3"):
        frame_ap([(one, one > 1), (other, other > 1)])


OFFICIAL = DATA / "benchmarks"


def annotations(name: str) -> Path:
    if not (OFFICIAL / name).is_dir():
        pytest.skip(f"the official annotations are not at {OFFICIAL / name}")
    return OFFICIAL / name


def test_shares_count_frames_of_all_recordings() -> None:
    labels = [np.array([[True, False], [True, True]]), np.array([[False, False]] * 2)]
    assert class_shares(labels).tolist() == [0.5, 0.25]
    with pytest.raises(ValueError, match="no frame"):
        class_shares([])


def test_the_prior_scores_every_frame_alike_and_the_perfect_one_is_perfect() -> None:
    label = np.array([[True, False], [False, True], [False, True], [False, False]])
    scores = np.broadcast_to(np.float32([0.9, 0.1]), label.shape)
    assert frame_ap([(scores, label)]).per_class_K.tolist() == [0.25, 0.5]
    assert frame_ap([(label.astype(np.float32), label)]).all_classes == 1


def prior(train: Timelines, test: Timelines, labels: Callable[[int], np.ndarray]) -> FrameAP:
    share_K = class_shares(map(train.labels, range(len(train))))
    return frame_ap(
        (np.broadcast_to(np.float32(share_K), found.shape), found) for found in map(labels, range(len(test)))
    )


@pytest.mark.slow
@pytest.mark.data
def test_chance_on_charades_is_2_4_percent() -> None:
    folder = annotations("charades")
    train, test = (charades.timelines(folder / charades.FILES[part]) for part in ("train", "test"))
    assert (len(train), len(test)) == (7985, 1863)
    assert prior(train, test, test.labels).all_classes == pytest.approx(0.024, abs=5e-4)
    assert prior(train, test, test.labels_at_points).all_classes == pytest.approx(0.024, abs=5e-4)
    marks = sum(int(part.labels_at_points(number).sum()) for part in (train, test) for number in range(len(part)))
    assert marks == 705_470  # begin <= (j - 1) / 25 * length <= end in seconds, in a plain loop over the files
    exact = (test.labels_at_points(number) for number in range(len(test)))
    assert frame_ap((found.astype(np.float32), found) for found in exact).all_classes == 1


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("protocol", "chance", "classes"), [("CS", 0.016, 51), ("CV", 0.026, 33)])
def test_chance_on_tsu(protocol: str, chance: float, classes: int) -> None:
    found = tsu.timelines(annotations("tsu") / f"smarthome_{protocol}_51.json")
    test = found["testing"]
    if protocol == "CV":  # all of it
        chance_ap = prior(found["training"], test, test.labels)
        assert int((chance_ap.per_class_K > 0).sum()) == classes
        assert chance_ap.nonzero == pytest.approx(chance, abs=5e-4)
        assert chance_ap.all_classes == pytest.approx(chance_ap.nonzero * classes / 51)
    share_K = class_shares(map(test.labels, range(len(test))))  # what a constant score gets
    assert int((share_K > 0).sum()) == classes
    assert share_K[share_K > 0].mean() == pytest.approx(chance, abs=5e-4)
    some = [test.labels(number) for number in range(0, len(test), 40)]
    assert frame_ap((label.astype(np.float32), label) for label in some).nonzero == 1


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
