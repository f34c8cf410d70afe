"""Losses on frames against plain loops over clips and frames, and what decorrelation pulls features to."""

import math
import statistics

import pytest
import torch

from tmor_train.losses.frames import cross, decorrelation, frame_contrast, frame_text, spread, windows


def units(clips: int, width: int, frames: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(clips, width, frames, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=1)


def test_frame_contrast_against_a_loop() -> None:
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


def unit_rows(*shape: int, seed: int) -> torch.Tensor:
    drawn = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(drawn, dim=-1)


def test_windows_are_means_of_frames_and_the_last_may_be_shorter() -> None:
    frames = torch.arange(10.0).view(1, 2, 5)
    found = windows(frames, 2)
    assert found.tolist() == [[[0.5, 2.5, 4.0], [5.5, 7.5, 9.0]]]
    with pytest.raises(ValueError, match="not 0"):
        windows(frames, 0)


def test_frame_text_against_a_loop() -> None:
    """Clips 0 and 3 have one text, clip 2 has none."""
    anchors, texts, ids = unit_rows(4, 3, 5, seed=0), unit_rows(4, 5, seed=1), [7, 8, -1, 7]
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
    anchors = unit_rows(3, 2, 5, seed=2).requires_grad_()
    loss = frame_text(anchors, unit_rows(3, 5, seed=3), torch.tensor([4, 4, -1]), temperature=0.1)
    loss.backward()  # type: ignore[no-untyped-call]
    assert float(loss.detach()) == 0
    assert anchors.grad is not None
    assert not anchors.grad.any()


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 0.7


def columns(rows_BD: torch.Tensor) -> list[list[float]]:
    found: list[list[float]] = rows_BD.T.tolist()
    return found


def test_spread_against_a_loop() -> None:
    rows = drawn(6, 3, 0)
    own = columns(rows)
    hinge = [max(0.0, 1 - math.sqrt(statistics.variance(column) + 1e-4)) for column in own]
    off = [statistics.covariance(own[d], own[e]) ** 2 for d in range(3) for e in range(3) if d != e]
    assert float(spread(rows)) == pytest.approx(5 * sum(hinge) / 3 + sum(off) / 3)


def test_cross_against_a_loop() -> None:
    first, second = drawn(6, 3, 1), drawn(6, 3, 2)
    total = 0.0
    for d, one in enumerate(columns(first)):
        for e, other in enumerate(columns(second)):
            deviations = math.sqrt(statistics.variance(one) + 1e-4) * math.sqrt(statistics.variance(other) + 1e-4)
            c = statistics.covariance(one, other) * 5 / 6 / deviations
            total += (1 - c) ** 2 if d == e else 0.005 * c**2
    assert float(cross(first, second)) == pytest.approx(total)


def test_the_whole_loss_has_the_released_weights() -> None:
    first, second = drawn(6, 3, 1), drawn(6, 3, 2)
    agree = sum((a - b) ** 2 for a, b in zip(first.flatten().tolist(), second.flatten().tolist(), strict=True)) / 18
    wanted = 5 * agree + float(spread(first)) + float(spread(second)) + 0.001 * float(cross(first, second))
    assert float(decorrelation(first, second)) == pytest.approx(wanted)


def test_equal_rows_cost_more_than_different_ones() -> None:
    collapsed, good = torch.ones(64, 4, dtype=torch.float64), drawn(64, 4, 3) / 0.7
    assert float(decorrelation(collapsed, collapsed)) > 9 > 2 > float(decorrelation(good, good))


def test_one_row_or_two_shapes_are_errors() -> None:
    with pytest.raises(ValueError, match="two samples"):
        decorrelation(drawn(1, 3, 0), drawn(1, 3, 0))
    with pytest.raises(ValueError, match="two views"):
        decorrelation(drawn(4, 3, 0), drawn(5, 3, 0))
