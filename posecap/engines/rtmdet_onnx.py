"""Detects people's boxes with RTMDet (Apache-2.0) through onnxruntime.

Takes the ``end2end.onnx`` that MMPose's makers publish beside RTMPose (nano at 320, medium at 640 pixels, trained for
people only), or any export by MMDeploy: one input of pictures, outputs ``dets`` (N, K, 5) and ``labels`` (N, K), with
non-maximum suppression inside. A file exported for pictures of any size is given the published size. (Lyu et al.,
"RTMDet: An Empirical Study of Designing Real-Time Object Detectors", 2022.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from posecap.inference.device import Device
from posecap.inference.onnx import GREY, FittedFrame, OnnxDetector, normalize, resize
from posecap.interfaces import Detections
from posecap.types import Pixels
from posecap.weights.checkpoints import WrongArchitectureError

_PERSON = 0
"""Its class number. Rows by which exports fill up have -1."""
# RTMDet was trained on pictures in the order blue, green, red.
_MEAN, _STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


@dataclass(frozen=True)
class RTMDetOnnx(OnnxDetector):
    """Detects the people of each frame.

    Args:
        size: of the network: ``n`` (nano) has an input of 320x320 pixels, ``m`` (medium) of 640x640, unless the file
            was exported for another size.
        weights_from: name in the registry or path of an ONNX file; None takes the published one of this size.
        conf: people with a lower score, in [0, 1], are left out; below the score threshold of the non-maximum
            suppression inside the file it changes nothing.
        batch: most frames at a time; halved when memory runs out, and 1 for a file exported for single pictures.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where onnxruntime has one.

    The defaults of ``conf`` and ``batch`` are our choices.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    sides: ClassVar[Mapping[str, int]] = {"n": 320, "m": 640}
    published: ClassVar[str] = "rtmdet-{size}-person-onnx"
    outputs: ClassVar[tuple[str, str]] = ("dets", "labels")

    size: Literal["n", "m"] = "m"
    weights_from: str | None = None
    conf: float = 0.3
    batch: int = 16
    device: Device = "auto"
    layout: str | None = field(default=None, init=False, repr=False)

    def _fit(self, frame_HW3: Pixels, height: int, width: int) -> FittedFrame:
        """In the picture's upper left corner, grey to its right or below it."""
        scale = min(height / frame_HW3.shape[0], width / frame_HW3.shape[1])
        high, wide = (max(1, int(side * scale + 0.5)) for side in frame_HW3.shape[:2])
        picture = np.full((height, width, 3), GREY, np.uint8)
        picture[:high, :wide] = resize(frame_HW3, height=high, width=wide)
        return FittedFrame(
            picture_HW3=picture[..., ::-1],
            scale_2=np.array([frame_HW3.shape[1] / wide, frame_HW3.shape[0] / high], np.float32),
            corner_2=np.zeros(2, np.float32),
            shape=(frame_HW3.shape[0], frame_HW3.shape[1]),
        )

    def _people(self, fitted: Sequence[FittedFrame]) -> list[Detections]:
        pictures = np.stack([one.picture_HW3 for one in fitted])
        dets, labels = self._network.run(normalize(pictures, mean=_MEAN, std=_STD))
        if dets.shape[-1] != 5:
            raise WrongArchitectureError(
                f"the outputs of {self.weights[0]} have shape {dets.shape}, expected (N, K, 5): boxes and scores"
            )
        found = []
        for i, one in enumerate(fitted):
            _, boxes, scores = self._boxes(dets[i], one, among=labels[i] == _PERSON)
            found.append(Detections(boxes_N4=boxes, scores_N=scores))
        return found
