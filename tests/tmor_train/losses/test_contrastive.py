"""The contrastive losses by hand, on masks and on small pools; the masked sums against torch's own; positives and
negatives under every option, and the sample of them by hashes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from tmor_train.losses import contrastive as module
from tmor_train.losses.contrastive import (
    PairMasks,
    Relations,
    Term,
    contrast,
    frozen_contrast,
    masked_logsumexp,
    motion_masks,
    motion_motion,
    motion_text,
    motion_video,
    pair_hashes,
    relate,
    sample_members,
    text_masks,
    video_masks,
)
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


# Two anchors (clips 0 and 1) and five slots: an old key of clip 0, clips 2, 3 and 4, and an empty slot.
CLIPS = torch.tensor([0, 1, 0, 2, 3, 4, -1])
# Clips 0 and 2 are one cluster, clips 1 and 4 another, clip 3 is noise.
CLUSTER_OF = torch.tensor([0, 1, 0, -1, 1])
# Clips 0 and 3 share a sentence, clip 2 has none.
TEXT_IDS = torch.tensor([7, 8, 7, -1, 7, 9, -1])
# Clip 4 has no video.
WITH_VIDEO = torch.tensor([True, True, True, True, True, False, False])


def related(config: ObjectiveConfig, cluster_of: torch.Tensor | None = CLUSTER_OF) -> Relations:
    pool = Entries(
        motion_KD=torch.zeros(7, 2),
        video_KDv=None,
        text_KDt=None,
        has_video_K=WITH_VIDEO,
        has_text_K=TEXT_IDS >= 0,
        index_K=CLIPS,
        text_id_K=TEXT_IDS,
    )
    return relate(pool, range(2), cluster_of=cluster_of, step=torch.tensor(0), config=config)


def places(who: PairMasks) -> tuple[list[list[int]], list[list[int]]]:
    return tuple([row.nonzero().flatten().tolist() for row in mask] for mask in (who.positives_NK, who.negatives_NK))


def test_motion_pairs_with_its_view_its_older_key_and_its_cluster():
    config = ObjectiveConfig()
    who = motion_masks(related(config), config)
    assert places(who) == ([[0, 2, 3], [1, 5]], [[1, 4, 5], [0, 2, 3, 4]])
    assert who.anchors_N.tolist() == [True, True]
    assert not who.alone
    assert not who.no_negatives_N.any()


def test_an_older_key_may_be_left_aside_but_is_no_negative():
    config = ObjectiveConfig(own_copies="ignore")
    assert places(motion_masks(related(config), config)) == ([[0, 3], [1, 5]], [[1, 4, 5], [0, 2, 3, 4]])


def test_without_clusters_each_clip_stands_for_itself():
    config = ObjectiveConfig(noise="drop")
    who = motion_masks(related(config, None), config)
    assert places(who) == ([[0, 2], [1]], [[1, 3, 4, 5], [0, 2, 3, 4, 5]])
    assert who.anchors_N.all()


def test_dropped_noise_is_neither_anchor_nor_negative():
    config = ObjectiveConfig(noise="drop")
    who = motion_masks(related(config, torch.tensor([0, -1, 0, -1, 1])), config)
    assert who.anchors_N.tolist() == [True, False]
    assert places(who)[0][0] == [0, 2, 3]
    assert places(who)[1][0] == [5]


def test_a_noise_anchor_is_a_cluster_of_its_own():
    config = ObjectiveConfig()
    who = motion_masks(related(config, torch.tensor([0, -1, 0, -1, 1])), config)
    assert places(who) == ([[0, 2, 3], [1]], [[1, 4, 5], [0, 2, 3, 4, 5]])


def test_one_cluster_leaves_all_anchors_without_negatives_and_clusters_aside():
    config = ObjectiveConfig()
    who = motion_masks(related(config, torch.zeros(5, dtype=torch.int64)), config)
    assert who.alone
    assert who.no_negatives_N.all()
    assert places(who) == ([[0, 2], [1]], [[1, 3, 4, 5], [0, 2, 3, 4, 5]])


@pytest.mark.parametrize(("reading", "positives"), [("own", [[0], [1]]), ("cluster", [[0, 3], [1]])])
def test_video_is_compared_with_clips_that_have_one(reading, positives):
    config = ObjectiveConfig(mv_positives=reading)
    assert places(video_masks(related(config), config)) == (positives, [[1, 4], [0, 2, 3, 4]])


def test_an_anchor_without_video_has_no_part_in_the_loss_of_video():
    config = ObjectiveConfig()
    of = related(config)
    of = dataclasses.replace(of, has_video_N=torch.tensor([True, False]))
    assert video_masks(of, config).anchors_N.tolist() == [True, False]


@pytest.mark.parametrize(
    ("reading", "negatives"),
    [
        ("cluster", [[1, 4, 5], [0, 2, 4]]),  # clip 3 says the same as clip 0, and is of no cluster
        ("text", [[1, 5], [0, 2, 4, 5]]),  # clip 4 is of clip 1's cluster, and says something else
        ("both", [[1, 5], [0, 2, 4]]),
        ("all", [[1, 4, 5], [0, 2, 4, 5]]),
    ],
)
def test_negatives_of_text(reading, negatives):
    config = ObjectiveConfig(mt_negatives=reading)
    assert places(text_masks(related(config), config)) == ([[0], [1]], negatives)


def test_texts_of_the_cluster_can_be_positive():
    config = ObjectiveConfig(mt_positives="cluster", mt_negatives="all")
    assert places(text_masks(related(config), config)) == ([[0], [1, 5]], [[1, 4, 5], [0, 2, 4]])


def test_bounds_keep_the_own_view_then_older_keys():
    for most, kept in ((1, {0}), (2, {0, 2}), (3, {0, 2, 3})):
        config = ObjectiveConfig(max_positives=most, num_negatives=2)
        positives, negatives = places(motion_masks(related(config), config))
        assert set(positives[0]) == kept
        assert len(negatives[0]) == len(negatives[1]) == 2
        assert set(negatives[0]) < {1, 4, 5}


def test_a_draw_depends_on_seed_step_and_clips_alone():
    anchors, pool = torch.tensor([3, 4]), torch.arange(50)
    drawn = pair_hashes(anchors, pool, step=torch.tensor(1), seed=0)
    assert torch.equal(drawn, pair_hashes(anchors, pool, step=torch.tensor(1), seed=0))
    order = torch.randperm(50)
    assert torch.equal(drawn[:, order], pair_hashes(anchors, pool[order], step=torch.tensor(1), seed=0))
    assert torch.equal(drawn[1:], pair_hashes(anchors[1:], pool, step=torch.tensor(1), seed=0))
    for other in (
        pair_hashes(anchors, pool, step=torch.tensor(2), seed=0),
        pair_hashes(anchors, pool, step=torch.tensor(1), seed=1),
        pair_hashes(anchors + 1, pool, step=torch.tensor(1), seed=0),
    ):
        assert not (drawn == other).any()


def test_tickets_are_as_good_as_uniform():
    drawn = pair_hashes(torch.arange(100), torch.arange(1000), step=torch.tensor(5), seed=9)
    assert drawn.min().item() >= 0
    counts = torch.bincount((drawn >> 59).flatten(), minlength=16)
    # 100,000 tickets over 16 sixteenths: 6,250 each, with a deviation of 77.
    assert counts.min().item() > 6250 - 400
    assert counts.max().item() < 6250 + 400
    winners = sample_members(torch.ones(100, 1000, dtype=torch.bool), drawn, 10).sum(0)
    assert winners.sum().item() == 1000
    assert winners.max().item() < 10  # one draw in a hundred for each of 1,000: seldom more than 6


def test_few_are_chosen_of_the_members():
    members = torch.tensor([[True, True, False, True], [False, False, True, False], [False] * 4])
    order = torch.tensor([[5, 1, 0, 3]] * 3)
    assert sample_members(members, order, 2).tolist() == [
        [False, True, False, True],
        [False, False, True, False],
        [False] * 4,
    ]
    assert sample_members(members, order, 4) is members
