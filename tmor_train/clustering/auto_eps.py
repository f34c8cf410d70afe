"""A radius for DBSCAN from the data: a quantile of the distance to the min_samples-th neighbour."""

from __future__ import annotations

import torch

from tmor_train.clustering.blocks import runs
from tmor_train.clustering.directions import Directions

# Beyond the neighbours wanted, so many more candidates are measured exactly: near ties may change places in the quick
# product.
SPARE = 4
SCORES_AT_ONCE = 2**24


def eps_of(directions: Directions, *, min_samples: int, quantile: float, sample: int, seed: int = 0) -> float:
    """Quantile over `sample` rows of the cosine distance to their min_samples-th nearest among all other rows.

    With fewer other rows the farthest counts. 0 becomes the smallest distance that single precision tells apart.
    """
    points = len(directions.norms_N)
    if points < 2:
        raise ValueError(f"{points} embeddings have no neighbours to take a radius from; give eps as a number")
    chance = torch.Generator().manual_seed(seed)
    sample_S = torch.randperm(points, generator=chance)[:sample].sort().values.to(directions.norms_N.device)
    wanted = min(min_samples, points - 1)
    distances = [
        _distances(directions, sample_S[some], wanted=wanted)
        for some in runs(len(sample_S), max(1, SCORES_AT_ONCE // points))
    ]
    return max(float(torch.cat(distances).quantile(quantile)), 2.0**-23)


def _distances(directions: Directions, some_S: torch.Tensor, *, wanted: int) -> torch.Tensor:
    """Distance of some rows to their `wanted`-th neighbour, float64."""
    scores_SN = directions.quick_ND[some_S] @ directions.quick_ND.T
    scores_SN[torch.arange(len(some_S), device=some_S.device), some_S] = -float("inf")
    measured = min(wanted + SPARE, scores_SN.shape[1] - 1)
    others_P = scores_SN.topk(measured, dim=1).indices.flatten()
    distances_SM = directions.distances(some_S.repeat_interleave(measured), others_P).view(-1, measured)
    return distances_SM.kthvalue(wanted, dim=1).values
