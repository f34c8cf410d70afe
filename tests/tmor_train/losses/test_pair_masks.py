"""Positives and negatives under every option, and the sample of them by hashes."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tmor_train.losses.pair_masks import (
    PairMasks,
    Relations,
    motion_masks,
    pair_hashes,
    relate,
    sample_members,
    text_masks,
    video_masks,
)
from tmor_train.losses.queue import Entries
from tmor_train.objective_config import ObjectiveConfig

# Two anchors (clips 0 and 1) and five slots: an old key of clip 0, clips 2, 3 and 4, and an empty slot.
CLIPS = torch.tensor([0, 1, 0, 2, 3, 4, -1])
# Clips 0 and 2 are one cluster, clips 1 and 4 another, clip 3 is noise.
CLUSTER_OF = torch.tensor([0, 1, 0, -1, 1])
# Clips 0 and 3 share a sentence, clip 2 has none.
TEXTS = torch.tensor([7, 8, 7, -1, 7, 9, -1])
# Clip 4 has no video.
VIDEOS = torch.tensor([True, True, True, True, True, False, False])


def relations(config: ObjectiveConfig, cluster_of: torch.Tensor | None = CLUSTER_OF) -> Relations:
    pool = Entries(
        motion_KD=torch.zeros(7, 2),
        video_KDv=None,
        text_KDt=None,
        has_video_K=VIDEOS,
        has_text_K=TEXTS >= 0,
        index_K=CLIPS,
        text_id_K=TEXTS,
    )
    return relate(pool, range(2), cluster_of=cluster_of, step=torch.tensor(0), config=config)


def places(who: PairMasks) -> tuple[list[list[int]], list[list[int]]]:
    return tuple([row.nonzero().flatten().tolist() for row in mask] for mask in (who.positives_NK, who.negatives_NK))


def test_motion_pairs_with_its_view_its_older_key_and_its_cluster():
    config = ObjectiveConfig()
    who = motion_masks(relations(config), config)
    assert places(who) == ([[0, 2, 3], [1, 5]], [[1, 4, 5], [0, 2, 3, 4]])
    assert who.anchors_N.tolist() == [True, True]
    assert not who.alone
    assert not who.no_negatives_N.any()


def test_an_older_key_may_be_left_aside_but_is_no_negative():
    config = ObjectiveConfig(own_copies="ignore")
    assert places(motion_masks(relations(config), config)) == ([[0, 3], [1, 5]], [[1, 4, 5], [0, 2, 3, 4]])


def test_without_clusters_each_clip_stands_for_itself():
    config = ObjectiveConfig(noise="drop")
    who = motion_masks(relations(config, None), config)
    assert places(who) == ([[0, 2], [1]], [[1, 3, 4, 5], [0, 2, 3, 4, 5]])
    assert who.anchors_N.all()


def test_dropped_noise_is_neither_anchor_nor_negative():
    config = ObjectiveConfig(noise="drop")
    who = motion_masks(relations(config, torch.tensor([0, -1, 0, -1, 1])), config)
    assert who.anchors_N.tolist() == [True, False]
    assert places(who)[0][0] == [0, 2, 3]
    assert places(who)[1][0] == [5]


def test_a_noise_anchor_is_a_cluster_of_its_own():
    config = ObjectiveConfig()
    who = motion_masks(relations(config, torch.tensor([0, -1, 0, -1, 1])), config)
    assert places(who) == ([[0, 2, 3], [1]], [[1, 4, 5], [0, 2, 3, 4, 5]])


def test_one_cluster_leaves_all_anchors_without_negatives_and_clusters_aside():
    config = ObjectiveConfig()
    who = motion_masks(relations(config, torch.zeros(5, dtype=torch.int64)), config)
    assert who.alone
    assert who.no_negatives_N.all()
    assert places(who) == ([[0, 2], [1]], [[1, 3, 4, 5], [0, 2, 3, 4, 5]])


@pytest.mark.parametrize(("reading", "positives"), [("own", [[0], [1]]), ("cluster", [[0, 3], [1]])])
def test_video_is_compared_with_clips_that_have_one(reading, positives):
    config = ObjectiveConfig(mv_positives=reading)
    assert places(video_masks(relations(config), config)) == (positives, [[1, 4], [0, 2, 3, 4]])


def test_an_anchor_without_video_has_no_part_in_the_loss_of_video():
    config = ObjectiveConfig()
    of = relations(config)
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
    assert places(text_masks(relations(config), config)) == ([[0], [1]], negatives)


def test_texts_of_the_cluster_can_be_positive():
    config = ObjectiveConfig(mt_positives="cluster", mt_negatives="all")
    assert places(text_masks(relations(config), config)) == ([[0], [1, 5]], [[1, 4, 5], [0, 2, 4]])


def test_bounds_keep_the_own_view_then_older_keys():
    for most, kept in ((1, {0}), (2, {0, 2}), (3, {0, 2, 3})):
        config = ObjectiveConfig(max_positives=most, num_negatives=2)
        positives, negatives = places(motion_masks(relations(config), config))
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
