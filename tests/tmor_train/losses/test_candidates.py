"""Who is positive and who negative, written down by hand for one small pool."""

import dataclasses

import pytest
import torch

from tmor_train.losses.candidates import (
    Candidates,
    Relations,
    motion_candidates,
    relations_of,
    text_candidates,
    video_candidates,
)
from tmor_train.losses.memory import Entries
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
    return relations_of(pool, range(2), cluster_of=cluster_of, step=torch.tensor(0), config=config)


def places(who: Candidates) -> tuple[list[list[int]], list[list[int]]]:
    return tuple([row.nonzero().flatten().tolist() for row in mask] for mask in (who.positives_NK, who.negatives_NK))


def test_motion_pairs_with_its_view_its_older_key_and_its_cluster():
    config = ObjectiveConfig()
    who = motion_candidates(relations(config), config)
    assert places(who) == ([[0, 2, 3], [1, 5]], [[1, 4, 5], [0, 2, 3, 4]])
    assert who.anchors_N.tolist() == [True, True]
    assert not who.alone
    assert not who.lonely_N.any()


def test_an_older_key_may_be_left_aside_but_is_no_negative():
    config = ObjectiveConfig(own_copies="ignore")
    assert places(motion_candidates(relations(config), config)) == ([[0, 3], [1, 5]], [[1, 4, 5], [0, 2, 3, 4]])


def test_without_clusters_each_clip_stands_for_itself():
    config = ObjectiveConfig(noise="drop")
    who = motion_candidates(relations(config, None), config)
    assert places(who) == ([[0, 2], [1]], [[1, 3, 4, 5], [0, 2, 3, 4, 5]])
    assert who.anchors_N.all()


def test_dropped_noise_is_neither_anchor_nor_negative():
    config = ObjectiveConfig(noise="drop")
    who = motion_candidates(relations(config, torch.tensor([0, -1, 0, -1, 1])), config)
    assert who.anchors_N.tolist() == [True, False]
    assert places(who)[0][0] == [0, 2, 3]
    assert places(who)[1][0] == [5]


def test_a_noise_anchor_is_a_cluster_of_its_own():
    config = ObjectiveConfig()
    who = motion_candidates(relations(config, torch.tensor([0, -1, 0, -1, 1])), config)
    assert places(who) == ([[0, 2, 3], [1]], [[1, 4, 5], [0, 2, 3, 4, 5]])


def test_one_cluster_leaves_all_anchors_without_negatives_and_clusters_aside():
    config = ObjectiveConfig()
    who = motion_candidates(relations(config, torch.zeros(5, dtype=torch.int64)), config)
    assert who.alone
    assert who.lonely_N.all()
    assert places(who) == ([[0, 2], [1]], [[1, 3, 4, 5], [0, 2, 3, 4, 5]])


@pytest.mark.parametrize(("reading", "positives"), [("own", [[0], [1]]), ("cluster", [[0, 3], [1]])])
def test_video_is_compared_with_clips_that_have_one(reading, positives):
    config = ObjectiveConfig(mv_positives=reading)
    assert places(video_candidates(relations(config), config)) == (positives, [[1, 4], [0, 2, 3, 4]])


def test_an_anchor_without_video_has_no_part_in_the_loss_of_video():
    config = ObjectiveConfig()
    of = relations(config)
    of = dataclasses.replace(of, has_video_N=torch.tensor([True, False]))
    assert video_candidates(of, config).anchors_N.tolist() == [True, False]


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
    assert places(text_candidates(relations(config), config)) == ([[0], [1]], negatives)


def test_texts_of_the_cluster_can_be_positive():
    config = ObjectiveConfig(mt_positives="cluster", mt_negatives="all")
    assert places(text_candidates(relations(config), config)) == ([[0], [1, 5]], [[1, 4, 5], [0, 2, 4]])


def test_bounds_keep_the_own_view_then_older_keys():
    for most, kept in ((1, {0}), (2, {0, 2}), (3, {0, 2, 3})):
        config = ObjectiveConfig(max_positives=most, num_negatives=2)
        positives, negatives = places(motion_candidates(relations(config), config))
        assert set(positives[0]) == kept
        assert len(negatives[0]) == len(negatives[1]) == 2
        assert set(negatives[0]) < {1, 4, 5}
