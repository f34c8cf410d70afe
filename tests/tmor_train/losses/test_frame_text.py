"""Alignment of windows and texts against a plain loop."""

import math

import pytest
import torch

from tmor_train.losses.frame_text import frame_text, windows


def units(*shape: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1)


def test_windows_are_means_of_frames_and_the_last_may_be_shorter() -> None:
    frames = torch.arange(10.0).view(1, 2, 5)
    found = windows(frames, 2)
    assert found.tolist() == [[[0.5, 2.5, 4.0], [5.5, 7.5, 9.0]]]
    with pytest.raises(ValueError, match="not 0"):
        windows(frames, 0)


def test_the_loss_against_a_loop() -> None:
    """Clips 0 and 3 have one text, clip 2 has none."""
    anchors, texts, ids = units(4, 3, 5, seed=0), units(4, 5, seed=1), [7, 8, -1, 7]
    per_clip = []
    for n in (0, 1, 3):
        others = [m for m in range(4) if ids[m] not in (-1, ids[n])]
        losses = []
        for s in range(3):
            cosine = [float(anchors[n, s] @ texts[m]) / 0.1 for m in (n, *others)]
            losses.append(-math.log(math.exp(cosine[0]) / sum(math.exp(one) for one in cosine)))
        per_clip.append(sum(losses) / 3)
    found = frame_text(anchors, texts, torch.tensor(ids), temperature=0.1)
    assert float(found) == pytest.approx(sum(per_clip) / 3)


def test_one_text_alone_is_no_loss_and_no_gradient() -> None:
    anchors = units(3, 2, 5, seed=2).requires_grad_()
    loss = frame_text(anchors, units(3, 5, seed=3), torch.tensor([4, 4, -1]), temperature=0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert anchors.grad is not None
    assert not anchors.grad.any()
