import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from posecap.engines.open_clip import OpenClip
from posecap.models import MissingWeightsError, weights_sha256
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError
from tests import building
from tests.random_weights import open_clip as weights

pytestmark = pytest.mark.skipif(find_spec("open_clip") is None, reason="open_clip_torch is not installed")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    weights.write(folder)
    return folder


def made(folder: Path, **changes) -> OpenClip:
    known = {"model": f"local-dir:{folder}", "weights_from": str(folder / "open_clip_model.safetensors")}
    return OpenClip(**{**known, "device": "cpu", **changes})


@pytest.fixture(scope="module")
def engine(folder) -> OpenClip:
    return made(folder)


def footage(frames: int = 8, height: int = 36, width: int = 64, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (frames, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def theirs(folder):
    """open_clip's own loading of the same folder: model, transform, tokenizer."""
    import open_clip

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", None)
        model, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    return model.eval(), transform, open_clip.get_tokenizer(f"local-dir:{folder}")


def check_frames(engine, theirs, clip):
    from PIL import Image

    model, transform, _ = theirs
    with torch.inference_mode():
        images = torch.stack([transform(Image.fromarray(frame)) for frame in clip])
        vectors = model.encode_image(images, normalize=True).double()
    mean = vectors.mean(0) / vectors.mean(0).norm()
    np.testing.assert_allclose(engine.embed_video(clip), mean.numpy(), atol=1e-6)


def test_a_clip_is_the_mean_of_open_clips_image_vectors(engine, theirs):
    check_frames(engine, theirs, footage())


def test_real_frames_too(engine, theirs, real_frames):
    check_frames(engine, theirs, real_frames)


def test_texts_are_open_clips(engine, theirs):
    texts = ["A man walks.", "", "word " * 100]
    model, _, tokenizer = theirs
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(texts), normalize=True).numpy()
    np.testing.assert_allclose(engine.embed_text(texts), expected, atol=1e-6)


def test_preprocessing_is_the_models_own(engine):
    assert "0.5, 0.5, 0.5" in str(engine._transform)


def test_clips_of_any_length_share_a_batch(engine):
    clips = [footage(seed=1), footage(frames=3, height=50, width=40, seed=2), footage(frames=1, seed=3)]
    together = engine.embed_videos(clips)
    assert together.shape == (3, 32)
    np.testing.assert_array_equal(together, np.stack([engine.embed_video(clip) for clip in clips]))
    assert engine.embed_videos([]).shape == (0, 32)


def test_frames_seen_are_middle_frames(folder):
    clip = building.clip(frames_THW3=np.zeros((24, 8, 8, 3), np.uint8))
    assert made(folder, frames=4).frame_indices(clip) == [2, 8, 14, 20]


def test_names_and_dimensions_are_known_without_weights(engine):
    assert OpenClip().dimension == 512
    assert OpenClip().name == "ViT-B-16-quickgelu-clip-vit-b16-openai-frame-mean"
    assert OpenClip(model="ViT-L-14-quickgelu", weights_from="clip-vit-l14-openai").dimension == 768
    assert engine.name == "tiny-clip-open_clip_model-frame-mean"


def test_openais_weights_in_a_model_of_another_activation_are_refused(folder):
    path = str(folder / "open_clip_model.safetensors")
    for plain in (OpenClip(model="ViT-B-16"), OpenClip(model="ViT-B-16", weights_from=path, tag="openai")):
        with pytest.raises(ValueError, match="model='ViT-B-16-quickgelu'"):
            plain.load()


def test_weights_whose_preprocessing_is_ambiguous_need_their_tag(folder):
    path = str(folder / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match=r"tag=.*laion2b_s32b_b82k"):
        OpenClip(model="ViT-L-14", weights_from=path).load()
    assert OpenClip(model="ViT-L-14", weights_from=path, tag="laion2b_s32b_b82k")._published["mean"] == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="no published weights 'nonsense'"):
        OpenClip(weights_from=path, tag="nonsense").load()


def test_nothing_is_fetched_from_a_hub(folder):
    with pytest.raises(ValueError, match="no network"):
        OpenClip(model="hf-hub:timm/ViT-B-16-SigLIP")
    for name in ("ViT-B-16-SigLIP", "roberta-ViT-B-32"):
        with pytest.raises(ValueError, match="uses no network"):
            OpenClip(model=name, weights_from=str(folder / "open_clip_model.safetensors")).load()
    with pytest.raises(ValueError, match="no model 'ViT-X'"):
        OpenClip(model="ViT-X").load()


def test_older_files_load_too(folder, engine, tmp_path):
    """Weights of training with several GPUs, under ``state_dict``."""
    state = weights.network().state_dict()
    torch.save({"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "epoch_1.pt")
    other = made(folder, weights_from=str(tmp_path / "epoch_1.pt"))
    np.testing.assert_array_equal(other.embed_text(["walk"]), engine.embed_text(["walk"]))


def test_bfloat16_is_near(folder, engine):
    half = made(folder, precision="bf16")
    assert np.linalg.norm(half.embed_video(footage())) == pytest.approx(1, abs=1e-6)
    assert half.embed_video(footage()) @ engine.embed_video(footage()) > 0.999
    assert half.embed_text(["a man walks"])[0] @ engine.embed_text(["a man walks"])[0] > 0.999


def test_short_memory_halves_the_batch(folder, monkeypatch):
    engine = made(folder, batch=8)
    expected = engine.embed_video(footage())
    encode, tried = engine._network.encode_image, []

    def narrow(images, **how):
        tried.append(len(images))
        if len(images) > 3:
            raise RuntimeError("CUDA out of memory")
        return encode(images, **how)

    monkeypatch.setattr(engine._network, "encode_image", narrow)
    np.testing.assert_allclose(engine.embed_video(footage()), expected, atol=1e-6)
    assert tried == [8, 4, 2, 2, 2, 2]


def test_missing_weights_say_what_to_do(folder, tmp_path):
    with pytest.raises(MissingWeightsError, match=r"nowhere\.pt"):
        made(folder, weights_from=str(tmp_path / "nowhere.pt")).load()


def test_truncated_weights_are_refused(folder, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes((folder / "open_clip_model.safetensors").read_bytes()[:200_000])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors"):
        made(folder, weights_from=str(path)).load()


def test_weights_of_another_size_are_refused(folder, tmp_path):
    wider = weights.write(tmp_path, width=128, ending=".pt")
    with pytest.raises(WrongArchitectureError, match=r"visual.*is \(.*128.*expected"):
        made(folder, weights_from=str(wider)).load()


def test_random_weights_never_pass_by_accident(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS")
    for ending in (".pt", ".safetensors"):
        with pytest.raises(RandomWeightsError):
            made(folder, weights_from=str(weights.write(tmp_path, ending=ending))).load()


def test_code_in_a_checkpoint_never_runs(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    hostile = tmp_path / "hostile.pt"
    torch.save({"state_dict": _Payload()}, hostile)
    with pytest.raises(CheckpointError):
        made(folder, weights_from=str(hostile)).load()
    assert not (tmp_path / "ran").exists()


class _Payload:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('ran').touch()",)


def test_video_and_text_side_share_one_network(folder, engine):
    assert made(folder, frames=4, batch=2)._network is engine._network


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'posecap\[clip\]'"):
        OpenClip().load()


def test_a_folder_says_its_preprocessing_itself_whatever_its_weights_are_called(folder, tmp_path):
    path = tmp_path / "mine-openai"
    path.symlink_to(folder / "open_clip_model.safetensors")
    assert made(folder, weights_from=str(path)).embed_video(footage()).shape == (made(folder).dimension,)


def test_no_frames_are_refused(folder):
    with pytest.raises(ValueError, match="frames is 0"):
        made(folder, frames=0)


def test_a_folders_settings_and_tokenizer_belong_to_what_is_hashed(folder):
    names = [Path(name).name for name in made(folder).weights]
    assert names[0] == "open_clip_model.safetensors"
    assert "open_clip_config.json" in names
    assert names.count("open_clip_model.safetensors") == 1
    assert all(len(weights_sha256(name)) == 64 for name in made(folder).weights)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(MissingWeightsError, match="nowhere"):
        _ = OpenClip(model=f"local-dir:{tmp_path / 'nowhere'}").weights
