"""MoveNet MultiPose Lightning through LiteRT: up to six people with box and COCO-17 joints in one pass.

Google's model, Apache-2.0. It takes any size whose sides are multiples of 32: larger inputs find smaller
people and cost in proportion.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from posecap.interfaces import Detections
from posecap.models import locate
from posecap.skeletons import distinct
from posecap.stage import Engine
from posecap.types import Floats, Pixels

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

_MULTIPLE = 32
"""The sides of the model's input are multiples of this many pixels."""
_BLOCK = 16
"""Frames that are shrunk, then computed, then read: the model leaves little of what the other steps need in the
processor's caches, so that they take half of the time for many frames at once."""
_JOINTS = 17
_ORDER = [*(3 * joint + value for joint in range(_JOINTS) for value in (1, 0, 2)), 52, 51, 54, 53]
"""A row of the model's output as x and y where it has y and x: joints, then the box. The score is left out."""
_SCORE = 55
"""Column of a row of the model's output with the person's score, after joints and box."""


@dataclass(frozen=True)
class MoveNet(Engine):
    """Detects people and their joints in every frame.

    Args:
        imgsz: longer side in pixels that frames are shrunk to, never enlarged; both sides are then padded to multiples
            of 32.
        conf: people with a lower score, in [0, 1], are left out (a clear person has about 0.4 to 0.7).
        same_person: object keypoint similarity (:func:`posecap.skeletons.similarity`) from which on the weaker of two
            detections is a duplicate; our choice.
    """

    name: ClassVar[str] = "movenet-multipose-lightning"
    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "pillow")

    imgsz: int = 512
    conf: float = 0.15
    same_person: float = 0.6
    layout: str = field(default="coco17", init=False)

    @property
    def weights(self) -> tuple[str, ...]:
        return ("movenet-multipose-lightning",)

    @cached_property
    def _interpreters(self) -> dict[tuple[int, int], tuple[Interpreter, int, int]]:
        """What :meth:`_interpreter` has made, by height and width."""
        return {}

    def load(self) -> None:
        from ai_edge_litert import interpreter  # noqa: F401

        locate(self.weights[0])

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first; boxes and joints in pixels of the given frames."""
        found: list[Detections] = []
        for first in range(0, len(frames_THW3), _BLOCK):
            block = frames_THW3[first : first + _BLOCK]
            inputs = [self._input(frame) for frame in block]
            outputs = [self._run(input_1HW3) for input_1HW3 in inputs]
            found += [self._people(output, block.shape[1:]) for output in outputs]
        return found

    def fit(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) in pixels that a frame takes inside the model's padded input."""
        scale = min(1.0, self.imgsz / max(height, width))
        return max(1, round(height * scale)), max(1, round(width * scale))

    def _input(self, frame: Pixels) -> Pixels:
        """(1, H, W, 3): the frame shrunk and padded."""
        height, width = self.fit(*frame.shape[:2])
        if (height, width) != frame.shape[:2]:
            from PIL import Image

            # In two steps, by a whole number first: in 0.58 of the time of 1280 x 720 pixels and 0.43 of that of
            # 1920 x 1080 (benchmarks/estimates.py). Joints fit four cameras slightly better.
            picture = Image.fromarray(frame)
            frame = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=1.0))
        padded = np.zeros((1, _padded(height), _padded(width), 3), dtype=np.uint8)
        padded[0, :height, :width] = frame
        return padded

    def _run(self, input_1HW3: Pixels) -> Floats:
        net, taken, given = self._interpreter(*input_1HW3.shape[1:3])
        net.set_tensor(taken, input_1HW3)
        net.invoke()
        found: Floats = net.get_tensor(given)[0]
        return found

    def _interpreter(self, height: int, width: int) -> tuple[Interpreter, int, int]:
        """The model for inputs of this size in pixels, with the numbers of its input and output."""
        if (height, width) not in self._interpreters:
            from ai_edge_litert.interpreter import Interpreter

            # One thread: every core already runs a worker of its own, and results do not depend on how many there are.
            net = Interpreter(str(locate(self.weights[0])), num_threads=1)
            taken = net.get_input_details()[0]["index"]
            net.resize_tensor_input(taken, [1, height, width, 3], strict=True)
            net.allocate_tensors()
            self._interpreters[height, width] = net, taken, net.get_output_details()[0]["index"]
        return self._interpreters[height, width]

    def _people(self, output_NK: Floats, shape: tuple[int, ...]) -> Detections:
        """The people in the model's (6, 56) output, of a frame of ``shape`` (H, W, 3).

        A row is one person: 17 x (y, x, score), then y0, x0, y1, x1, score, all in [0, 1]; x and y are shares of the
        padded input.
        """
        height, width = self.fit(*shape[:2])
        rows = output_NK[output_NK[:, _SCORE] >= self.conf]
        rows = rows[np.argsort(-rows[:, _SCORE], kind="stable")]
        scale_x = _padded(width) * shape[1] / width
        scale_y = _padded(height) * shape[0] / height
        scale = np.array([*[scale_x, scale_y, 1.0] * _JOINTS, *[scale_x, scale_y] * 2], np.float32)
        values = rows[:, _ORDER] * scale
        joints, boxes = values[:, : 3 * _JOINTS].reshape(-1, _JOINTS, 3), values[:, 3 * _JOINTS :]
        keep = distinct(joints, boxes, same_person=self.same_person)
        return Detections(boxes_N4=boxes[keep], scores_N=rows[keep, _SCORE], joints_NJ3=joints[keep])


def _padded(side: int) -> int:
    return -(-side // _MULTIPLE) * _MULTIPLE
