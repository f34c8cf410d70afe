import io
import pickle
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from posecap.engines.viclip import ViCLIPEmbedder
from posecap.engines.viclip_model import ViCLIP
from posecap.models import MissingWeightsError
from posecap.stage import TransientError, configuration
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError
from tests import building
from tests.random_weights import open_clip as clip_weights
from tests.random_weights import viclip as weights

pytestmark = pytest.mark.skipif(find_spec("open_clip") is None, reason="open_clip_torch is not installed")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights.write(tmp_path_factory.mktemp("viclip") / "tiny.pth")


@pytest.fixture(scope="module")
def engine(file: Path) -> ViCLIPEmbedder:
    return ViCLIPEmbedder(weights_from=str(file), device="cpu")


def footage(frames: int = 8, height: int = 36, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


def test_published_models_say_their_dimension_without_their_weights():
    assert ViCLIPEmbedder().dimension == 512
    assert ViCLIPEmbedder(weights_from="viclip-l14").dimension == 768
    assert ViCLIPEmbedder().weights == ("viclip-b16",)


def test_the_name_says_whose_weights_they_are(engine):
    assert ViCLIPEmbedder().name == "viclip-b16"
    assert engine.name == "tiny"
    started = ViCLIPEmbedder(weights_from="clip-vit-b16-openai", weights_of="clip")
    assert started.name == "viclip-from-clip-vit-b16-openai"


def test_a_clip_becomes_the_models_vector_of_its_prepared_frames(engine, file):
    """Eight middle frames, squeezed to the model's square, ImageNet's statistics; prepared here by torchvision."""
    from posecap.inference.package_compat import ensure_torchvision

    ensure_torchvision()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import normalize, resize

    clip = footage(frames=24)
    seen = torch.from_numpy(clip[[1, 4, 7, 10, 13, 16, 19, 22]]).permute(0, 3, 1, 2)
    small = resize(seen, [32, 32], InterpolationMode.BICUBIC, antialias=True)
    ready = normalize(small / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.inference_mode():
        expected = ViCLIP.from_state_dict(weights.tensors()).encode_video(ready[None])[0].numpy()
    np.testing.assert_allclose(engine.embed_video(clip), expected, atol=1e-6)


def test_frames_of_the_models_own_size_are_taken_as_they_are(engine):
    clip = footage(height=32, width=32)
    normal = (clip / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    np.testing.assert_allclose(engine._prepared(clip).permute(0, 2, 3, 1).numpy(), normal, atol=1e-5)


def test_short_clips_repeat_their_last_frame(engine):
    clip = footage(frames=3)
    padded = clip[[0, 1, 2, 2, 2, 2, 2, 2]]
    np.testing.assert_array_equal(engine.embed_video(clip), engine.embed_video(padded))


def test_frames_seen_are_the_authors_middle_frames(engine):
    clip = building.clip(frames_THW3=np.zeros((100, 8, 8, 3), np.uint8))
    assert engine.frame_indices(clip) == [5, 18, 30, 43, 55, 68, 80, 93]


def test_clips_of_different_sizes_share_a_batch(engine):
    clips = [footage(seed=1), footage(frames=3, height=50, width=40, seed=2), footage(frames=30, seed=3)]
    together = engine.embed_videos(clips)
    assert together.shape == (3, 32)
    np.testing.assert_array_equal(together, np.stack([engine.embed_video(clip) for clip in clips]))
    assert engine.embed_videos([]).shape == (0, 32)


def test_captions_are_cleaned_unless_told_not_to(engine, file):
    raw = ViCLIPEmbedder(weights_from=str(file), clean="none", device="cpu")
    np.testing.assert_array_equal(engine.embed_text(["He's WALKING!"]), raw.embed_text(["hes walking"]))
    assert not np.array_equal(raw.embed_text(["He's WALKING!"]), raw.embed_text(["hes walking"]))


def test_texts_are_the_models(engine):
    with torch.inference_mode():
        expected = ViCLIP.from_state_dict(weights.tensors()).encode_text(["a man walks"]).numpy()
    np.testing.assert_allclose(engine.embed_text(["a man walks"]), expected, atol=1e-6)


def test_video_and_text_side_share_one_network(engine, file):
    other = ViCLIPEmbedder(weights_from=str(file), clean="none", device="cpu")
    assert other._network is engine._network


def test_bfloat16_is_near(engine, file):
    half = ViCLIPEmbedder(weights_from=str(file), device="cpu", precision="bf16")
    assert np.linalg.norm(half.embed_video(footage())) == pytest.approx(1, abs=1e-6)
    assert half.embed_video(footage()) @ engine.embed_video(footage()) > 0.999
    assert half.embed_text(["a man walks"])[0] @ engine.embed_text(["a man walks"])[0] > 0.999


def test_safetensors_give_the_same(engine, tmp_path):
    other = ViCLIPEmbedder(weights_from=str(weights.write(tmp_path / "tiny.safetensors")), device="cpu")
    np.testing.assert_array_equal(other.embed_video(footage()), engine.embed_video(footage()))


def test_it_starts_from_a_clip(tmp_path):
    path = clip_weights.write(tmp_path, width=128)
    engine = ViCLIPEmbedder(weights_from=str(path), weights_of="clip", device="cpu")
    assert engine.dimension == 32
    assert np.linalg.norm(engine.embed_video(footage())) == pytest.approx(1, abs=1e-6)


def test_it_travels_before_it_is_warm(file):
    engine = pickle.loads(pickle.dumps(ViCLIPEmbedder(weights_from=str(file), device="cpu")))
    engine.load()
    assert engine == ViCLIPEmbedder(weights_from=str(file), device="cpu")
    assert configuration(ViCLIPEmbedder())["clean"] == "viclip"


@pytest.mark.parametrize("most", [1, 3])
def test_short_memory_halves_the_batch(file, monkeypatch, most):
    engine = ViCLIPEmbedder(weights_from=str(file), device="cpu", batch=8)
    clips = [footage(seed=seed) for seed in range(5)]
    expected = engine.embed_videos(clips)
    encode, tried = ViCLIP.encode_video, []

    def narrow(self, frames):
        tried.append(len(frames))
        if len(frames) > most:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return encode(self, frames)

    monkeypatch.setattr(ViCLIP, "encode_video", narrow)
    np.testing.assert_allclose(engine.embed_videos(clips), expected, atol=1e-6)
    assert tried == {1: [5, 2, 1, 1, 1, 1, 1], 3: [5, 2, 2, 1]}[most]


def test_memory_too_short_for_one_clip_can_be_retried(file, monkeypatch):
    def never(self, frames):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(ViCLIP, "encode_video", never)
    with pytest.raises(TransientError) as told:
        ViCLIPEmbedder(weights_from=str(file), device="cpu").embed_video(footage())
    assert told.value.reason == "out_of_memory"


# -- files that are not what they should be ---------------------------------------------------------------------------


def test_missing_weights_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(MissingWeightsError, match=r"nowhere\.pth"):
        ViCLIPEmbedder(weights_from=str(tmp_path / "nowhere.pth"), device="cpu").load()


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_truncated_weights_are_refused(tmp_path, ending):
    path = weights.write(tmp_path / f"cut{ending}")
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(CheckpointError, match=path.name):
        ViCLIPEmbedder(weights_from=str(path), device="cpu").load()


class _Payload:
    def __reduce__(self):
        return exec, ("import builtins; builtins.posecap_was_here = True",)


def test_code_in_a_checkpoint_never_runs(tmp_path, file):
    path = tmp_path / "hostile.pth"
    pickled = io.BytesIO()
    torch.save({"model": {"temp": torch.zeros(())}}, pickled)
    with zipfile.ZipFile(pickled) as honest, zipfile.ZipFile(path, "w") as hostile:
        for item in honest.infolist():
            body = honest.read(item)
            hostile.writestr(item.filename, pickle.dumps(_Payload()) if item.filename.endswith("data.pkl") else body)
    with pytest.raises(CheckpointError):
        ViCLIPEmbedder(weights_from=str(path), device="cpu").load()
    import builtins

    assert not hasattr(builtins, "posecap_was_here")


def test_weights_of_another_model_are_refused_with_the_remedy(tmp_path):
    path = clip_weights.write(tmp_path / "clip", width=128)
    with pytest.raises(WrongArchitectureError, match=r"open_clip_model\.safetensors.*weights_of='clip'"):
        ViCLIPEmbedder(weights_from=str(path), device="cpu").load()
    with pytest.raises(WrongArchitectureError, match="weights_of='viclip'"):
        ViCLIPEmbedder(weights_from=str(weights.write(tmp_path / "v.pth")), weights_of="clip", device="cpu").load()


def test_weights_of_two_sizes_in_one_file_are_refused(tmp_path):
    from dataclasses import replace

    small, large = weights.tensors(), weights.tensors(sizes=replace(weights.TINY, text_width=128))
    mixed = {name: (large if "text_projection" in name else small)[name] for name in small}
    torch.save({"model": mixed}, tmp_path / "mixed.pth")
    with pytest.raises(WrongArchitectureError, match=r"text_projection is \(128, 32\), expected \(64, 32\)"):
        ViCLIPEmbedder(weights_from=str(tmp_path / "mixed.pth"), device="cpu").load()


def test_random_weights_never_pass_by_accident(tmp_path, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS")
    for ending in (".pth", ".safetensors"):
        path = weights.write(tmp_path / f"random{ending}")
        with pytest.raises(RandomWeightsError, match="random weights"):
            ViCLIPEmbedder(weights_from=str(path), device="cpu").load()


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch is 0"):
        ViCLIPEmbedder(batch=0)
