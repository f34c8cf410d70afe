"""RTMPose through onnxruntime, against the same network through MMPose, and with files that are no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecap.engines.rtmpose_onnx import RTMPoseOnnx
from posecap.inference.device import DeviceError
from posecap.models import MissingWeightsError
from posecap.types import Tracks
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError

pytest.importorskip("onnxruntime")
pytest.importorskip("mmpose")
pytest.importorskip("onnx")

from posecap.engines.mmpose import RTMPose
from tests.random_weights import mmpose as random_mmpose


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    return random_mmpose.rtmpose_onnx(tmp_path_factory.mktemp("weights") / "rtmpose-t.onnx")


def people(frames: np.ndarray) -> Tracks:
    """Three people in every frame; tall, wide and over the edge."""
    count, height, width = frames.shape[:3]
    boxes = np.array([[0.2, 0.1, 0.4, 0.95], [0.3, 0.5, 0.8, 0.7], [0.71, -0.05, 1.02, 0.4]])
    boxes = (boxes * [width, height, width, height])[:, None] + 1.37 * np.arange(count)[None, :, None]
    return Tracks(boxes_MT4=boxes.astype(np.float32), scores_MT=np.ones(boxes.shape[:2], np.float32))


@pytest.mark.slow
@pytest.mark.parametrize("joints", ["coco17", "halpe26"])
def test_keypoints_are_those_of_the_same_network_through_mmpose(tmp_path, joints, real_frames):
    pth = random_mmpose.rtmpose(tmp_path / "network.pth", joints=joints, seed=2)
    onnx = random_mmpose.rtmpose_onnx(tmp_path / "network.onnx", joints=joints, seed=2)
    tracks = people(real_frames)
    fields = {"size": "t", "joints": joints, "device": "cpu"}
    through_mmpose = RTMPose(weights_from=str(pth), flip_test="off", **fields).estimate(real_frames, tracks)
    through_onnx = RTMPoseOnnx(weights_from=str(onnx), **fields).estimate(real_frames, tracks)
    assert (through_mmpose[..., 2] > 0).mean() > 0.9
    np.testing.assert_allclose(through_onnx[..., :2], through_mmpose[..., :2], atol=0.05)
    np.testing.assert_allclose(through_onnx[..., 2], through_mmpose[..., 2], atol=0.01)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({}, "rtmpose-m-onnx"),
        ({"size": "s", "joints": "halpe26"}, "rtmpose-s-body26-onnx"),
        ({"weights_from": "mine.onnx"}, "mine.onnx"),
    ],
)
def test_the_published_weights_of_its_size_are_the_default(fields, name):
    assert RTMPoseOnnx(**fields).weights == (name,)


def test_memory_that_ends_halves_the_batch(exported, real_frames, monkeypatch):
    tracks = people(real_frames)
    whole = RTMPoseOnnx(size="t", weights_from=str(exported), device="cpu").estimate(real_frames, tracks)
    engine = RTMPoseOnnx(size="t", weights_from=str(exported), device="cpu", batch=8)
    session, sizes = engine._network._session, []

    class Narrow:
        def run(self, outputs, feeds):
            sizes.append(len(feeds["input"]))
            if len(feeds["input"]) > 4:
                raise Exception("Non-zero status code: Failed to allocate memory for requested buffer of size 1")
            return session.run(outputs, feeds)

    monkeypatch.setattr(engine._network, "_session", Narrow())
    np.testing.assert_allclose(engine.estimate(real_frames, tracks), whole, atol=1e-3)
    assert sizes == [8, 4, 4, 4]


def test_other_errors_of_the_session_are_not_swallowed(exported, real_frames, monkeypatch):
    engine = RTMPoseOnnx(size="t", weights_from=str(exported), device="cpu")

    class Broken:
        def run(self, outputs, feeds):
            raise Exception("Invalid feed")

    monkeypatch.setattr(engine._network, "_session", Broken())
    with pytest.raises(Exception, match="Invalid feed"):
        engine.estimate(real_frames, people(real_frames))


def test_missing_weights_say_so(tmp_path):
    with pytest.raises(MissingWeightsError, match="nothing-here"):
        RTMPoseOnnx(size="t", weights_from=str(tmp_path / "nothing-here.onnx")).load()


@pytest.mark.parametrize("content", [b"", b"<!doctype html>", b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R."])
def test_what_is_no_onnx_file_is_refused(tmp_path, content):
    path = tmp_path / "no.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"no\.onnx"):
        RTMPoseOnnx(size="t", weights_from=str(path), device="cpu").load()


def test_a_truncated_file_is_refused(exported, tmp_path):
    path = tmp_path / "short.onnx"
    path.write_bytes(exported.read_bytes()[:-200_000])
    with pytest.raises(CheckpointError, match=r"short\.onnx"):
        RTMPoseOnnx(size="t", weights_from=str(path), device="cpu").load()


def test_a_file_cannot_have_other_files_read(exported, tmp_path):
    """ONNX may name other files as the place of its tensors."""
    import onnx
    from onnx.external_data_helper import convert_model_to_external_data

    model = onnx.load(exported)
    convert_model_to_external_data(model, location="elsewhere.bin", size_threshold=0)
    onnx.save(model, tmp_path / "pointing.onnx")
    assert (tmp_path / "elsewhere.bin").exists()
    with pytest.raises(CheckpointError, match=r"pointing\.onnx"):
        RTMPoseOnnx(size="t", weights_from=str(tmp_path / "pointing.onnx"), device="cpu").load()


def test_another_network_is_refused(exported, tmp_path, real_frames):
    detector = random_mmpose.rtmdet_onnx(tmp_path / "detector.onnx")
    with pytest.raises(WrongArchitectureError, match=r"dets, labels; expected .* simcc_x, simcc_y"):
        RTMPoseOnnx(size="t", weights_from=str(detector), device="cpu").load()
    with pytest.raises(WrongArchitectureError, match="gives 17 joints, and halpe26 has 26"):
        RTMPoseOnnx(size="t", joints="halpe26", weights_from=str(exported), device="cpu").estimate(
            real_frames, people(real_frames)
        )


def test_random_weights_are_not_used_by_accident(exported, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeightsError):
        RTMPoseOnnx(size="t", weights_from=str(exported), device="cpu").load()


def test_a_gpu_that_is_not_there_is_refused(exported, monkeypatch):
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(DeviceError, match="onnxruntime-gpu"):
        RTMPoseOnnx(size="t", weights_from=str(exported), device="cuda").load()


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch is 0"):
        RTMPoseOnnx(batch=0)
