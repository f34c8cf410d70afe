"""RTMO through onnxruntime, against the same network through MMPose, and with files that are no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecap.engines.rtmo_onnx import RTMOOnnx, _area
from posecap.interfaces import Detector
from posecap.models import MissingWeightsError
from posecap.weights.checkpoints import CheckpointError, RandomWeightsError, WrongArchitectureError

pytest.importorskip("onnxruntime")
pytest.importorskip("mmpose")
pytest.importorskip("onnx")

import torch

from tests.random_weights import mmpose as random_mmpose


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    return random_mmpose.rtmo_onnx(tmp_path_factory.mktemp("weights") / "rtmo-t.onnx")


def engine(path: Path, **changes) -> RTMOOnnx:
    return RTMOOnnx(**{"size": "t", "weights_from": str(path), "device": "cpu", **changes})


@pytest.fixture(scope="module")
def own_network():
    network = random_mmpose.rtmo_network()
    network.dataset_meta = {}
    return network


def own_inference(network, frame: np.ndarray):
    """What MMPose's ``inference_bottomup`` finds: its own test pipeline, network and post-processing."""
    from mmengine.registry import DefaultScope
    from mmpose.apis import inference_bottomup

    with DefaultScope.overwrite_default_scope("mmpose"), torch.no_grad():
        return inference_bottomup(network, np.ascontiguousarray(frame[..., ::-1]))[0].pred_instances


@pytest.mark.parametrize("at", [0, 3])
def test_people_and_joints_are_those_of_mmposes_own_inference(exported, own_network, real_frames, at):
    height, width = real_frames.shape[1:3]
    (got,) = engine(exported).detect(real_frames[at : at + 1])
    theirs = own_inference(own_network, real_frames[at])
    boxes = np.clip(theirs.bboxes, 0, [width, height, width, height])  # MMPose also looks into the grey border
    best = np.argsort(-theirs.bbox_scores)[:50]  # the export keeps as many, as the published files do
    best = best[(boxes[best, 2:] > boxes[best, :2]).all(-1)]
    assert len(best) > 30
    assert len(got.scores_N) == len(best)
    np.testing.assert_allclose(got.scores_N, theirs.bbox_scores[best], atol=1e-3)
    apart = np.abs(got.boxes_N4[:, None] - boxes[best][None]).max(-1)  # equal scores may come in any order
    assert apart.min(1).max() < 0.1
    same = best[apart.argmin(1)]
    assert len(set(same)) == len(same)
    away = np.abs(got.joints_NJ3[..., :2] - theirs.keypoints[same]).max(-1)
    # A random network answers a grey level that is rounded otherwise by pixels, here and there.
    assert (away < 0.1).mean() > 0.99
    np.testing.assert_allclose(got.joints_NJ3[..., 2], theirs.keypoint_scores[same], atol=2e-3)


def test_what_the_network_sees_of_a_frame():
    np.testing.assert_allclose(_area(np.zeros((180, 320, 3), np.uint8), 640, 640), [160, 90, 320, 320])
    np.testing.assert_allclose(_area(np.zeros((400, 100, 3), np.uint8), 416, 416), [50, 200, 400, 400])


def test_it_fits_the_port(exported):
    detector = engine(exported)
    assert isinstance(detector, Detector)
    assert detector.layout == "coco17"
    assert detector.name == "rtmo-t-onnx"
    assert RTMOOnnx().weights == ("rtmo-m-onnx",)


def test_people_lie_in_the_frame_best_first(exported, real_frames):
    height, width = real_frames.shape[1:3]
    for found in engine(exported).detect(real_frames):
        assert found.boxes_N4.dtype == found.scores_N.dtype == found.joints_NJ3.dtype == np.float32
        assert len(found.scores_N) == len(found.boxes_N4) == len(found.joints_NJ3) > 0
        assert (np.diff(found.scores_N) <= 0).all()
        assert (found.scores_N >= np.float32(0.15)).all()
        assert (found.boxes_N4 >= 0).all()
        assert (found.boxes_N4 <= [width, height, width, height]).all()
        assert (found.boxes_N4[:, 2:] > found.boxes_N4[:, :2]).all()
        assert ((found.joints_NJ3[..., 2] >= 0) & (found.joints_NJ3[..., 2] <= 1)).all()


def test_a_higher_score_keeps_the_best(exported, real_frames):
    (many,) = engine(exported).detect(real_frames[:1])
    least = float(np.median(many.scores_N))
    (few,) = engine(exported, conf=least).detect(real_frames[:1])
    count = int((many.scores_N >= least).sum())
    assert 0 < count < len(many.scores_N)
    np.testing.assert_array_equal(few.boxes_N4, many.boxes_N4[:count])
    np.testing.assert_array_equal(few.joints_NJ3, many.joints_NJ3[:count])


def test_frames_in_one_batch_are_those_alone_and_rows_that_fill_up_are_nobody(exported, real_frames, monkeypatch):
    """The export takes one picture, so one for several is played: it fills up as the published files do."""
    alone = engine(exported, conf=0.0).detect(real_frames)
    detector = engine(exported, conf=0.0, batch=4)
    session, sizes = detector._network._session, []

    class Wide:
        def run(self, outputs, feeds):
            sizes.append(len(feeds["input"]))
            found = [session.run(outputs, {"input": picture[None]}) for picture in feeds["input"]]
            longest = 1 + max(dets.shape[1] for dets, _ in found)
            dets = np.stack([np.pad(d[0], ((0, longest - d.shape[1]), (0, 0))) for d, _ in found])
            rest = [((0, longest - k.shape[1]), (0, 0), (0, 0)) for _, k in found]
            return [dets, np.stack([np.pad(k[0], fill) for (_, k), fill in zip(found, rest, strict=True)])]

    monkeypatch.setattr(detector._network, "_session", Wide())
    monkeypatch.setattr(detector._network.batches, "most", 4)
    for got, expected in zip(detector.detect(real_frames), alone, strict=True):
        np.testing.assert_array_equal(got.boxes_N4, expected.boxes_N4)
        np.testing.assert_array_equal(got.joints_NJ3, expected.joints_NJ3)
    assert sizes == [4]


def test_no_frames_and_nobody(exported, real_frames):
    assert engine(exported).detect(real_frames[:0]) == []
    (found,) = engine(exported, conf=1.1).detect(real_frames[:1])
    assert found.boxes_N4.shape == (0, 4)
    assert found.scores_N.shape == (0,)
    assert found.joints_NJ3.shape == (0, 17, 3)


def test_missing_weights_say_so(tmp_path):
    with pytest.raises(MissingWeightsError, match="nothing-here"):
        engine(tmp_path / "nothing-here.onnx").load()


def test_a_truncated_file_is_refused(exported, tmp_path):
    path = tmp_path / "short.onnx"
    path.write_bytes(exported.read_bytes()[:-200_000])
    with pytest.raises(CheckpointError, match=r"short\.onnx"):
        engine(path).load()


def test_another_network_is_refused(tmp_path):
    with pytest.raises(WrongArchitectureError, match=r"simcc_x, simcc_y; expected .* dets, keypoints"):
        engine(random_mmpose.rtmpose_onnx(tmp_path / "pose.onnx")).load()


def test_joints_of_another_layout_are_refused(exported, real_frames, monkeypatch):
    detector = engine(exported)
    outputs = np.zeros((1, 2, 5), np.float32), np.zeros((1, 2, 26, 3), np.float32)
    monkeypatch.setattr(detector._network, "run", lambda pictures: outputs)
    with pytest.raises(WrongArchitectureError, match=r"\(1, 2, 26, 3\), expected .* \(N, K, 17, 3\) joints"):
        detector.detect(real_frames[:1])


def test_random_weights_are_not_used_by_accident(exported, monkeypatch):
    monkeypatch.delenv("POSECAP_RANDOM_WEIGHTS", raising=False)
    with pytest.raises(RandomWeightsError):
        engine(exported).load()


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="batch is 0"):
        RTMOOnnx(batch=0)
