"""Draws are fair, depend on what they should, and on nothing else."""

import torch

from tmor_train.losses.lottery import chosen, tickets


def test_a_draw_depends_on_seed_step_and_clips_alone():
    anchors, pool = torch.tensor([3, 4]), torch.arange(50)
    drawn = tickets(anchors, pool, step=torch.tensor(1), seed=0)
    assert torch.equal(drawn, tickets(anchors, pool, step=torch.tensor(1), seed=0))
    order = torch.randperm(50)
    assert torch.equal(drawn[:, order], tickets(anchors, pool[order], step=torch.tensor(1), seed=0))
    assert torch.equal(drawn[1:], tickets(anchors[1:], pool, step=torch.tensor(1), seed=0))
    for other in (
        tickets(anchors, pool, step=torch.tensor(2), seed=0),
        tickets(anchors, pool, step=torch.tensor(1), seed=1),
        tickets(anchors + 1, pool, step=torch.tensor(1), seed=0),
    ):
        assert not (drawn == other).any()


def test_tickets_are_as_good_as_uniform():
    drawn = tickets(torch.arange(100), torch.arange(1000), step=torch.tensor(5), seed=9)
    assert drawn.min().item() >= 0
    counts = torch.bincount((drawn >> 59).flatten(), minlength=16)
    # 100,000 tickets over 16 sixteenths: 6,250 each, with a deviation of 77.
    assert counts.min().item() > 6250 - 400
    assert counts.max().item() < 6250 + 400
    winners = chosen(torch.ones(100, 1000, dtype=torch.bool), drawn, 10).sum(0)
    assert winners.sum().item() == 1000
    assert winners.max().item() < 10  # one draw in a hundred for each of 1,000: seldom more than 6


def test_few_are_chosen_of_the_members():
    members = torch.tensor([[True, True, False, True], [False, False, True, False], [False] * 4])
    order = torch.tensor([[5, 1, 0, 3]] * 3)
    assert chosen(members, order, 2).tolist() == [[False, True, False, True], [False, False, True, False], [False] * 4]
    assert chosen(members, order, 4) is members
