"""DBSCAN on cosine distance, exact, with memory linear in the number of points."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from tmor_train.clustering.abreast import one_thread_each, results_in_order
from tmor_train.clustering.blocks import side_for, upper_triangle
from tmor_train.clustering.cells import cells_of, pairs_of_near_cells
from tmor_train.clustering.density import Density
from tmor_train.clustering.directions import Directions
from tmor_train.clustering.neighbours import Neighbours
from tmor_train.clustering.screening import Screening, screening_for

# Cells only sort the rows here; more than this sort no better and cost more.
MOST_CELLS = 256
ROWS_PER_CELL = 256


def refuse_settings(eps: float, min_samples: int) -> None:
    """Raises ValueError for an eps or min_samples that no clustering can have."""
    if not eps > 0:
        raise ValueError(
            f"eps is {eps}; it is a distance above 0 (of cosines: 0 same direction, 1 right angle, 2 opposite)"
        )
    if min_samples < 1:
        raise ValueError(f"min_samples is {min_samples}; it is at least 1, for it counts the point itself")


def labels_of_all_pairs(
    directions: Directions, *, eps: float, min_samples: int, side: int | None = None
) -> torch.Tensor:
    """Labels from all pairs of rows; `side` is that of a block and changes no label."""
    device, points = directions.norms_N.device, len(directions.norms_N)
    side = side or side_for(device)
    names_N = torch.arange(points, device=device)
    with one_thread_each(device) as workers:
        if points > 2 * side:
            names_N = cells_of(directions, cells=min(MOST_CELLS, 1 + points // ROWS_PER_CELL)).order_N
            directions = directions.taken(names_N)
        pairs = list(upper_triangle(points, side))
        search = Search(directions, eps, side=side, screening=screening_for(directions, eps, pairs))
        return search.labels(pairs, names_N, min_samples=min_samples, workers=workers)


def labels_of_near_cells(
    directions: Directions, *, eps: float, min_samples: int, rows_per_cell: int, probes: int, seed: int
) -> torch.Tensor:
    """Labels from pairs within a cell and between each cell and its `probes` nearest: other neighbours are missed."""
    device, points = directions.norms_N.device, len(directions.norms_N)
    side = side_for(device)
    with one_thread_each(device) as workers:
        cells = cells_of(directions, cells=1 + points // rows_per_cell, seed=seed)
        search = Search(directions.taken(cells.order_N), eps, side=side)
        pairs = pairs_of_near_cells(cells, probes=probes, side=side)
        return search.labels(pairs, cells.order_N, min_samples=min_samples, workers=workers)


class Search:
    """Labels from the neighbours found between given pairs of blocks."""

    def __init__(self, directions: Directions, eps: float, *, side: int, screening: Screening | None = None) -> None:
        self._neighbours = Neighbours(directions, eps, side=side, screening=screening)
        self._all_N = torch.arange(len(directions.norms_N), device=directions.norms_N.device)

    def labels(
        self, pairs: Iterable[tuple[slice, slice]], names_N: torch.Tensor, *, min_samples: int, workers: int
    ) -> torch.Tensor:
        """Labels by name: row i of the directions is called names_N[i]."""
        density = Density(len(names_N), min_samples=min_samples, device=names_N.device)
        open_pairs = (pair for pair in pairs if not density.settled(*pair))
        for left_P, right_P in results_in_order(self._found, open_pairs, workers=workers):
            density.add(left_P, right_P)
        return torch.empty_like(names_N).scatter_(0, names_N, density.labels(names_N))

    def _found(self, pair: tuple[slice, slice]) -> tuple[torch.Tensor, torch.Tensor]:
        left, right = pair
        left_P, right_P = self._neighbours.between(self._all_N[left], self._all_N[right])
        if left != right:
            return left_P, right_P
        upper_P = left_P < right_P
        return left_P[upper_P], right_P[upper_P]
