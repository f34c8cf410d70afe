from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from posecap.joints import layout_named
from tests import plain_unik
from tmor_train.backbones.layers import partitions_by_distance
from tmor_train.backbones.stgcn import QUARTER_WIDTHS, STGCN

torch.set_num_threads(1)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_parameters_are_those_of_the_released_models() -> None:
    assert parameters(STGCN(classes=31)) == 3_081_025
    assert parameters(STGCN()) == 3_073_058
    assert parameters(STGCN(layout="ntu25", channels=3, classes=60)) == 3_098_832
    assert parameters(STGCN(layout="ntu25", channels=3, classes=128, widths=QUARTER_WIDTHS)) == 854_276


def plainly(model: STGCN, x: Tensor, *, training: bool) -> Tensor:
    """The network in the notation of its paper, partition by partition; dropout aside."""
    weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    def norm(name: str, y: Tensor) -> Tensor:
        mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return functional.batch_norm(y, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"], training)

    def convolved(name: str, y: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        weight, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return functional.conv2d(y, weight, bias, stride=(stride, 1), padding=(padding, 0))

    clips, channels, length, joints, persons = x.shape
    rows = [x[clip, :, :, :, person] for clip in range(clips) for person in range(persons)]
    y = torch.stack(rows).permute(0, 3, 1, 2).reshape(-1, joints * channels, length)
    y = norm("data_bn", y).view(-1, joints, channels, length).permute(0, 2, 3, 1)
    for index in range(10):
        name, stride = f"st_gcn_networks.{index}", 2 if index in (4, 7) else 1
        parts = convolved(f"{name}.gcn.conv", y).chunk(3, 1)
        graph = weights["A"] * weights[f"edge_importance.{index}"]
        inside = sum(part @ matrix for part, matrix in zip(parts, graph, strict=True))
        assert isinstance(inside, Tensor)
        inside = convolved(f"{name}.tcn.2", functional.relu(norm(f"{name}.tcn.0", inside)), stride, 4)
        inside = norm(f"{name}.tcn.3", inside)
        if f"{name}.residual.0.weight" in weights:
            inside = inside + norm(f"{name}.residual.1", convolved(f"{name}.residual.0", y, stride))
        elif index:
            inside = inside + y
        y = functional.relu(inside)
    features = y.mean((2, 3)).view(clips, persons, 256).mean(1)
    return functional.linear(features, weights["fc.weight"], weights["fc.bias"])


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("widths", [QUARTER_WIDTHS, (64, 64, 64, 64, 128, 128, 128, 256, 256, 256)])
def test_scores_are_those_of_the_paper_s_sum_over_partitions(widths: tuple[int, ...], training: bool) -> None:
    model = STGCN(layout="penn13", classes=4, widths=widths, dropout=0).double().train(training)
    plain_unik.randomise(model, 1)
    x = torch.randn(2, 2, 10, 13, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        expected = plainly(model, x, training=training)
        torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-11)


def test_edges_start_at_full_importance_and_learn() -> None:
    model = STGCN(layout="penn13", widths=QUARTER_WIDTHS)
    assert all(torch.equal(importance, torch.ones(3, 13, 13)) for importance in model.edge_importance)
    model(torch.randn(2, 2, 8, 13, 1)).square().sum().backward()
    gradient = model.edge_importance[3].grad
    assert gradient is not None
    assert torch.equal(gradient != 0, model.A > 0)  # only edges of the skeleton can learn


def test_dropout_spares_the_first_block() -> None:
    model = STGCN(dropout=0.25)
    assert [block.tcn[4].p for block in model.st_gcn_networks] == [0, *[0.25] * 9]


def test_the_graph_of_ntu_is_split_by_distance_from_the_spine_between_the_shoulders() -> None:
    itself, farther, nearer = partitions_by_distance(layout_named("ntu25"))
    # The joint between the shoulders (20) has four neighbours, all farther; the left shoulder (4) has it and the elbow.
    assert float(itself[20, 20]) == pytest.approx(1 / 5)
    assert float(farther[4, 20]) == pytest.approx(1 / 5)
    assert not nearer[:, 20].any()
    assert float(itself[4, 4]) == float(nearer[20, 4]) == float(farther[5, 4]) == pytest.approx(1 / 3)
    torch.testing.assert_close((itself + farther + nearer).sum(0), torch.ones(25))


def test_the_graph_of_coco17_has_the_nose_as_its_centre() -> None:
    _, farther, nearer = partitions_by_distance(layout_named("coco17"))
    assert not nearer[:, 0].any()
    assert float(farther[1, 0]) == pytest.approx(1 / 5)  # eyes and shoulders, and the nose itself


@pytest.mark.parametrize("widths", [(64,) * 10, (256,) * 9, (0, *[16] * 8, 256)])
def test_widths_that_do_not_fit_the_contract_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="10 numbers of channels, the last 256"):
        STGCN(widths=widths)
