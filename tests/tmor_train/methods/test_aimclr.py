"""AimCLR's divergence and its dropout by attention."""

import math

import pytest
import torch

from tmor_train.methods.aimclr import AimCLR, attention, divergence, dropped


def test_divergence_is_the_cross_entropy_to_the_normal_shares() -> None:
    torch.manual_seed(0)
    normal, extreme = torch.randn(2, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    normal.requires_grad_()
    extreme.requires_grad_()
    valid = torch.tensor([[True, True, True, True], [True, False, True, True]])
    wanted = 0.0
    for n in range(2):
        kept = [k for k in range(4) if valid[n, k]]
        scales = [sum(math.exp(float(logits[n, k].detach())) for k in kept) for logits in (normal, extreme)]
        for k in kept:
            share = math.exp(float(normal[n, k].detach())) / scales[0]
            wanted -= share * (float(extreme[n, k].detach()) - math.log(scales[1])) / 2
    found = divergence(normal, extreme, valid)
    assert float(found.detach()) == pytest.approx(wanted)
    torch.autograd.backward(found)
    assert normal.grad is None
    assert extreme.grad is not None
    assert extreme.grad.isfinite().all()
    assert extreme.grad[0].abs().min() > 0
    assert extreme.grad[1, 1] == 0


def test_attention_is_simams() -> None:
    torch.manual_seed(0)
    last = torch.randn(1, 3, 2, 4)
    found = attention(last)
    for t in range(2):
        for v in range(4):
            total = 0.0
            for d in range(3):
                plane = last[0, d].flatten().double()
                variance = float((plane - plane.mean()).square().sum()) / 7
                energy = float(last[0, d, t, v].double() - plane.mean()) ** 2 / (4 * (variance + 1e-4)) + 0.5
                total += 1 / (1 + math.exp(-energy))
            assert float(found[0, t, v]) == pytest.approx(total / 3, rel=1e-5)


def test_the_most_attended_is_dropped_most_often_and_the_scale_stays() -> None:
    torch.manual_seed(0)
    last = torch.ones(1, 8, 4, 5)
    last[0, :, 1, 2] = 50.0
    gone = torch.zeros(4, 5)
    shares = []
    for _ in range(400):
        out = dropped(last, keep=0.7)
        zero = (out[0] == 0).all(0)
        gone += zero
        shares.append(float(zero.float().mean()))
        assert torch.equal((out[0] == 0).any(0), zero)  # all channels of a place together
        kept = out[0, 0][~zero] / last[0, 0][~zero]
        assert float(kept[0]) == pytest.approx(20 / float((~zero).sum()), rel=1e-5)
    assert int(gone.argmax()) == 1 * 5 + 2
    assert sum(shares) / 400 == pytest.approx(0.3, abs=0.02)
    assert torch.equal(dropped(last, keep=1.0), last)


def test_there_are_eight_kinds_with_those_of_the_normal_view() -> None:
    from tmor_train.recipes import recipe

    config = recipe("aimclr")
    assert len({type(step) for step in (*config.views.anchor, *config.method.extreme)}) == 8
    with pytest.raises(ValueError, match="keep is above 0"):
        AimCLR(keep=0.0)
