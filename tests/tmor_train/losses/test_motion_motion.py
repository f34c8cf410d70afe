"""Eq. 1 on three clips whose cosines are 1, 0 and −1."""

import math

import pytest
import torch

from tmor_train.losses import motion_motion
from tmor_train.losses.candidates import Relations, relations_of
from tmor_train.losses.memory import Entries
from tmor_train.objective_config import ObjectiveConfig

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
    return relations_of(pool, range(1), cluster_of=cluster_of, step=torch.tensor(0), config=config)


def test_a_cluster_mate_moves_from_the_negatives_to_the_positives():
    config = ObjectiveConfig()
    alone = motion_motion(KEYS[:1], KEYS, relations(config, None), scale=2.0, config=config)
    assert alone.loss.item() == pytest.approx(-math.log(math.exp(2) / (math.exp(2) + 1 + math.exp(-2))))
    of = relations(config, torch.tensor([0, 0, 1]))
    clustered = motion_motion(KEYS[:1], KEYS, of, scale=2.0, config=config)
    assert clustered.loss.item() == pytest.approx(-math.log((math.exp(2) + 1) / (math.exp(2) + 1 + math.exp(-2))))
