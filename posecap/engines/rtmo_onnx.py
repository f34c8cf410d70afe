"""Detects people and their joints in one pass with RTMO (Apache-2.0) through onnxruntime.

Takes the ``end2end.onnx`` that MMPose's makers publish (tiny at 416, the others at 640 pixels, trained on seven data
sets of bodies), or any export by MMDeploy: one input of pictures, outputs ``dets`` (N, K, 5) and ``keypoints``
(N, K, J, 3), with non-maximum suppression inside. Pictures are fitted and joints placed as MMPose's own test pipeline
does it. (Lu et al., "RTMO: Towards High-Performance One-Stage Real-Time Multi-Person Pose Estimation", 2024.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from posecap.inference.device import Device
from posecap.inference.onnx import FittedFrame, OnnxDetector, crop, normalize
from posecap.interfaces import Detections
from posecap.joints import LAYOUTS
from posecap.types import Pixels
from posecap.weights.checkpoints import WrongArchitectureError


@dataclass(frozen=True)
class RTMOOnnx(OnnxDetector):
    """Detects the people of each frame and their COCO-17 joints, whose scores say how likely they are visible.

    Args:
        size: of the network: ``t`` (tiny) has an input of 416x416 pixels, ``s`` (small), ``m`` (medium) and ``l``
            (large) of 640x640, unless the file was exported for another size.
        weights_from: name in the registry or path of an ONNX file; None takes the published one of this size.
        conf: people with a lower score, in [0, 1], are left out; below the score threshold of the non-maximum
            suppression inside the file it changes nothing.
        batch: most frames at a time; halved when memory runs out, and 1 for a file exported for single pictures.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where onnxruntime has one.

    The defaults of ``conf`` and ``batch`` are our choices.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    sides: ClassVar[Mapping[str, int]] = {"t": 416, "s": 640, "m": 640, "l": 640}
    published: ClassVar[str] = "rtmo-{size}-onnx"
    outputs: ClassVar[tuple[str, str]] = ("dets", "keypoints")

    size: Literal["t", "s", "m", "l"] = "m"
    weights_from: str | None = None
    conf: float = 0.15
    batch: int = 16
    device: Device = "auto"
    layout: str = field(default="coco17", init=False, repr=False)

    def _fit(self, frame_HW3: Pixels, height: int, width: int) -> FittedFrame:
        """In the picture's middle, grey around it."""
        high, wide = frame_HW3.shape[:2]
        scale = min(height / high, width / wide)
        area = np.array([wide / 2, high / 2, width / scale, height / scale], np.float32)
        picture = crop(frame_HW3, area, height=height, width=width, outside="grey")
        return FittedFrame(
            picture_HW3=picture[..., ::-1],
            scale_2=area[2:] / (width, height),
            corner_2=area[:2] - area[2:] / 2,
            shape=(high, wide),
        )

    def _people(self, fitted: Sequence[FittedFrame]) -> list[Detections]:
        # Grey levels as they are, as in MMPose's configurations.
        pictures = np.stack([one.picture_HW3 for one in fitted])
        dets, keypoints = self._network.run(normalize(pictures, mean=(0, 0, 0), std=(1, 1, 1)))
        expected = len(LAYOUTS[self.layout].names)
        if dets.shape[-1] != 5 or keypoints.shape[2:] != (expected, 3):
            raise WrongArchitectureError(
                f"the outputs of {self.weights[0]} have shapes {dets.shape} and {keypoints.shape}, expected (N, K, 5) "
                f"boxes and scores and (N, K, {expected}, 3) joints"
            )
        found = []
        for i, one in enumerate(fitted):
            kept, boxes, scores = self._boxes(dets[i], one)
            joints = keypoints[i, kept].astype(np.float32)
            joints[..., :2] = joints[..., :2] * one.scale_2 + one.corner_2
            joints[..., 2] = np.clip(joints[..., 2], 0, 1)
            found.append(Detections(boxes_N4=boxes, scores_N=scores, joints_NJ3=joints))
        return found
