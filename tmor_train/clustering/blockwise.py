"""Embeddings as unit vectors, and products of pairs of them block by block, on as many threads as torch is set to use.

`UnitVectors` measures cosine distances in float64 and holds a faster copy whose error is bounded; `BlockProducts`
multiplies two lists of its rows in one buffer; `parallel_map` works on several blocks at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch

Precision = Literal["single", "half"]
ROWS_AT_ONCE = 65_536
"""Rows that are copied to float64 together, which bounds memory: 128 MiB of 256 dimensions."""


@dataclass(frozen=True, slots=True)
class UnitVectors:
    """Embeddings that are compared by angle.

    rows_ND are the embeddings as given (float32 or float64), norms_N float64 their lengths, unit_ND unit vectors in
    float32 or float16. A product of two rows of unit_ND differs from the cosine of the given rows by less than
    `margin`, in whatever order it is summed.
    """

    rows_ND: torch.Tensor
    norms_N: torch.Tensor
    unit_ND: torch.Tensor
    margin: float

    def distances(self, left_P: torch.Tensor, right_P: torch.Tensor) -> torch.Tensor:
        """Cosine distance of each pair of rows in float64, clipped to [0, 2]."""
        left_PD = self.rows_ND[left_P].double() / self.norms_N[left_P, None]
        right_PD = self.rows_ND[right_P].double() / self.norms_N[right_P, None]
        return (1.0 - (left_PD * right_PD).sum(1)).clamp(0.0, 2.0)

    def select(self, order_N: torch.Tensor) -> UnitVectors:
        """The same rows in another order, or some of them."""
        return UnitVectors(self.rows_ND[order_N], self.norms_N[order_N], self.unit_ND[order_N], self.margin)


def normalize(embeddings: np.ndarray | torch.Tensor, *, precision: Precision | None = None) -> UnitVectors:
    """The `UnitVectors` of N×D real numbers, on their device.

    float32 and float64 are kept as they are, other floats become float32 and integers float64.

    Args:
        precision: of the unit vectors; None is half on a GPU, where it is several times faster, and single on a CPU.

    Raises:
        ValueError: another shape, numbers that are not finite, or rows of zeros, which have no direction.
    """
    rows_ND = torch.as_tensor(embeddings).detach()
    if rows_ND.ndim != 2 or not rows_ND.shape[1]:
        raise ValueError(f"embeddings have shape {tuple(rows_ND.shape)}; expected (rows, dimensions)")
    if rows_ND.is_complex():
        raise ValueError("embeddings are complex numbers, expected real ones")
    if rows_ND.dtype not in (torch.float32, torch.float64):
        rows_ND = rows_ND.float() if rows_ND.is_floating_point() else rows_ND.double()
    precision = precision or ("half" if rows_ND.is_cuda else "single")
    norms_N = torch.empty(len(rows_ND), dtype=torch.float64, device=rows_ND.device)
    unit_ND = torch.empty(rows_ND.shape, dtype=_DTYPES[precision], device=rows_ND.device)
    for start in range(0, len(rows_ND), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        some_ND = rows_ND[some].double()
        norms_N[some] = torch.linalg.vector_norm(some_ND, dim=1)
        unit_ND[some] = some_ND / norms_N[some, None]
    _check_norms(norms_N)
    return UnitVectors(rows_ND, norms_N, unit_ND, _margin(precision, rows_ND.shape[1]))


_DTYPES: dict[Precision, torch.dtype] = {"single": torch.float32, "half": torch.float16}


def _margin(precision: Precision, dimensions: int) -> float:
    """Bound on the error of a product of two unit vectors of D = `dimensions`.

    With u the unit roundoff, rounding both vectors costs 2 u and adding D products in float32, in any order, D u more
    (Higham, Accuracy and Stability of Numerical Algorithms, §3.1); 6 u are left for terms in u² and the rounding of the
    threshold. Half precision also rounds the result, may add partial sums in half, compares in half and has coarser
    smallest numbers: eight of its u cover that. Tensor cores cut instead of rounding while they add, hence the factor
    4.
    """
    if precision == "single":
        return (dimensions + 8) * 2.0**-24
    return 8 * 2.0**-11 + 4 * dimensions * 2.0**-24


def _check_norms(norms_N: torch.Tensor) -> None:
    """Raises ValueError for lengths that are 0 or not finite."""
    broken = torch.nonzero(~torch.isfinite(norms_N)).flatten()
    if len(broken):
        raise ValueError(
            f"{len(broken)} of {len(norms_N)} embeddings are not finite or too long to measure (first: row "
            f"{int(broken[0])}); find the step that made them, leave those rows out, or scale them down"
        )
    without = torch.nonzero(norms_N == 0).flatten()
    if len(without):
        raise ValueError(
            f"{len(without)} of {len(norms_N)} embeddings are zero and have no direction (first: row "
            f"{int(without[0])}); leave those rows out"
        )


# Rows of a block: enough for the matrix product to run at full speed, few enough for the block (9 MiB of float32 on a
# CPU, 128 MiB of float16 on a GPU) to be small compared to the embeddings.
BLOCK_SIZE_CPU = 1536
BLOCK_SIZE_GPU = 8192


class BlockProducts:
    """Products of rows of one matrix. The result of a call is overwritten by the same thread's next call."""

    def __init__(self, rows_ND: torch.Tensor, *, block_size: int) -> None:
        self._rows_ND = rows_ND
        self._block_size = block_size
        self._own = threading.local()

    def __call__(self, left_L: torch.Tensor, right_R: torch.Tensor) -> torch.Tensor:
        """Products of the rows left_L and right_R, (L, R); both are 1 to `block_size` ascending indices, none twice."""
        if not hasattr(self._own, "buffer"):
            self._own.buffer = self._rows_ND.new_empty(self._block_size**2)
        buffer: torch.Tensor = self._own.buffer
        scores_LR = buffer[: len(left_L) * len(right_R)].view(len(left_L), len(right_R))
        return torch.mm(self._select(left_L), self._select(right_R).T, out=scores_LR)

    def _select(self, rows_L: torch.Tensor) -> torch.Tensor:
        """The rows of some indices; a view where these are consecutive."""
        first, last = int(rows_L[0]), int(rows_L[-1])
        if last - first + 1 == len(rows_L):
            return self._rows_ND[first : last + 1]
        return self._rows_ND[rows_L]


def at_least(scores_LR: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column of each score ≥ threshold. On a CPU, NumPy finds a few among many faster than torch does."""
    if scores_LR.device.type == "cpu":
        places_P = torch.from_numpy(np.flatnonzero(scores_LR.numpy() >= threshold))
    else:
        places_P = torch.nonzero((scores_LR >= threshold).flatten()).flatten()
    width = scores_LR.shape[1]
    return torch.div(places_P, width, rounding_mode="floor"), places_P % width


def chunks(points: int, block_size: int) -> list[slice]:
    """Slices of `block_size` points, in order; the last may be shorter."""
    return [slice(start, min(start + block_size, points)) for start in range(0, points, block_size)]


def triangle_blocks(points: int, block_size: int) -> Iterator[tuple[slice, slice]]:
    """Pairs of slices, equal or disjoint, of which exactly one holds any given pair of points; those within a block of
    `block_size` points come before those of two blocks.

    Blocks on the diagonal come first, because later blocks whose points they already put into one cluster are skipped.
    They are cut into four parts per side, because half of the products of such a block are not used.
    """
    blocks = chunks(points, block_size)
    for block in blocks:
        parts = [
            slice(block.start + part.start, block.start + part.stop)
            for part in chunks(block.stop - block.start, max(1, block_size // 4))
        ]
        yield from _each_two(parts)
    yield from ((left, right) for left, right in _each_two(blocks) if left != right)


def _each_two(blocks: list[slice]) -> Iterator[tuple[slice, slice]]:
    """Each block with itself, then each pair of different blocks once, in their order."""
    yield from ((block, block) for block in blocks)
    yield from ((left, right) for number, left in enumerate(blocks) for right in blocks[number + 1 :])


def block_size_for(device: torch.device) -> int:
    """Number of rows of a block on a CPU or GPU."""
    return BLOCK_SIZE_CPU if device.type == "cpu" else BLOCK_SIZE_GPU


Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def single_threaded_ops(device: torch.device) -> Iterator[int]:
    """Context in which torch uses one thread per operation; yields the number of workers to run in parallel instead.

    That is 1 for a GPU, which one thread keeps busy, and otherwise the number of threads that torch was set to use.
    """
    before = torch.get_num_threads()
    if device.type != "cpu":
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def parallel_map(compute: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Results of all items in their order, from `workers` threads (one: from the caller's own). Items are taken at most
    2 · workers + 1 ahead of the results that were yielded, each by the caller's thread."""
    if workers == 1:
        yield from map(compute, items)
        return
    # With OpenMP a new thread has its own number of threads, whatever the caller's was set to.
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(compute, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
