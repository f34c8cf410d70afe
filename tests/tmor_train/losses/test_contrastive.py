"""The contrastive losses by hand, on masks and on small pools; the masked sums against torch's own."""

from __future__ import annotations

import math

import pytest
import torch

from tmor_train.losses import contrastive as module
from tmor_train.losses.contrastive import (
    Term,
    contrast,
    frozen_contrast,
    masked_logsumexp,
    motion_motion,
    motion_text,
    motion_video,
)
from tmor_train.losses.pair_masks import PairMasks, Relations, relate
from tmor_train.losses.queue import Entries
from tmor_train.objective_config import ObjectiveConfig


def sets(positives: list[list[int]], negatives: list[list[int]], size: int) -> PairMasks:
    masks = []
    for rows in (positives, negatives):
        mask = torch.zeros(len(rows), size, dtype=torch.bool)
        for row, places in zip(mask, rows, strict=True):
            row[places] = True
        masks.append(mask)
    there_N = torch.ones(len(positives), dtype=torch.bool)
    no_negatives_N = ~masks[1].any(1)
    return PairMasks(
        positives_NK=masks[0],
        negatives_NK=masks[1],
        anchors_N=there_N,
        no_negatives_N=no_negatives_N,
        alone=no_negatives_N.all(),
    )


def on_a_line(cosines: list[float], who: PairMasks, *, scale: float = 1.0, reduction: str = "inside") -> Term:
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


KEYS = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])


def relations(config: ObjectiveConfig, cluster_of: torch.Tensor | None) -> Relations:
    everyone, nobody = torch.ones(3, dtype=torch.bool), torch.full((3,), -1)
    pool = Entries(
        motion_KD=KEYS,
        video_KDv=None,
        text_KDt=None,
        has_video_K=~everyone,
        has_text_K=~everyone,
        index_K=torch.arange(3),
        text_id_K=nobody,
    )
    return relate(pool, range(1), cluster_of=cluster_of, step=torch.tensor(0), config=config)


def test_a_cluster_mate_moves_from_the_negatives_to_the_positives():
    config = ObjectiveConfig()
    alone = motion_motion(KEYS[:1], KEYS, relations(config, None), scale=2.0, config=config)
    assert alone.loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 1 + math.exp(-2))))
    of = relations(config, torch.tensor([0, 0, 1]))
    clustered = motion_motion(KEYS[:1], KEYS, of, scale=2.0, config=config)
    assert clustered.loss.item() == pytest.approx(-math.log((math.exp(2) + 1) / (math.exp(2) + 1 + math.exp(-2))))


ANCHORS = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
VIDEOS = torch.tensor([[0.6, 0.8], [0.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])


@pytest.mark.parametrize(("reading", "positives"), [("own", math.exp(0.6)), ("cluster", math.exp(0.6) + math.exp(0.0))])
def test_a_motion_is_drawn_to_its_video_and_from_those_of_other_clusters(reading, positives):
    config = ObjectiveConfig(mv_positives=reading)
    pool = Entries(
        motion_KD=torch.zeros(4, 2),
        video_KDv=VIDEOS,
        text_KDt=None,
        has_video_K=torch.tensor([True, False, True, True]),
        has_text_K=torch.zeros(4, dtype=torch.bool),
        index_K=torch.arange(4),
        text_id_K=torch.full((4,), -1),
    )
    clusters = torch.tensor([0, 1, 1, 0])
    of = relate(pool, range(2), cluster_of=clusters, step=torch.tensor(0), config=config)
    term = motion_video(ANCHORS, VIDEOS, pool.motion_KD, of, scale=1.0, config=config)
    # The second anchor has no video: the mean is of the first alone, and clip 2 is its one negative.
    assert term.anchors.item() == 1
    assert term.loss.item() == pytest.approx(-math.log(positives / (positives + math.exp(-1.0))))


TEXTS = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
# Of the anchor, clip 0: clip 1 shares the sentence, clip 2 the cluster, clip 3 neither.
SAME_SENTENCE, SAME_CLUSTER, NEITHER = math.e, 1.0, 1 / math.e


@pytest.mark.parametrize(
    ("reading", "negatives"),
    [
        ("cluster", SAME_SENTENCE + NEITHER),
        ("text", SAME_CLUSTER + NEITHER),
        ("both", NEITHER),
        ("all", SAME_SENTENCE + SAME_CLUSTER + NEITHER),
    ],
)
def test_readings_of_eq_8(reading, negatives):
    config = ObjectiveConfig(mt_negatives=reading)
    everyone = torch.ones(4, dtype=torch.bool)
    pool = Entries(
        motion_KD=torch.zeros(4, 2),
        video_KDv=None,
        text_KDt=TEXTS,
        has_video_K=~everyone,
        has_text_K=everyone,
        index_K=torch.arange(4),
        text_id_K=torch.tensor([5, 5, 6, 7]),
    )
    clusters = torch.tensor([0, 1, 0, 1])
    of = relate(pool, range(1), cluster_of=clusters, step=torch.tensor(0), config=config)
    term = motion_text(TEXTS[:1], TEXTS, pool.motion_KD, of, scale=1.0, config=config)
    assert term.loss.item() == pytest.approx(-math.log(math.e / (math.e + negatives)))


def drawn(seed: int = 0, rows: int = 5, columns: int = 11) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    roles = torch.randint(3, (rows, columns))
    roles[:, 0], roles[:, 1] = 0, 1
    return torch.randn(rows, 4).double(), torch.randn(columns, 4).double(), roles == 0, roles == 1


@pytest.mark.parametrize("block", [1, 22, 1 << 19])
def test_sums_do_not_depend_on_the_blocks(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    anchors, pool, positives, negatives = drawn()
    sums = masked_logsumexp(anchors, pool, positives, negatives)
    s = anchors @ pool.T
    assert torch.allclose(sums.log_positive_N, s.masked_fill(~positives, -torch.inf).logsumexp(1))
    assert torch.allclose(sums.log_negative_N, s.masked_fill(~negatives, -torch.inf).logsumexp(1))
    assert torch.allclose(sums.sum_positive_N, (s * positives).sum(1))
    assert sums.positives_N.tolist() == positives.sum(1).tolist()
    assert sums.negatives_N.tolist() == negatives.sum(1).tolist()


@pytest.mark.parametrize("block", [22, 1 << 19])
def test_gradients_of_all_three_sums(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    anchors, pool, positives, negatives = drawn(3)

    def differentiable(anchors: torch.Tensor, pool: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(masked_logsumexp(anchors, pool, positives, negatives)[:3])

    assert torch.autograd.gradcheck(differentiable, (anchors.requires_grad_(), pool.requires_grad_()))


def test_an_empty_set_is_zero_and_has_no_gradient():
    anchors, pool, positives, negatives = drawn()
    negatives[2] = False
    anchors.requires_grad_()
    sums = masked_logsumexp(anchors, pool, positives, negatives)
    assert sums.log_negative_N[2].item() == 0
    sums.log_negative_N.sum().backward()
    assert anchors.grad[2].abs().max().item() == 0
    assert anchors.grad[[0, 1, 3, 4]].abs().min(1).values.gt(0).all()


def test_similarities_far_apart_neither_overflow_nor_vanish():
    anchors = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    pool = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-0.9, 0.1]])
    sums = masked_logsumexp(anchors, pool, torch.tensor([[False, True, True]]), torch.tensor([[True, False, False]]))
    assert sums.log_negative_N.item() == 1000
    assert sums.log_positive_N.item() == pytest.approx(-900)
    (sums.log_negative_N - sums.log_positive_N).backward()
    assert torch.allclose(anchors.grad, torch.tensor([[1.0 - -0.9, -0.1]]))
