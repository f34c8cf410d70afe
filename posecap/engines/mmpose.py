"""RTMPose through MMPose: the package's own configuration, pre-processing, network and post-processing.

Top-down: each person's box is widened by a quarter, brought to 3:4, and warped to 192x256 pixels; the network says
for each joint how likely every half pixel of the two axes is (SimCC), and the likeliest is the answer. (Jiang et al.,
"RTMPose: Real-Time Multi-Person Pose Estimation based on MMPose", 2023.) Nothing is downloaded, and the checkpoint is
read without running code from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from posecap.inference.crops import PersonCrop, person_crops, scatter_keypoints
from posecap.inference.device import Batches, Device, Precision, torch_device, torch_dtype
from posecap.inference.package_compat import ensure_mmpose
from posecap.joints import LAYOUTS, flip_order
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Floats, Pixels, Tracks
from posecap.weights import checkpoints

if TYPE_CHECKING:
    import torch

Size = Literal["t", "s", "m", "l"]
Joints = Literal["coco17", "halpe26"]

_FOLDER = "body_2d_keypoint/rtmpose/body8"
_CONFIGS: dict[tuple[str, str], str] = {
    ("t", "coco17"): "rtmpose-t_8xb256-420e_body8-256x192.py",
    ("s", "coco17"): "rtmpose-s_8xb256-420e_body8-256x192.py",
    ("m", "coco17"): "rtmpose-m_8xb256-420e_body8-256x192.py",
    ("l", "coco17"): "rtmpose-l_8xb256-420e_body8-256x192.py",
    ("t", "halpe26"): "rtmpose-t_8xb1024-700e_body8-halpe26-256x192.py",
    ("s", "halpe26"): "rtmpose-s_8xb1024-700e_body8-halpe26-256x192.py",
    ("m", "halpe26"): "rtmpose-m_8xb512-700e_body8-halpe26-256x192.py",
    ("l", "halpe26"): "rtmpose-l_8xb512-700e_body8-halpe26-256x192.py",
}


@dataclass(frozen=True)
class RTMPose(Engine):
    """Joints of every tracked person in every frame, all crops of a clip in shared batches.

    Args:
        size: of the network.
        joints: layout that it gives.
        weights_from: name in the catalogue or path of a checkpoint; None takes the published one of this size.
        flip_test: ``on``, as the published configurations say, also looks at the mirrored crop and takes the mean.
        batch: most crops at a time; halved when memory runs out.
        precision: fp32 unless asked otherwise. Bfloat16 is coarser than the differences between neighbouring half
            pixels of a wide peak, so joints move by a pixel of the crop here and there.
    """

    packages: ClassVar[tuple[str, ...]] = ("mmpose", "mmdet", "mmengine", "opencv-python", "torch")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)

    size: Size = "m"
    joints: Joints = "coco17"
    weights_from: str | None = None
    flip_test: Literal["on", "off"] = "on"
    batch: int = 64
    device: Device = "auto"
    precision: Precision = "fp32"

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"rtmpose-{self.size}-{self.joints}"

    @property
    def layout(self) -> str:
        return self.joints

    @property
    def weights(self) -> tuple[str, ...]:
        published = f"rtmpose-{self.size}" + ("-body26" if self.joints == "halpe26" else "")
        return (self.weights_from or published,)

    def load(self) -> None:
        _ = self._network

    def estimate(self, frames_THW3: Pixels, tracks: Tracks) -> Floats:
        """Joints (M, T, J, 3) float32 in pixels of the given frames + score, zeros where a person is not seen.

        Raises:
            MissingWeightsError: the checkpoint is not here.
            CheckpointError: it is damaged, hostile, or (``WrongArchitectureError``) of another network.
            TransientError: ``out_of_memory`` when not even one crop fits.
        """
        seen = person_crops(tracks)
        # Cropped by the caller's own thread; only the network waits for its turn.
        found = self._batches.run_together(self._look, self._crops(frames_THW3, seen))
        shape = (tracks.people, frames_THW3.shape[0])
        return scatter_keypoints(found, seen, shape_MT=shape, count=len(LAYOUTS[self.layout].names))

    def _crops(self, frames_THW3: Pixels, seen: Sequence[PersonCrop]) -> list[dict[str, Any]]:
        """What MMPose's own test pipeline makes of each crop."""
        crops: list[dict[str, Any]] = []
        for _, of_frame in groupby(seen, key=lambda crop: crop.frame):
            sights_here = list(of_frame)
            picture = np.ascontiguousarray(frames_THW3[sights_here[0].frame][..., ::-1])  # BGR
            crops += [self._pipeline(self._wanted(picture, crop.box_4)) for crop in sights_here]
        return crops

    def _look(self, crops: Sequence[dict[str, Any]]) -> list[Floats]:
        """(J, 3) for each crop: MMPose's own steps, on crops of any number of frames."""
        import torch
        from mmengine.dataset import pseudo_collate

        network, device = self._network, self._device
        dtype = torch_dtype(self.precision, device)
        with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            collated = pseudo_collate(list(crops))
            collated["inputs"] = torch.stack(collated["inputs"])  # one way to the GPU for all of them
            data = network.data_preprocessor(collated, False)
            samples = network.predict(data["inputs"], data["data_samples"])
        people = [sample.pred_instances for sample in samples]
        return [np.concatenate([p.keypoints[0], p.keypoint_scores[0][:, None]], -1) for p in people]

    def _wanted(self, picture_HW3: Pixels, box_4: Floats) -> dict[str, Any]:
        """What MMPose's test pipeline takes for one person."""
        return {
            "img": picture_HW3,
            "bbox": box_4[None],
            "bbox_score": np.ones(1, np.float32),
            "flip_indices": list(flip_order(self.joints)),
        }

    @cached_property
    def _batches(self) -> Batches:
        return Batches(self.batch)

    @cached_property
    def _device(self) -> torch.device:
        return torch_device(self.device)

    @cached_property
    def _config(self) -> Any:
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
    """numpy, in which MMPose looks for the likeliest place, has no bfloat16."""
    return distribution.float()
