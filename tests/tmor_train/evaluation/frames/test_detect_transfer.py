from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import acted
from tmor_train.configuration import as_json
from tmor_train.data.augment import Project
from tmor_train.encoder.motion import EncoderConfig
from tmor_train.evaluation.config import StartConfig
from tmor_train.evaluation.encoders import started
from tmor_train.evaluation.frames.config import TransferConfig
from tmor_train.evaluation.frames.transfer import FLAT, fitted
from tmor_train.pretrain_config import ViewConfig
from tmor_train.pretrained.encoder import CannotUse

torch.set_num_threads(1)
DEEP, PLANE = acted.recordings((20,), dimensions=3).motions, acted.recordings((20,)).motions
START = StartConfig(weights="scratch")
ENCODER, _ = started(START, seed=0, device="cpu")


def test_an_encoder_of_pictures_sees_x_and_y_of_joints_in_space():
    found, notes = fitted(ENCODER, TransferConfig(), start=START, motions=DEEP)
    assert found.views.still == (FLAT,)
    assert "projected" in notes[0]


def test_nothing_is_changed_where_nothing_has_to_be():
    assert fitted(ENCODER, TransferConfig(), start=START, motions=PLANE) == (ENCODER, ())
    views = ViewConfig(still=(Project(yaw=0.0, pitch=0.0),))
    projecting = replace(ENCODER, views=views)
    assert fitted(projecting, TransferConfig(), start=START, motions=DEEP) == (projecting, ())


@pytest.mark.parametrize(
    "known", [{}, {"sha256": "abc"}, {"sha256": "abc", "config": {"encoder": as_json(EncoderConfig())}}]
)
def test_a_transplanted_trunk_has_all_weights_but_those_of_joints_and_coordinates(known):
    encoder = replace(ENCODER, **known)
    torch.manual_seed(3)
    found, notes = fitted(encoder, TransferConfig(how="trunk"), start=START, motions=DEEP)
    old, new = encoder.network.state_dict(), found.network.state_dict()
    fresh = {name for name in new if name not in old or not torch.equal(new[name], old[name])}
    assert (found.network.joints, found.network.channels, found.sampling.layout) == (25, 3, "ntu25")
    assert found.sampling.people == 2
    assert found.views.still == ()
    assert "l5.s_unit.conv_a.0.weight" not in fresh
    assert "l1.t_unit.conv.weight" not in fresh
    assert {"l1.s_unit.conv_a.0.weight", "l5.s_unit.DepM", "data_bn.weight"} <= fresh | {"data_bn.weight"}
    assert {name.split(".")[-1] for name in fresh if name[1] in "23456789"} <= {"DepM", "bias"}
    assert "of 3,454,340 weights" in notes[0]
    moved = int(notes[0].split()[0].replace(",", ""))
    assert 3_300_000 < moved < 3_454_340
    assert found.network.pooled_frames(torch.randn(1, 3, 16, 25, 2)).shape == (1, 256, 4)


def test_released_weights_of_another_network_are_refused():
    other = replace(ENCODER, network=torch.nn.Identity(), sha256="abc", path=Path("other.pt"))
    with pytest.raises(CannotUse, match=r"transfer\.how=project"):
        fitted(other, TransferConfig(how="trunk"), start=START, motions=DEEP)
