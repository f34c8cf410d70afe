"""Cosines of several regions of a clip with a sentence for each, as one cosine.

Sentences on body parts are compared with features over the joints of these parts, as PURLS (Zhu et al., CVPR 2024) and
STAR (Chen et al., ACM MM 2024) do. They train an encoder and an attention for it; here any encoder's feature map is
pooled, without training.
"""

from __future__ import annotations

import numpy as np

from tmor_train.data.dataset import Floats


def region_weights(regions: int, share: float) -> Floats:
    """How much each region counts: (R,) float32 that sum to 1; the first, the whole clip, has 1 - ``share``, and the
    others have equal parts of ``share``.

    Raises:
        ValueError: there are fewer than two regions.
    """
    if regions < 2:
        raise ValueError(f"a clip has two regions at least, the whole and another one, not {regions}")
    weights = np.full(regions, share / (regions - 1), np.float32)
    weights[0] = 1 - share
    return weights


def side_by_side(vectors_NRW: Floats, weights_R: Floats) -> Floats:
    """The vectors of all regions as one: (N, R * W) float32. The product of two such, of a clip and of a class, is the
    mean of the products of their regions, weighted by ``weights_R``; of unit vectors it is a unit vector, as the
    weights sum to 1."""
    scaled: Floats = vectors_NRW * np.sqrt(weights_R, dtype=np.float32)[:, None]
    return scaled.reshape(len(vectors_NRW), -1)
