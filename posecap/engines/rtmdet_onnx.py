"""Detects people's boxes with RTMDet (Apache-2.0) through onnxruntime.

Takes the ``end2end.onnx`` that MMPose's makers publish beside RTMPose (nano at 320, medium at 640 pixels, trained for
people only), or any export by MMDeploy: one input of pictures, outputs ``dets`` (N, K, 5) and ``labels`` (N, K), with
non-maximum suppression inside. A file exported for pictures of any size is given the published size. (Lyu et al.,
"RTMDet: An Empirical Study of Designing Real-Time Object Detectors", 2022.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np

from posecap.inference.device import Device
from posecap.inference.onnx import GREY, OnnxNetwork, normalize, resize
from posecap.interfaces import Detections
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Floats, Pixels
from posecap.weights.checkpoints import WrongArchitectureError

_SIDES = {"n": 320, "m": 640}
"""Of the square that each published export takes."""
_PERSON = 0
"""Its class number."""
# RTMDet was trained on pictures in the order blue, green, red.
_MEAN, _STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)


@dataclass(frozen=True)
class RTMDetOnnx(Engine):
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

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)

    size: Literal["n", "m"] = "m"
    weights_from: str | None = None
    conf: float = 0.3
    batch: int = 16
    device: Device = "auto"
    layout: str | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"RTMDetOnnx: batch is {self.batch}, expected at least 1")

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"rtmdet-{self.size}-person-onnx"

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.weights_from or f"rtmdet-{self.size}-person-onnx",)

    def load(self) -> None:
        _ = self._network

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first, in pixels of the given frames.

        Raises:
            MissingWeightsError: the file is not on this machine and cannot be downloaded.
            CheckpointError: it is damaged, or (``WrongArchitectureError``) another network.
            TransientError: ``out_of_memory`` when not even one frame fits.
        """
        height, width = self._network.size
        # Every thread scales its own frames; only the network is run by one thread at a time.
        boxed = [(_letterboxed(frame, height, width)[..., ::-1], frame) for frame in frames_THW3]
        return self._network.batches.run_together(self._people, boxed)

    def _people(self, boxed: Sequence[tuple[Pixels, Pixels]]) -> list[Detections]:
        """The people of each of ``boxed``: a letterboxed frame (BGR), and the frame as it was given."""
        height, width = self._network.size
        dets, labels = self._network.run(normalize(np.stack([box for box, _ in boxed]), mean=_MEAN, std=_STD))
        if dets.shape[-1] != 5:
            raise WrongArchitectureError(
                f"the outputs of {self.weights[0]} have shape {dets.shape}, expected (N, K, 5): boxes and scores"
            )
        return [
            self._kept(dets[i], labels[i], frame, _fitted(frame, height, width)) for i, (_, frame) in enumerate(boxed)
        ]

    def _kept(self, dets_K5: Floats, labels_K: Floats, frame_HW3: Pixels, fitted: tuple[int, int]) -> Detections:
        """Exports fill up ``dets`` with rows of score 0 and label -1; these are left out with all below ``conf``."""
        height, width = frame_HW3.shape[:2]
        people = dets_K5[(labels_K == _PERSON) & (dets_K5[:, 4] >= self.conf)]
        people = people[np.argsort(-people[:, 4], kind="stable")]
        factors = np.array([width / fitted[1], height / fitted[0]] * 2, np.float32)
        boxes = np.clip(people[:, :4] * factors, 0, np.array([width, height] * 2, np.float32))
        solid = (boxes[:, 2:] > boxes[:, :2]).all(-1)
        return Detections(
            boxes_N4=boxes[solid].astype(np.float32), scores_N=np.minimum(people[solid, 4], 1).astype(np.float32)
        )

    @cached_property
    def _network(self) -> OnnxNetwork:
        side = _SIDES[self.size]
        return OnnxNetwork(
            locate(self.weights[0]),
            outputs=("dets", "labels"),
            device=self.device,
            batch=self.batch,
            otherwise=(side, side),
        )


def _fitted(frame_HW3: Pixels, height: int, width: int) -> tuple[int, int]:
    """(height, width) of the frame inside the network's picture, its proportions kept."""
    scale = min(height / frame_HW3.shape[0], width / frame_HW3.shape[1])
    return tuple(max(1, int(side * scale + 0.5)) for side in frame_HW3.shape[:2])  # type: ignore[return-value]


def _letterboxed(frame_HW3: Pixels, height: int, width: int) -> Pixels:
    """The frame in the upper left corner, grey to its right or below it."""
    high, wide = _fitted(frame_HW3, height, width)
    picture = np.full((height, width, 3), GREY, np.uint8)
    picture[:high, :wide] = resize(frame_HW3, height=high, width=wide)
    return picture
