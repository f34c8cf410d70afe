"""The fused sums against torch's own, at their edges."""

import pytest
import torch

from tmor_train.losses import masked_sums as module
from tmor_train.losses.masked_sums import masked_sums


def drawn(seed: int = 0, rows: int = 5, columns: int = 11) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    roles = torch.randint(3, (rows, columns))
    roles[:, 0], roles[:, 1] = 0, 1
    return torch.randn(rows, 4).double(), torch.randn(columns, 4).double(), roles == 0, roles == 1


@pytest.mark.parametrize("block", [1, 22, 1 << 19])
def test_sums_do_not_depend_on_the_blocks(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    anchors, pool, positives, negatives = drawn()
    sums = masked_sums(anchors, pool, positives, negatives)
    s = anchors @ pool.T
    assert torch.allclose(sums.log_positive_N, s.masked_fill(~positives, -torch.inf).logsumexp(1))
    assert torch.allclose(sums.log_negative_N, s.masked_fill(~negatives, -torch.inf).logsumexp(1))
    assert torch.allclose(sums.sum_positive_N, (s * positives).sum(1))
    assert sums.positives_N.tolist() == positives.sum(1).tolist()
    assert sums.negatives_N.tolist() == negatives.sum(1).tolist()


@pytest.mark.parametrize("block", [22, 1 << 19])
def test_gradients_of_all_three_sums(monkeypatch, block):
    monkeypatch.setattr(module, "BLOCK", block)
    anchors, pool, positives, negatives = drawn(3)

    def differentiable(anchors: torch.Tensor, pool: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(masked_sums(anchors, pool, positives, negatives)[:3])

    assert torch.autograd.gradcheck(differentiable, (anchors.requires_grad_(), pool.requires_grad_()))


def test_an_empty_set_is_zero_and_has_no_gradient():
    anchors, pool, positives, negatives = drawn()
    negatives[2] = False
    anchors.requires_grad_()
    sums = masked_sums(anchors, pool, positives, negatives)
    assert sums.log_negative_N[2].item() == 0
    sums.log_negative_N.sum().backward()
    assert anchors.grad[2].abs().max().item() == 0
    assert anchors.grad[[0, 1, 3, 4]].abs().min(1).values.gt(0).all()


def test_similarities_far_apart_neither_overflow_nor_vanish():
    anchors = torch.tensor([[1000.0, 0.0]], requires_grad=True)
    pool = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [-0.9, 0.1]])
    sums = masked_sums(anchors, pool, torch.tensor([[False, True, True]]), torch.tensor([[True, False, False]]))
    assert sums.log_negative_N.item() == 1000
    assert sums.log_positive_N.item() == pytest.approx(-900)
    (sums.log_negative_N - sums.log_positive_N).backward()
    assert torch.allclose(anchors.grad, torch.tensor([[1.0 - -0.9, -0.1]]))
