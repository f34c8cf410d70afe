"""BlazePose through LiteRT: a detector of people, and landmarks of each, cut out and turned upright.

Google's two models, Apache-2.0. The detector sees the whole frame in 224x224 pixels. It gives each person's hips and a
point on the circle around them, in the direction of the head, so that bodies that lie or hang are upright in the
256x256 pixels that the second model sees. (Bazarevsky et al., "BlazePose: On-device Real-time Body Pose tracking",
2020; constants are those of MediaPipe's graphs, except :data:`_LARGEST`.)

Of its 33 landmarks the 17 of COCO are kept. Its depths and its landmarks in metres are not: joints of a dataset are x,
y and score.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from posecap.inference.onnx import sample
from posecap.interfaces import Detections
from posecap.models import locate
from posecap.skeletons import box_iou, distinct
from posecap.stage import Engine
from posecap.types import Floats, Pixels

if TYPE_CHECKING:
    from ai_edge_litert.interpreter import Interpreter

Doubles = NDArray[np.float64]

_DETECTOR_SIDE, _LANDMARKS_SIDE = 224, 256
"""Pixels along a side of the two networks' inputs."""
_CELLS = ((28, 2), (14, 2), (7, 6))
"""Cells along a side of each level of the detector, and answers in each cell: 2254 answers in all."""
_SAME_FACE = 0.3
"""Intersection over union of two answers' face boxes above which they are averaged."""
_CIRCLE = 1.25
"""Side of the cut-out in diameters of the circle."""
_CORNERS_42 = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
"""Corners of a cut-out, (x, y), in its own coordinates from 0 to 1."""
_LARGEST = 3
"""Most times the frame's longer side that a cut-out may have. A person in a larger one would be mostly outside of the
frame, and the edges around the frame would take memory without end."""
_BODY = 33
"""Landmarks of the body, which are the first ones."""
_COCO17 = (0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28)
"""The landmarks that are COCO's joints, in COCO's order."""
_WINDOW = 3
"""Cells of a heatmap on each side of a landmark that correct its place."""
_SURE = 0.5
"""Heatmap value, in [0, 1], from which it corrects anything."""


@dataclass(frozen=True, slots=True)
class _Square:
    """A turned square of a frame: its upper side lies towards the head. Pixels and radians."""

    centre_2: Doubles
    side: float
    angle: float

    @staticmethod
    def around(hips_2: Doubles, on_circle_2: Doubles) -> _Square:
        """The square with the hips in its centre, turned so that the point on the circle around them is above."""
        x, y = on_circle_2 - hips_2
        return _Square(hips_2, 2 * _CIRCLE * float(np.hypot(x, y)), float(np.pi / 2 - np.arctan2(-y, x)))

    def in_frame(self, places_N2: Doubles) -> Doubles:
        """Frame pixels (..., 2) of places in the square, which goes from 0 to 1."""
        x, y = np.moveaxis((places_N2 - 0.5) * self.side, -1, 0)
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        turned: Doubles = self.centre_2 + np.stack([x * cos - y * sin, x * sin + y * cos], -1)
        return turned

    def shows_something(self, frame_HW3: Pixels) -> bool:
        """Whether it is at least a pixel wide, and not far larger than the frame."""
        return bool(1 <= self.side <= _LARGEST * max(frame_HW3.shape[:2]))


@dataclass(frozen=True, kw_only=True)
class BlazePose(Engine):
    """People and joints, every frame.

    Boxes enclose the 33 landmarks and are cut off at the frame's edges. A person's score is the smaller one of the
    detector's and of the landmark model's. A joint's score is the landmark's visibility.

    Args:
        conf: people below this confidence are left out (MediaPipe's own is 0.5).
        max_det: at most so many people a frame, as MoveNet gives; each costs a run of the landmark model.
        same_person: object keypoint similarity from which on the weaker of two detections is a duplicate. Our choice,
            the same as for MoveNet, so that detectors are compared alike.

    Raises:
        ValueError: ``max_det`` is below 1.
    """

    name: ClassVar[str] = "blazepose-full"
    packages: ClassVar[tuple[str, ...]] = ("ai-edge-litert", "pillow")

    conf: float = 0.5
    max_det: int = 6
    same_person: float = 0.6
    layout: str = field(default="coco17", init=False)

    def __post_init__(self) -> None:
        if self.max_det < 1:
            raise ValueError(f"blazepose: max_det is {self.max_det}; it must be at least 1")

    @property
    def weights(self) -> tuple[str, ...]:
        return ("blazepose-detector", "blazepose-landmarks-full")

    def load(self) -> None:
        """Read both networks.

        Raises:
            posecap.models.MissingWeightsError: weights are neither on this machine nor downloadable.
        """
        _ = self._networks

    def detect(self, frames_THW3: Pixels) -> list[Detections]:
        """People of each frame, best first; boxes and joints in pixels of the given frames."""
        return [self._people(frame) for frame in frames_THW3]

    @cached_property
    def _networks(self) -> tuple[Interpreter, Interpreter]:
        """The detector and the landmark model."""
        from ai_edge_litert.interpreter import Interpreter

        # One thread: every core already runs a worker of its own, and results do not depend on how many there are.
        detector, landmarks = (Interpreter(str(locate(name)), num_threads=1) for name in self.weights)
        for network in (detector, landmarks):
            network.allocate_tensors()
        return detector, landmarks

    def _people(self, frame_HW3: Pixels) -> Detections:
        """The people of one frame, best first, each once."""
        height, width = frame_HW3.shape[:2]
        boxes, scores, joints = [], [], []
        for score, square in self._squares(frame_HW3)[: self.max_det]:
            body_33_3, present = self._landmarks(frame_HW3, square)
            low, high = (np.clip(side(body_33_3[:, :2], 0), 0, (width, height)) for side in (np.min, np.max))
            if min(present, score) >= self.conf and (high > low).all():
                boxes.append((*low, *high))
                scores.append(min(present, score))
                joints.append(body_33_3[list(_COCO17)])
        boxes_N4 = np.array(boxes, np.float32).reshape(-1, 4)
        scores_N = np.array(scores, np.float32)
        joints_NJ3 = np.array(joints, np.float32).reshape(-1, len(_COCO17), 3)
        ranked = np.argsort(-scores_N, kind="stable")
        keep = ranked[distinct(joints_NJ3[ranked], boxes_N4[ranked], same_person=self.same_person)]
        return Detections(boxes_N4=boxes_N4[keep], scores_N=scores_N[keep], joints_NJ3=joints_NJ3[keep])

    def _squares(self, frame_HW3: Pixels) -> list[tuple[float, _Square]]:
        """Score, in [0, 1], and square of each person whom the detector finds, best first. People whose square is
        smaller than a pixel or far larger than the frame are left out."""
        height, width = frame_HW3.shape[:2]
        scale = max(height, width) / _DETECTOR_SIDE
        # The frame is centred in the square input, its borders black.
        corner_2 = (np.array([width, height]) - max(height, width)) / 2
        grid = np.arange(_DETECTOR_SIDE) * scale
        boxed = sample(frame_HW3, grid + corner_2[1], grid + corner_2[0], outside="black")
        answers_A12, scores_A1 = _run(self._networks[0], boxed, low=-1)[:2]
        found = _averaged(answers_A12.astype(np.float64), _sigmoid(scores_A1[:, 0]), least=self.conf)
        squares = [(score, _Square.around(*(points_42[:2] * scale + corner_2))) for score, points_42 in found]
        return [(score, square) for score, square in squares if square.shows_something(frame_HW3)]

    def _landmarks(self, frame_HW3: Pixels, square: _Square) -> tuple[Doubles, float]:
        """(33, 3) landmarks, x and y in pixels of the frame and visibility in [0, 1], and how sure the model is that
        there is a person, in [0, 1]."""
        # The file's outputs: landmarks, whether there is a person, a mask, heatmaps, and landmarks in metres.
        flat, present, _, heatmaps = _run(self._networks[1], _cut_out(frame_HW3, square), low=0)[:4]
        landmarks_L5 = flat.reshape(-1, 5)[:_BODY].astype(np.float64)  # the others stand for hips and circle
        places_L2 = _refined(landmarks_L5[:, :2] / _LANDMARKS_SIDE, heatmaps)
        return np.column_stack([square.in_frame(places_L2), _sigmoid(landmarks_L5[:, 3])]), float(present[0])


def _run(network: Any, picture_HW3: Pixels, *, low: float) -> list[Floats]:
    """The network's outputs for one picture, each without its first axis; black is given as ``low``, white as 1, as the
    network was trained."""
    scaled = picture_HW3.astype(np.float32)
    scaled *= (1 - low) / 255
    scaled += low
    network.set_tensor(network.get_input_details()[0]["index"], scaled[None])
    network.invoke()
    return [network.get_tensor(output["index"])[0] for output in network.get_output_details()]


def _sigmoid(values: Floats | Doubles) -> Doubles:
    """From 0 to 1. Clipped at ±100 as MediaPipe clips scores; without it exp would overflow."""
    positive: Doubles = 1 / (1 + np.exp(-np.clip(values.astype(np.float64), -100, 100)))
    return positive


def _anchors() -> Doubles:
    """(2254, 2) centres of the cells, in pixels of the detector's input, in the order of its answers."""
    centres = []
    for cells, answers in _CELLS:
        line = (np.arange(cells) + 0.5) * (_DETECTOR_SIDE / cells)
        y, x = np.meshgrid(line, line, indexing="ij")
        centres.append(np.stack([x, y], -1).reshape(-1, 2).repeat(answers, axis=0))
    return np.concatenate(centres)


_ANCHORS_A2 = _anchors()


def _averaged(answers_A12: Doubles, scores_A: Doubles, *, least: float) -> list[tuple[float, Doubles]]:
    """People, best first: the highest score, and four points in pixels of the detector's input, each the mean of
    all answers to one face, weighted by score.

    Args:
        answers_A12: centre and size of a face box, then four points (x, y): hips, a point on the circle around them,
            shoulders, a point on the circle around these. Pixels; centre and points count from the answer's cell.
    """
    rows = np.flatnonzero(scores_A >= least)
    rows = rows[np.argsort(-scores_A[rows], kind="stable")]
    points = answers_A12.reshape(-1, 6, 2)
    people = []
    while rows.size:
        centres = points[rows, 0] + _ANCHORS_A2[rows]
        boxes = np.concatenate([centres - points[rows, 1] / 2, centres + points[rows, 1] / 2], -1)
        same = np.array([box_iou(boxes[0], box) > _SAME_FACE for box in boxes])
        same[0] = True
        chosen = rows[same]
        weight = scores_A[chosen] / scores_A[chosen].sum()
        people.append(
            (
                float(scores_A[chosen[0]]),
                np.einsum("a,apc->pc", weight, points[chosen, 2:] + _ANCHORS_A2[chosen, None]),
            )
        )
        rows = rows[~same]
    return people


def _cut_out(frame_HW3: Pixels, square: _Square) -> Pixels:
    """(256, 256, 3) the square of the frame, upright; beyond the frame its nearest pixel."""
    from PIL import Image

    around, (left, top) = _with_edges(frame_HW3, square.in_frame(_CORNERS_42))
    pixel = square.side / _LANDMARKS_SIDE
    cos, sin = pixel * np.cos(square.angle), pixel * np.sin(square.angle)
    # Pillow maps the middles of pixels; MediaPipe, for which the network was trained, their upper left corners.
    x, y = square.in_frame(np.zeros(2)) - (left, top) + 0.5 - np.array([cos - sin, sin + cos]) / 2
    size = (_LANDMARKS_SIDE, _LANDMARKS_SIDE)
    turn = (cos, -sin, x, sin, cos, y)
    turned = Image.fromarray(around).transform(size, Image.Transform.AFFINE, turn, Image.Resampling.BILINEAR)
    return np.asarray(turned)


def _with_edges(frame_HW3: Pixels, corners_42: Doubles) -> tuple[Pixels, tuple[int, int]]:
    """What the corners enclose, edges repeated where that is beyond the frame; and its own corner, (x, y) pixels."""
    height, width = frame_HW3.shape[:2]
    left, top = np.floor(corners_42.min(0)).astype(int) - 1
    right, bottom = np.ceil(corners_42.max(0)).astype(int) + 2
    x0, y0 = min(max(left, 0), width - 1), min(max(top, 0), height - 1)
    x1, y1 = min(max(right, x0 + 1), width), min(max(bottom, y0 + 1), height)
    beyond = ((y0 - top, bottom - y1), (x0 - left, right - x1), (0, 0))
    inside = frame_HW3[y0:y1, x0:x1]
    return np.pad(inside, np.maximum(beyond, 0), "edge"), (min(left, x0), min(top, y0))


def _refined(places_L2: Doubles, heatmaps_hwL: Floats) -> Doubles:
    """Landmarks, from 0 to 1 over the heatmap, moved to the mean of their heatmap around them where it is sure."""
    height, width = heatmaps_hwL.shape[:2]
    refined = places_L2.copy()
    for at, (x, y) in enumerate(places_L2):
        column, row = int(np.floor(x * width)), int(np.floor(y * height))
        if not (0 <= column < width and 0 <= row < height):
            continue  # the heatmap does not reach there, so the landmark stays where the network put it
        left, top = max(0, column - _WINDOW), max(0, row - _WINDOW)
        window = _sigmoid(heatmaps_hwL[top : row + _WINDOW + 1, left : column + _WINDOW + 1, at])
        if window.max() >= _SURE:
            refined[at, 0] = (window.sum(0) @ np.arange(left, left + window.shape[1])) / window.sum() / width
            refined[at, 1] = (window.sum(1) @ np.arange(top, top + window.shape[0])) / window.sum() / height
    return refined
