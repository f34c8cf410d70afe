"""Finds pairs of rows within a cosine distance, block by block without the whole distance matrix; chooses a radius for
DBSCAN; and groups rows of similar directions into cells (spherical k-means).

Embeddings are compared as unit vectors: `UnitVectors` measures cosine distances in float64 and holds a faster copy
whose error is bounded; `BlockProducts` multiplies two lists of its rows in one buffer; `parallel_map` works on several
blocks at once, on as many threads as torch is set to use.

A prefilter decides most pairs by a few of their dimensions. Split unit vectors by an orthonormal basis: x = (p, q) with
p in K leading directions and q in the rest. Then |x · y − p_x · p_y| ≤ |q_x| |q_y| (Cauchy–Schwarz). Where embeddings
nearly fill K of their D dimensions, a product of K + 1 numbers decides nearly all pairs for certain, and only the
others are measured.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
import torch

Precision = Literal["single", "half"]
_CAST_ROWS = 65_536
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
    for start in range(0, len(rows_ND), _CAST_ROWS):
        some = slice(start, start + _CAST_ROWS)
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


MEASURED_AT_ONCE = 8192
"""Pairs whose distances are computed in one operation."""

SHARES = (1 / 4, 1 / 8, 1 / 16)
"""Shares K / D of the dimensions that a prefilter may keep, in the order in which they are tried. These, the next three
and the estimates below decide how fast pairs are found, not which. They are our choice: with half of the dimensions
little is saved, and a few blocks and rows estimate a share well enough."""
TRIED_BLOCKS = 6
"""Pairs of blocks on which a prefilter is tried."""
TRIED_ROWS = 512
"""At most so many rows of each block are used for that."""
SAMPLED = 2048
"""About so many rows are used to find the leading directions."""

# The estimated time of a block with a prefilter, as a multiple of the time that its product of all D dimensions takes,
# is OVERHEAD + K / D + MEASURING * (share of its pairs that are left to be measured).
OVERHEAD = 0.1
"""Time of comparing the scores of a block with the bounds: 0.02 by ``benchmarks/estimates.py`` on a core of an AMD
EPYC, and a reserve, as the pairs that pass are gathered as well."""
MEASURING = 500.0
"""Time of measuring one pair in float64, divided by the time of its product in a block: 679 by the same run; on another
processor it is another number of this size."""
WORTH = 0.85
"""A prefilter whose estimated time is not below this is not used: our choice, as a smaller saving is less than what the
two numbers above may be off."""

SPARE = 4
"""So many more candidates than neighbours are measured exactly, since the product in low precision may rank rows at
nearly the same distance in the wrong order. How many is our choice: a row is missed only where more than these are as
near within the products' error."""
SCORES_AT_ONCE = 2**24
"""Numbers in a matrix of scores that is computed at once, which bounds memory: 64 MiB of float32."""

ROUNDS = 4
"""Iterations of k-means. This and the next are our choice; cells need not be good ones, as they change the speed alone
(in an exact search)."""
SAMPLED_PER_CELL = 32
"""Rows per cell from which the centres are learned."""
ROWS_AT_ONCE = 16_384
"""Rows that are assigned to cells at once."""


class Neighbours:
    """Finds pairs of rows whose cosine distance, measured in float64, is at most eps.

    A product in lower precision decides pairs whose distance differs from eps by more than its error; only the others
    are measured in float64.
    """

    def __init__(
        self, vectors: UnitVectors, eps: float, *, block_size: int, prefilter: Prefilter | None = None
    ) -> None:
        self._vectors = vectors
        self._eps = eps
        self._products = BlockProducts(vectors.unit_ND, block_size=block_size)
        self._prefilter = prefilter

    def between(self, left_L: torch.Tensor, right_R: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """All such pairs of a row of left_L and a row of right_R.

        Args:
            left_L, right_R: ascending row numbers, int64, at most ``block_size`` of them.

        Returns:
            The row numbers of the left and of the right rows of the P pairs, (P,) each.
        """
        candidates = self._prefilter.candidates if self._prefilter else self._candidates
        left_P, right_P, near_P = candidates(left_L, right_R)
        undecided_P = torch.nonzero(~near_P).flatten()
        for run in chunks(len(undecided_P), MEASURED_AT_ONCE):
            some = undecided_P[run]
            near_P[some] = self._vectors.distances(left_P[some], right_P[some]) <= self._eps
        return left_P[near_P], right_P[near_P]

    def _candidates(
        self, left_L: torch.Tensor, right_R: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As :meth:`Prefilter.candidates`, by products of all dimensions."""
        margin = self._vectors.margin
        scores_LR = self._products(left_L, right_R)
        row_P, column_P = at_least(scores_LR, 1.0 - self._eps - margin)
        sure_P = scores_LR[row_P, column_P] >= 1.0 - self._eps + margin
        return left_L[row_P], right_R[column_P], sure_P


class Prefilter:
    """Decides by K + 1 numbers a row whether pairs may lie within eps, and whether they surely do.

    A unit vector x = (p, q) is stored as its coordinates p in the K leading directions and the length |q| of the rest.
    The product of two stored rows, p_x · p_y + |q_x| |q_y|, is an upper bound of their cosine; less 2 |q_x| |q_y| it is
    a lower bound. Both bounds are widened by the rounding error of single precision.

    Args:
        unit_ND: unit vectors, float32.
        basis_DK: K orthonormal directions as columns.
        eps: the largest cosine distance of a pair that is looked for.
        block_size: the most rows on either side of :meth:`candidates`.
    """

    def __init__(self, unit_ND: torch.Tensor, basis_DK: torch.Tensor, eps: float, *, block_size: int) -> None:
        dimensions, kept = basis_DK.shape
        # `slip` bounds how far rounding moves the leading part p: each of its K numbers is a sum of D products (D
        # roundings of 2^-24), the 8 are for the roundings of the unit vectors and of the basis, and the 2 is reserve.
        # 1 − |p|² is off by 2 slip from p, and by less than 2 more from the length of x and the rounding of the square.
        # A bound is off by slip from each p, by another from the sum of K + 1 products, and by less than one from eps.
        slip = 2 * (dimensions + 8) * kept**0.5 * 2.0**-24
        short_NK = unit_ND.new_empty(len(unit_ND), kept + 1)
        short_NK[:, :kept] = unit_ND @ basis_DK.to(unit_ND.dtype)
        energy_N = torch.linalg.vector_norm(short_NK[:, :kept], dim=1).square()
        self._rest_N = (1.0 - energy_N + 4 * slip).clamp_min(0.0).sqrt()
        short_NK[:, kept] = self._rest_N
        self._products = BlockProducts(short_NK, block_size=block_size)
        self._lowest, self._surest = 1.0 - eps - 4 * slip, 1.0 - eps + 4 * slip

    def candidates(
        self, left_L: torch.Tensor, right_R: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Row numbers of the left and of the right rows of the P pairs that may be within eps, (P,) int64 each, and
        whether each surely is, (P,) bool; the others have to be measured."""
        bounds_LR = self._products(left_L, right_R)
        row_P, column_P = at_least(bounds_LR, self._lowest)
        left_P, right_P = left_L[row_P], right_R[column_P]
        lower_P = bounds_LR[row_P, column_P] - 2.0 * self._rest_N[left_P] * self._rest_N[right_P]
        return left_P, right_P, lower_P >= self._surest


def choose_prefilter(vectors: UnitVectors, eps: float, pairs: Sequence[tuple[slice, slice]]) -> Prefilter | None:
    """The prefilter with the lowest estimated time, tried on a few of ``pairs``; None if none saves time.

    None also where the unit vectors are in half precision (on a GPU), whose products are fast anyway, and where there
    are too few blocks for the trial to pay.

    Args:
        pairs: the pairs of blocks that will be searched, each block a slice of the rows.
    """
    block_size = max(left.stop - left.start for left, _ in pairs) if pairs else 0
    apart = [(left, right) for left, right in pairs if left != right and left.stop - left.start == block_size]
    if vectors.unit_ND.dtype != torch.float32 or len(apart) < 4 * TRIED_BLOCKS:
        return None
    tried = apart[:: len(apart) // TRIED_BLOCKS][:TRIED_BLOCKS]
    basis_DD = _leading(vectors.unit_ND)
    best, best_cost = 0, WORTH
    for share in SHARES:
        kept = max(1, round(share * len(basis_DD)))
        left_open = [_left_open(vectors.unit_ND, basis_DD[:, :kept], eps, pair) for pair in tried]
        cost = OVERHEAD + kept / len(basis_DD) + MEASURING * sum(left_open) / len(tried)
        if cost < best_cost:
            best, best_cost = kept, cost
    return Prefilter(vectors.unit_ND, basis_DD[:, :best], eps, block_size=block_size) if best else None


def _leading(unit_ND: torch.Tensor) -> torch.Tensor:
    """Orthonormal directions as columns (D, D), float64, by decreasing sum of squares of a sample of the rows."""
    sample_SD = unit_ND[:: max(1, len(unit_ND) // SAMPLED)].double()
    basis_DD: torch.Tensor = torch.linalg.eigh(sample_SD.T @ sample_SD)[1]
    return basis_DD.flip(1)


def _left_open(unit_ND: torch.Tensor, basis_DK: torch.Tensor, eps: float, pair: tuple[slice, slice]) -> float:
    """Share, 0 to 1, of a pair of blocks' pairs of rows that a prefilter leaves to be measured; evenly spaced rows of
    each block are tried."""
    left_LD, right_RD = (unit_ND[block][:: -(-(block.stop - block.start) // TRIED_ROWS)] for block in pair)
    prefilter = Prefilter(torch.cat([left_LD, right_RD]), basis_DK, eps, block_size=max(len(left_LD), len(right_RD)))
    both = torch.arange(len(left_LD) + len(right_RD), device=unit_ND.device)
    _, _, sure_P = prefilter.candidates(both[: len(left_LD)], both[len(left_LD) :])
    return int((~sure_P).sum()) / (len(left_LD) * len(right_RD))


def adaptive_eps(
    vectors: UnitVectors, *, min_samples: int, quantile: float = 0.85, sample: int = 5000, seed: int = 0
) -> float:
    """A radius for DBSCAN: the quantile over `sample` rows of the cosine distance to their min_samples-th nearest row.

    Where there are fewer than min_samples other rows, the farthest is used. The least result is 2^-23, since a
    radius must be above 0 also where most rows have equal neighbours; about the rounding error of float32 embeddings.

    Raises:
        ValueError: there are fewer than two embeddings.
    """
    points = len(vectors.norms_N)
    if points < 2:
        raise ValueError(f"{points} embeddings have no neighbours to take a radius from; give eps as a number")
    generator = torch.Generator().manual_seed(seed)
    sample_S = torch.randperm(points, generator=generator)[:sample].sort().values.to(vectors.norms_N.device)
    wanted = min(min_samples, points - 1)
    distances = [
        nearest_rows(vectors, sample_S[some], most=wanted)[1][:, -1]
        for some in chunks(len(sample_S), max(1, SCORES_AT_ONCE // points))
    ]
    return max(float(torch.cat(distances).quantile(quantile)), 2.0**-23)


def nearest_rows(vectors: UnitVectors, some_S: torch.Tensor, *, most: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The numbers of the `most` nearest other rows of each of S rows, nearest first, and their cosine distances.

    Where there are fewer other rows, all of them. Candidates are chosen by products in the precision of
    ``vectors.unit_ND`` and then measured: a row may be missed where more than :data:`SPARE` others are as near within
    ``vectors.margin``, so which of many equally near rows are returned is not defined.

    Args:
        some_S: row numbers, int64.

    Returns:
        Row numbers int64 and distances float64, (S, most) each.
    """
    scores_SN = vectors.unit_ND[some_S] @ vectors.unit_ND.T
    scores_SN[torch.arange(len(some_S), device=some_S.device), some_S] = -float("inf")
    measured = min(most + SPARE, scores_SN.shape[1] - 1)
    near_SM = scores_SN.topk(measured, dim=1).indices.sort(dim=1).values
    far_SM = vectors.distances(some_S.repeat_interleave(measured), near_SM.flatten()).view(near_SM.shape)
    order_SM = far_SM.argsort(dim=1, stable=True)[:, :most]
    return near_SM.gather(1, order_SM), far_SM.gather(1, order_SM)


@dataclass(frozen=True, slots=True)
class Cells:
    """Rows grouped into K cells of similar direction.

    order_N are the row numbers, int64, cell after cell: cell k has order_N[bounds[k]:bounds[k + 1]], of K + 1 bounds;
    it may be empty. centres_KD are the cells' centres, unit vectors in float32.
    """

    order_N: torch.Tensor
    bounds: tuple[int, ...]
    centres_KD: torch.Tensor


def spherical_kmeans(vectors: UnitVectors, *, cells: int, seed: int = 0) -> Cells:
    """Rows in `cells` cells, of which some may be empty, or one for each row if these are fewer, by spherical k-means
    on a sample of 32 rows a cell, drawn by `seed`. They change the speed of exact clustering, not its result."""
    unit_ND = vectors.unit_ND
    generator = torch.Generator().manual_seed(seed)
    sampled = min(len(unit_ND), cells * SAMPLED_PER_CELL)
    sample_S = torch.randperm(len(unit_ND), generator=generator)[:sampled].to(unit_ND.device)
    sample_SD = unit_ND[sample_S]
    centres_KD = sample_SD[:cells].float()
    for _ in range(ROUNDS):
        nearest_S = _nearest(sample_SD, centres_KD)
        sums_KD = torch.zeros_like(centres_KD).index_add_(0, nearest_S, sample_SD.float())
        # Where a cell's vectors cancel each other out, their sum has no direction: its centre stays.
        lengths_K1 = torch.linalg.vector_norm(sums_KD, dim=1, keepdim=True)
        centres_KD = torch.where(lengths_K1 > 1e-6, sums_KD / lengths_K1.clamp_min(1e-6), centres_KD)
    nearest_N = _nearest(unit_ND, centres_KD)
    sizes_K = torch.bincount(nearest_N, minlength=len(centres_KD))
    bounds = (0, *(int(end) for end in sizes_K.cumsum(0)))
    return Cells(torch.argsort(nearest_N, stable=True), bounds, centres_KD)


def near_cell_blocks(cells: Cells, *, probes: int, block_size: int) -> Iterator[tuple[slice, slice]]:
    """Pairs of blocks to search: each cell with itself, then with the `probes` cells whose centres are nearest to its
    own, each pair of cells once.

    A block is a slice of ``cells.order_N`` of at most `block_size` rows of one cell.
    """
    count = len(cells.centres_KD)
    blocks = [
        [slice(start + run.start, start + run.stop) for run in chunks(end - start, block_size)]
        for start, end in zip(cells.bounds, cells.bounds[1:], strict=False)
    ]
    for own in blocks:
        yield from ((left, right) for number, left in enumerate(own) for right in own[number:])
    likeness_KK = cells.centres_KD @ cells.centres_KD.T
    likeness_KK.fill_diagonal_(-2.0)
    near_KP = likeness_KK.topk(min(probes, count - 1), dim=1).indices.tolist()
    near = {(min(k, other), max(k, other)) for k in range(count) for other in near_KP[k]}
    for one, other in sorted(near):
        yield from ((left, right) for left in blocks[one] for right in blocks[other])


def _nearest(rows_ND: torch.Tensor, centres_KD: torch.Tensor) -> torch.Tensor:
    centres_DK = centres_KD.T.to(rows_ND.dtype)
    return torch.cat([(rows_ND[some] @ centres_DK).argmax(1) for some in chunks(len(rows_ND), ROWS_AT_ONCE)])
