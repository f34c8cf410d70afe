"""Estimates joints with RTMPose through MMPose: its own configuration, pre-processing, network and post-processing.

Top-down: each person's box is made a quarter larger, extended to 3:4 (width to height), and scaled to 192x256 pixels;
the network gives for each joint the likelihood of every half pixel of the two axes (SimCC), and the likeliest is taken.
(Jiang et al., "RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose", 2023.) Nothing is downloaded, and the
checkpoint is read without running code from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from posecap.inference.crops import Joints, PersonCrop, RTMPoseEstimator, Size
from posecap.inference.device import Device, Precision, torch_device, torch_dtype
from posecap.inference.package_compat import ensure_mmpose
from posecap.joints import flip_order
from posecap.models import locate
from posecap.types import Floats, Pixels
from posecap.weights import checkpoints

if TYPE_CHECKING:
    import torch

_FOLDER = "body_2d_keypoint/rtmpose/body8"
"""In the package's folder of configurations: RTMPose as trained on eight data sets of bodies."""
# MMPose's configurations by size and layout; their names say batch and epochs of the training.
_CONFIGS: dict[tuple[str, str], str] = {
    **{(size, "coco17"): f"rtmpose-{size}_8xb256-420e_body8-256x192.py" for size in "tsml"},
    **{(size, "halpe26"): f"rtmpose-{size}_8xb1024-700e_body8-halpe26-256x192.py" for size in "ts"},
    **{(size, "halpe26"): f"rtmpose-{size}_8xb512-700e_body8-halpe26-256x192.py" for size in "ml"},
}


@dataclass(frozen=True)
class RTMPose(RTMPoseEstimator):
    """Estimates the joints of every tracked person in every frame.

    Args:
        size: of the network: ``t`` (tiny), ``s`` (small), ``m`` (medium) or ``l`` (large).
        joints: layout of the joints, ``coco17`` or ``halpe26``.
        weights_from: name in the registry or path of a checkpoint; None takes the one that was published for this size
            and layout.
        flip_test: ``on``, as in the published configurations, computes the mirrored crop too and takes the mean;
            ``off`` does not.
        batch: most crops at a time, 1 or more; halved when memory runs out.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where it has one
            (:func:`posecap.inference.device.torch_device`).
        precision: ``fp32``, ``bf16``, or ``auto``, which is bf16 on a GPU. Bfloat16 is coarser than the differences
            between neighbouring half pixels of a wide peak, so some joints move by a pixel of the crop.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("mmpose", "mmdet", "mmengine", "opencv-python", "torch")
    extra: ClassVar[str] = "mmpose"
    modules: ClassVar[tuple[str, ...]] = ("mmdet", "mmengine")  # ensure_mmpose says how to get mmpose itself

    size: Size = "m"
    joints: Joints = "coco17"
    weights_from: str | None = None
    flip_test: Literal["on", "off"] = "on"
    batch: int = 64
    device: Device = "auto"
    precision: Precision = "fp32"

    def load(self) -> None:
        _ = self._network

    def _crops(self, frames_THW3: Pixels, seen: Sequence[PersonCrop]) -> list[dict[str, Any]]:
        """Each crop as MMPose's own test pipeline prepares it."""
        crops = []
        score, flipped = np.ones(1, np.float32), list(flip_order(self.joints))
        for frame, people in groupby(seen, key=lambda crop: crop.frame):
            picture = np.ascontiguousarray(frames_THW3[frame][..., ::-1])  # BGR
            crops += [
                self._pipeline({"img": picture, "bbox": crop.box_4[None], "bbox_score": score, "flip_indices": flipped})
                for crop in people
            ]
        return crops

    def _predict(self, crops: Sequence[dict[str, Any]]) -> list[Floats]:
        """(J, 3) for each crop: MMPose's own steps, on crops of any number of frames."""
        import torch
        from mmengine.dataset import pseudo_collate

        network, device = self._network, self._device
        dtype = torch_dtype(self.precision, device)
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            collated = pseudo_collate(list(crops))
            collated["inputs"] = torch.stack(collated["inputs"])  # one transfer to the GPU for all of them
            data = network.data_preprocessor(collated, False)
            samples = network.predict(data["inputs"], data["data_samples"])
        people = [sample.pred_instances for sample in samples]
        return [np.concatenate([p.keypoints[0], p.keypoint_scores[0][:, None]], -1) for p in people]

    @cached_property
    def _device(self) -> torch.device:
        return torch_device(self.device)

    @cached_property
    def _config(self) -> Any:
        """MMPose's own configuration of this size and layout, for inference."""
        ensure_mmpose()
        import mmpose
        from mmengine.config import Config

        path = Path(mmpose.__file__).parent / ".mim" / "configs" / _FOLDER / _CONFIGS[self.size, self.joints]
        config = Config.fromfile(path)
        config.model.backbone.init_cfg = None  # else it would download the weights that training began with
        config.model.train_cfg = None
        config.model.test_cfg.flip_test = self.flip_test == "on"
        return config

    @cached_property
    def _pipeline(self) -> Any:
        config = self._config
        from mmengine.dataset import Compose
        from mmengine.registry import DefaultScope

        with DefaultScope.overwrite_default_scope("mmpose"):
            return Compose(config.test_dataloader.dataset.pipeline)

    @cached_property
    def _network(self) -> Any:
        """The network with its weights, in evaluation mode, on the device."""
        path = locate(self.weights[0])
        config = self._config
        from mmengine.model.utils import revert_sync_batchnorm
        from mmengine.registry import DefaultScope
        from mmpose.models.builder import build_pose_estimator

        with DefaultScope.overwrite_default_scope("mmpose"):
            network = revert_sync_batchnorm(build_pose_estimator(config.model))
        checkpoints.load_into(network, checkpoints.tensors(path), path=path)
        for axis in (network.head.cls_x, network.head.cls_y):
            axis.register_forward_hook(_to_float32)
        return network.eval().to(self._device)


def _to_float32(_: object, __: object, distribution: torch.Tensor) -> torch.Tensor:
    """For a forward hook: MMPose finds the likeliest position in numpy, which has no bfloat16."""
    return distribution.float()
