"""RTMPose through onnxruntime: the network of :mod:`posecap.engines.mmpose`, for those who do not install MMPose.

Takes the ``end2end.onnx`` that MMPose's makers publish, or any export by MMDeploy: input pictures (N, 3, 256, 192),
outputs ``simcc_x`` and ``simcc_y``. Pre- and post-processing are those of MMPose without flip test, which no
published file holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from posecap.inference.crops import Joints, PersonCrop, Size, TopDownEstimator
from posecap.inference.device import Batches, Device
from posecap.inference.onnx_session import OnnxNetwork, normalize, sample
from posecap.joints import LAYOUTS
from posecap.models import locate
from posecap.types import Floats, Pixels
from posecap.weights.checkpoints import WrongArchitectureError

_PADDING = 1.25
_PER_PIXEL = 2.0
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class RTMPoseOnnx(TopDownEstimator):
    """Joints of every tracked person in every frame, all crops of a clip in shared batches.

    Args:
        size: of the network.
        joints: layout that it gives.
        weights_from: name in the registry or path of an ONNX file; None takes the published one of this size.
        batch: most crops at a time; halved when memory runs out, and 1 for a file exported for single crops.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")
    suffix: ClassVar[str] = "-onnx"

    size: Size = "m"
    joints: Joints = "coco17"
    weights_from: str | None = None
    batch: int = 64
    device: Device = "auto"

    def load(self) -> None:
        _ = self._network

    def _crops(self, frames_THW3: Pixels, seen: Sequence[PersonCrop]) -> list[tuple[Pixels, Floats]]:
        """Each crop with the area that it shows."""
        height, width = self._network.size
        areas = [_area(crop.box_4, ratio=width / height) for crop in seen]
        return [
            (_crop(frames_THW3[crop.frame], area, height, width), area) for crop, area in zip(seen, areas, strict=True)
        ]

    def _look(self, crops: Sequence[tuple[Pixels, Floats]]) -> list[Floats]:
        height, width = self._network.size
        pictures, areas = zip(*crops, strict=True)
        simcc_x, simcc_y = self._network.run(normalize(np.stack(pictures), mean=_MEAN, std=_STD))
        if simcc_x.shape[1] != len(LAYOUTS[self.layout].names):
            raise WrongArchitectureError(
                f"the network of {self.weights[0]} gives {simcc_x.shape[1]} joints, and {self.layout} has "
                f"{len(LAYOUTS[self.layout].names)}; name the joints of these weights"
            )
        places, scores = _likeliest(simcc_x, simcc_y)
        centres, scales = np.stack([a[:2] for a in areas]), np.stack([a[2:] for a in areas])
        places = places / (width, height) * scales[:, None] + centres[:, None] - 0.5 * scales[:, None]
        return list(np.concatenate([places, scores[..., None]], -1).astype(np.float32))

    @cached_property
    def _network(self) -> OnnxNetwork:
        return OnnxNetwork(
            locate(self.weights[0]), outputs=("simcc_x", "simcc_y"), device=self.device, batch=self.batch
        )

    @property
    def _batches(self) -> Batches:
        return self._network.batches


def _area(box_4: Floats, *, ratio: float) -> Floats:
    """(centre x, y, width, height) of what the network sees: the box, a quarter larger, grown to ``ratio``."""
    width, height = (box_4[2:] - box_4[:2]) * np.float32(_PADDING)
    centre = (box_4[2:] + box_4[:2]) * np.float32(0.5)
    if width > height * ratio:
        height = width / ratio
    else:
        width = height * ratio
    return np.array([*centre, width, height], np.float32)


def _crop(frame_HW3: Pixels, area_4: Floats, height: int, width: int) -> Pixels:
    """The area warped to the network's size; its middle falls on pixel (width / 2, height / 2)."""
    x, y, wide, high = (float(value) for value in area_4)
    rows = (np.arange(height) - height / 2) * (high / height) + y
    columns = (np.arange(width) - width / 2) * (wide / width) + x
    return sample(frame_HW3, rows, columns, outside="black")


def _likeliest(simcc_x: Floats, simcc_y: Floats) -> tuple[Floats, Floats]:
    """Places (N, J, 2) in pixels of the crop and scores (N, J): the smaller of the two axes' peaks."""
    places = np.stack([simcc_x.argmax(-1), simcc_y.argmax(-1)], -1).astype(np.float32) / np.float32(_PER_PIXEL)
    return places, np.minimum(simcc_x.max(-1), simcc_y.max(-1))
