import numpy as np
import pytest

from tmor_train.evaluation.frames.proposals import grouped, per_class, suppressed
from tmor_train.metrics.proposal import Proposal, iou

SCORES = np.array([[0.9, 0.1, 0.0], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6], [0.7, 0.1, 0.2], [0.2, 0.8, 0.0]])


def test_frames_that_are_not_background_become_events():
    first, second = grouped(SCORES, threshold=0.4)
    assert (first.begin, first.end, first.number) == (1, 3, 0)  # 0.35 twice: the first class wins
    assert first.confidence == pytest.approx(0.35)
    assert (second.begin, second.end, second.number, second.confidence) == (4, 5, 0, 0.8)
    assert grouped(SCORES[:1]) == []


def test_overlap():
    assert iou(Proposal(0, 4, 0, 1), Proposal(2, 6, 0, 1)) == pytest.approx(2 / 6)
    assert iou(Proposal(0, 2, 0, 1), Proposal(2, 6, 0, 1)) == 0


def test_suppression_is_within_a_class_and_keeps_the_surest():
    sure, near = Proposal(0, 10, 0, 0.9), Proposal(1, 10, 0, 0.8)
    other, far = Proposal(1, 10, 1, 0.7), Proposal(8, 20, 0, 0.6)
    assert suppressed([far, other, near, sure]) == [sure, other, far]
    assert suppressed([Proposal(0, 2, 0, 0.9), Proposal(0, 1, 0, 0.8)], overlap=0.5)[1].end == 1  # 0.5 is not above


def test_runs_of_each_class_at_several_thresholds():
    found = per_class(SCORES, thresholds=(0.25, 0.7), overlap=0.5)
    assert [(p.begin, p.end, p.number) for p in found] == [(4, 5, 0), (2, 3, 1), (1, 3, 0)]
