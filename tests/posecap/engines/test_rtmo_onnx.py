"""RTMO through onnxruntime, against the same network through MMPose, and with files that are no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecap.engines.rtmo_onnx import RTMOOnnx
from posecap.interfaces import Detector
from posecap.weights.checkpoints import WrongArchitectureError

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


@pytest.mark.slow
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


@pytest.mark.parametrize(("shape", "side"), [((180, 320), 640), ((400, 100), 416)])
def test_the_frame_keeps_its_proportions_in_the_middle(shape, side):
    fitted = RTMOOnnx()._fit(np.full((*shape, 3), 200, np.uint8), side, side)
    height, width = shape
    np.testing.assert_allclose(fitted.scale_2, max(shape) / side)
    np.testing.assert_allclose(fitted.corner_2, [(width - max(shape)) / 2, (height - max(shape)) / 2])
    assert (fitted.picture_HW3[side // 2, side // 2] == 200).all()
    assert (fitted.picture_HW3[0 if height < width else side // 2, 0] == 114).all()


def test_it_fits_the_port(exported):
    detector = engine(exported)
    assert isinstance(detector, Detector)
    assert detector.layout == "coco17"
    assert detector.name == "rtmo-t-onnx"
    assert RTMOOnnx().weights == ("rtmo-m-onnx",)


def test_joints_of_another_layout_are_refused(exported, real_frames, monkeypatch):
    detector = engine(exported)
    outputs = np.zeros((1, 2, 5), np.float32), np.zeros((1, 2, 26, 3), np.float32)
    monkeypatch.setattr(detector._network, "run", lambda pictures: outputs)
    with pytest.raises(WrongArchitectureError, match=r"\(1, 2, 26, 3\), expected .* \(N, K, 17, 3\) joints"):
        detector.detect(real_frames[:1])
