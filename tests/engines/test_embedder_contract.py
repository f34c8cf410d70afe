"""What every frozen embedder must do, with its real weights."""

import building
import numpy as np
import pytest
from models_at_hand import weights_or_skip

from posecap.engines.efficientnet import EfficientNetLite0
from posecap.engines.minilm import MiniLM
from posecap.ports import TextEmbedder, VideoEmbedder


@pytest.fixture(scope="module", params=[MiniLM()], ids=lambda e: e.name)
def text(request) -> TextEmbedder:
    weights_or_skip(*request.param.weights)
    request.param.warm_up()
    return request.param


@pytest.fixture(scope="module", params=[EfficientNetLite0()], ids=lambda e: e.name)
def video(request) -> VideoEmbedder:
    weights_or_skip(*request.param.weights)
    request.param.warm_up()
    return request.param


def test_text_vectors_are_unit_rows(text):
    assert isinstance(text, TextEmbedder)
    vectors = text.embed_text(["a man walks", "two people dance"])
    assert vectors.shape == (2, text.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert text.embed_text([]).shape == (0, text.dimension)


def test_what_means_the_same_is_nearer(text):
    walk, stroll, invoice = text.embed_text(["a man is walking", "somebody strolls along", "the invoice is overdue"])
    assert walk @ stroll > walk @ invoice + 0.2


def test_a_sentence_does_not_depend_on_its_neighbours(text):
    alone = text.embed_text(["a man walks"])[0]
    among = text.embed_text(["a", "a man walks", "a very long sentence about quite different things " * 5])[1]
    np.testing.assert_array_equal(alone, among)


def test_very_long_text_is_cut_not_refused(text):
    assert np.isfinite(text.embed_text(["word " * 5000])).all()


def test_video_vectors_are_unit_vectors(video, real_frames):
    assert isinstance(video, VideoEmbedder)
    vector = video.embed_video(real_frames)
    assert vector.shape == (video.dimension,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_the_same_scene_is_nearer_than_another(video, real_frames):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, real_frames.shape, np.uint8)
    one, again, other = (video.embed_video(f) for f in (real_frames[:2], real_frames[2:4], noise))
    assert one @ again > 0.9 > one @ other


def test_frames_are_spread_over_the_clip(video):
    seen = video.sees(building.clip(frames_THW3=np.zeros((100, 8, 8, 3), np.uint8)))
    assert seen == [6, 18, 31, 43, 56, 68, 81, 93]
    assert video.sees(building.clip(frames_THW3=np.zeros((3, 8, 8, 3), np.uint8))) == [0, 1, 2]
