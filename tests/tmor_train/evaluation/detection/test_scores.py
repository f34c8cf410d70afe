"""The level of chance and the ceiling, by hand and on the official annotations."""

from pathlib import Path

import numpy as np
import pytest

from tests import DATA
from tmor_train.benchmarks import charades, tsu
from tmor_train.benchmarks.base import Timelines
from tmor_train.evaluation.detection.scores import class_shares, perfect_scores, prior_scores
from tmor_train.metrics.frame_ap import FrameAP, frame_ap, frame_ap_of

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
    scores = prior_scores(np.array([0.9, 0.1]), 4)
    assert scores.shape == (4, 2)
    assert frame_ap(scores, label).per_class_K.tolist() == [0.25, 0.5]
    assert frame_ap(perfect_scores(label), label).all_classes == 1


def prior(train: Timelines, test: Timelines, labels) -> FrameAP:
    share_K = class_shares(map(train.labels, range(len(train))))
    return frame_ap_of((prior_scores(share_K, len(found)), found) for found in map(labels, range(len(test))))


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
    assert frame_ap_of((perfect_scores(found), found) for found in exact).all_classes == 1


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
    assert frame_ap_of((perfect_scores(label), label) for label in some).nonzero == 1
