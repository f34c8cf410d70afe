"""Estimates joints with RTMPose through onnxruntime: the network of :mod:`posecap.engines.mmpose`, without MMPose.

Takes the ``end2end.onnx`` that MMPose's makers publish, or any export by MMDeploy for one picture size H x W
(published: 256x192): input pictures (N, 3, H, W), outputs ``simcc_x`` (N, J, 2 W) and ``simcc_y`` (N, J, 2 H). Pre- and
post-processing are those of MMPose, but joints whose score is not above 0, which MMPose puts at (-0.5, -0.5) of the
crop, become zeros (:func:`posecap.inference.crops.scatter_keypoints`); and there is no flip test, which would run the
network once more, on the mirrored crops: exported files hold no such step, and none is added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from posecap.inference.crops import Joints, PersonCrop, RTMPoseEstimator, Size, person_area
from posecap.inference.device import Batches, Device
from posecap.inference.onnx import OnnxNetwork, crop, normalize
from posecap.joints import LAYOUTS
from posecap.models import locate
from posecap.types import Floats, Pixels
from posecap.weights.checkpoints import WrongArchitectureError

_PADDING = 1.25
"""How much larger than a person's box the network's crop is, as in MMPose's configurations."""
_PER_PIXEL = 2.0
"""Values of a SimCC axis per pixel of the crop."""
_MEAN, _STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
"""ImageNet's, in grey levels, red first, as in MMPose's configurations."""


@dataclass(frozen=True)
class RTMPoseOnnx(RTMPoseEstimator):
    """Estimates the joints of every tracked person in every frame.

    The base class has ``estimate``, which calls ``_crops``, and ``_predict`` on batches of crops; it makes ``name``,
    ``layout`` (that of ``joints``) and ``weights`` of the fields.

    Args:
        size: of the network: ``t`` (tiny), ``s`` (small), ``m`` (medium) or ``l`` (large).
        joints: layout of the joints, ``coco17`` or ``halpe26``.
        weights_from: name in the registry or path of an ONNX file; None takes the one that was published for this size
            and layout.
        batch: most crops at a time, 1 or more; halved when memory runs out, and 1 for a file exported for single crops.
            64 is our choice; results do not depend on it.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where onnxruntime has one.

    :meth:`load` raises DeviceError for ``cuda`` where onnxruntime has none, and the errors of weights that
    :meth:`~posecap.inference.crops.TopDownEstimator.estimate` names.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")  # either will do
    suffix: ClassVar[str] = "-onnx"  # of the engine's name, and of its weights' in the registry

    size: Size = "m"
    joints: Joints = "coco17"
    weights_from: str | None = None
    batch: int = 64
    device: Device = "auto"

    def load(self) -> None:
        """Read the weights and build the session."""
        _ = self._network

    def _crops(self, frames_THW3: Pixels, seen: Sequence[PersonCrop]) -> list[tuple[Pixels, Floats]]:
        """The picture of each crop, with the area of the frame that it shows
        (:func:`posecap.inference.crops.person_area`)."""
        height, width = self._network.size
        areas = [person_area(one.box_4, ratio=width / height, padding=_PADDING) for one in seen]
        return [
            (crop(frames_THW3[one.frame], area, height=height, width=width, outside="black"), area)
            for one, area in zip(seen, areas, strict=True)
        ]

    def _predict(self, crops: Sequence[tuple[Pixels, Floats]]) -> list[Floats]:
        """See the base class; crops are (picture, area) as :meth:`_crops` gives them.

        Raises:
            WrongArchitectureError: the network gives another number of joints than the layout has.
        """
        height, width = self._network.size
        pictures, areas = zip(*crops, strict=True)
        simcc_x, simcc_y = self._network.run(normalize(np.stack(pictures), mean=_MEAN, std=_STD))
        if simcc_x.shape[1] != len(LAYOUTS[self.layout].names):
            raise WrongArchitectureError(
                f"the network of {self.weights[0]} gives {simcc_x.shape[1]} joints, and {self.layout} has "
                f"{len(LAYOUTS[self.layout].names)}; name the joints of these weights"
            )
        positions, scores = _likeliest(simcc_x, simcc_y)
        centres, scales = np.stack([a[:2] for a in areas]), np.stack([a[2:] for a in areas])
        positions = positions / (width, height) * scales[:, None] + centres[:, None] - 0.5 * scales[:, None]
        return list(np.concatenate([positions, scores[..., None]], -1).astype(np.float32))

    @cached_property
    def _network(self) -> OnnxNetwork:
        """Read once, by the first call."""
        return OnnxNetwork(
            locate(self.weights[0]), outputs=("simcc_x", "simcc_y"), device=self.device, batch=self.batch
        )

    @cached_property
    def _batches(self) -> Batches:
        """How the base class divides crops into batches."""
        return self._network.batches


def _likeliest(simcc_x: Floats, simcc_y: Floats) -> tuple[Floats, Floats]:
    """(x, y) of the joints (N, J, 2) in pixels of the crop, and scores (N, J): the smaller of the two axes' peaks.

    Args:
        simcc_x, simcc_y: (N, J, 2 W) and (N, J, 2 H): how likely every half pixel of the crop is; the network's
            own numbers, not normalised. Peaks are up to about 1.
    """
    positions = np.stack([simcc_x.argmax(-1), simcc_y.argmax(-1)], -1).astype(np.float32) / np.float32(_PER_PIXEL)
    return positions, np.minimum(simcc_x.max(-1), simcc_y.max(-1))
