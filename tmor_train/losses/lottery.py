"""Random draws that need no generator: a ticket is a hash of the seed, the step and the two clips.

So a resumed run draws what the first would have drawn, on any device, and the order of the candidates does not matter.
"""

from __future__ import annotations

import torch
from torch import Tensor

# The multipliers of splitmix64 as signed 64-bit numbers; products wrap around.
GOLDEN, FIRST, SECOND = -7046029254386353131, -4658895280553007687, -7723592293110705685
LAST_TICKET = 2**63 - 1


def tickets(index_N: Tensor, index_K: Tensor, *, step: Tensor, seed: int) -> Tensor:
    """Tickets (N, K) of all pairs of clips in this step, int64 and not negative, as good as uniform."""
    anchor_N = _scattered(_scattered(index_N + step * GOLDEN) + seed)
    candidate_K = _scattered(index_K * GOLDEN)
    return _scattered(anchor_N[:, None] ^ candidate_K) & LAST_TICKET


def chosen(members_NK: Tensor, tickets_NK: Tensor, most: int) -> Tensor:
    """Of each row of ``members_NK`` the ``most`` members with the lowest tickets, or all if there are fewer."""
    if most >= members_NK.shape[1]:
        return members_NK
    lowest = tickets_NK.masked_fill(~members_NK, LAST_TICKET).topk(most, dim=1, largest=False, sorted=False).indices
    return torch.zeros_like(members_NK).scatter(1, lowest, True) & members_NK


def _scattered(x: Tensor) -> Tensor:
    for multiplier, shift in ((FIRST, 30), (SECOND, 27)):
        # Python's >> and torch's keep the sign; the mask makes the shift a logical one.
        x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * multiplier
    return x ^ ((x >> 31) & ((1 << 33) - 1))
