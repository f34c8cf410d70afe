"""What every frozen embedder must do: with its real weights, or with random ones in the published format."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from posecap.engines.efficientnet import EfficientNetLite0, EfficientNetLite0Onnx
from posecap.engines.minilm import MiniLM
from posecap.engines.open_clip import OpenClip
from posecap.engines.viclip import ViCLIPEmbedder
from posecap.interfaces import TextEmbedder, VideoEmbedder
from posecap.stage import Engine
from tests import building
from tests.models_at_hand import weights_or_skip
from tests.random_weights import open_clip as clip_weights
from tests.random_weights import viclip as viclip_weights

RANDOM = ("viclip", "open_clip")
"""Engines whose real weights no package carries: what depends on meaning is not asked of them."""


def made(name: str, folder) -> Engine:
    """The engine, warm. Skips where its weights or its package cannot be had."""
    if name in RANDOM and find_spec("open_clip") is None:
        pytest.skip("open_clip_torch is not installed")
    engine = {
        "minilm": MiniLM,
        "efficientnet": EfficientNetLite0,
        "efficientnet_onnx": EfficientNetLite0Onnx,
        "viclip": lambda: ViCLIPEmbedder(weights_from=str(viclip_weights.write(folder / "viclip.pth")), device="cpu"),
        "open_clip": lambda: OpenClip(
            model=f"local-dir:{folder}", weights_from=str(clip_weights.write(folder)), device="cpu"
        ),
    }[name]()
    if name not in RANDOM:
        weights_or_skip(*engine.weights)
    engine.load()
    return engine


@pytest.fixture(scope="module", params=["minilm", *RANDOM])
def text(request, tmp_path_factory) -> TextEmbedder:
    return made(request.param, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module", params=["efficientnet", "efficientnet_onnx", *RANDOM])
def video(request, tmp_path_factory) -> VideoEmbedder:
    return made(request.param, tmp_path_factory.mktemp("weights"))


@pytest.fixture
def trained(request) -> None:
    if request.node.callspec.id in RANDOM:
        pytest.skip("random weights know no meaning")


def footage(frames: int = 8, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, 48, 64, 3), np.uint8)


def test_text_vectors_are_unit_rows(text):
    assert isinstance(text, TextEmbedder)
    vectors = text.embed_text(["a man walks", "two people dance"])
    assert vectors.shape == (2, text.dimension)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert text.embed_text([]).shape == (0, text.dimension)


@pytest.mark.usefixtures("trained")
def test_what_means_the_same_is_nearer(text):
    walk, stroll, invoice = text.embed_text(["a man is walking", "somebody strolls along", "the invoice is overdue"])
    assert walk @ stroll > walk @ invoice + 0.2


def test_other_words_give_other_vectors(text):
    one, other = text.embed_text(["a man walks", "a man sits"])
    assert one @ other < 0.9999


def test_a_sentence_does_not_depend_on_its_neighbours(text):
    alone = text.embed_text(["a man walks"])[0]
    fresh = replace(text)  # which remembers no sentence
    among = fresh.embed_text(["a", "a man walks", "a very long sentence about quite different things " * 5])[1]
    np.testing.assert_array_equal(alone, among)


def test_very_long_text_is_cut_not_refused(text):
    assert np.isfinite(text.embed_text(["word " * 5000])).all()


def test_video_vectors_are_unit_vectors(video, real_frames):
    assert isinstance(video, VideoEmbedder)
    vector = video.embed_video(real_frames)
    assert vector.shape == (video.dimension,)
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


@pytest.mark.usefixtures("trained")
def test_the_same_scene_is_nearer_than_another(video, real_frames):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, real_frames.shape, np.uint8)
    one, again, other = (video.embed_video(f) for f in (real_frames[:2], real_frames[2:4], noise))
    assert one @ again > 0.9 > one @ other


def test_other_pixels_give_another_vector(video):
    assert video.embed_video(footage()) @ video.embed_video(255 - footage()) < 0.9999


def test_the_same_frames_give_the_same_bytes(video):
    first = video.embed_video(footage())
    video.embed_video(footage(frames=3, seed=1))
    assert video.embed_video(footage()).tobytes() == first.tobytes()


def test_frames_of_any_number_and_size_are_taken(video):
    frames = np.random.default_rng(0).integers(0, 256, (1, 30, 120, 3), np.uint8)
    assert np.linalg.norm(video.embed_video(frames)) == pytest.approx(1, abs=1e-6)


def test_frames_that_cannot_be_written_to_are_taken(video):
    frames = footage()
    frames.flags.writeable = False
    video.embed_video(frames)


def test_frames_are_spread_over_the_clip(video):
    """The middles of eight stretches of 12.5 frames; a middle between two frames is either of them."""
    seen = video.frame_indices(building.clip(frames_THW3=np.zeros((100, 8, 8, 3), np.uint8)))
    later = isinstance(video, EfficientNetLite0)
    assert seen == ([6, 18, 31, 43, 56, 68, 81, 93] if later else [5, 18, 30, 43, 55, 68, 80, 93])
    assert video.frame_indices(building.clip(frames_THW3=np.zeros((3, 8, 8, 3), np.uint8))) == [0, 1, 2]


def test_onnxruntime_gives_the_vectors_of_torch(real_frames):
    weights_or_skip(*EfficientNetLite0().weights)
    both = [engine().embed_video(real_frames) for engine in (EfficientNetLite0, EfficientNetLite0Onnx)]
    np.testing.assert_allclose(*both, atol=1e-6)


def test_the_default_video_vectors_need_no_torch():
    weights_or_skip(*EfficientNetLite0Onnx().weights)
    code = (
        "import sys, numpy as np\n"
        "from posecap.engines.efficientnet import EfficientNetLite0Onnx\n"
        "EfficientNetLite0Onnx().embed_video(np.zeros((1, 8, 8, 3), np.uint8))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_embedder_of_no_frames_is_refused():
    with pytest.raises(ValueError, match="frames is 0"):
        EfficientNetLite0(frames=0)


@pytest.mark.parametrize("longest_tokens", [2, 513])
def test_minilm_has_positions_for_512_tokens(longest_tokens):
    with pytest.raises(ValueError, match="expected 3 to 512"):
        MiniLM(longest_tokens=longest_tokens)
