"""Encoders as configured; the EMA follows, keeps its own statistics and has no gradient; heads give unit vectors in
float32; temperatures stay within their bounds."""

import numpy as np
import pytest
import torch
from torch import nn

from posecap.joints import LayoutError
from tmor_train.backbones import FEATURES
from tmor_train.encoder import (
    EMA,
    EncoderConfig,
    Heads,
    Projection,
    Temperatures,
    UnusableEncoderError,
    encoder_of,
    heads_of,
)
from tmor_train.methods.tmor import Objective
from tmor_train.objective_config import ObjectiveConfig

torch.set_num_threads(1)


@pytest.mark.parametrize(("backbone", "name"), [("unik", "UNIK"), ("agcn", "AGCN"), ("stgcn", "STGCN")])
def test_each_backbone_takes_the_layout_and_the_persons(backbone: str, name: str) -> None:
    config = EncoderConfig(backbone=backbone, channels=4)  # type: ignore[arg-type]
    encoder = encoder_of(config, layout="unik17", persons=2)
    assert type(encoder).__name__ == name
    assert encoder.clip_features(torch.zeros(1, 4, 8, 17, 2)).shape == (1, 256)


def test_uniks_own_settings() -> None:
    encoder = encoder_of(EncoderConfig(tau=3, heads=4, people="masked_mean"), layout="coco17", persons=1)
    assert (encoder.tau, encoder.heads, encoder.people) == (3, 4, "masked_mean")


@pytest.mark.parametrize("backbone", ["unik", "agcn", "stgcn"])
def test_an_unknown_layout_is_named(backbone: str) -> None:
    with pytest.raises(LayoutError, match=r"unknown layout 'unik18'; known: .*unik17"):
        encoder_of(EncoderConfig(backbone=backbone), layout="unik18", persons=1)  # type: ignore[arg-type]


def test_it_follows_with_the_given_momentum():
    online = nn.Linear(1, 1, bias=False)
    nn.init.constant_(online.weight, 1.0)
    ema = EMA(online, 0.9)
    nn.init.constant_(online.weight, 2.0)
    for expected in (1.1, 1.19):
        ema.update(online)
        assert ema.module.weight.item() == pytest.approx(expected)
    assert online.weight.item() == 2


def test_its_keys_have_no_gradient():
    online = nn.Linear(3, 2)
    ema = EMA(online, 0.9)
    x = torch.randn(4, 3, requires_grad=True)
    assert torch.equal(ema(x), online(x))
    assert not ema(x).requires_grad
    assert not any(parameter.requires_grad for parameter in ema.parameters())


def test_running_statistics_are_its_own():
    online = nn.BatchNorm1d(1, momentum=1.0)
    ema = EMA(online, 0.9)
    online(torch.tensor([[0.0], [2.0]]))
    ema(torch.tensor([[4.0], [6.0]]))
    ema.update(online)
    assert (online.running_mean.item(), ema.module.running_mean.item()) == (1, 5)


def test_running_statistics_are_averaged_where_that_is_asked_for():
    online = nn.BatchNorm1d(1)
    ema = EMA(online, 0.75, average_buffers=True)
    online.running_mean.fill_(4.0)
    online.num_batches_tracked.fill_(3)
    ema.update(online)
    assert (ema.module.running_mean.item(), ema.module.num_batches_tracked.item()) == (1, 3)
    ema.copy_from(online)
    assert ema.module.running_mean.item() == 4


def test_a_module_without_parameters_is_averaged_too():
    online = nn.Identity()
    ema = EMA(online, 0.9)
    ema.update(online)
    assert ema(torch.tensor(3.0)).item() == 3


def test_a_momentum_of_one_would_never_move():
    with pytest.raises(ValueError, match="below 1"):
        EMA(nn.Linear(1, 1), 1.0)


torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("head", "parameters"), [("mlp", 6 * 6 + 6 + 6 * 4 + 4), ("linear", 6 * 4 + 4), ("identity", 0)]
)
def test_heads_give_unit_vectors(head, parameters):
    projection = Projection(head, 6, 6 if head == "identity" else 4)
    assert sum(p.numel() for p in projection.parameters()) == parameters
    for dtype in (torch.float32, torch.float64):
        out = projection.to(dtype)(torch.randn(5, 6, dtype=dtype))
        assert out.dtype == dtype
        assert torch.allclose(out.norm(dim=1), torch.ones(5, dtype=dtype))


def test_the_mlp_is_linear_relu_linear():
    torch.manual_seed(0)
    projection = Projection("mlp", 3, 2)
    first, _, second = projection.layers
    x = torch.randn(4, 3)
    expected = (x @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    assert torch.allclose(projection(x), nn.functional.normalize(expected, dim=1), atol=1e-6)


def test_autocast_ends_before_the_length_is_taken():
    projection = Projection("linear", 8, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert projection.layers(torch.randn(2, 8)).dtype == torch.bfloat16
        out = projection(torch.randn(2, 8))
    assert out.dtype == torch.float32
    assert out.norm(dim=1).sub(1).abs().max().item() < 1e-6


def test_a_vector_without_direction_has_finite_gradients():
    x = torch.zeros(1, 3, requires_grad=True)
    out = Projection("identity", 3, 3)(x)
    out.sum().backward()
    assert out.abs().max().item() == 0
    assert x.grad.isfinite().all()


def test_an_identity_cannot_change_the_width():
    with pytest.raises(ValueError, match="set width=512"):
        Projection("identity", 512, 128)


def test_a_fixed_temperature_is_no_parameter():
    temperatures = Temperatures(ObjectiveConfig(temperature_mv=0.5))
    assert temperatures() == (1 / 0.07, 2.0, 1 / 0.07)
    assert not list(temperatures.parameters())
    temperatures.clamp()


def test_a_learned_temperature_starts_as_given_and_stays_within_its_bounds():
    temperatures = Temperatures(ObjectiveConfig(temperature="learned", temperature_mv=0.5))
    assert [scale.item() for scale in temperatures()] == pytest.approx([1 / 0.07, 2.0, 1 / 0.07])
    with torch.no_grad():
        temperatures.log_scales.copy_(torch.tensor([9.0, -3.0, 1.0]))
    temperatures.clamp()
    assert [scale.item() for scale in temperatures()] == pytest.approx([100.0, 1.0, 2.718282])


def straight(width_in: int = 3) -> Heads:
    """phi_M keeps the first two numbers, phi_T the last two."""
    motion, text = Projection("linear", FEATURES, 2), Projection("linear", width_in, 2)
    for head, first in ((motion, 0), (text, width_in - 2)):
        weight = torch.zeros(2, head.layers[0].in_features)  # type: ignore[arg-type]
        weight[0, first] = weight[1, first + 1] = 1.0
        head.load_state_dict({"layers.0.weight": weight, "layers.0.bias": torch.zeros(2)})
    return Heads(motion=motion.requires_grad_(False), width=2, text=text.requires_grad_(False), text_width=width_in)


def motion(*first: float) -> np.ndarray:
    return np.array([*first, *([7.0] * (FEATURES - len(first)))], np.float32)


def test_motion_is_projected_to_unit_length() -> None:
    np.testing.assert_allclose(straight().project(motion(3, 4)), [0.6, 0.8], rtol=1e-6)
    both = straight().project(np.stack([motion(3, 4), motion(0, -2)]))
    np.testing.assert_allclose(both, [[0.6, 0.8], [0.0, -1.0]], rtol=1e-6)
    assert both.dtype == np.float32


def test_cosines_with_texts() -> None:
    texts = np.array([[9, 1, 0], [9, 0, 5], [9, -3, -4]])
    np.testing.assert_allclose(straight().text_cosines(motion(3, 4), texts), [[0.6, 0.8, -1.0]], rtol=1e-6)


def test_cosines_of_wordings_are_averaged() -> None:
    wordings = np.array([[[9, 1, 0], [9, 0, 5]], [[9, -3, -4], [9, 6, 8]]])
    np.testing.assert_allclose(straight().text_cosines(motion(3, 4), wordings), [[0.7, 0.0]], atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (np.zeros((2, 4)), r"text vectors of 3 numbers are needed, not \(2, 4\); did another model make them"),
        (np.zeros(3), r"\(K, D\), or \(K, P, D\)"),
        (np.zeros((0, 3)), r"\(K, D\), or \(K, P, D\)"),
        (np.full((1, 3), np.nan), "NaN or infinity"),
    ],
)
def test_other_texts_are_refused(texts: np.ndarray, said: str) -> None:
    with pytest.raises(UnusableEncoderError, match=said):
        straight().text_cosines(motion(3, 4), texts)


def test_projected_vectors_are_no_embeddings() -> None:
    with pytest.raises(UnusableEncoderError, match=r"embeddings of 256 numbers are needed, not \(2,\)"):
        straight().project(straight().project(motion(3, 4)))


def test_without_text_there_are_no_cosines() -> None:
    heads = heads_of(
        ObjectiveConfig(w_mt=0.0), Objective(ObjectiveConfig(w_mt=0.0), features=256, video=5).state_dict(), of="online"
    )
    assert heads.width == 128
    with pytest.raises(UnusableEncoderError, match="trained without text"):
        heads.text_cosines(motion(1), np.zeros((1, 5)))


@pytest.mark.parametrize("of", ["ema", "online"])
def test_heads_are_those_of_the_objective(of: str) -> None:
    objective = Objective(ObjectiveConfig(), features=256, video=5, text=7)
    assert objective.key_head is not None
    with torch.no_grad():
        for parameter in objective.key_head.parameters():
            parameter.add_(0.1)  # the two motion heads differ
    heads = heads_of(objective.config, objective.state_dict(), of=of)  # type: ignore[arg-type]
    given = torch.randn(3, 256, generator=torch.Generator().manual_seed(0))
    wanted = (objective.key_head if of == "ema" else objective.motion_head)(given)
    np.testing.assert_array_equal(heads.project(given.numpy()), wanted.detach().numpy())
    assert (heads.width, heads.text_width) == (128, 7)


def test_one_motion_head_serves_both_where_nothing_is_averaged() -> None:
    config = ObjectiveConfig(w_mv=0.0, keys="same", motion_head="linear", text_head="identity", width=7)
    objective = Objective(config, features=256, text=7)
    heads = heads_of(config, objective.state_dict(), of="ema")
    assert (heads.width, heads.text_width) == (7, 7)
    texts = np.eye(7, dtype=np.float32)
    vector = motion(1, 2, 3)
    np.testing.assert_allclose(heads.text_cosines(vector, texts)[0], heads.project(vector), rtol=1e-6)
