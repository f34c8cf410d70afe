"""RTMPose through MMPose, against MMPose's own inference, and with files that are no good."""

from __future__ import annotations

import functools
import pickle
from pathlib import Path

import numpy as np
import pytest

from posecap.engines.mmpose import _CONFIGS, _FOLDER, RTMPose
from posecap.models import MissingWeightsError
from posecap.stage import TransientError
from posecap.types import Tracks
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError

pytest.importorskip("mmpose")
pytest.importorskip("onnx")

import torch

from tests.random_weights import mmpose as random_mmpose


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return random_mmpose.rtmpose(tmp_path_factory.mktemp("weights") / "rtmpose-t.pth")


@pytest.fixture(scope="module")
def checkpoint_26(tmp_path_factory) -> Path:
    return random_mmpose.rtmpose(tmp_path_factory.mktemp("weights") / "rtmpose-t-26.pth", joints="halpe26", seed=1)


def people(frames: np.ndarray) -> Tracks:
    """Two people in every frame, whose boxes wander by parts of a pixel and reach over the edges."""
    count, height, width = frames.shape[:3]
    boxes = np.array([[0.2, 0.1, 0.6, 0.95], [0.71, -0.05, 1.02, 0.4]]) * [width, height, width, height]
    boxes = boxes[:, None] + 1.37 * np.arange(count)[None, :, None]
    return Tracks(boxes_MT4=boxes.astype(np.float32), scores_MT=np.ones(boxes.shape[:2], np.float32))


def own_inference(path: Path, joints: str, *, flip: bool, frames: np.ndarray, tracks: Tracks, patch) -> np.ndarray:
    """(M, T, J, 3) by ``init_model`` and ``inference_topdown``, as MMPose's users call them."""
    import mmpose
    from mmpose.apis import inference_topdown, init_model

    # The file is ours. MMPose's own loading needs the old torch.load, which runs code from files.
    patch.setattr(torch, "load", functools.partial(torch.load, weights_only=False))
    config = Path(mmpose.__file__).parent / ".mim" / "configs" / _FOLDER / _CONFIGS["t", joints]
    options = {"model.backbone.init_cfg": None, "model.test_cfg.flip_test": flip}
    model = init_model(str(config), str(path), device="cpu", cfg_options=options)
    per_frame = []
    for at, frame in enumerate(frames):
        found = inference_topdown(model, np.ascontiguousarray(frame[..., ::-1]), tracks.boxes_MT4[:, at])
        people = [sample.pred_instances for sample in found]
        per_frame.append([np.concatenate([p.keypoints[0], p.keypoint_scores[0][:, None]], -1) for p in people])
    return np.array(per_frame).swapaxes(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("joints", ["coco17", "halpe26"])
@pytest.mark.parametrize("flip", ["on", "off"])
def test_keypoints_are_those_of_mmposes_own_inference(
    checkpoint, checkpoint_26, joints, flip, real_frames, monkeypatch
):
    path = checkpoint if joints == "coco17" else checkpoint_26
    tracks = people(real_frames)
    engine = RTMPose(size="t", joints=joints, weights_from=str(path), flip_test=flip, device="cpu")
    got = engine.estimate(real_frames, tracks)
    own = own_inference(path, joints, flip=flip == "on", frames=real_frames, tracks=tracks, patch=monkeypatch)
    seen = own[..., 2] > 0
    assert seen.mean() > 0.9
    np.testing.assert_allclose(got[seen][:, :2], own[seen][:, :2], atol=0.01)
    np.testing.assert_allclose(got[seen][:, 2], np.minimum(own[seen][:, 2], 1), atol=1e-4)
    assert len(np.unique(got[seen][:, :2].round(1), axis=0)) > 0.5 * seen.sum()


def test_every_configuration_is_in_the_package():
    import mmpose

    folder = Path(mmpose.__file__).parent / ".mim" / "configs" / _FOLDER
    assert [name for name in _CONFIGS.values() if not (folder / name).is_file()] == []


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "rtmpose-m"),
        ({"size": "l"}, "rtmpose-l"),
        ({"size": "s", "joints": "halpe26"}, "rtmpose-s-body26"),
        ({"weights_from": "mine.pth"}, "mine.pth"),
    ],
)
def test_the_published_weights_of_its_size_are_the_default(fields, name):
    assert RTMPose(**fields).weights == (name,)


def test_memory_that_ends_halves_the_batch(checkpoint, real_frames, monkeypatch):
    tracks = people(real_frames)
    whole = RTMPose(size="t", weights_from=str(checkpoint), device="cpu").estimate(real_frames, tracks)
    engine = RTMPose(size="t", weights_from=str(checkpoint), device="cpu", batch=8)
    predict, sizes = engine._network.predict, []

    def narrow(inputs, samples):
        sizes.append(len(inputs))
        if len(inputs) > 3:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return predict(inputs, samples)

    monkeypatch.setattr(engine._network, "predict", narrow)
    np.testing.assert_allclose(engine.estimate(real_frames, tracks), whole, atol=1e-3)
    assert sizes == [8, 4, 2, 2, 2, 2]


def test_memory_for_not_even_one_crop_is_a_passing_trouble(checkpoint, real_frames, monkeypatch):
    engine = RTMPose(size="t", weights_from=str(checkpoint), device="cpu")

    def full(inputs, samples):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(engine._network, "predict", full)
    with pytest.raises(TransientError, match="out_of_memory"):
        engine.estimate(real_frames, people(real_frames))


def test_missing_weights_say_so(tmp_path):
    with pytest.raises(MissingWeightsError, match="nothing-here"):
        RTMPose(size="t", weights_from=str(tmp_path / "nothing-here.pth")).load()


def test_a_truncated_file_is_refused(checkpoint, tmp_path):
    short = tmp_path / "short.pth"
    short.write_bytes(checkpoint.read_bytes()[:-100_000])
    with pytest.raises(CheckpointError, match=r"short\.pth"):
        RTMPose(size="t", weights_from=str(short), device="cpu").load()


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_does_not_run(tmp_path, zipped):
    target, path = tmp_path / "it-ran", tmp_path / "hostile.pth"
    content = {"meta": {}, "state_dict": {"weight": torch.ones(2)}, "message_hub": Payload(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError):
        RTMPose(size="t", weights_from=str(path), device="cpu").load()
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))
    assert target.exists(), "the payload works, so it was the loader that did not run it"


@pytest.mark.parametrize("fields", [{"size": "s"}, {"size": "t", "joints": "halpe26"}])
def test_weights_of_another_network_are_refused(checkpoint, fields):
    with pytest.raises(WrongArchitectureError, match=r"rtmpose-t\.pth"):
        RTMPose(weights_from=str(checkpoint), device="cpu", **fields).load()


def test_random_weights_are_not_used_by_accident(checkpoint, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeightsError):
        RTMPose(size="t", weights_from=str(checkpoint), device="cpu").load()


def test_bfloat16_stays_near(checkpoint, real_frames):
    frame, tracks = real_frames[:1], people(real_frames[:1])
    exact, coarse = (
        RTMPose(size="t", weights_from=str(checkpoint), flip_test="off", device="cpu", precision=precision)
        for precision in ("fp32", "bf16")
    )
    wanted, got = exact.estimate(frame, tracks), coarse.estimate(frame, tracks)
    assert got.dtype == np.float32
    assert (got != wanted).any()
    assert np.abs(got[..., 2] - wanted[..., 2]).max() < 0.1
