"""The cache of regions' features against numbers by hand, and on clips whose classes are known."""

import math

import numpy as np
import pytest

from tmor_train.evaluation.config import RescoringConfig
from tmor_train.evaluation.skeleton_cache import skeleton_cache

# Two regions of four clips in the plane. Their means are 0, so that centring changes nothing.
WHOLE = [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]]
PART = [[0.0, 1.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]]
REGIONS = np.array([WHOLE, PART], np.float32).transpose(1, 0, 2)
SCORES = np.array([[0.4, 0.0], [0.3, 0.1], [0.0, 0.5], [0.1, 0.2]], np.float32)


def order(seed: int, clips: int = 4) -> list[int]:
    found: list[int] = np.random.default_rng(seed).permutation(clips).tolist()
    return found


def test_the_second_clip_of_a_class_gets_the_affinity_of_the_first_by_hand() -> None:
    seed = next(seed for seed in range(100) if order(seed)[:3] == [0, 1, 2])
    config = RescoringConfig(kept=2, sharpness=2.0, cache_weight=0.8, local_share=0.25)
    found = skeleton_cache(SCORES, REGIONS, config, seed=seed)
    assert found[0].tolist() == pytest.approx([0.4, 0.0])  # the cache is empty
    # The whole is the same, cos 1; the part is at a right angle, cos 0; one of at most two clips is kept.
    affinity = (0.75 * math.exp(-2 * (1 - 1)) + 0.25 * math.exp(-2 * (1 - 0))) / 2
    assert found[1].tolist() == pytest.approx([0.3 + 0.8 * affinity, 0.1])
    # Both are kept of class 0; the third is opposed to both in the whole, cos -1, and in the part to the first alone.
    opposed, square = math.exp(-2 * 2), math.exp(-2)
    total = (0.75 * (opposed + opposed) + 0.25 * (opposed + square)) / 2
    assert found[2].tolist() == pytest.approx([0.8 * total, 0.5])


def test_the_surest_clips_are_kept() -> None:
    """Of one class's three clips one is kept, which the last clip is compared with."""
    scores = np.array([[0.9, 0.0], [0.1, 0.0], [0.2, 0.0], [0.5, 0.0]], np.float32)
    config = RescoringConfig(kept=1, sharpness=1.0, cache_weight=1e-3, local_share=0.0)
    seed = next(seed for seed in range(100) if order(seed)[-1] == 3)
    added = skeleton_cache(scores, REGIONS, config, seed=seed)[3, 0] - scores[3, 0]
    assert added == pytest.approx(1e-3 * math.exp(-2), rel=1e-3)  # of clip 0, opposed in the whole; of clip 2: 1e-3


def test_regions_tell_apart_what_the_whole_does_not() -> None:
    random = np.random.default_rng(3)
    labels = np.repeat([0, 1, 2], 30)
    whole = random.normal(size=(90, 12))
    part = np.eye(12)[labels] + 0.2 * random.normal(size=(90, 12))
    regions = np.stack([whole, part], 1).astype(np.float32) + 5
    scores = (0.15 * np.eye(3)[labels] + 0.1 * random.normal(size=(90, 3))).astype(np.float32)
    config = RescoringConfig(sharpness=3.0, cache_weight=1.0, local_share=1.0)
    found = skeleton_cache(scores, regions, config, seed=0)
    assert (found.shape, found.dtype) == ((90, 3), np.float32)
    assert (found.argmax(1) == labels).mean() > (scores.argmax(1) == labels).mean() + 0.05
    assert np.array_equal(found, skeleton_cache(scores, regions, config, seed=0))
    assert not np.array_equal(found, skeleton_cache(scores, regions, config, seed=1))


def test_one_clip_or_one_class() -> None:
    assert np.isfinite(skeleton_cache(SCORES[:1], REGIONS[:1], RescoringConfig(), seed=0)).all()
    assert np.isfinite(skeleton_cache(SCORES[:, :1], REGIONS, RescoringConfig(), seed=0)).all()
    with pytest.raises(ValueError, match="two regions"):
        skeleton_cache(SCORES, REGIONS[:, :1], RescoringConfig(), seed=0)
