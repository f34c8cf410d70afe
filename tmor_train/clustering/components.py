"""Connected components of a graph whose edges arrive in bulk: union-find on whole tensors."""

from __future__ import annotations

import torch


class Components:
    """Sets of points joined so far. A set is called by its smallest member."""

    def __init__(self, points: int, device: torch.device) -> None:
        self._parent_N = torch.arange(points, device=device)

    def roots(self, points_P: torch.Tensor) -> torch.Tensor:
        """Smallest member of each point's set; shortens the way for the next call."""
        parent_P = self._parent_N[points_P]
        while True:
            above_P = self._parent_N[parent_P]
            if torch.equal(above_P, parent_P):
                break
            parent_P = above_P
        self._parent_N[points_P] = parent_P
        return parent_P

    def join(self, left_P: torch.Tensor, right_P: torch.Tensor) -> None:
        """Joins the sets of each pair.

        Each round hangs every larger root under the smallest root it meets, so at least half of the roots that still
        have an edge outwards vanish or shrink; edges within a set drop out.
        """
        while len(left_P):
            left_P, right_P = self.roots(left_P), self.roots(right_P)
            apart_P = left_P != right_P
            left_P, right_P = left_P[apart_P], right_P[apart_P]
            lower_P, higher_P = torch.minimum(left_P, right_P), torch.maximum(left_P, right_P)
            self._parent_N.scatter_reduce_(0, higher_P, lower_P, "amin")
            left_P, right_P = lower_P, higher_P
