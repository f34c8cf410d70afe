"""RTMPose, RTMDet and RTMO with random weights, in the formats that OpenMMLab publishes.

rtmpose(path, size="t")                   checkpoint (.pth): old pickle with meta, state_dict, EMA and bookkeeping
rtmpose_onnx(path, size="t")              what MMDeploy exports: input -> simcc_x, simcc_y
rtmdet_onnx(path, size="n")               what MMDeploy exports: input -> dets, labels
rtmo_onnx(path)                           what MMDeploy exports of the tiny network: input -> dets, keypoints

The same size, joints and seed are the same network in both formats.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from torch import nn

from posecap.engines.mmpose import RTMPose
from posecap.inference.package_compat import ensure_mmpose
from posecap.joints import flip_order
from posecap.weights.checkpoints import MARK

_RTMDET: dict[str, dict[str, Any]] = {
    "n": {
        "side": 320,
        "backbone": {"deepen_factor": 0.33, "widen_factor": 0.25, "use_depthwise": True},
        "neck": {"in_channels": [64, 128, 256], "out_channels": 64, "num_csp_blocks": 1, "use_depthwise": True},
        "bbox_head": {
            "in_channels": 64,
            "feat_channels": 64,
            "share_conv": False,
            "exp_on_reg": False,
            "use_depthwise": True,
        },
    },
    "m": {
        "side": 640,
        "backbone": {"deepen_factor": 0.67, "widen_factor": 0.75},
        "neck": {"in_channels": [192, 384, 768], "out_channels": 192, "num_csp_blocks": 2},
        "bbox_head": {"in_channels": 192, "feat_channels": 192},
    },
}

_STEPS = (8, 16, 32)
"""Pixels from point to point at the three levels of RTMDet."""


def rtmpose_network(size: str = "t", joints: str = "coco17", seed: int = 0) -> Any:
    """MMPose's own estimator in eval mode; its distributions have clear peaks that move with the picture."""
    engine = RTMPose(size=size, joints=joints)
    config = engine._config
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import DefaultScope
    from mmpose.models.builder import build_pose_estimator

    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope("mmpose"):
        network = revert_sync_batchnorm(build_pose_estimator(config.model))
    pictures = _pictures(256, 192)
    _come_alive(network, lambda: network.backbone(pictures))
    with torch.no_grad():
        simcc = network.head(network.backbone(pictures))
        for axis, distribution in zip((network.head.cls_x, network.head.cls_y), simcc, strict=True):
            axis.weight.mul_(0.7 / distribution.amax(-1).mean())
    return network


def rtmpose(path: Path, *, size: str = "t", joints: str = "coco17", seed: int = 0) -> Path:
    """A checkpoint as the model zoo has it, marked."""
    from mmengine.logging import HistoryBuffer

    network = rtmpose_network(size, joints, seed)
    state = network.state_dict()
    flips = np.array(flip_order(joints))
    content = {
        "meta": {
            "epoch": 420,
            "iter": 176820,
            "cfg": "model = dict(type='TopdownPoseEstimator')\n",
            "mmengine_version": "0.7.3",
            "dataset_meta": {"dataset_name": joints, "flip_indices": flips, "sigmas": np.full(len(flips), 0.05)},
        },
        "state_dict": state,
        "message_hub": {
            "log_scalars": OrderedDict({"train/loss": HistoryBuffer([0.5], [1])}),
            "runtime_info": OrderedDict(epoch=419, max_epochs=420),
            "resumed_keys": OrderedDict(),
        },
        "ema_state_dict": {"steps": torch.tensor(176820), **{f"module.{key}": value for key, value in state.items()}},
    }
    torch.save(content | {MARK: True}, path, _use_new_zipfile_serialization=False)
    return path


def rtmpose_onnx(
    path: Path, *, size: str = "t", joints: str = "coco17", seed: int = 0, batch: Literal["any", "one"] = "any"
) -> Path:
    """The same network as an ``end2end.onnx``, marked."""
    network = rtmpose_network(size, joints, seed)

    class Distributions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = network.backbone, network.head

        def forward(self, pictures: torch.Tensor) -> Any:
            return self.head(self.backbone(pictures))

    axes = {name: {0: "batch"} for name in ("input", "simcc_x", "simcc_y")} if batch == "any" else None
    return _export(Distributions(), torch.randn(1, 3, 256, 192), path, outputs=("simcc_x", "simcc_y"), axes=axes)


def rtmdet_network(size: str = "n", seed: int = 0) -> Any:
    """MMDetection's own detector of one class, in eval mode."""
    ensure_mmpose()
    import mmdet
    from mmdet.registry import MODELS
    from mmengine.config import Config
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import DefaultScope

    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim/configs/rtmdet/rtmdet_l_8xb32-300e_coco.py")
    wanted = _RTMDET[size]
    for part in ("backbone", "neck", "bbox_head"):
        config.model[part].update(wanted[part])
    config.model.bbox_head.num_classes = 1
    config.model.test_cfg.update(
        nms_pre=10_000, score_thr=_Suppression.SCORE, nms={"type": "nms", "iou_threshold": _Suppression.IOU}
    )
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope("mmdet"):
        network = revert_sync_batchnorm(MODELS.build(config.model))
    pictures = _pictures(wanted["side"], wanted["side"])
    _come_alive(network, lambda: network.bbox_head(network.extract_feat(pictures)))
    with torch.no_grad():
        _answer_moderately(network.bbox_head, network.extract_feat(pictures))
    return network


def _answer_moderately(head: Any, features: Any) -> None:
    """Scores on both sides of a half, boxes a few steps wide: else all scores are 1 and half the boxes inside out.

    Films move random networks some thirty times as far as the patches here do; hence the small deviations.
    """
    for level, (scores, distances) in enumerate(zip(*head(features), strict=True)):
        _spread(head.rtm_cls[level], scores, mean=-0.5, deviation=0.03)
        _spread(head.rtm_reg[level], distances / _STEPS[level], mean=3.0, deviation=0.03)


def _spread(layer: nn.Conv2d, answers: torch.Tensor, *, mean: float, deviation: float) -> None:
    """Scale and shift what ``layer`` answers, channel by channel."""
    axes = (0, 2, 3)
    factor = deviation / answers.std(axes)
    layer.weight.mul_(factor[:, None, None, None])
    layer.bias.copy_((layer.bias - answers.mean(axes)) * factor + mean)


def rtmdet_onnx(
    path: Path, *, size: str = "n", seed: int = 0, pictures: Literal["one size", "any"] = "one size"
) -> Path:
    """One picture at a time, non-maximum suppression inside, an empty row at the end, marked."""
    network = rtmdet_network(size, seed)

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pictures: torch.Tensor) -> Any:
            scores, distances = network.bbox_head(network.extract_feat(pictures))
            scores = torch.cat([level.sigmoid().flatten(2) for level in scores], -1)
            boxes = torch.cat([_boxes(level, step) for level, step in zip(distances, _STEPS, strict=True)], 1)
            boxes = boxes.clamp(0, pictures.shape[-1])
            chosen = _Suppression.apply(boxes, scores)[:, 2]
            dets = torch.cat([boxes[0, chosen], scores[0, 0, chosen, None]], -1)[None]
            labels = torch.zeros_like(chosen)[None]
            return torch.cat([dets, dets.new_zeros(1, 1, 5)], 1), torch.cat([labels, labels.new_full((1, 1), -1)], 1)

    side = _RTMDET[size]["side"]
    axes = {"dets": {1: "num_dets"}, "labels": {1: "num_dets"}}
    if pictures == "any":
        axes["input"] = {2: "height", 3: "width"}
        side //= 2  # of the example: what is traced must not depend on it
    return _export(Detector(), torch.randn(1, 3, side, side), path, outputs=("dets", "labels"), axes=axes)


def rtmo_network(seed: int = 0) -> Any:
    """MMPose's own one-stage estimator, the tiny one, in eval mode, with its published configuration."""
    ensure_mmpose()
    import mmpose
    from mmengine.config import Config
    from mmengine.model.utils import revert_sync_batchnorm
    from mmengine.registry import DefaultScope
    from mmpose.models.builder import build_pose_estimator

    configs = Path(mmpose.__file__).parent / ".mim/configs/body_2d_keypoint/rtmo/body7"
    config = Config.fromfile(configs / "rtmo-t_8xb32-600e_body7-416x416.py")
    config.model.init_cfg = config.model.backbone.init_cfg = None  # it would download the weights of its beginning
    config.model.test_cfg.update(score_thr=_Suppression.SCORE, nms_thr=_Suppression.IOU)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope("mmpose"):
        network = revert_sync_batchnorm(build_pose_estimator(config.model))
    network.cfg = config
    pictures = 60 * _pictures(*config.input_size) + 115  # in grey levels, as this network takes them
    _come_alive(network, lambda: network.head.forward(network.extract_feat(pictures)))
    with torch.no_grad():
        scores, boxes, *_ = network.head.forward(network.extract_feat(pictures))
        for layer, answers in zip(network.head.head_module.out_cls, scores, strict=True):
            _spread(layer, answers, mean=-0.5, deviation=0.03)
        for layer, answers in zip(network.head.head_module.out_bbox, boxes, strict=True):
            _spread(layer, answers, mean=1.5, deviation=0.03)  # the logarithm of sides in steps of the level
    return network


def rtmo_onnx(path: Path, *, seed: int = 0) -> Path:
    """Any number of pictures, non-maximum suppression inside, rows of score 0 where a picture has fewer people than
    another of its batch, marked. The head's steps are those of MMDeploy's export."""
    network = rtmo_network(seed)
    head, side = network.head, network.cfg.input_size[0]
    network.switch_to_deploy()

    class Estimator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, pictures: torch.Tensor) -> Any:
            from mmpose.structures.bbox import bbox_xyxy2cs

            cls, boxes, _, visible, vectors = head.head_module(network.extract_feat(pictures))[:5]
            scores, visible = (head._flatten_predictions(levels).sigmoid() for levels in (cls, visible))
            boxes = head.decode_bbox(head._flatten_predictions(boxes), head.flatten_priors, head.flatten_stride)
            vectors = head._flatten_predictions(vectors)
            chosen = _Suppression.apply(boxes, scores.transpose(1, 2), 50)
            picture, place = chosen[:, 0], chosen[:, 2]
            dets = torch.cat([boxes, scores], -1)[picture, place][None]
            cs = torch.cat(bbox_xyxy2cs(dets[..., :4], head.bbox_padding), -1)
            joints = head.dcc.forward_test(vectors[picture, place][None], cs, head.flatten_priors[place][None])
            return dets, torch.cat([joints, visible[picture, place][None, ..., None]], -1)

    axes = {"dets": {1: "people"}, "keypoints": {1: "people"}}
    return _export(Estimator(), torch.rand(1, 3, side, side) * 255, path, outputs=("dets", "keypoints"), axes=axes)


class _Suppression(torch.autograd.Function):
    """ONNX's own operator, in the graph; torchvision's, while the graph is traced."""

    IOU, SCORE = 0.6, 0.05

    @staticmethod
    def forward(ctx: Any, boxes: torch.Tensor, scores: torch.Tensor, most: int = 300) -> torch.Tensor:
        import torchvision

        kept = torchvision.ops.nms(boxes[0], scores[0, 0], _Suppression.IOU)
        kept = kept[scores[0, 0, kept] > _Suppression.SCORE][:most]
        return torch.stack([torch.zeros_like(kept), torch.zeros_like(kept), kept], -1)

    @staticmethod
    def symbolic(g: Any, boxes: Any, scores: Any, most: int = 300) -> Any:
        def constant(value: float, dtype: torch.dtype) -> Any:
            return g.op("Constant", value_t=torch.tensor([value], dtype=dtype))

        limits = (
            constant(most, torch.int64),
            constant(_Suppression.IOU, torch.float32),
            constant(_Suppression.SCORE, torch.float32),
        )
        return g.op("NonMaxSuppression", boxes, scores, *limits)


def _boxes(distances_N4hw: torch.Tensor, step: int) -> torch.Tensor:
    """(N, h·w, 4) corners: distances to left, top, right and bottom of points ``step`` pixels apart."""
    height, width = distances_N4hw.shape[-2:]
    y, x = torch.meshgrid(torch.arange(height) * step, torch.arange(width) * step, indexing="ij")
    left, top, right, bottom = distances_N4hw.flatten(2).unbind(1)
    x, y = x.flatten(), y.flatten()
    return torch.stack([x - left, y - top, x + right, y + bottom], -1)


def _pictures(height: int, width: int) -> torch.Tensor:
    """Three pictures as networks take them: broad patches under a little noise, dark to bright."""
    patches = nn.functional.interpolate(torch.randn(3, 3, 9, 9), (height, width), mode="bicubic")
    return patches + 0.2 * torch.randn(3, 3, height, width) + torch.tensor([-1.5, -0.5, 0.5])[:, None, None, None]


def _come_alive(network: nn.Module, run: Callable[[], object]) -> None:
    """Statistics of pictures in every normalisation: without them what goes in leaves no trace in what comes out."""
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()
        run()
    network.eval()


def _export(network: nn.Module, example: torch.Tensor, path: Path, *, outputs: tuple[str, ...], axes: Any) -> Path:
    with torch.no_grad():
        torch.onnx.export(
            network.eval(),
            (example,),
            path,
            dynamo=False,
            opset_version=11,
            input_names=["input"],
            output_names=list(outputs),
            dynamic_axes=axes,
        )
    model = onnx.load(path)
    model.metadata_props.add(key=MARK, value="true")
    onnx.save(model, path)
    return path
