"""Scores of zero-shot recognition beyond plain cosines: classes' texts that know their neighbours, sentences on parts
of the body, and scores that the measured clips correct, without a label of any of them.

Vectors of motion and of text lie in two narrow cones of their common space (Liang et al., "Mind the gap", NeurIPS
2022), and some texts are near to all clips (hubs: Radovanović et al., JMLR 2010). :func:`rescored` and
:func:`skeleton_cache` read the measured clips together, or one after the other
(:data:`tmor_train.evaluation.config.Rescoring` says where each way is from), so their figures stand beside those of
plain cosines and never in their place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tmor_train.data.dataset import Floats
from tmor_train.evaluation.config import RescoringByVectors, RescoringConfig


def rescored(
    motion_NW: Floats, texts_KW: Floats, how: RescoringByVectors, config: RescoringConfig, *, seed: int = 0
) -> Floats:
    """Scores (N, K) float32 of N clips and K classes, more is likelier.

    Args:
        motion_NW: unit vectors of the clips, as :meth:`tmor_train.Pretrained.project` gives them.
        texts_KW: of the classes, the mean of the unit vectors of their wordings.
        seed: of the order in which the clips come, for ``cache``.
    """
    way: Callable[[Floats, Floats, RescoringConfig, int], Floats] = _WAYS[how]
    return way(centred(motion_NW), centred(texts_KW), config, seed).astype(np.float32)


def _unit(vectors_ND: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays one."""
    lengths = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    scaled: Floats = (vectors_ND / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled


def centred(vectors_ND: Floats) -> Floats:
    """Without their mean, of length 1 again; a single row is left as it is."""
    return _unit(vectors_ND - vectors_ND.mean(0)) if len(vectors_ND) > 1 else vectors_ND


def _plain(motion_NW: Floats, texts_KW: Floats, _: RescoringConfig, __: int) -> Floats:
    """Cosines of the centred vectors."""
    scores: Floats = motion_NW @ texts_KW.T
    return scores


def _csls(motion_NW: Floats, texts_KW: Floats, config: RescoringConfig, _: int) -> Floats:
    """2 cos - r_T(text) - r_S(clip): r_T is the mean cosine of a text to the clips nearest to it, r_S that of a clip to
    the texts nearest to it. r_S changes no order of classes; with it
    scores of different clips can be compared."""
    cosines_NK: Floats = motion_NW @ texts_KW.T
    clips, texts = (min(config.neighbours, side) for side in cosines_NK.shape)
    of_text_K = np.sort(cosines_NK, axis=0)[-clips:].mean(0)
    of_clip_N = np.sort(cosines_NK, axis=1)[:, -texts:].mean(1)
    corrected: Floats = 2 * cosines_NK - of_text_K - of_clip_N[:, None]
    return corrected


def _prototypes(motion_NW: Floats, texts_KW: Floats, config: RescoringConfig, seed: int) -> Floats:
    """Text and prototype together; a class without a clip keeps its text alone. Prototypes are centred as clips are."""
    of_text_NK: Floats = motion_NW @ texts_KW.T
    scores_NK, most = of_text_NK, max(1, round(config.share * len(motion_NW) / len(texts_KW)))
    weight = config.prototype_weight
    for _ in range(config.rounds):
        share_NK, best_N = softmax(scores_NK, config.temperature), scores_NK.argmax(1)
        prototypes_KW: Floats = np.zeros_like(texts_KW)
        for k in range(len(texts_KW)):
            own = np.flatnonzero(best_N == k)
            surest = own[np.argsort(-share_NK[own, k], kind="stable")[:most]]
            if len(surest):
                prototypes_KW[k] = motion_NW[surest].mean(0)
        found_K = np.linalg.norm(prototypes_KW, axis=1) > 0
        of_clips_NK = motion_NW @ _unit(prototypes_KW).T
        mixed_NK: Floats = (1 - weight) * of_text_NK + weight * of_clips_NK
        scores_NK = np.where(found_K, mixed_NK, of_text_NK)
    return scores_NK


def _cache(motion_NW: Floats, texts_KW: Floats, config: RescoringConfig, seed: int) -> Floats:
    """Each clip's score is of the clips before it: its text's, and affinities to those kept of each class."""
    of_text_NK: Floats = motion_NW @ texts_KW.T
    share_NK = softmax(of_text_NK, config.temperature)
    entropy_N = entropies(share_NK)
    scores_NK = of_text_NK.copy()
    kept: list[list[int]] = [[] for _ in texts_KW]
    for clip in np.random.default_rng(seed).permutation(len(motion_NW)):
        for k, before in enumerate(kept):
            if before:
                distance = 1 - motion_NW[before] @ motion_NW[clip]
                scores_NK[clip, k] += config.cache_weight * np.exp(-config.sharpness * distance).mean()
        own = kept[int(of_text_NK[clip].argmax())]
        own.append(int(clip))
        own.sort(key=lambda one: float(entropy_N[one]))
        del own[config.kept :]
    return scores_NK


def entropies(share_NK: Floats) -> Floats:
    """Of the shares of each clip's classes: (N,), 0 where one class has all of it."""
    entropy_N: Floats = -(share_NK * np.log(np.maximum(share_NK, 1e-12))).sum(1)
    return entropy_N


def softmax(scores_NK: Floats, temperature: float) -> Floats:
    """Shares of the classes for each clip, which sum to 1: the lower the temperature, the surer."""
    raised = np.exp((scores_NK - scores_NK.max(1, keepdims=True)) / temperature)
    shares: Floats = raised / raised.sum(1, keepdims=True)
    return shares


_WAYS: Mapping[RescoringByVectors, Callable[[Floats, Floats, RescoringConfig, int], Floats]] = {
    "centred": _plain,
    "csls": _csls,
    "prototypes": _prototypes,
    "cache": _cache,
}
"""What follows centring."""


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


def contrasted(texts_KW: Floats, *, neighbours: int, weight: float) -> Floats:
    """Vectors of length 1, each without ``weight`` times the mean of the ``neighbours`` others nearest to it: (K, W)
    float32.

    Args:
        texts_KW: of the classes, of any length above 0; their directions are what counts.
        neighbours: how many, at most K - 1; with fewer classes, all others.

    Raises:
        ValueError: ``neighbours`` is below 1.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours of a class are at least 1, not {neighbours}")
    units_KW = _unit(texts_KW)
    if len(units_KW) == 1:
        return units_KW
    cosines_KK = units_KW @ units_KW.T
    np.fill_diagonal(cosines_KK, -np.inf)
    nearest = np.argsort(-cosines_KK, axis=1, kind="stable")[:, : min(neighbours, len(units_KW) - 1)]
    return _unit(units_KW - np.float32(weight) * units_KW[nearest].mean(1))
