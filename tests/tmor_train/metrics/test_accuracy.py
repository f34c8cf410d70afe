"""Accuracies counted by hand."""

import math

import numpy as np
import pytest

from tmor_train.metrics.accuracy import accuracy, spread, wilson


def scores(*predicted: int, classes: int = 3) -> np.ndarray:
    return np.eye(classes, dtype=np.float32)[list(predicted)]


def test_top1_counts_clips_and_the_mean_counts_classes() -> None:
    found = accuracy(scores(0, 0, 0, 1, 0), np.array([0, 0, 0, 1, 1]))
    assert found.top1 == pytest.approx(4 / 5)
    assert found.mean_per_class == pytest.approx((1 + 1 / 2) / 2)
    assert found.per_class_K[:2].tolist() == [1, 0.5]
    assert math.isnan(found.per_class_K[2])


def test_rows_of_the_confusion_are_the_truth() -> None:
    assert accuracy(scores(2, 2, 0), np.array([0, 2, 0])).confusion_KK.tolist() == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]


def test_of_equal_scores_the_first_class_counts() -> None:
    assert accuracy(np.zeros((2, 3), np.float32), np.array([0, 1])).top1 == 0.5


@pytest.mark.parametrize(
    ("found", "label", "words"),
    [
        (np.zeros((0, 3)), np.zeros(0, np.int64), "or of none"),
        (np.zeros((2, 3)), np.zeros(3, np.int64), "not of the same clips"),
        (np.zeros((2, 3)), np.array([0, 3]), "from 0 to 3, but there are 3"),
        (np.zeros((2, 3)), np.array([-1, 0]), "from -1 to 0"),
        (np.array([[0, np.nan], [0, 1]]), np.array([0, 1]), "1 of 2 clips have a score that is NaN"),
    ],
)
def test_what_cannot_be_counted_is_refused(found: np.ndarray, label: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        accuracy(found, label)


def test_three_seeds() -> None:
    found = spread([90, 92, 94])
    assert found.mean == 92
    assert found.half_width == pytest.approx(4.303 * 2 / math.sqrt(3), rel=1e-3)


def test_one_seed_has_no_interval() -> None:
    assert spread([90]).mean == 90
    assert math.isnan(spread([90]).half_width)


def test_a_higher_confidence_is_wider() -> None:
    assert spread([1, 2], confidence=0.99).half_width > spread([1, 2]).half_width


@pytest.mark.parametrize(("values", "confidence"), [([], 0.95), ([1, 2], 1.0), ([1, 2], 0.0)])
def test_what_has_no_interval_is_refused(values: list[float], confidence: float) -> None:
    with pytest.raises(ValueError, match="have no interval"):
        spread(values, confidence=confidence)


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    # R. Newcombe, Statistics in Medicine 17 (1998), table I, method 3; and the last mirrored.
    [(81 / 263, 263, 0.2553, 0.3662), (15 / 148, 148, 0.0624, 0.1605), (0.0, 20, 0.0, 0.1611), (1.0, 20, 0.8389, 1.0)],
)
def test_wilsons_interval(share: float, count: int, low: float, high: float) -> None:
    assert wilson(share, count) == pytest.approx((low, high), abs=5e-5)


def test_no_clips_have_no_interval() -> None:
    with pytest.raises(ValueError, match=r"a share of 0.5 of 0 clips"):
        wilson(0.5, 0)
