"""Spherical k-means: coarse cells of similar directions, an order in which near rows stand near."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from tmor_train.clustering.blockwise import UnitVectors, chunks

ROUNDS = 4
SAMPLED_PER_CELL = 32
ROWS_AT_ONCE = 16_384


@dataclass(frozen=True, slots=True)
class Cells:
    """order_N lists the rows cell by cell; cell k is order_N[bounds[k]:bounds[k + 1]]; centres_KD are unit vectors."""

    order_N: torch.Tensor
    bounds: tuple[int, ...]
    centres_KD: torch.Tensor


def spherical_kmeans(vectors: UnitVectors, *, cells: int, seed: int = 0) -> Cells:
    """So many cells at most, centres learned on a sample. Exact clustering only gains speed from them."""
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
