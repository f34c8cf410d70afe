"""Metrics of embeddings that tell whether training collapses: how many directions they use, how far two views of a
clip lie apart, how evenly embeddings spread.

Embeddings are (N, D) float tensors on any device; the metrics are plain floats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

FEWEST_DIRECTIONS = 2.0
"""Pre-training warns of a collapse where the effective rank is below this: our choice, just above the 1 of embeddings
on a line."""


def effective_rank(embeddings_ND: Tensor) -> float:
    """exp of the entropy (in nats) of the singular values, as shares of their sum, after the mean is subtracted: from 1
    to min(N - 1, D), and 0 where all embeddings are the same, as with N = 1.

    O. Roy, M. Vetterli, "The effective rank", EUSIPCO 2007; there the matrix is taken as it is.
    """
    centred = (embeddings_ND - embeddings_ND.mean(0)).double()
    values = torch.linalg.svdvals(centred)
    # Rounding leaves differences of about this size between embeddings that are the same.
    if values[0] <= 1e-6 * embeddings_ND.double().norm():
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def alignment(one_ND: Tensor, other_ND: Tensor) -> float:
    """Mean squared distance of two views of the same clips, row by row, on the unit sphere, 0 to 4; small is good.

    T. Wang, P. Isola, "Understanding contrastive representation learning", ICML 2020, with alpha = 2.
    """
    one, other = functional.normalize(one_ND, dim=1), functional.normalize(other_ND, dim=1)
    return float((one - other).square().sum(1).mean())


def uniformity(embeddings_ND: Tensor) -> float:
    """log of the mean of exp(-2 d²) over all pairs, d their distance on the unit sphere: 0 if all are the same, the
    lower the more evenly they spread; 0 also for fewer than two embeddings.

    The same paper as :func:`alignment`, with t = 2.
    """
    unit = functional.normalize(embeddings_ND.double(), dim=1)
    count = len(unit)
    if count < 2:
        return 0.0
    squares = (2 - 2 * unit @ unit.T).clamp(min=0)
    pairs = (-2 * squares).exp().fill_diagonal_(0).sum()
    return math.log(float(pairs) / (count * (count - 1)))  # each pair gives at least exp(-8)


def neighbours_agree(embeddings_ND: Tensor, labels_N: Tensor, *, most: int = 4096) -> float | None:
    """The share, 0 to 1, of labelled embeddings whose nearest other labelled one by cosine has the same label; None for
    fewer than two.

    Labels serve this metric alone, not training.

    Args:
        labels_N: int64, below 0 where not known.
        most: of more embeddings, evenly spaced ones are taken.
    """
    known = torch.nonzero(labels_N >= 0).flatten()
    if len(known) < 2:
        return None
    known = known[:: -(-len(known) // most)]
    unit = functional.normalize(embeddings_ND[known], dim=1)
    nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(1)  # -2 is below every cosine: itself is never the nearest
    labels = labels_N[known]
    return float((labels[nearest] == labels).double().mean())


def step_metrics(features_ND: Tensor, keys_ND: Tensor) -> dict[str, float]:
    """Metrics of a step: ``features_ND`` of the encoder and ``keys_ND`` of the EMA encoder, the same clips row by row,
    both before the projection heads; ``rank`` and ``uniformity`` are of ``features_ND``."""
    features, keys = features_ND.detach().float(), keys_ND.detach().float()
    return {
        "rank": effective_rank(features),
        "alignment": alignment(features, keys),
        "uniformity": uniformity(features),
    }
