"""The ratio on numbers that can be worked out by hand."""

import math

import pytest
import torch

from tmor_train.losses.candidates import Candidates
from tmor_train.losses.contrast import Term, contrast, frozen_contrast
from tmor_train.objective_config import ObjectiveConfig


def sets(positives: list[list[int]], negatives: list[list[int]], size: int) -> Candidates:
    masks = []
    for rows in (positives, negatives):
        mask = torch.zeros(len(rows), size, dtype=torch.bool)
        for row, places in zip(mask, rows, strict=True):
            row[places] = True
        masks.append(mask)
    there_N = torch.ones(len(positives), dtype=torch.bool)
    lonely_N = ~masks[1].any(1)
    return Candidates(
        positives_NK=masks[0], negatives_NK=masks[1], anchors_N=there_N, lonely_N=lonely_N, alone=lonely_N.all()
    )


def on_a_line(cosines: list[float], who: Candidates, *, scale: float = 1.0, reduction: str = "inside") -> Term:
    """One anchor for each row of ``who``, all (1, 0), and candidates with these cosines to it."""
    pool = torch.tensor([[c, math.sqrt(1 - c * c)] for c in cosines], dtype=torch.float64)
    anchors = torch.tensor([[1.0, 0.0]] * len(who.anchors_N), dtype=torch.float64)
    return contrast(anchors, pool, who, scale=scale, reduction=reduction)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        # Similarities log 6, log 2 (positive) and log 4 (negative), scaled by log 8.
        ("inside", -math.log(8 / 12)),
        ("mean_inside", -math.log(4 / 8)),
        ("outside", -(math.log(6 / 12) + math.log(2 / 12)) / 2),
    ],
)
def test_three_ways_to_sum_positives(reduction, expected):
    who = sets([[0, 1]], [[2]], 3)
    cosines = [math.log(n, 8) for n in (6, 2, 4)]
    term = on_a_line(cosines, who, scale=math.log(8), reduction=reduction)
    assert term.loss.item() == pytest.approx(expected)
    assert term.floor.item() == pytest.approx(math.log(1 + 4 / 8))
    assert term.floor.item() <= term.loss.item() + 1e-12
    assert (term.positives.item(), term.negatives.item(), term.anchors.item()) == (2, 1, 1)


@pytest.mark.parametrize("reduction", ["inside", "outside", "mean_inside"])
def test_collapsed_is_the_loss_of_equal_embeddings(reduction):
    term = on_a_line([0.5] * 5, sets([[0, 1]], [[2, 3, 4]], 5), reduction=reduction)
    assert term.loss.item() == pytest.approx(term.collapsed.item())


def test_an_anchor_without_negatives_is_not_in_the_mean():
    both = on_a_line([0.5, 0.2], sets([[0], [0]], [[1], []], 2))
    one = on_a_line([0.5, 0.2], sets([[0]], [[1]], 2))
    assert both.loss.item() == one.loss.item() == pytest.approx(math.log(1 + math.exp(-0.3)))
    assert both.anchors.item() == 1
    assert both.without_negatives.item() == 0.5


def test_frozen_vectors_are_anchors_too_if_symmetric():
    anchors = torch.eye(2, dtype=torch.float64)
    videos = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64)
    keys = torch.tensor([[-1.0, 0.0], [0.0, -1.0]], dtype=torch.float64)  # the anchors stand in their places
    who = sets([[0], [1]], [[1], [0]], 2)
    config = ObjectiveConfig(symmetric="on")
    term = frozen_contrast(anchors, videos, keys, who, own_N=torch.arange(2), scale=1.0, config=config)
    there = [math.log(1 + math.exp(0.6 - 1.0)), math.log(1 + math.exp(0.0 - 0.8))]
    back = [math.log(1 + math.exp(0.0 - 1.0)), math.log(1 + math.exp(0.6 - 0.8))]
    assert term.loss.item() == pytest.approx(sum(there + back) / 4)
    assert term.floor.item() == pytest.approx(sum(there) / 2)
