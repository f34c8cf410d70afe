"""Detects people and their joints in one pass with RTMO (Apache-2.0) through onnxruntime.

Takes the ``end2end.onnx`` that MMPose's makers publish (tiny at 416, the others at 640 pixels, trained on seven data
sets of bodies), or any export by MMDeploy: one input of pictures, outputs ``dets`` (N, K, 5) and ``keypoints``
(N, K, J, 3), with non-maximum suppression inside. Pictures are fitted and joints placed as MMPose's own test pipeline
does it. (Lu et al., "RTMO: Towards High-Performance One-Stage Real-Time Multi-Person Pose Estimation", 2024.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from posecap.inference.device import Device
from posecap.inference.onnx import OnnxNetwork, crop, normalize
from posecap.interfaces import Detections
from posecap.joints import LAYOUTS
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Floats, Pixels
from posecap.weights.checkpoints import WrongArchitectureError

_SIDES = {"t": 416, "s": 640, "m": 640, "l": 640}
"""Of the square that each published export takes."""


@dataclass(frozen=True)
class RTMOOnnx(Engine):
    """Detects the people of each frame and their COCO-17 joints.

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

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)

    size: Literal["t", "s", "m", "l"] = "m"
    weights_from: str | None = None
    conf: float = 0.15
    batch: int = 16
    device: Device = "auto"
    layout: str = field(default="coco17", init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"RTMOOnnx: batch is {self.batch}, expected at least 1")

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"rtmo-{self.size}-onnx"

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.weights_from or f"rtmo-{self.size}-onnx",)

    def load(self) -> None:
        _ = self._network

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first, in pixels of the given frames. Boxes end at the frame's edges; joints,
        whose scores say how likely they are visible, may lie beyond.

        Raises:
            MissingWeightsError: the file is not on this machine and cannot be downloaded.
            CheckpointError: it is damaged, or (``WrongArchitectureError``) another network.
            TransientError: ``out_of_memory`` when not even one frame fits.
        """
        height, width = self._network.size
        # Every thread scales its own frames; only the network is run by one thread at a time.
        fitted = []
        for frame in frames_THW3:
            area = _area(frame, height, width)
            picture = crop(frame, area, height=height, width=width, outside="grey")
            fitted.append((picture[..., ::-1], area, frame.shape[:2]))
        return self._network.batches.run_together(self._people, fitted)

    def _people(self, fitted: Sequence[tuple[Pixels, Floats, tuple[int, int]]]) -> list[Detections]:
        """The people of each of ``fitted``: a picture (BGR), the area of the frame that it shows, and the frame's
        height and width."""
        pictures = np.stack([picture for picture, _, _ in fitted])
        # Grey levels as they are, as in MMPose's configurations.
        dets, keypoints = self._network.run(normalize(pictures, mean=(0, 0, 0), std=(1, 1, 1)))
        expected = len(LAYOUTS[self.layout].names)
        if dets.shape[-1] != 5 or keypoints.shape[2:] != (expected, 3):
            raise WrongArchitectureError(
                f"the outputs of {self.weights[0]} have shapes {dets.shape} and {keypoints.shape}, expected (N, K, 5) "
                f"boxes and scores and (N, K, {expected}, 3) joints"
            )
        return [self._kept(dets[i], keypoints[i], area, shape) for i, (_, area, shape) in enumerate(fitted)]

    def _kept(self, dets_K5: Floats, keypoints_KJ3: Floats, area_4: Floats, shape: tuple[int, int]) -> Detections:
        """The people of one frame in its pixels. Exports for several pictures fill up with rows of score 0."""
        order = np.argsort(-dets_K5[:, 4], kind="stable")
        order = order[(dets_K5[order, 4] >= self.conf) & (dets_K5[order, 4] > 0)]
        height, width = self._network.size
        per_pixel = area_4[2:] / (width, height)
        corner = area_4[:2] - area_4[2:] / 2
        boxes = dets_K5[order, :4].reshape(-1, 2, 2) * per_pixel + corner
        boxes = np.clip(boxes, 0, [shape[1], shape[0]]).reshape(-1, 4)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(-1)
        joints = keypoints_KJ3[order[solid]].astype(np.float32)
        joints[..., :2] = joints[..., :2] * per_pixel + corner
        joints[..., 2] = np.clip(joints[..., 2], 0, 1)
        scores = np.minimum(dets_K5[order[solid], 4], 1)
        return Detections(
            boxes_N4=boxes[solid].astype(np.float32), scores_N=scores.astype(np.float32), joints_NJ3=joints
        )

    @cached_property
    def _network(self) -> OnnxNetwork:
        side = _SIDES[self.size]
        return OnnxNetwork(
            locate(self.weights[0]),
            outputs=("dets", "keypoints"),
            device=self.device,
            batch=self.batch,
            otherwise=(side, side),
        )


def _area(frame_HW3: Pixels, height: int, width: int) -> Floats:
    """(centre x, centre y, width, height) of the area that the network's picture shows, in pixels of the frame, which
    it holds in its middle."""
    high, wide = frame_HW3.shape[:2]
    scale = min(height / high, width / wide)
    return np.array([wide / 2, high / 2, width / scale, height / scale], np.float32)
