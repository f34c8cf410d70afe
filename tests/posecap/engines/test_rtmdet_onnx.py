"""RTMDet through onnxruntime, against the same network through MMDetection, and with files that are no good."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from posecap.engines.rtmdet_onnx import RTMDetOnnx
from posecap.interfaces import Detector

pytest.importorskip("onnxruntime")
pytest.importorskip("mmpose")
pytest.importorskip("onnx")

import onnx
import torch

from tests.random_weights import mmpose as random_mmpose


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    return random_mmpose.rtmdet_onnx(tmp_path_factory.mktemp("weights") / "rtmdet-n.onnx")


def engine(path: Path, **changes) -> RTMDetOnnx:
    return RTMDetOnnx(**{"size": "n", "weights_from": str(path), "device": "cpu", "conf": 0.05, **changes})


def own_inference(frame: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores by MMDetection's test pipeline, network and post-processing."""
    from mmdet.apis import inference_detector
    from mmengine.config import Config

    network = random_mmpose.rtmdet_network("n")
    loaded = [
        {"type": "mmdet.LoadImageFromNDArray"},
        {"type": "mmdet.Resize", "scale": (320, 320), "keep_ratio": True},
        {"type": "mmdet.Pad", "size": (320, 320), "pad_val": {"img": (114, 114, 114)}},
        {"type": "mmdet.PackDetInputs", "meta_keys": ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")},
    ]
    network.cfg = Config({"test_dataloader": {"dataset": {"pipeline": loaded}}, "default_scope": "mmdet"})
    with torch.no_grad():
        found = inference_detector(network, np.ascontiguousarray(frame[..., ::-1])).pred_instances
    return found.bboxes.numpy(), found.scores.numpy()


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 3])
def test_boxes_are_those_of_mmdetections_own_inference(exported, real_frames, at):
    height, width = real_frames.shape[1:3]
    (got,) = engine(exported).detect(real_frames[at : at + 1])
    boxes, scores = own_inference(real_frames[at])
    boxes = np.clip(boxes, 0, [width, height, width, height])  # MMDetection also looks into the grey border
    inside = (boxes[:, 2:] > boxes[:, :2]).all(-1)
    assert inside.sum() > 30
    assert len(got.scores_N) == inside.sum()
    np.testing.assert_allclose(got.scores_N, scores[inside], atol=1e-3)
    apart = np.abs(got.boxes_N4[:, None] - boxes[inside][None]).max(-1)  # equal scores may come in any order
    assert apart.min(0).max() < 0.1
    assert apart.min(1).max() < 0.1


@pytest.mark.slow
def test_an_export_for_any_size_finds_what_one_for_the_published_size_does(exported, real_frames, tmp_path):
    path = random_mmpose.rtmdet_onnx(tmp_path / "dynamic.onnx", pictures="any")
    sides = onnx.load(path).graph.input[0].type.tensor_type.shape.dim
    assert [side.dim_param for side in sides][2:] == ["height", "width"]
    for fixed, open_ in zip(engine(exported).detect(real_frames), engine(path).detect(real_frames), strict=True):
        assert len(fixed.scores_N) > 30
        np.testing.assert_allclose(open_.scores_N, fixed.scores_N, atol=1e-5)
        np.testing.assert_allclose(open_.boxes_N4, fixed.boxes_N4, atol=0.01)


@pytest.mark.parametrize(("size", "side"), [("n", 320), ("m", 640)])
def test_an_export_for_any_batch_and_size_is_given_the_published_size(real_frames, tmp_path, size, side):
    """The network of this file finds one person of the height and width of its input."""
    detector = engine(whole_picture(tmp_path / "whole.onnx"), size=size)
    height, width = real_frames.shape[1:3]
    found = detector.detect(real_frames)
    assert detector._network.size == (side, side)
    for one in found:
        np.testing.assert_allclose(one.boxes_N4, [[0, 0, width, height]], atol=0.5)


def whole_picture(path: Path) -> Path:
    """An ONNX file with every side of its input open: of each picture a box (0, 0, width, height) of score 0.9."""
    from onnx import TensorProto, helper

    def constant(name: str, values: list[float], kind: int) -> object:
        return helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, [len(values)], values))

    nodes = [
        helper.make_node("Shape", ["input"], ["shape"]),
        *(constant(name, [at], TensorProto.INT64) for name, at in (("0", 0), ("1", 1), ("2", 2), ("3", 3))),
        *(helper.make_node("Gather", ["shape", at], [out]) for at, out in (("0", "n"), ("2", "h"), ("3", "w"))),
        helper.make_node("Cast", ["w"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["h"], ["high"], to=TensorProto.FLOAT),
        constant("corner", [0.0, 0.0], TensorProto.FLOAT),
        constant("score", [0.9], TensorProto.FLOAT),
        constant("five", [5], TensorProto.INT64),
        helper.make_node("Concat", ["corner", "wide", "high", "score"], ["row"], axis=0),
        helper.make_node("Concat", ["n", "1", "five"], ["dets_shape"], axis=0),
        helper.make_node("Expand", ["row", "dets_shape"], ["dets"]),
        helper.make_node("Concat", ["n", "1"], ["labels_shape"], axis=0),
        helper.make_node("Expand", ["0", "labels_shape"], ["labels"]),
    ]
    graph = helper.make_graph(
        nodes,
        "whole",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, "height", "width"])],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["batch", "people", 5]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch", "people"]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_it_fits_the_port(exported):
    detector = engine(exported)
    assert isinstance(detector, Detector)
    assert detector.layout is None
    assert detector.name == "rtmdet-n-person-onnx"
    assert RTMDetOnnx().weights == ("rtmdet-m-person-onnx",)


def test_the_frame_keeps_its_proportions_and_grey_fills_the_rest():
    fitted = RTMDetOnnx()._fit(np.full((180, 320, 3), 200, np.uint8), 640, 640)
    np.testing.assert_array_equal(fitted.scale_2, 0.5)
    assert (fitted.picture_HW3[:360] == 200).all()
    assert (fitted.picture_HW3[360:] == 114).all()
    fitted = RTMDetOnnx()._fit(np.full((333, 100, 3), 200, np.uint8), 320, 320)
    np.testing.assert_allclose(fitted.scale_2, [100 / 96, 333 / 320])
    assert (fitted.picture_HW3[:, 96:] == 114).all()
