"""Corrected scores, scores by regions and contrasted texts against plain loops and sums by hand, and on vectors whose
classes are known."""

import math

import numpy as np
import pytest

from tmor_train.data.dataset import Floats
from tmor_train.evaluation.config import RescoringByVectors, RescoringConfig
from tmor_train.evaluation.rescoring import contrasted, region_weights, rescored, side_by_side, skeleton_cache

WAYS: tuple[RescoringByVectors, ...] = ("centred", "csls", "prototypes", "cache")


def unit(vectors_ND: Floats) -> Floats:
    scaled: Floats = (vectors_ND / np.linalg.norm(vectors_ND, axis=1, keepdims=True)).astype(np.float32)
    return scaled


def modalities(*, gap: float, clips: int = 20, classes: int = 4, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Clips around their class's direction and texts of these directions, each modality moved by ``gap`` along an axis
    of its own; the last text is moved towards all clips, too."""
    random = np.random.default_rng(seed)
    directions = np.eye(classes, 12, dtype=np.float32)
    labels = np.repeat(np.arange(classes), clips)
    motion = directions[labels] + 0.3 * random.normal(size=(len(labels), 12)).astype(np.float32)
    texts = directions.copy()
    motion[:, 10] += gap
    texts[:, 11] += gap
    texts[-1, 10] += gap / 2
    return unit(motion), unit(texts), labels


def top1(scores_NK: Floats, labels: Floats) -> float:
    return float((scores_NK.argmax(1) == labels).mean())


@pytest.mark.parametrize("way", WAYS)
def test_each_way_finds_classes_that_a_hub_hides(way: RescoringByVectors) -> None:
    motion, texts, labels = modalities(gap=3.0)
    assert top1(motion @ texts.T, labels) < 0.5
    scores = rescored(motion, texts, way, RescoringConfig())
    assert (scores.shape, scores.dtype) == ((80, 4), np.float32)
    assert top1(scores, labels) > 0.9


def test_centred_against_a_loop() -> None:
    motion, texts, _ = modalities(gap=1.0)
    scores = rescored(motion, texts, "centred", RescoringConfig())
    clip, text = motion[3] - motion.mean(0), texts[2] - texts.mean(0)
    assert scores[3, 2] == pytest.approx(clip @ text / np.linalg.norm(clip) / np.linalg.norm(text), abs=1e-6)


def test_csls_against_a_loop() -> None:
    motion, texts, _ = modalities(gap=1.0)
    cosines = rescored(motion, texts, "centred", RescoringConfig())
    scores = rescored(motion, texts, "csls", RescoringConfig(neighbours=3))
    of_text = np.mean(sorted(cosines[:, 1])[-3:])
    of_clip = np.mean(sorted(cosines[7])[-3:])
    assert scores[7, 1] == pytest.approx(2 * cosines[7, 1] - of_text - of_clip, abs=1e-6)


def test_the_cache_of_a_clip_holds_clips_before_it_alone() -> None:
    """The first clip to come is scored by texts alone, and the order by the seed."""
    motion, texts, _ = modalities(gap=1.0)
    of_text = rescored(motion, texts, "centred", RescoringConfig())
    scores = rescored(motion, texts, "cache", RescoringConfig(), seed=4)
    first, last = np.random.default_rng(4).permutation(len(motion))[[0, -1]]
    assert np.array_equal(scores[first], of_text[first])
    assert (scores[last] > of_text[last]).all()
    assert not np.array_equal(scores, rescored(motion, texts, "cache", RescoringConfig(), seed=5))
    assert np.array_equal(scores, rescored(motion, texts, "cache", RescoringConfig(), seed=4))


def test_a_class_without_clips_keeps_its_text() -> None:
    """Of two classes with one text, the first has all clips of both."""
    motion, texts, _ = modalities(gap=0.0)
    texts[1] = texts[0]
    of_text = rescored(motion, texts, "centred", RescoringConfig())
    scores = rescored(motion, texts, "prototypes", RescoringConfig(rounds=1))
    assert np.array_equal(scores[:, 1], of_text[:, 1])
    assert not np.array_equal(scores[:, 0], of_text[:, 0])


@pytest.mark.parametrize("way", WAYS)
def test_one_clip_and_one_class(way: RescoringByVectors) -> None:
    motion, texts, _ = modalities(gap=1.0)
    assert np.isfinite(rescored(motion[:1], texts, way, RescoringConfig())).all()
    assert np.isfinite(rescored(motion, texts[:1], way, RescoringConfig())).all()
    same = np.repeat(motion[:1], 5, axis=0)
    assert np.isfinite(rescored(same, texts, way, RescoringConfig())).all()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("neighbours", 0),
        ("rounds", 0),
        ("kept", 0),
        ("share", 0.0),
        ("share", 1.5),
        ("prototype_weight", -0.1),
        ("local_share", 1.1),
        ("sharpness", 0.0),
        ("temperature", 0.0),
        ("cache_weight", -1.0),
    ],
)
def test_numbers_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        RescoringConfig(**{field: value})  # type: ignore[arg-type]


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


def test_weights_of_the_whole_and_its_parts() -> None:
    assert region_weights(5, 0.6).tolist() == pytest.approx([0.4, 0.15, 0.15, 0.15, 0.15])
    assert region_weights(2, 0.0).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="not 1"):
        region_weights(1, 0.5)


def test_the_product_is_the_weighted_mean_of_the_regions_products() -> None:
    weights = np.array([0.5, 0.25, 0.25], np.float32)
    clips = np.array([[[1, 0], [0, 1], [0.6, 0.8]]], np.float32)
    classes = np.array([[[1, 0], [1, 0], [0, 1]], [[0, 1], [0, 1], [0.8, 0.6]]], np.float32)
    scores = side_by_side(clips, weights) @ side_by_side(classes, weights).T
    assert scores[0].tolist() == pytest.approx([0.5 * 1 + 0.25 * 0 + 0.25 * 0.8, 0.5 * 0 + 0.25 * 1 + 0.25 * 0.96])
    assert np.linalg.norm(side_by_side(clips, weights)) == pytest.approx(1)


# Directions at 0, 60 and 180 degrees; the second is the first's neighbour, and the first the second's.
TEXTS = np.array([[2, 0], [0.5, np.sqrt(3) / 2], [-1, 0]], np.float32)


def test_the_nearest_ones_mean_is_taken_off_and_the_length_is_one() -> None:
    found = contrasted(TEXTS, neighbours=1, weight=0.5)
    first = np.array([1 - 0.25, -np.sqrt(3) / 4])
    np.testing.assert_allclose(found[0], first / np.linalg.norm(first), atol=1e-6)
    last = np.array([-1 - 0.25, -np.sqrt(3) / 4])  # 120 degrees from the second, 180 from the first
    np.testing.assert_allclose(found[2], last / np.linalg.norm(last), atol=1e-6)


def test_as_many_neighbours_as_there_are() -> None:
    all_of_them = contrasted(TEXTS, neighbours=9, weight=1.0)
    np.testing.assert_array_equal(all_of_them, contrasted(TEXTS, neighbours=2, weight=1.0))
    second = np.array([0.5 - (1 - 1) / 2, np.sqrt(3) / 2])
    np.testing.assert_allclose(all_of_them[1], second, atol=1e-6)


def test_neighbours_become_less_alike_and_weight_0_changes_directions_not_at_all() -> None:
    found = contrasted(TEXTS, neighbours=1, weight=0.5)
    assert found[0] @ found[1] < 0.5
    np.testing.assert_allclose(contrasted(TEXTS, neighbours=1, weight=0.0)[0], [1, 0], atol=1e-6)


def test_one_class_and_two_of_one_text() -> None:
    np.testing.assert_allclose(contrasted(TEXTS[:1], neighbours=3, weight=1.0), [[1, 0]])
    assert np.isfinite(contrasted(TEXTS[[0, 0]], neighbours=1, weight=1.0)).all()
    with pytest.raises(ValueError, match="not 0"):
        contrasted(TEXTS, neighbours=0, weight=1.0)
