"""Finds pairs of rows within a cosine distance, block by block without the whole distance matrix; chooses a radius for
DBSCAN; and groups rows of similar directions into cells (spherical k-means).

A prefilter decides most pairs by a few of their dimensions. Split unit vectors by an orthonormal basis: x = (p, q) with
p in K leading directions and q in the rest. Then |x · y − p_x · p_y| ≤ |q_x| |q_y| (Cauchy–Schwarz). Where embeddings
nearly fill K of their D dimensions, a product of K + 1 numbers decides nearly all pairs for certain, and only the
others are measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from tmor_train.clustering.blockwise import BlockProducts, UnitVectors, at_least, chunks

MEASURED_AT_ONCE = 8192

SHARES = (1 / 4, 1 / 8, 1 / 16)
TRIED_BLOCKS = 6
TRIED_ROWS = 512
SAMPLED = 2048
# Costs are in products of a whole block: of going over the scores, of measuring one pair beside multiplying it, and
# the most that still is a gain.
OVERHEAD = 0.1
MEASURING = 500.0
WORTH = 0.85

# Beyond the neighbours wanted, so many more candidates are measured exactly: near ties may change places in the quick
# product.
SPARE = 4
SCORES_AT_ONCE = 2**24

ROUNDS = 4
SAMPLED_PER_CELL = 32
ROWS_AT_ONCE = 16_384


class Neighbours:
    """Finds pairs with distance ≤ eps, as measured in float64.

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
        """All such pairs of a row of left_L and one of right_R, ascending indices: left and right indices (P,)."""
        candidates = self._prefilter.candidates if self._prefilter else self._candidates
        left_P, right_P, near_P = candidates(left_L, right_R)
        doubtful_P = torch.nonzero(~near_P).flatten()
        for run in chunks(len(doubtful_P), MEASURED_AT_ONCE):
            some = doubtful_P[run]
            near_P[some] = self._vectors.distances(left_P[some], right_P[some]) <= self._eps
        return left_P[near_P], right_P[near_P]

    def _candidates(
        self, left_L: torch.Tensor, right_R: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        margin = self._vectors.margin
        scores_LR = self._products(left_L, right_R)
        row_P, column_P = at_least(scores_LR, 1.0 - self._eps - margin)
        sure_P = scores_LR[row_P, column_P] >= 1.0 - self._eps + margin
        return left_L[row_P], right_R[column_P], sure_P


class Prefilter:
    """Rows cut to K leading coordinates and, last, the length of the rest: products are upper bounds of cosines."""

    def __init__(self, unit_ND: torch.Tensor, basis_DK: torch.Tensor, eps: float, *, block_size: int) -> None:
        dimensions, kept = basis_DK.shape
        # Rounding moves a leading part by at most `slip`; the length of the rest is taken so much longer that the
        # product stays a bound.
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
        """Pairs (left, right) that may be within eps, and which of them surely are."""
        bounds_LR = self._products(left_L, right_R)
        row_P, column_P = at_least(bounds_LR, self._lowest)
        left_P, right_P = left_L[row_P], right_R[column_P]
        lower_P = bounds_LR[row_P, column_P] - 2.0 * self._rest_N[left_P] * self._rest_N[right_P]
        return left_P, right_P, lower_P >= self._surest


def choose_prefilter(vectors: UnitVectors, eps: float, pairs: Sequence[tuple[slice, slice]]) -> Prefilter | None:
    """The prefilter that saves most, tried on a few of these pairs of blocks; None if none saves time, and on a GPU."""
    block_size = max(left.stop - left.start for left, _ in pairs) if pairs else 0
    apart = [(left, right) for left, right in pairs if left != right and left.stop - left.start == block_size]
    if vectors.unit_ND.dtype != torch.float32 or len(apart) < 4 * TRIED_BLOCKS:
        return None
    tried = apart[:: len(apart) // TRIED_BLOCKS][:TRIED_BLOCKS]
    basis_DD = _leading(vectors.unit_ND)
    best, best_cost = 0, WORTH
    for share in SHARES:  # fewer dimensions leave more pairs open: the cost falls, then climbs
        kept = max(1, round(share * len(basis_DD)))
        left_open = [_left_open(vectors.unit_ND, basis_DD[:, :kept], eps, pair) for pair in tried]
        cost = OVERHEAD + kept / len(basis_DD) + MEASURING * sum(left_open) / len(tried)
        if cost >= best_cost:
            break
        best, best_cost = kept, cost
    return Prefilter(vectors.unit_ND, basis_DD[:, :best], eps, block_size=block_size) if best else None


def _leading(unit_ND: torch.Tensor) -> torch.Tensor:
    """Orthonormal directions as columns (D, D), by decreasing energy, of a sample of the rows."""
    sample_SD = unit_ND[:: max(1, len(unit_ND) // SAMPLED)].double()
    basis_DD: torch.Tensor = torch.linalg.eigh(sample_SD.T @ sample_SD)[1]
    return basis_DD.flip(1)


def _left_open(unit_ND: torch.Tensor, basis_DK: torch.Tensor, eps: float, pair: tuple[slice, slice]) -> float:
    """Share of a block's pairs that a prefilter leaves to be measured, judged by rows spread over each side."""
    left_LD, right_RD = (unit_ND[block][:: -(-(block.stop - block.start) // TRIED_ROWS)] for block in pair)
    prefilter = Prefilter(torch.cat([left_LD, right_RD]), basis_DK, eps, block_size=max(len(left_LD), len(right_RD)))
    both = torch.arange(len(left_LD) + len(right_RD))
    _, _, sure_P = prefilter.candidates(both[: len(left_LD)], both[len(left_LD) :])
    return int((~sure_P).sum()) / (len(left_LD) * len(right_RD))


def adaptive_eps(
    vectors: UnitVectors, *, min_samples: int, quantile: float = 0.85, sample: int = 5000, seed: int = 0
) -> float:
    """A radius for DBSCAN: the quantile over `sample` rows of the cosine distance to their min_samples-th nearest row.

    Where there are fewer than min_samples other rows, the farthest is used. The least result is 2^-23, the smallest
    distance that single precision distinguishes from 0.

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
    """The `most` nearest other rows of some rows, or all that there are, nearest first, and their distances in float64.

    Of equally near rows the lower number comes first.
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
    """order_N lists the rows cell by cell; cell k is order_N[bounds[k]:bounds[k + 1]]; centres_KD are unit vectors."""

    order_N: torch.Tensor
    bounds: tuple[int, ...]
    centres_KD: torch.Tensor


def spherical_kmeans(vectors: UnitVectors, *, cells: int, seed: int = 0) -> Cells:
    """At most `cells` cells, whose centres are learned on a sample. For exact clustering they only change speed."""
    unit_ND = vectors.unit_ND
    generator = torch.Generator().manual_seed(seed)
    sampled = min(len(unit_ND), cells * SAMPLED_PER_CELL)
    sample_S = torch.randperm(len(unit_ND), generator=generator)[:sampled].to(unit_ND.device)
    sample_SD = unit_ND[sample_S]
    centres_KD = sample_SD[:cells].float()
    for _ in range(ROUNDS):
        nearest_S = _nearest(sample_SD, centres_KD)
        sums_KD = torch.zeros_like(centres_KD).index_add_(0, nearest_S, sample_SD.float())
        lengths_K1 = torch.linalg.vector_norm(sums_KD, dim=1, keepdim=True)
        centres_KD = torch.where(lengths_K1 > 1e-6, sums_KD / lengths_K1.clamp_min(1e-6), centres_KD)
    nearest_N = _nearest(unit_ND, centres_KD)
    sizes_K = torch.bincount(nearest_N, minlength=len(centres_KD))
    bounds = (0, *(int(end) for end in sizes_K.cumsum(0)))
    return Cells(torch.argsort(nearest_N, stable=True), bounds, centres_KD)


def near_cell_blocks(cells: Cells, *, probes: int, block_size: int) -> Iterator[tuple[slice, slice]]:
    """Each cell with itself, then with its `probes` nearest, each pair once, in blocks of at most `block_size`."""
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
