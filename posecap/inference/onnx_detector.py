"""The base of detectors that are one ONNX network with non-maximum suppression inside, as MMDeploy exports them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from posecap.inference.device import Device
from posecap.inference.onnx import OnnxNetwork
from posecap.interfaces import Detections
from posecap.models import locate
from posecap.stage import Engine
from posecap.types import Floats, Pixels


@dataclass(frozen=True, slots=True)
class FittedFrame:
    """A frame as the network is shown it.

    Args:
        picture_HW3: of the network's size, in the order blue, green, red.
        scale_2: pixels of the frame in one of the picture, along x and y.
        corner_2: (x, y) of the picture's upper left corner in pixels of the frame.
        shape: height and width of the frame.
    """

    picture_HW3: Pixels
    scale_2: NDArray[np.floating[Any]]
    corner_2: NDArray[np.floating[Any]]
    shape: tuple[int, int]


class OnnxDetector(Engine):
    """Detects the people of each frame. A subclass is a dataclass with the fields below.

    Args:
        size: of the network, a key of ``sides``.
        weights_from: name in the registry or path of an ONNX file; None takes the published one of this size.
        conf: people with a lower score, in [0, 1], are left out.
        batch: most frames at a time; halved when memory runs out, and 1 for a file exported for single pictures.
        device: ``cpu``, ``cuda``, or ``auto``, which takes the worker's GPU where onnxruntime has one.

    Raises:
        ValueError: ``batch`` is below 1.
    """

    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnxruntime-gpu")
    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)
    sides: ClassVar[Mapping[str, int]]
    """Of the square of pixels that each published network takes, unless the file was exported for another size."""
    published: ClassVar[str]
    """Name of the published weights, with ``{size}`` in it: the engine's name, too."""
    outputs: ClassVar[tuple[str, str]]
    """Of the network; the first one are boxes and scores (N, K, 5)."""

    size: str
    weights_from: str | None
    conf: float
    batch: int
    device: Device

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"{type(self).__name__}: batch is {self.batch}, expected at least 1")

    @property
    def name(self) -> str:  # type: ignore[override]
        return self.published.format(size=self.size)

    @property
    def weights(self) -> tuple[str, ...]:
        return (self.weights_from or self.name,)

    def load(self) -> None:
        _ = self._network

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first, in pixels of the given frames. Boxes end at the frame's edges; joints,
        where the network gives them, may lie beyond.

        Raises:
            MissingWeightsError: the file is not on this machine and cannot be downloaded.
            CheckpointError: it is damaged, or (``WrongArchitectureError``) another network.
            TransientError: ``out_of_memory`` when not even one frame fits.
        """
        height, width = self._network.size
        # Every thread scales its own frames; only the network is run by one thread at a time.
        return self._network.batches.run_together(
            self._people, [self._fit(frame, height, width) for frame in frames_THW3]
        )

    @abstractmethod
    def _fit(self, frame_HW3: Pixels, height: int, width: int) -> FittedFrame:
        """The frame in a picture of this height and width, its proportions kept."""

    @abstractmethod
    def _people(self, fitted: Sequence[FittedFrame]) -> list[Detections]:
        """The people of each of ``fitted``."""

    def _boxes(
        self, dets_K5: Floats, fitted: FittedFrame, among: NDArray[np.bool_] | None = None
    ) -> tuple[NDArray[np.intp], Floats, Floats]:
        """Of one frame's rows those to keep, best first; their boxes (N, 4) in pixels of the frame; and scores (N,).

        Exports for several pictures fill up with rows of score 0, which are nobody.

        Args:
            among: (K,) of a row, whether it is a person; None where all are.
        """
        scores = dets_K5[:, 4]
        order = np.argsort(-scores, kind="stable")
        kept = (scores >= self.conf) & (scores > 0)
        order = order[(kept if among is None else kept & among)[order]]
        boxes = dets_K5[order, :4].reshape(-1, 2, 2) * fitted.scale_2 + fitted.corner_2
        boxes = np.clip(boxes, 0, [fitted.shape[1], fitted.shape[0]]).reshape(-1, 4)
        solid = (boxes[:, 2:] > boxes[:, :2]).all(-1)
        order = order[solid]
        return order, boxes[solid].astype(np.float32), np.minimum(scores[order], 1).astype(np.float32)

    @cached_property
    def _network(self) -> OnnxNetwork:
        side = self.sides[self.size]
        return OnnxNetwork(
            locate(self.weights[0]),
            outputs=self.outputs,
            device=self.device,
            batch=self.batch,
            otherwise=(side, side),
        )
