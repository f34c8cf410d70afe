"""L_mt where clips of different clusters share a sentence."""

import math

import pytest
import torch

from tmor_train.losses import motion_text
from tmor_train.losses.candidates import relations_of
from tmor_train.losses.memory import Entries
from tmor_train.objective_config import ObjectiveConfig

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
    of = relations_of(pool, range(1), cluster_of=clusters, step=torch.tensor(0), config=config)
    term = motion_text(TEXTS[:1], TEXTS, pool.motion_KD, of, scale=1.0, config=config)
    assert term.loss.item() == pytest.approx(-math.log(math.e / (math.e + negatives)))
