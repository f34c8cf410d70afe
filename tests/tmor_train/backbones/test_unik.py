from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch

from tests import plain_unik
from tmor_train.backbones.unik import UNIK, WrongWeightsError, load_weights

torch.set_num_threads(1)


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("sizes", "whole", "trunk"),
    [
        ({"classes": 31}, 3_451_631, 3_443_664),
        ({"classes": 51}, 3_456_771, 3_443_664),
        ({"classes": 157}, 3_484_013, 3_443_664),
        ({"classes": 320}, 3_525_904, 3_443_664),
        ({"classes": 31, "persons": 1}, 3_451_563, 3_443_596),
        ({"joints": 25, "channels": 3, "classes": 51}, 3_467_447, 3_454_340),
        ({"joints": 25, "channels": 3, "classes": 60}, 3_469_760, 3_454_340),
        ({"joints": 25, "channels": 3, "heads": 4, "classes": 60}, 3_803_033, 3_787_613),
        ({"joints": 25, "channels": 3, "heads": 12, "classes": 120}, 6_484_637, 6_453_797),
    ],
)
def test_parameters_are_those_of_the_released_models(sizes: dict[str, int], whole: int, trunk: int) -> None:
    assert parameters(UNIK(**sizes)) == whole
    assert parameters(UNIK(**{**sizes, "classes": None})) == trunk


def test_parameters_of_each_block() -> None:
    model = UNIK(classes=31)
    counts = {name: parameters(module) for name, module in model.named_children()}
    assert counts == {
        "fc": 256 * 31 + 31,
        "data_bn": 136,
        "l1": 39_252,
        **dict.fromkeys(("l2", "l3", "l4"), 56_788),
        "l5": 203_572,
        **dict.fromkeys(("l6", "l7"), 223_284),
        "l8": 807_668,
        **dict.fromkeys(("l9", "l10"), 888_052),
    }


CONFIGURATIONS = [
    {"joints": 17, "channels": 2, "persons": 1, "classes": 5},
    {"joints": 5, "channels": 3, "persons": 2, "heads": 4, "classes": 3},
    {"joints": 6, "channels": 2, "persons": 2, "tau": 3, "classes": 4},
    {"joints": 4, "channels": 3, "persons": 1, "tau": 5, "heads": 2, "classes": None},
    {"joints": 1, "channels": 1, "persons": 1, "heads": 1, "classes": 2},
]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("sizes", CONFIGURATIONS, ids=lambda sizes: "-".join(map(str, sizes.values())))
def test_scores_are_those_of_one_head_after_the_other(sizes: dict[str, Any], training: bool) -> None:
    model = UNIK(**sizes).train(training)
    plain_unik.randomise(model, 1)
    x = torch.randn(2, model.channels, 11, model.joints, model.persons, generator=torch.Generator().manual_seed(2))
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        expected = plain_unik.scores(weights, x, training=training, tau=model.tau)
        found = model(x)
    assert expected.std() > 1e-3  # the clips differ, so the comparison says something
    # In float32 how sums are vectorised depends on where memory lies, and 1.2e-5 was seen.
    assert float((found - expected).norm() / expected.norm()) < 5e-5
    for name, tensor in model.state_dict().items():
        if "running" in name:
            torch.testing.assert_close(tensor, weights[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("sizes", CONFIGURATIONS[1:4], ids=lambda sizes: "-".join(map(str, sizes.values())))
def test_gradients_are_those_of_one_head_after_the_other(sizes: dict[str, Any], training: bool) -> None:
    model = UNIK(**sizes).double().train(training)
    plain_unik.randomise(model, 3)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(3, model.channels, 9, model.joints, model.persons, generator=generator, dtype=torch.float64)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    leaves = {name: weights[name].requires_grad_() for name, _ in model.named_parameters()}
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected = plain_unik.scores(weights, theirs, training=training, tau=model.tau)
    slope = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    expected.backward(slope)
    model(ours).backward(slope)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-8, atol=1e-11)
    for name, parameter in model.named_parameters():
        if name.endswith("s_unit.bias"):
            assert parameter.grad is None  # registered for the checkpoints' sake, never used
            assert leaves[name].grad is None
        else:
            torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-7, atol=1e-11, msg=name)


@pytest.mark.parametrize("tau", [1, 3])
def test_starting_values(tau: int) -> None:
    torch.manual_seed(0)
    model = UNIK(tau=tau, classes=40)
    model.requires_grad_(False)
    unit = model.l9.s_unit
    bound = 1 / (17 * tau)
    assert float(unit.DepM.abs().max()) == pytest.approx(bound, rel=0.02)
    assert float(unit.DepM.mean()) == pytest.approx(0, abs=bound / 10)
    assert float(unit.bias.abs().max()) <= bound
    assert torch.equal(unit.bn.weight, torch.full((256,), 1e-6))
    assert torch.equal(model.l5.s_unit.down[1].weight, torch.ones(128))
    assert torch.equal(model.l9.t_unit.bn.weight, torch.ones(256))
    assert float(unit.conv_d[0].weight.std()) == pytest.approx((2 / (256 * 256 * 3)) ** 0.5, rel=0.02)
    assert float(unit.conv_a[2].weight.std()) == pytest.approx((2 / 64) ** 0.5, rel=0.03)
    assert float(model.l9.t_unit.conv.weight.std()) == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)
    assert float(model.fc.weight.std()) == pytest.approx((2 / 40) ** 0.5, rel=0.05)
    for conv in (unit.conv_a[0], unit.conv_d[1], model.l8.residual.conv, model.l5.s_unit.down[0]):
        assert not conv.bias.any()


def test_names_of_released_checkpoints() -> None:
    names = set(UNIK(classes=3).state_dict())
    counted = {name.split(".", 1)[1] for name in names if name.startswith("l1.")}
    norms = [f"{bn}.{what}" for bn in ("s_unit.bn", "s_unit.down.1", "t_unit.bn") for what in
             ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]  # fmt: skip
    heads = [f"s_unit.conv_{letter}.{head}.{what}" for letter in "abd" for head in range(3)
             for what in ("weight", "bias")]  # fmt: skip
    rest = ["s_unit.DepM", "s_unit.bias", "s_unit.down.0.weight", "s_unit.down.0.bias", "t_unit.conv.weight",
            "t_unit.conv.bias"]  # fmt: skip
    assert counted == {*norms, *heads, *rest}
    assert {name for name in names if ".residual." in name} == {
        f"l{number}.residual.{what}"
        for number in (5, 8)
        for what in ("conv.weight", "conv.bias", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var",
                     "bn.num_batches_tracked")
    }  # fmt: skip
    windowed = set(UNIK(tau=3).state_dict()) - set(UNIK().state_dict())
    assert windowed == {
        f"l{number}.s_unit.{what}"
        for number in range(1, 11)
        for what in ("out_conv.weight", "out_conv.bias", "out_bn.weight", "out_bn.bias", "out_bn.running_mean",
                     "out_bn.running_var", "out_bn.num_batches_tracked")
    }  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "module.", "module.model_action."])
@pytest.mark.parametrize("sizes", CONFIGURATIONS, ids=lambda sizes: "-".join(map(str, sizes.values())))
def test_a_state_dict_says_how_large_the_model_is(sizes: dict[str, Any], prefix: str) -> None:
    original = UNIK(**sizes)
    plain_unik.randomise(original, 5)
    state = OrderedDict((prefix + name, tensor) for name, tensor in original.state_dict().items())
    model = UNIK.from_state_dict(state)
    found = model.state_dict()
    assert found.keys() == original.state_dict().keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in original.state_dict().items())
    assert (model.joints, model.channels, model.persons, model.tau, model.heads, model.classes) == (
        original.joints, original.channels, original.persons, original.tau, original.heads, original.classes,
    )  # fmt: skip
    x = torch.randn(1, model.channels, 8, model.joints, model.persons)
    assert torch.equal(model.eval()(x), original.eval()(x))


def test_a_classifier_is_left_aside_or_missing() -> None:
    original = UNIK(joints=3, persons=1, classes=6)
    state = original.state_dict()
    assert UNIK.from_state_dict(state, head="drop").classes is None
    encoder = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    assert UNIK.from_state_dict(encoder).classes is None

    other = UNIK(joints=3, persons=1, classes=2)
    kept = other.fc.weight.clone()
    with pytest.raises(WrongWeightsError, match=r"fc.weight is \(6, 256\), expected \(2, 256\).*head='drop'"):
        load_weights(other, state)
    assert not torch.equal(other.l1.s_unit.DepM, original.l1.s_unit.DepM)  # nothing was copied
    load_weights(other, state, head="drop")
    assert torch.equal(other.l1.s_unit.DepM, original.l1.s_unit.DepM)
    assert torch.equal(other.fc.weight, kept)
    load_weights(other, encoder)
    assert torch.equal(other.fc.weight, kept)


def spoilt(change: str) -> dict[str, Any]:
    state: dict[str, Any] = dict(UNIK(joints=3, persons=1, classes=2).state_dict())
    if change == "missing":
        del state["l7.t_unit.conv.bias"]
    elif change == "unknown":
        state["l11.DepM"] = torch.zeros(1)
    elif change == "shape":
        state["l3.t_unit.bn.weight"] = torch.zeros(7)
    elif change == "persons":
        state["data_bn.weight"] = torch.zeros(7)
    elif change == "first":
        del state["l1.s_unit.DepM"]
    elif change == "nested":
        state = {"epoch": 3, "state_dict": state}
    elif change == "twice":
        state["module.fc.bias"] = state["fc.bias"]
    elif change == "axes":
        state["l2.s_unit.DepM"] = torch.zeros(3)
    elif change == "heads":
        state["l4.s_unit.DepM"] = torch.zeros(2, 3, 3)
    return state


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", r"missing: l7\.t_unit\.conv\.bias$"),
        ("unknown", r"unknown: l11\.DepM$"),
        ("shape", r"l3\.t_unit\.bn\.weight is \(7,\), expected \(64,\)$"),
        ("persons", r"data_bn\.weight has 7 entries, .* 3 joints .* 2 coordinates"),
        ("first", r"no l1\.s_unit\.DepM"),
        ("nested", r"epoch is a int, not a tensor; pass the state dict inside it"),
        ("twice", r"two entries are named fc\.bias"),
        ("axes", r"l2\.s_unit\.DepM is \(3,\); UNIK's has 3 axes"),
        ("heads", r"l4\.s_unit\.DepM is \(2, 3, 3\), expected \(3, 3, 3\)$"),
    ],
)
def test_a_state_dict_that_is_not_unik_is_refused(change: str, said: str) -> None:
    with pytest.raises(WrongWeightsError, match=said):
        UNIK.from_state_dict(spoilt(change))


def test_a_state_dict_of_an_even_tau_is_refused() -> None:
    state = UNIK(joints=3, persons=1).state_dict() | {
        "l1.s_unit.DepM": torch.zeros(3, 6, 6),
        "l1.s_unit.out_conv.weight": torch.zeros(64, 64, 1, 2, 1),
    }
    with pytest.raises(WrongWeightsError, match=r"DepM is \(3, 6, 6\), .* an odd number of frames, tau = 2"):
        UNIK.from_state_dict(state)


@pytest.mark.parametrize("sizes", [{"tau": 2}, {"tau": 0}, {"heads": 0}, {"persons": 0}, {"joints": 0}, {"classes": 0}])
def test_impossible_sizes_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        UNIK(**sizes)


def test_another_number_of_persons_is_refused() -> None:
    with pytest.raises(ValueError, match=r"2 person slots.*got 1 persons"):
        UNIK()(torch.zeros(1, 2, 8, 17, 1))
