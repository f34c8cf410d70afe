"""Products of two lists of rows, block by block in one piece of memory, and where they reach a threshold."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
import torch

# Side of a block: large enough for the matrix product to run at full speed, small enough for the block to stay a trifle
# beside the embeddings.
SIDE_ON_CPU = 1536
SIDE_ON_GPU = 8192


class Products:
    """Products of rows of one matrix. The result of a call is overwritten by the same thread's next call."""

    def __init__(self, rows_ND: torch.Tensor, *, side: int) -> None:
        self._rows_ND = rows_ND
        self._side = side
        self._own = threading.local()

    def __call__(self, left_L: torch.Tensor, right_R: torch.Tensor) -> torch.Tensor:
        """Scores of shape (left, right); both lists ascend and have `side` rows at most."""
        if not hasattr(self._own, "room"):
            self._own.room = self._rows_ND.new_empty(self._side**2)
        room: torch.Tensor = self._own.room
        scores_LR = room[: len(left_L) * len(right_R)].view(len(left_L), len(right_R))
        return torch.mm(self._taken(left_L), self._taken(right_R).T, out=scores_LR)

    def _taken(self, rows_L: torch.Tensor) -> torch.Tensor:
        """The rows, without a copy where they stand together."""
        first, last = int(rows_L[0]), int(rows_L[-1])
        if last - first + 1 == len(rows_L):
            return self._rows_ND[first : last + 1]
        return self._rows_ND[rows_L]


def reaching(scores_LR: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of each score ≥ threshold. NumPy finds few among many faster than torch does on a CPU."""
    if scores_LR.device.type == "cpu":
        places_P = torch.from_numpy(np.flatnonzero(scores_LR.numpy() >= threshold))
    else:
        places_P = torch.nonzero((scores_LR >= threshold).flatten()).flatten()
    width = scores_LR.shape[1]
    return torch.div(places_P, width, rounding_mode="floor"), places_P % width


def runs(points: int, side: int) -> list[slice]:
    """Points cut into runs of `side`; the last may be shorter."""
    return [slice(start, min(start + side, points)) for start in range(0, points, side)]


def upper_triangle(points: int, side: int) -> Iterator[tuple[slice, slice]]:
    """Pairs of runs that hold each pair of points at least once, pairs of a run with itself first.

    Blocks on the diagonal come first, because what they settle need not be computed later, and in four parts a side,
    because half of such a block is computed in vain.
    """
    blocks = runs(points, side)
    for block in blocks:
        parts = [
            slice(block.start + part.start, block.start + part.stop)
            for part in runs(block.stop - block.start, max(1, side // 4))
        ]
        yield from _each_two(parts)
    yield from ((left, right) for left, right in _each_two(blocks) if left != right)


def _each_two(blocks: list[slice]) -> Iterator[tuple[slice, slice]]:
    yield from ((block, block) for block in blocks)
    yield from ((left, right) for number, left in enumerate(blocks) for right in blocks[number + 1 :])


def side_for(device: torch.device) -> int:
    """Side of a block on this kind of device."""
    return SIDE_ON_CPU if device.type == "cpu" else SIDE_ON_GPU
