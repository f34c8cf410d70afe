import pytest
import torch

from tmor_train.detection_heads import DETECTION_HEADS, SDTCN, Linear


@pytest.mark.parametrize("name", DETECTION_HEADS)
def test_padded_frames_change_nothing_and_gradients_reach_every_weight(name):
    torch.manual_seed(0)
    head = DETECTION_HEADS[name](5).eval()
    features, valid = torch.randn(2, 256, 9), torch.ones(2, 9, dtype=torch.bool)
    valid[1, 6:] = False
    other = features.clone()
    other[1, :, 6:] = 7.0
    found = head(features, valid)
    assert found.shape == (2, 5, 9)
    torch.testing.assert_close(found[1, :, :6], head(other, valid)[1, :, :6])
    found.mul(valid[:, None]).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.mark.parametrize(("name", "reaches"), [("linear", [4]), ("bilstm", list(range(9)))])
def test_receptive_field(name, reaches):
    torch.manual_seed(0)
    features = torch.randn(1, 256, 9, requires_grad=True)
    DETECTION_HEADS[name](3)(features, torch.ones(1, 9, dtype=torch.bool))[0, :, 4].sum().backward()
    assert torch.nonzero(features.grad.abs().sum((0, 1)))[:, 0].tolist() == reaches


@pytest.mark.parametrize(("classes", "weights"), [(51, 13_056), (157, 40_192)])
def test_the_linear_head_is_as_small_as_the_paper_says(classes, weights):
    assert Linear(classes).map.weight.numel() == weights


def test_the_dilated_head_has_the_released_number_of_parameters_and_sees_31_frames_on_each_side():
    torch.manual_seed(0)
    head = SDTCN(51).eval()
    assert sum(p.numel() for p in head.parameters()) == 5_405_747
    features = torch.randn(1, 256, 71, requires_grad=True)
    head(features, torch.ones(1, 71, dtype=torch.bool))[0, :, 35].sum().backward()
    reached = torch.nonzero(features.grad.abs().sum((0, 1)))[:, 0]
    assert (int(reached.min()), int(reached.max())) == (35 - 31, 35 + 31)
