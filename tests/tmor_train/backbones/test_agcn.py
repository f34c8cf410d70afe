from __future__ import annotations

import pytest
import torch

from posecap.joints import LAYOUTS, LayoutError, layout_named
from tests import plain_unik
from tmor_train.backbones.agcn import AGCN
from tmor_train.backbones.layers import partitions_by_direction
from tmor_train.backbones.unik import load_weights

torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("layout", "channels", "classes", "expected"), [("unik17", 2, 31, 3_451_461), ("ntu25", 3, 60, 3_469_510)]
)
def test_parameters_are_those_of_the_released_model(layout: str, channels: int, classes: int, expected: int) -> None:
    model = AGCN(layout=layout, channels=channels, classes=classes)
    assert sum(parameter.numel() for parameter in model.parameters()) == expected


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_scores_and_gradients_are_those_of_one_head_after_the_other(training: bool) -> None:
    model = AGCN(layout="penn13", classes=4).double().train(training)
    plain_unik.randomise(model, 1)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 2, 9, 13, 2, generator=generator, dtype=torch.float64)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    leaves = {name: weights[name].requires_grad_() for name, _ in model.named_parameters()}
    graph = partitions_by_direction(LAYOUTS["penn13"]).double()
    expected = plain_unik.scores(
        weights, x, training=training, units=("gcn1", "tcn1"), dependencies=lambda unit: graph + weights[f"{unit}.PA"]
    )
    found = model(x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    slope = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    expected.backward(slope)
    found.backward(slope)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-7, atol=1e-11, msg=name)


def test_starting_values_and_names() -> None:
    model = AGCN()
    assert torch.equal(model.l4.gcn1.PA, torch.full((3, 17, 17), 1e-6))
    assert torch.equal(model.l4.gcn1.bn.weight, torch.full((64,), 1e-6))
    assert not any(name.endswith(".A") for name in model.state_dict())  # the graph follows from the layout
    assert {"data_bn.weight", "l1.gcn1.conv_d.2.bias", "l10.tcn1.bn.running_var", "l8.residual.conv.weight"} <= set(
        model.state_dict()
    )


def test_weights_load_by_name() -> None:
    original, other = AGCN(layout="penn13", classes=3), AGCN(layout="penn13", classes=5)
    load_weights(other, {f"module.{name}": tensor for name, tensor in original.state_dict().items()}, head="drop")
    assert torch.equal(other.l10.gcn1.conv_a[1].weight, original.l10.gcn1.conv_a[1].weight)


def test_the_graph_of_ntu_points_to_the_spine_between_the_shoulders() -> None:
    itself, inward, outward = partitions_by_direction(layout_named("ntu25"))
    assert torch.equal(itself, torch.eye(25))
    # x A: the left shoulder (4) takes from the joint between the shoulders (20), which has four children.
    assert float(inward[20, 4]) == 1
    assert float(outward[4, 20]) == 0.25
    assert float(inward[4, 20]) == float(outward[20, 4]) == 0
    assert int((inward > 0).sum()) == int((outward > 0).sum()) == 24
    assert torch.equal(inward.sum(0), torch.ones(25).index_fill(0, torch.tensor(20), 0))
    leaves = torch.tensor([child for child, _ in LAYOUTS["ntu25"].bones if child not in
                           {parent for _, parent in LAYOUTS["ntu25"].bones}])  # fmt: skip
    assert torch.equal(outward.sum(0), torch.ones(25).index_fill(0, leaves, 0))


def test_the_graph_of_unik17_points_to_the_neck() -> None:
    _, inward, outward = partitions_by_direction(layout_named("unik17"))
    head, mouth, neck, chest, left_shoulder = 0, 1, 2, 3, 5
    assert float(inward[mouth, head]) == float(inward[neck, mouth]) == float(inward[neck, chest]) == 1
    assert not inward[:, neck].any()
    assert float(outward[left_shoulder, neck]) == 0.25  # mouth, chest and two shoulders


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(LayoutError, match="unknown layout 'ntu26'; known: coco17"):
        AGCN(layout="ntu26")
