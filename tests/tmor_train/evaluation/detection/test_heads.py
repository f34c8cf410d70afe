import pytest
import torch

from tmor_train.evaluation.detection.heads import (
    DETECTION_HEADS,
    PDAN,
    SDTCN,
    TGM,
    DilatedAttention,
    GaussianLayer,
    Linear,
)


@pytest.mark.parametrize("name", DETECTION_HEADS)
def test_padded_frames_change_nothing_and_gradients_reach_every_weight(name):
    torch.manual_seed(0)
    head = DETECTION_HEADS[name](5).eval()
    features, valid = torch.randn(2, 256, 40), torch.ones(2, 40, dtype=torch.bool)
    valid[1, 30:] = False
    other = features.clone()
    other[1, :, 30:] = 7.0
    found = head(features, valid)
    assert found.shape == (2, 5, 40)
    torch.testing.assert_close(found[1, :, :30], head(other, valid)[1, :, :30])
    found.mul(valid[:, None]).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in head.parameters())


@pytest.mark.parametrize(("name", "reaches"), [("linear", [4]), ("bilstm", list(range(9))), ("mstct", list(range(9)))])
def test_receptive_field(name, reaches):
    torch.manual_seed(0)
    features = torch.randn(1, 256, 9, requires_grad=True)
    DETECTION_HEADS[name](3).eval()(features, torch.ones(1, 9, dtype=torch.bool))[0, :, 4].sum().backward()
    assert torch.nonzero(features.grad.abs().sum((0, 1)))[:, 0].tolist() == reaches


@pytest.mark.parametrize(("classes", "weights"), [(51, 13_056), (157, 40_192)])
def test_the_linear_head_is_as_small_as_the_paper_says(classes, weights):
    assert Linear(classes).map.weight.numel() == weights


@pytest.mark.parametrize("name", DETECTION_HEADS)
def test_a_recording_alone_scores_as_in_a_padded_batch(name):
    torch.manual_seed(0)
    head = DETECTION_HEADS[name](4).eval()
    features, valid = torch.randn(2, 256, 11), torch.ones(2, 11, dtype=torch.bool)
    valid[1, 5:] = False
    alone = head(features[1:, :, :5], valid[1:, :5])
    torch.testing.assert_close(head(features, valid)[1:, :, :5], alone, atol=1e-5, rtol=1e-4)
    with torch.no_grad():  # attention takes another way then
        torch.testing.assert_close(head(features, valid)[1:, :, :5], alone, atol=1e-5, rtol=1e-4)


def test_a_gaussian_layer_filters_each_channel_as_its_equation_says():
    torch.manual_seed(0)
    layer = GaussianLayer(2)
    x, expected = torch.randn(1, 2, 3, 7), torch.zeros(8, 3, 7)
    mean, width = 2 * (layer.centre.tanh() + 1), torch.exp(-2 * layer.width.abs())
    for out in range(8):
        for given in range(2):
            share = layer.attention[out * 2 + given].softmax(0)
            filters = []
            for m in range(16):
                bell = torch.stack([torch.exp(-((step - mean[m]) ** 2) / (2 * width[m] ** 2)) for step in range(5)])
                filters.append(share[m] * bell / bell.sum())
            kernel = torch.stack(filters).sum(0)
            for t in range(7):
                for step in range(5):
                    if 0 <= t + step - 2 < 7:
                        weight = layer.combine.weight[out, given, 0, 0]
                        expected[out, :, t] += weight * kernel[step] * x[0, given, :, t + step - 2]
        expected[out] += layer.combine.bias[out]
    torch.testing.assert_close(layer(x)[0], expected.relu(), atol=1e-5, rtol=1e-4)


def test_dilated_attention_weighs_three_frames_in_each_channel():
    torch.manual_seed(0)
    attend = DilatedAttention(2, 2)
    x, valid = torch.randn(1, 2, 6), torch.tensor([[True, True, True, True, True, False]])
    query, key, value = (layer(x)[0] for layer in (attend.query, attend.key, attend.value))
    found = attend(x, valid)[0]
    for t in range(5):
        near = [s for s in (t - 2, t, t + 2) if 0 <= s < 5]
        for channel in range(2):
            weights = torch.stack([query[channel, t] * key[channel, s] for s in near]).softmax(0)
            expected = sum(weights[i] * value[channel, s] for i, s in enumerate(near))
            torch.testing.assert_close(found[channel, t], expected)


@pytest.mark.parametrize(("made", "reach"), [(TGM, 6), (PDAN, 31)])
def test_how_far_a_frame_sees(made, reach):
    torch.manual_seed(0)
    features = torch.randn(1, 256, 71, requires_grad=True)
    made(4).eval()(features, torch.ones(1, 71, dtype=torch.bool))[0, :, 35].sum().backward()
    reached = torch.nonzero(features.grad.abs().sum((0, 1)))[:, 0]
    assert (int(reached.min()), int(reached.max())) == (35 - reach, 35 + reach)


def test_the_dilated_head_has_the_released_number_of_parameters_and_sees_31_frames_on_each_side():
    torch.manual_seed(0)
    head = SDTCN(51).eval()
    assert sum(p.numel() for p in head.parameters()) == 5_405_747
    features = torch.randn(1, 256, 71, requires_grad=True)
    head(features, torch.ones(1, 71, dtype=torch.bool))[0, :, 35].sum().backward()
    reached = torch.nonzero(features.grad.abs().sum((0, 1)))[:, 0]
    assert (int(reached.min()), int(reached.max())) == (35 - 31, 35 + 31)
