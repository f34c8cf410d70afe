"""Scores of zero-shot recognition, corrected by what the measured clips show, without a label of any of them.

Vectors of motion and of text lie in two narrow cones of their common space (Liang et al., "Mind the gap", NeurIPS
2022), and some texts are near to all clips (hubs: Radovanović et al., JMLR 2010). Every way here reads the measured
clips together, or one after the other (:data:`tmor_train.evaluation.config.Rescoring` says where each is from), so its
figures stand beside those of plain cosines and never in their place.
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
