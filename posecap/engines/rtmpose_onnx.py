"""RTMPose through onnxruntime: the network of :mod:`posecap.engines.mmpose`, for those who do not install MMPose.

Takes the ``end2end.onnx`` that MMPose's makers publish, or any export by MMDeploy: input pictures (N, 3, 256, 192),
outputs ``simcc_x`` and ``simcc_y``. Pre- and post-processing are those of MMPose without flip test, which no
published file holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from posecap.inference.crops import PersonCrop, person_crops, scatter_keypoints
from posecap.inference.device import Batches, Device
from posecap.inference.onnx_session import OnnxNetwork, normalize, sample
from posecap.joints import LAYOUTS
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Floats, Pixels, Tracks
from posecap.weights.checkpoints import WrongArchitectureError

Size = Literal["t", "s", "m", "l"]
Joints = Literal["coco17", "halpe26"]

_PADDING = 1.25
_PER_PIXEL = 2.0
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class RTMPoseOnnx(Engine):
    """Joints of every tracked person in every frame, all crops of a clip in shared batches.

    Args:
        size: of the network.
        joints: layout that it gives.
        weights_from: name in the catalogue or path of an ONNX file; None takes the published one of this size.
        batch: most crops at a time; halved when memory runs out, and 1 for a file exported for single crops.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)

    size: Size = "m"
    joints: Joints = "coco17"
    weights_from: str | None = None
    batch: int = 64
    device: Device = "auto"

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"rtmpose-{self.size}-{self.joints}-onnx"

    @property
    def layout(self) -> str:
        return self.joints

    @property
    def weights(self) -> tuple[str, ...]:
        published = f"rtmpose-{self.size}" + ("-body26" if self.joints == "halpe26" else "")
        return (self.weights_from or f"{published}-onnx",)

    def load(self) -> None:
        _ = self._network

    def estimate(self, frames_THW3: Pixels, tracks: Tracks) -> Floats:
        """Joints (M, T, J, 3) float32 in pixels of the given frames + score, zeros where a person is not seen.

        Raises:
            MissingWeightsError: the file is not here.
            CheckpointError: it is damaged, or (``WrongArchitectureError``) another network.
            TransientError: ``out_of_memory`` when not even one crop fits.
        """
        seen = person_crops(tracks)
        # Cropped by the caller's own thread; only the network waits for its turn.
        found = self._batches.run_together(self._look, [self._cropped(frames_THW3, crop) for crop in seen])
        shape = (tracks.people, frames_THW3.shape[0])
        return scatter_keypoints(found, seen, shape_MT=shape, count=len(LAYOUTS[self.layout].names))

    def _cropped(self, frames_THW3: Pixels, crop: PersonCrop) -> tuple[Pixels, Floats]:
        height, width = self._network.size
        area = _area(crop.box_4, ratio=width / height)
        return _crop(frames_THW3[crop.frame], area, height, width), area

    def _look(self, cropped: Sequence[tuple[Pixels, Floats]]) -> list[Floats]:
        """(J, 3) for each crop and the area that it shows."""
        height, width = self._network.size
        crops, areas = zip(*cropped, strict=True)
        simcc_x, simcc_y = self._network.run(normalize(np.stack(crops), mean=_MEAN, std=_STD))
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
        return OnnxNetwork(locate(self.weights[0]), outputs=("simcc_x", "simcc_y"), device=self.device)

    @cached_property
    def _batches(self) -> Batches:
        return Batches(min(self.batch, self._network.most or self.batch))


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
