"""What every backbone promises, whatever its parts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch

from tests import plain_unik
from tmor_train.backbones import FEATURES, Backbone
from tmor_train.backbones.agcn import AGCN
from tmor_train.backbones.stgcn import QUARTER_WIDTHS, STGCN
from tmor_train.backbones.unik import UNIK

torch.set_num_threads(1)

Make = Callable[..., Backbone]
MAKES: dict[str, Make] = {
    "unik": lambda **rest: UNIK(joints=13, **rest),
    "unik-tau3": lambda **rest: UNIK(joints=13, tau=3, heads=2, **rest),
    "agcn": lambda **rest: AGCN(layout="penn13", **rest),
    "stgcn": lambda **rest: STGCN(layout="penn13", **rest),
    "stgcn-quarter": lambda **rest: STGCN(layout="penn13", widths=QUARTER_WIDTHS, **rest),
}
backbones = pytest.mark.parametrize("make", MAKES.values(), ids=MAKES)


def clips(*, frames: int = 14, seed: int = 1) -> torch.Tensor:
    return torch.randn(3, 2, frames, 13, 2, generator=torch.Generator().manual_seed(seed))


@cache
def ready(make: Make, **rest: Any) -> Backbone:
    """One model for all tests of it: they only evaluate."""
    torch.manual_seed(0)
    model = make(**rest).eval()
    plain_unik.randomise(model, 7)
    return model


@backbones
@pytest.mark.parametrize(("frames", "strided"), [(1, 1), (4, 1), (5, 2), (14, 4)])
def test_shapes(make: Make, frames: int, strided: int) -> None:
    model, x = ready(make, classes=6), clips(frames=frames)
    with torch.no_grad():
        assert model.frame_features(x).shape == (3, 2, FEATURES, strided)
        assert model.pooled_frames(x).shape == (3, FEATURES, strided)
        assert model.clip_features(x).shape == (3, FEATURES)
        assert model(x).shape == (3, 6)


@backbones
def test_features_follow_from_each_other(make: Make) -> None:
    model, x = ready(make, classes=6), clips()
    with torch.no_grad():
        frames, clip = model.frame_features(x), model.clip_features(x)
        torch.testing.assert_close(model.pooled_frames(x), frames.mean(1))
        torch.testing.assert_close(clip, frames.mean(3).mean(1))
        torch.testing.assert_close(model(x), model.fc(clip))
        assert clip.std(0).max() > 1e-3  # clips are told apart


@backbones
def test_frames_and_clip_of_one_pass(make: Make) -> None:
    model, x = ready(make, people="masked_mean"), clips()
    present = torch.tensor([[True, True], [True, False], [False, False]])
    with torch.no_grad():
        frames, clip = model.frame_and_clip_features(x, present)
        assert torch.equal(frames, model.pooled_frames(x, present))
        assert torch.equal(clip, model.clip_features(x, present))


@backbones
def test_local_features_are_means_over_the_joints_of_parts_and_over_spans_of_time(make: Make) -> None:
    """Against sums over single joints and frames."""
    model, x = ready(make, people="masked_mean"), clips(frames=14)
    present = torch.tensor([[True, True], [True, False], [False, True]])
    with torch.no_grad():
        local = model.local_features(x, present, parts=((0,), (2, 5, 7)), spans=3)
        joints = model.joint_features(x).view(3, 2, FEATURES, 4, 13)
        people = [joints[0].mean(0), joints[1, 0], joints[2, 1]]  # four feature frames: spans begin at 0, 1, 3
        assert local.shape == (3, 1 + 2 + 3, FEATURES)
        for n, one in enumerate(people):
            expected = [
                one.mean((1, 2)),
                one[:, :, 0].mean(1),
                sum(one[:, t, v] for t in range(4) for v in (2, 5, 7)) / 12,
                one[:, 0].mean(1),
                sum(one[:, t, v] for t in (1, 2) for v in range(13)) / 26,
                one[:, 3].mean(1),
            ]
            torch.testing.assert_close(local[n], torch.stack(expected), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(local[:, 0], model.clip_features(x, present))


@backbones
def test_spans_of_a_clip_that_is_shorter_than_them_have_one_frame_each(make: Make) -> None:
    model, x = ready(make), clips(frames=4)
    with torch.no_grad():
        local = model.local_features(x, parts=(), spans=3)
    torch.testing.assert_close(local[:, 1:], local[:, :1].expand(-1, 3, -1))
    with pytest.raises(ValueError, match="one joint at least"):
        model.local_features(x, parts=((),), spans=0)
    with pytest.raises(ValueError, match="takes"):
        model.local_features(x[:, :1], parts=(), spans=0)


@backbones
def test_without_classes_the_model_gives_features(make: Make) -> None:
    model, x = ready(make), clips()
    assert isinstance(model.fc, torch.nn.Identity)
    with torch.no_grad():
        assert torch.equal(model(x), model.clip_features(x))


@backbones
def test_only_those_who_are_present_count(make: Make) -> None:
    model, x = ready(make, people="masked_mean"), clips()
    present = torch.tensor([[True, True], [True, False], [False, True]])
    with torch.no_grad():
        frames = model.frame_features(x)
        expected = torch.stack([frames[0].mean(0), frames[1, 0], frames[2, 1]])
        torch.testing.assert_close(model.pooled_frames(x, present), expected)
        torch.testing.assert_close(model.clip_features(x, present), expected.mean(2))
        torch.testing.assert_close(model(x, present), expected.mean(2))
        torch.testing.assert_close(model.clip_features(x, present[:, :, None].expand(-1, -1, 14)), expected.mean(2))


@backbones
def test_without_a_mask_a_slot_of_zeros_is_empty(make: Make) -> None:
    model, x = ready(make, people="masked_mean"), clips()
    x[1, :, :, :, 1] = 0
    with torch.no_grad():
        told = model.clip_features(x, torch.tensor([[True, True], [True, False], [True, True]]))
        torch.testing.assert_close(model.clip_features(x), told)
        plain = model.frame_features(x).mean((1, 3))
    assert not torch.allclose(told[1], plain[1], rtol=1e-3)


@backbones
def test_frames_count_by_the_share_that_is_there(make: Make) -> None:
    model, x = ready(make, people="masked_mean"), clips(frames=10)
    present = torch.zeros(3, 2, 10, dtype=torch.bool)
    present[0, 0, :6] = True  # feature frames of four: all of the first, half of the second, none of the third
    present[1] = True
    with torch.no_grad():
        frames = model.frame_features(x)
        found = model.clip_features(x, present)
        pooled = model.pooled_frames(x, present)
    torch.testing.assert_close(found[0], (frames[0, 0, :, 0] + 0.5 * frames[0, 0, :, 1]) / 1.5)
    torch.testing.assert_close(found[1], frames[1].mean((0, 2)))
    torch.testing.assert_close(found[2], frames[2].mean((0, 2)))  # nobody there: the mean over all slots
    torch.testing.assert_close(pooled[0, :, :2], frames[0, 0, :, :2])
    torch.testing.assert_close(pooled[0, :, 2], frames[0, :, :, 2].mean(0))


@backbones
def test_the_plain_mean_leaves_the_mask_aside(make: Make) -> None:
    model, x = ready(make), clips()
    with torch.no_grad():
        assert torch.equal(model.clip_features(x, torch.zeros(3, 2)), model.clip_features(x))


@backbones
def test_clips_do_not_see_each_other_in_evaluation(make: Make) -> None:
    model, x = ready(make), clips()
    with torch.no_grad():
        torch.testing.assert_close(model(x[1:2]), model(x)[1:2], rtol=1e-4, atol=1e-5)


@backbones
def test_layout_of_memory_changes_nothing(make: Make) -> None:
    model, x = ready(make), clips()
    strided = x.permute(4, 3, 2, 1, 0).contiguous().permute(4, 3, 2, 1, 0)
    with torch.no_grad():
        assert torch.equal(model(strided), model(x))


@backbones
def test_every_weight_but_unik_s_unused_ones_learns(make: Make) -> None:
    torch.manual_seed(0)
    model = make(classes=4).train()
    plain_unik.randomise(model, 3)
    torch.nn.functional.cross_entropy(model(clips()), torch.tensor([0, 1, 2])).backward()
    idle = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert idle == [name for name, _ in model.named_parameters() if name.endswith("s_unit.bias")]
    assert all(bool(parameter.grad.isfinite().all()) for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unik-tau3", "stgcn-quarter"])
def test_one_graph_without_breaks(name: str) -> None:
    model, x = ready(MAKES[name], classes=4, people="masked_mean"), clips()
    with torch.no_grad():
        expected = model(x)
        torch._dynamo.reset()
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), expected)


@backbones
def test_bfloat16_is_near(make: Make) -> None:
    model, x = ready(make, classes=4), clips()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model(x)
    with torch.no_grad():
        expected = model(x)
    assert float((found.float() - expected).norm() / expected.norm()) < 0.05


@backbones
@pytest.mark.parametrize("shape", [(3, 2, 14, 12, 2), (3, 3, 14, 13, 2), (3, 2, 14, 13)])
def test_other_shapes_are_refused(make: Make, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes \(N, 2, T, 13, M\).*got \(3, "):
        make()(torch.zeros(shape))


@backbones
def test_a_mask_of_another_shape_is_refused(make: Make) -> None:
    model = ready(make, people="masked_mean")
    with torch.no_grad(), pytest.raises(ValueError, match=r"present is \(N, M\) = \(3, 2\).*not \(3, 3\)"):
        model(clips(), torch.ones(3, 3))


@backbones
def test_another_way_of_pooling_is_refused(make: Make) -> None:
    with pytest.raises(ValueError, match="'mean' or 'masked_mean', not 'max'"):
        make(people="max")
