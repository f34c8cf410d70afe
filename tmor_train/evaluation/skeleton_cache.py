"""Skeleton-Cache (Zhu et al., "Boosting Skeleton-based Zero-Shot Action Recognition with Training-Free Test-Time
Adaptation", NeurIPS 2025): scores of a stream of clips, corrected by confident earlier clips of it.

Every clip has a feature for each of several regions: the whole, four body parts, three thirds of time. Of each class,
the K clips are kept whose corrected scores were surest (least entropy). To the score of class c is added

    alpha * sum_r w_r * (1 / K) * sum_i exp(-beta (1 - cos(query_r, key_ir)))        over the kept clips i of c

Different here: a language model writes w for each class, ours are given; features are centred first, as in every way of
:mod:`tmor_train.evaluation.rescoring`; the sum is divided by K. Their released code further puts a clip into the class
that comes second where shares are close and there are fewer classes than K, may go through the stream twice, and takes
alpha and beta for which the test clips' labels fit best; none of it is done here.
"""

from __future__ import annotations

import numpy as np

from tmor_train.data.dataset import Floats
from tmor_train.evaluation.config import RescoringConfig
from tmor_train.evaluation.part_pooling import region_weights
from tmor_train.evaluation.rescoring import centred, entropies, softmax

SPANS = 3
"""Shares of time that have a feature of their own: begin, middle and end, as in PURLS and Skeleton-Cache."""


def skeleton_cache(scores_NK: Floats, regions_NRD: Floats, config: RescoringConfig, *, seed: int) -> Floats:
    """Corrected scores (N, K) float32 of N clips and K classes.

    Args:
        scores_NK: of the clips' texts.
        regions_NRD: features of each clip's R regions, the whole clip first.
        config: ``kept`` is K above, ``sharpness`` beta, ``cache_weight`` alpha; ``local_share`` is the share of all
            regions but the whole, equal for each; entropies are of the shares at ``temperature``.
        seed: of the order in which the clips come.

    Raises:
        ValueError: there are fewer than two regions.
    """
    weights_R = region_weights(regions_NRD.shape[1], config.local_share)
    keys_NRD = np.stack([centred(regions_NRD[:, r]) for r in range(regions_NRD.shape[1])], 1)
    corrected_NK: Floats = np.array(scores_NK, np.float32)
    kept: list[list[int]] = [[] for _ in range(scores_NK.shape[1])]
    entropy_N = np.zeros(len(scores_NK))
    for clip in np.random.default_rng(seed).permutation(len(scores_NK)):
        for k, before in enumerate(kept):
            if before:
                cosines_ER = np.einsum("erd,rd->er", keys_NRD[before], keys_NRD[clip])
                affinities_R = np.exp(-config.sharpness * (1 - cosines_ER)).sum(0) / config.kept
                corrected_NK[clip, k] += config.cache_weight * float(weights_R @ affinities_R)
        entropy_N[clip] = entropies(softmax(corrected_NK[clip : clip + 1], config.temperature))[0]
        own = kept[int(corrected_NK[clip].argmax())]
        own.append(int(clip))
        own.sort(key=lambda one: float(entropy_N[one]))
        del own[config.kept :]
    return corrected_NK
