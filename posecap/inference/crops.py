"""Parts of a clip that models are given: middle frames, person crops, and the region that holds its people."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np

from posecap.inference.device import Batches
from posecap.joints import LAYOUTS
from posecap.stage import Engine
from posecap.types import Floats, Pixels, TrackedClip, Tracks

_MARGIN = 0.15
"""Added to each side of the people's region, as a share of its length. Our choice: what hands hold is then seen."""
_MIN_PIXELS = 32
"""Least width and height of the people's region: models refuse less than a patch (Qwen2-VL's has 28)."""


def middle_frames(count: int, wanted: int) -> list[int]:
    """Ascending indices of the middle frames of ``wanted`` equal stretches of ``count`` frames; every frame of a
    shorter clip. ``wanted`` is 1 or more.

    The middle of an even stretch is the earlier of its two middle frames, as in ViCLIP's evaluation.
    """
    if count <= wanted:
        return list(range(count))
    edges = [i * count // wanted for i in range(wanted + 1)]
    return [(edges[i] + edges[i + 1] - 1) // 2 for i in range(wanted)]


Size = Literal["t", "s", "m", "l"]
"""Of RTMPose's network: tiny, small, medium, large."""
Joints = Literal["coco17", "halpe26"]
"""Layouts that RTMPose was published for."""


@dataclass(frozen=True, slots=True)
class PersonCrop:
    """One person in one frame. ``box_4`` float32 (x0, y0, x1, y1) in pixels of that frame."""

    person: int
    frame: int
    box_4: Floats


def person_crops(tracks: Tracks) -> list[PersonCrop]:
    """One crop per frame and person seen in it, ordered by frame, then person.

    A person is seen where the score is above 0 and the box is finite and not empty.
    """
    sizes = tracks.boxes_MT4[..., 2:] - tracks.boxes_MT4[..., :2]
    seen_MT = (tracks.scores_MT > 0) & (sizes > 0).all(-1) & np.isfinite(tracks.boxes_MT4).all(-1)
    return [
        PersonCrop(int(person), int(frame), tracks.boxes_MT4[person, frame].astype(np.float32))
        for frame, person in np.argwhere(seen_MT.T)
    ]


def scatter_keypoints(
    joints: Sequence[Floats], crops: Sequence[PersonCrop], *, shape_MT: tuple[int, int], count: int
) -> Floats:
    """(M, T, J, 3) float32 joints (x, y, score) from one (J, 3) array per crop; zeros where a person has no crop.

    Scores are clipped to [0, 1]: the peak of a network's distribution can be slightly above 1. Joints whose score is
    not above 0, or of which a number is not finite, become (0, 0, 0).

    Args:
        shape_MT: number of people and of frames.
        count: J, the number of joints.
    """
    joints_MTJ3 = np.zeros((*shape_MT, count, 3), np.float32)
    for joints_J3, crop in zip(joints, crops, strict=True):
        joints_MTJ3[crop.person, crop.frame] = joints_J3
    joints_MTJ3[~(np.isfinite(joints_MTJ3).all(-1) & (joints_MTJ3[..., 2] > 0))] = 0
    np.minimum(joints_MTJ3[..., 2], 1, out=joints_MTJ3[..., 2])
    return joints_MTJ3


def person_area(box_4: Floats, *, ratio: float, padding: float) -> Floats:
    """(centre x, centre y, width, height) of what a network is shown of a person, in pixels of the frame: the box,
    ``padding`` times as large, and widened or heightened until width / height is ``ratio``.
    """
    width, height = (box_4[2:] - box_4[:2]) * np.float32(padding)
    centre = (box_4[2:] + box_4[:2]) * np.float32(0.5)
    if width > height * ratio:
        height = width / ratio
    else:
        width = height * ratio
    return np.array([*centre, width, height], np.float32)


class TopDownEstimator(Engine):
    """The base of engines that estimate each person's joints from a crop of the person.

    A subclass is a dataclass with the fields ``weights_from`` (a name in the registry or a path, or None for published
    weights) and ``batch`` (most crops at a time, 1 or more). Crops of several clips are computed together
    (:meth:`posecap.inference.device.Batches.run_together`).

    Raises:
        ValueError: ``batch`` is below 1.
    """

    thread_safe: ClassVar[bool] = True
    path_fields: ClassVar[tuple[str, ...]] = ("weights_from",)

    weights_from: str | None
    batch: int

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"{type(self).__name__}: batch is {self.batch}, expected at least 1")

    @property
    @abstractmethod
    def layout(self) -> str:
        """Name of the layout of the joints that the network gives."""

    def estimate(self, frames_THW3: Pixels, tracks: Tracks) -> Floats:
        """Joints (M, T, J, 3) float32 in pixels of the given frames + score, zeros where a person is not seen.

        Raises:
            MissingWeightsError: the file of weights is not on this machine and cannot be downloaded.
            CheckpointError: it is damaged, hostile, or (``WrongArchitectureError``) of another network.
            TransientError: ``out_of_memory`` when not even one crop fits.
        """
        seen = person_crops(tracks)
        # Every thread makes its own crops; only the network is run by one thread at a time.
        found = self._batches.run_together(self._predict, self._crops(frames_THW3, seen))
        shape = (tracks.people, frames_THW3.shape[0])
        return scatter_keypoints(found, seen, shape_MT=shape, count=len(LAYOUTS[self.layout].names))

    @cached_property
    def _batches(self) -> Batches:
        """Divides crops into batches, and halves them when memory runs out."""
        return Batches(self.batch)

    @abstractmethod
    def _crops(self, frames_THW3: Pixels, seen: Sequence[PersonCrop]) -> list[Any]:
        """The input of ``_predict`` for each of ``seen``, in their order."""

    @abstractmethod
    def _predict(self, crops: Sequence[Any]) -> list[Floats]:
        """(J, 3) joints (x, y, score) for each crop, in pixels of its frame."""


class RTMPoseEstimator(TopDownEstimator):
    """The base of the engines for RTMPose. A subclass also has the fields ``size`` (of the network: tiny, small, medium
    or large) and ``joints`` (the layout it gives); weights are by default those published for them.
    """

    suffix: ClassVar[str] = ""
    """The end of the engine's name and of its weights' name."""

    size: Size
    joints: Joints

    @property
    def name(self) -> str:  # type: ignore[override]
        """That of the published weights, but with the layout in any case."""
        return f"rtmpose-{self.size}-{self.joints}{self.suffix}"

    @property
    def layout(self) -> str:
        return self.joints

    @property
    def weights(self) -> tuple[str, ...]:
        """The file that was named, or the published one of this size and layout."""
        body26 = "-body26" if self.joints == "halpe26" else ""
        return (self.weights_from or f"rtmpose-{self.size}{body26}{self.suffix}",)


def frame_size(clip: TrackedClip) -> tuple[int, int]:
    """Width and height of the clip's frames, in working pixels."""
    height, width = clip.frames_THW3.shape[1:3]
    return width, height


def people_region(clip: TrackedClip) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) in working pixels of the region that holds every person in all frames, plus a margin;
    ``right`` and ``bottom`` are excluded.

    The margin on each side is 15 % of the region's width or height, and more where a length would be under 32 pixels;
    it ends at the frame's edges. Without visible people it is the whole frame.
    """
    width, height = frame_size(clip)
    boxes = clip.tracks.boxes_MT4[clip.tracks.scores_MT > 0]
    if not len(boxes):
        return 0, 0, width, height
    per_working = np.array(clip.source_per_working * 2)
    x0, y0, x1, y1 = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)]) / per_working
    left, right = _widened(x0, x1, width)
    top, bottom = _widened(y0, y1, height)
    return left, top, right, bottom


def _widened(low: float, high: float, end: int) -> tuple[int, int]:
    """First pixel and end (excluded) of the interval with its margins, at least ``_MIN_PIXELS`` long, then clipped to
    [0, end).
    """
    middle, half = (low + high) / 2, max((high - low) * (0.5 + _MARGIN), _MIN_PIXELS / 2)
    middle = min(max(middle, 0.0), float(end))
    return max(0, int(np.floor(middle - half))), min(end, int(np.ceil(middle + half)))
