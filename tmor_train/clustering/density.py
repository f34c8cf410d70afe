"""DBSCAN (Ester et al., KDD 1996) in one pass over pairs of neighbours that arrive in any order, each pair once.

Whether an edge joins two clusters depends on whether both ends are core points, which is known for certain only at the
end. But "core" never reverts: a point is core from its min_samples-th neighbour on. So edges between points known to
be core are merged at once and forgotten; others are kept. A kept edge has an end with fewer than min_samples neighbours
so far, hence never more than N · min_samples are kept, however dense the clusters are.
"""

from __future__ import annotations

import torch

from tmor_train.clustering.components import Components


class Density:
    """What is known of the density around N points so far."""

    def __init__(self, points: int, *, min_samples: int, device: torch.device) -> None:
        self._min_samples = min_samples
        self._counts_N = torch.ones(points, dtype=torch.int64, device=device)  # a point is its own neighbour
        self._core_N = self._counts_N >= min_samples
        self._components = Components(points, device)
        self._kept: list[torch.Tensor] = []

    def add(self, left_P: torch.Tensor, right_P: torch.Tensor) -> None:
        """Pairs of different points that are neighbours, none of them told before."""
        if not len(left_P):
            return
        points = len(self._counts_N)
        self._counts_N += torch.bincount(left_P, minlength=points)
        self._counts_N += torch.bincount(right_P, minlength=points)
        torch.ge(self._counts_N, self._min_samples, out=self._core_N)
        dense_P = self._core_N[left_P] & self._core_N[right_P]
        self._components.join(left_P[dense_P], right_P[dense_P])
        if not bool(dense_P.all()):
            self._kept.append(torch.stack([left_P[~dense_P], right_P[~dense_P]]))

    def settled(self, left: slice, right: slice) -> bool:
        """Whether pairs between two runs of points can no longer change anything: all core, all of one cluster."""
        if not bool(self._core_N[left].all()) or not bool(self._core_N[right].all()):
            return False
        ends_P = torch.cat([self._all_of(left), self._all_of(right)])
        roots_P = self._components.roots(ends_P)
        return bool((roots_P == roots_P[0]).all())

    def labels(self, names_N: torch.Tensor) -> torch.Tensor:
        """Cluster of each point, −1 for noise.

        names_N are the points' numbers to the outside. Clusters are numbered by their core point of the lowest
        number. A border point goes to the lowest numbered cluster of which it has a core point as neighbour.
        """
        kept_2P = torch.cat([*self._kept, names_N.new_empty(2, 0)], dim=1)
        core_2P = self._core_N[kept_2P]
        self._components.join(*kept_2P[:, core_2P.all(0)])
        core_C = torch.nonzero(self._core_N).flatten()
        roots_C = self._components.roots(core_C)
        first_N = torch.full_like(names_N, len(names_N)).scatter_reduce(0, roots_C, names_N[core_C], "amin")
        labels_N = torch.full_like(names_N, -1)
        labels_N[core_C] = torch.unique(first_N[roots_C], return_inverse=True)[1]
        core_end = torch.where(core_2P[0], kept_2P[0], kept_2P[1])
        border_end = torch.where(core_2P[0], kept_2P[1], kept_2P[0])
        one = core_2P[0] ^ core_2P[1]
        none = len(names_N)
        border_N = torch.full_like(names_N, none).scatter_reduce(0, border_end[one], labels_N[core_end[one]], "amin")
        return torch.where(border_N < none, border_N, labels_N)

    def _all_of(self, run: slice) -> torch.Tensor:
        return torch.arange(run.start, run.stop, device=self._core_N.device)
