"""Corrected scores against plain loops, and on vectors whose classes are known."""

import numpy as np
import pytest

from tmor_train.data.dataset import Floats
from tmor_train.evaluation.config import RescoringByVectors, RescoringConfig
from tmor_train.evaluation.rescoring import rescored

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
