"""Per-frame AP by hand, and against the definition as plain loops; the level of chance on official annotations."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests import DATA
from tmor_train.benchmarks import charades, tsu
from tmor_train.benchmarks.base import Timelines
from tmor_train.metrics.frame_ap import FrameAP, class_shares, frame_ap, frame_ap_of, points, times


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
    found = frame_ap(scores, label)
    assert found.per_class_K.tolist() == pytest.approx([(1 / 1 + 2 / 3) / 2, 1.0])
    assert found.all_classes == found.nonzero == pytest.approx((5 / 6 + 1) / 2)


def test_frames_of_equal_score_share_the_last_rank_whatever_their_order() -> None:
    scores = np.array([[0.9], [0.5], [0.5], [0.5], [0.1]], np.float32)
    for positive in (1, 2, 3):
        label = np.zeros((5, 1), np.bool_)
        label[positive] = True
        assert frame_ap(scores, label).all_classes == pytest.approx(1 / 4)


def test_a_constant_gets_the_share_of_positive_frames() -> None:
    label = np.arange(10)[:, None] < np.array([[3, 7]])
    assert frame_ap(np.full((10, 2), 0.5, np.float32), label).per_class_K.tolist() == pytest.approx([0.3, 0.7])


def test_two_means_treat_a_class_without_positives_differently() -> None:
    label = np.array([[True, False, False], [False, True, False]])
    found = frame_ap(np.array([[1, 0, 1], [0, 1, 1]], np.float32), label)
    assert math.isnan(found.per_class_K[2])
    assert (found.all_classes, found.nonzero) == (pytest.approx(2 / 3), 1.0)
    nothing = frame_ap(np.ones((2, 1), np.float32), np.zeros((2, 1), np.bool_))
    assert nothing.all_classes == 0
    assert math.isnan(nothing.nonzero)


@pytest.mark.parametrize("levels", [4, 1000])
def test_it_is_the_definition_in_loops(levels: int) -> None:
    random = np.random.default_rng(levels)
    scores = random.integers(0, levels, (120, 5)).astype(np.float32)
    label = random.random((120, 5)) < 0.2
    label[:, 4] = False
    assert frame_ap(scores, label).per_class_K == pytest.approx(loops(scores, label), nan_ok=True)


def test_recordings_one_by_one_are_one_list_of_frames() -> None:
    random = np.random.default_rng(0)
    scores, label = random.random((90, 4), np.float32), random.random((90, 4)) < 0.1
    whole = frame_ap(scores, label)
    buffer = np.empty((40, 4), np.float32)

    def recordings():
        for begin, end in ((0, 40), (40, 41), (41, 90)):
            part = scores[begin:end]
            if len(part) <= 40:  # the caller may use its array again
                buffer[: len(part)] = part
                part = buffer[: len(part)]
            yield part, label[begin:end]

    found = frame_ap_of(recordings())
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
        frame_ap(scores, label)
    with pytest.raises(ValueError, match=words):
        frame_ap_of([(scores, label)])


def test_recordings_are_some_and_of_the_same_classes() -> None:
    with pytest.raises(ValueError, match="no recordings"):
        frame_ap_of([])
    one, other = (np.zeros((2, n), np.float32) for n in (2, 3))
    with pytest.raises(ValueError, match="2 classes and 3"):
        frame_ap_of([(one, one > 1), (other, other > 1)])


OFFICIAL = DATA / "benchmarks"


def official(name: str) -> Path:
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
    assert frame_ap(scores, label).per_class_K.tolist() == [0.25, 0.5]
    assert frame_ap(label.astype(np.float32), label).all_classes == 1


def prior(train: Timelines, test: Timelines, labels: Callable[[int], np.ndarray]) -> FrameAP:
    share_K = class_shares(map(train.labels, range(len(train))))
    return frame_ap_of(
        (np.broadcast_to(np.float32(share_K), found.shape), found) for found in map(labels, range(len(test)))
    )


@pytest.mark.data
def test_chance_on_charades_is_2_4_percent() -> None:
    folder = official("charades")
    train, test = (charades.timelines(folder / charades.FILES[part]) for part in ("train", "test"))
    assert (len(train), len(test)) == (7985, 1863)
    assert prior(train, test, test.labels).all_classes == pytest.approx(0.024, abs=5e-4)
    assert prior(train, test, test.labels_at_points).all_classes == pytest.approx(0.024, abs=5e-4)
    marks = sum(int(part.labels_at_points(number).sum()) for part in (train, test) for number in range(len(part)))
    assert marks == 705_470  # begin <= (j - 1) / 25 * length <= end in seconds, in a plain loop over the files
    exact = (test.labels_at_points(number) for number in range(len(test)))
    assert frame_ap_of((found.astype(np.float32), found) for found in exact).all_classes == 1


@pytest.mark.data
@pytest.mark.parametrize(("protocol", "chance", "classes"), [("CS", 0.016, 51), ("CV", 0.026, 33)])
def test_chance_on_tsu(protocol: str, chance: float, classes: int) -> None:
    found = tsu.timelines(official("tsu") / f"smarthome_{protocol}_51.json")
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
    assert frame_ap_of((label.astype(np.float32), label) for label in some).nonzero == 1
