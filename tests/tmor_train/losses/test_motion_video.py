"""L_mv on clips of which not all have a video."""

import math

import pytest
import torch

from tmor_train.losses import motion_video
from tmor_train.losses.candidates import relations_of
from tmor_train.losses.memory import Entries
from tmor_train.objective_config import ObjectiveConfig

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
    of = relations_of(pool, range(2), cluster_of=clusters, step=torch.tensor(0), config=config)
    term = motion_video(ANCHORS, VIDEOS, pool.motion_KD, of, scale=1.0, config=config)
    # The second anchor has no video: the mean is of the first alone, and clip 2 is its one negative.
    assert term.anchors.item() == 1
    assert term.loss.item() == pytest.approx(-math.log(positives / (positives + math.exp(-1.0))))
