"""Frame-level contrast against a plain loop over clips and frames."""

import math

import pytest
import torch

from tmor_train.losses.frame_contrast import frame_contrast


def units(clips: int, width: int, frames: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(clips, width, frames, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1)


def test_the_loss_against_a_loop() -> None:
    queries, keys = units(4, 3, 5, 0), units(4, 3, 5, 1)
    excluded = torch.zeros(4, 4, dtype=torch.bool)
    excluded[0, 2] = excluded[2, 0] = True
    total = 0.0
    for n in range(4):
        s = [sum(float(queries[n, :, t] @ keys[m, :, t]) for t in range(5)) / 5 for m in range(4)]
        rest = [math.exp(s[m] / 0.07) for m in range(4) if m == n or not excluded[n, m]]
        total -= math.log(math.exp(s[n] / 0.07) / sum(rest))
    assert float(frame_contrast(queries, keys, excluded, temperature=0.07)) == pytest.approx(total / 4)


def test_lacs_sum_over_frames_is_another_temperature() -> None:
    queries, keys, none = units(3, 4, 30, 2), units(3, 4, 30, 3), torch.zeros(3, 3, dtype=torch.bool)
    logits = torch.einsum("nct,mct->nm", queries, keys) / 0.07
    theirs = torch.nn.functional.cross_entropy(logits, torch.arange(3))
    torch.testing.assert_close(frame_contrast(queries, keys, none, temperature=0.07 / 30), theirs)


def test_the_order_of_frames_matters() -> None:
    """Of clips with the same mean, the one whose frames come in the same order is the nearer."""
    forward = torch.eye(4, dtype=torch.float64)
    queries = torch.stack([forward, forward.flip(1)])
    none = torch.zeros(2, 2, dtype=torch.bool)
    same = frame_contrast(queries, queries, none, temperature=0.1)
    swapped = frame_contrast(queries, queries.flip(0), none, temperature=0.1)
    assert float(same) < 1e-3 < 1 < float(swapped)


def test_no_negatives_are_no_loss_and_no_gradient() -> None:
    queries = units(2, 3, 4, 4).requires_grad_()
    loss = frame_contrast(queries, units(2, 3, 4, 5), torch.ones(2, 2, dtype=torch.bool), temperature=0.07)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert queries.grad is not None
    assert not queries.grad.any()
    with pytest.raises(ValueError, match="do not correspond"):
        frame_contrast(queries, units(2, 3, 5, 5), torch.ones(2, 2, dtype=torch.bool), temperature=0.07)
