"""Clips of moving skeletons as training data: joints in flat arrays, metadata in a table; conversion of layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from posecap.joints import LAYOUTS, LayoutError, convert
from tmor_train.data.arrays import Floats, Numbers, Vectors, slices

NOT_KNOWN = -1
"""Value of an unknown subject, camera, label or row."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """One clip: ``joints_MTJC`` float32, people x frames x joints x (x, y, score) or (x, y, z, score).

    Two coordinates are pixels of an image of ``width`` and ``height``. Three are metres in camera axes: x to the
    right, y down, z away from it. A joint that was not seen has the score 0. ``fps`` is 0 where unknown.
    """

    key: str
    joints_MTJC: Floats = field(repr=False)
    layout: str
    fps: float = 0.0
    width: float = 0.0
    height: float = 0.0
    label: str | None = None
    captions: tuple[str, ...] = ()
    split: str = "train"
    subject: int = NOT_KNOWN
    camera: int = NOT_KNOWN

    def __post_init__(self) -> None:
        shape = self.joints_MTJC.shape
        joints = len(LAYOUTS[self.layout].names) if self.layout in LAYOUTS else None
        if len(shape) != 4 or shape[2] != joints or shape[3] not in (3, 4) or not shape[0] or not shape[1]:
            raise LayoutError(f"clip {self.key}: joints {shape} are not (M, T, {joints}, 3 or 4) of {self.layout!r}")
        if shape[3] == 3 and not (self.width > 0 and self.height > 0):
            raise LayoutError(f"clip {self.key}: joints in pixels need the width and height of their picture")
        if self.joints_MTJC.dtype != np.float32 or not np.isfinite(self.joints_MTJC).all():
            raise LayoutError(f"clip {self.key}: joints are to be finite float32")


@lru_cache(maxsize=64)
def _weights(source: str, target: str) -> Tensor:
    """Weight of each source joint in each target joint, (J, K); a column of zeros where the source lacks it."""
    joints = len(LAYOUTS[source].names) if source in LAYOUTS else 0
    # Converting a skeleton with 1 at one joint and 0 elsewhere gives the weights of that joint.
    probes = np.zeros((joints, joints, 3), np.float32)
    probes[..., 2] = 1
    probes[np.arange(joints), np.arange(joints), 0] = 1
    return torch.from_numpy(convert(probes, source=source, target=target)[..., 0].copy())


def relayout(joints: Tensor, seen: Tensor, *, source: str, target: str) -> tuple[Tensor, Tensor]:
    """Convert a batch of skeletons to another layout by the exact maps of :mod:`posecap.joints`.

    A joint that the source lacks is not seen, and neither is a mean of which one joint is not seen; no joint is
    invented. Coordinates of joints that are not seen are undefined.

    Args:
        joints: (..., J) float, one coordinate of all joints last, all finite.
        seen: (..., J) bool.

    Returns:
        (..., K) and (..., K).

    Raises:
        posecap.joints.LayoutError: unknown layout, or no exact map between the two.
    """
    if source == target:
        return joints, seen
    weights_JK = _weights(source, target).to(joints)
    uses_JK = (weights_JK != 0).to(joints.dtype)
    needed_K = uses_JK.sum(0)
    there = seen.to(joints.dtype) @ uses_JK
    return joints @ weights_JK, (there > needed_K - 0.5) & (needed_K > 0)


@dataclass(frozen=True, eq=False)
class JointArray:
    """Joints of some clips in one flat array, each clip as (M, T, J, ``dimensions`` + 1), score last."""

    values: Floats
    layout: str
    dimensions: Literal[2, 3] = 2

    @property
    def joint_floats(self) -> int:
        """Floats of one person in one frame."""
        return len(LAYOUTS[self.layout].names) * (self.dimensions + 1)


@dataclass(frozen=True, eq=False)
class ClipTable:
    """One row per clip. Its joints begin at ``start_N`` of array ``array_N``; ``label_N`` is a class index, ``video_N``
    a row of the video vectors, -1 where unknown. Its captions are ``caption_count_N`` entries of the
    set's ``caption_K``, from ``caption_first_N`` on."""

    key_N: NDArray[np.str_]
    array_N: Numbers
    start_N: Numbers
    people_N: Numbers
    frames_N: Numbers
    fps_N: Floats
    width_N: Floats
    height_N: Floats
    split_N: NDArray[np.str_]
    subject_N: Numbers
    camera_N: Numbers
    label_N: Numbers
    caption_first_N: Numbers
    caption_count_N: Numbers
    video_N: Numbers

    def __post_init__(self) -> None:
        lengths = {len(getattr(self, f.name)) for f in fields(self)}
        if len(lengths) > 1:
            raise ValueError(f"columns of a clip table differ in length: {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.key_N)

    def select(self, index: NDArray[Any]) -> ClipTable:
        """Some rows, by indices or by a mask."""
        return ClipTable(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, eq=False)
class MotionSet:
    """Clips held as flat arrays that may be mapped from files; nothing is read before it is gathered.

    ``sentences`` are the distinct captions; ``text`` holds a vector for each of them,
    ``video`` one for each clip that has one. Arrays may differ in layout and dimensions: :meth:`gather`
    converts to one layout.
    """

    arrays: tuple[JointArray, ...]
    clips: ClipTable
    classes: tuple[str, ...] = ()
    sentences: tuple[str, ...] = ()
    caption_K: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    video: Vectors | None = None
    text: Vectors | None = None

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def dimensions(self) -> Literal[2, 3]:
        """3 where any clip has depth."""
        return 3 if any(array.dimensions == 3 for array in self.arrays) else 2

    @property
    def has_depth(self) -> NDArray[np.bool_]:
        """Which clips have three coordinates."""
        deep = np.array([array.dimensions == 3 for array in self.arrays], np.bool_)
        found: NDArray[np.bool_] = deep[self.clips.array_N]
        return found

    def select(self, index: Sequence[int] | NDArray[Any]) -> MotionSet:
        """Some clips, by indices or by a mask, in that order. No joint is copied."""
        chosen = np.asarray(index)
        return replace(self, clips=self.clips.select(chosen if chosen.size else np.zeros(0, np.int64)))

    def split(self, *names: str) -> MotionSet:
        """The clips of some splits.

        Raises:
            KeyError: no clip is in one of them.
        """
        unknown = set(names) - set(self.clips.split_N.tolist())
        if unknown:
            raise KeyError(f"no split {', '.join(sorted(unknown))}; there are {', '.join(self.splits)}")
        return self.select(np.isin(self.clips.split_N, names))

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(np.unique(self.clips.split_N).tolist())

    def clip(self, number: int) -> Clip:
        """One stored clip, with a copy of its joints."""
        line = self.clips.select(np.array([number]))
        array = self.arrays[int(line.array_N[0])]
        people, frames, label = (int(column[0]) for column in (line.people_N, line.frames_N, line.label_N))
        first, count = int(line.caption_first_N[0]), int(line.caption_count_N[0])
        start, size = int(line.start_N[0]), people * frames * array.joint_floats
        return Clip(
            key=str(line.key_N[0]),
            joints_MTJC=array.values[start : start + size].reshape(people, frames, -1, array.dimensions + 1).copy(),
            layout=array.layout,
            fps=float(line.fps_N[0]),
            width=float(line.width_N[0]),
            height=float(line.height_N[0]),
            label=self.classes[label] if label >= 0 else None,
            captions=tuple(self.sentences[s] for s in self.caption_K[first : first + count]),
            split=str(line.split_N[0]),
            subject=int(line.subject_N[0]),
            camera=int(line.camera_N[0]),
        )

    def gather(
        self, index_N: Numbers, *, frame_NT: Numbers, person_NM: Numbers, layout: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames of people of many clips at once, in one layout.

        Args:
            frame_NT: indices of frames, person_NM: of people; -1 for none.

        Returns:
            joints (N, M, T, V, C) float32, C being 3 where the set has depth, and seen (N, M, T, V) bool. Coordinates
            of joints that are not seen are undefined. In memory C comes before M, T and V, so that each coordinate is
            contiguous.

        Raises:
            IndexError: a clip has no such frame or person.
        """
        frames_N, people_N = self.clips.frames_N[index_N], self.clips.people_N[index_N]
        if (frame_NT.max(1, initial=-1) >= frames_N).any() or (person_NM.max(1, initial=-1) >= people_N).any():
            raise IndexError("a frame or person index is out of range of its clip")
        frame_NMT = person_NM[:, :, None] * frames_N[:, None, None] + frame_NT[:, None, :]
        absent = (person_NM < 0)[:, :, None] | (frame_NT < 0)[:, None, :]
        frame_NMT[absent] = 0
        kind_N = self._kinds[self.clips.array_N[index_N]]
        kinds = np.unique(kind_N).tolist()
        if len(kinds) == 1 and self.arrays[kinds[0]].dimensions == self.dimensions:
            planes, seen = self._of_kind(kinds[0], index_N, frame_NMT, layout)
        else:
            shape = (*frame_NMT.shape, len(LAYOUTS[layout].names))
            planes = torch.zeros(shape[0], self.dimensions, *shape[1:])
            seen = torch.zeros(shape, dtype=torch.bool)
            for kind in kinds:
                at = np.flatnonzero(kind_N == kind)
                found, there = self._of_kind(kind, index_N[at], frame_NMT[at], layout)
                planes[at, : found.shape[1]], seen[at] = found, there
        if absent.any():
            seen &= torch.from_numpy(~absent)[..., None]
        return planes.permute(0, 2, 3, 4, 1), seen

    @cached_property
    def _kinds(self) -> Numbers:
        """For each array the index of the first one with the same layout and dimensions."""
        kinds = [(array.layout, array.dimensions) for array in self.arrays]
        return np.array([kinds.index(kind) for kind in kinds], np.int64)

    def _of_kind(
        self, kind: int, index_N: Numbers, frame_NMT: Numbers, layout: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Joints (N, C, M, T, V) and their mask (N, M, T, V) of clips whose arrays have one layout and dimensions."""
        array = self.arrays[kind]
        values = self._values(index_N, frame_NMT, array.joint_floats)
        values = values.reshape(*frame_NMT.shape, -1, array.dimensions + 1)
        planes = np.empty((len(values), array.dimensions, *values.shape[1:-1]), np.float32)
        for axis in range(array.dimensions):  # NumPy copies a plane twice as fast as torch permutes
            planes[:, axis] = values[..., axis]
        seen = torch.from_numpy(values[..., -1] > 0)
        return relayout(torch.from_numpy(planes), seen, source=array.layout, target=layout)

    def _values(self, index_N: Numbers, frame_NMT: Numbers, width: int) -> Floats:
        """The stored values of frames, counted through all of a clip's people: (N, M, T, width)."""
        clips, people, frames = frame_NMT.shape
        first_NMT, length = frame_NMT, width
        if (frame_NMT[..., 1:] - frame_NMT[..., :-1] == 1).all():  # consecutive frames are one slice
            first_NMT, length = frame_NMT[..., :1], width * frames
        start = self.clips.start_N[index_N][:, None, None] + first_NMT * width
        array_N = self.clips.array_N[index_N]
        if (array_N == array_N[:1]).all():
            values = slices(self.arrays[int(array_N[0])].values, start, length)
        else:
            values = np.empty((*start.shape, length), np.float32)
            for number in np.flatnonzero(np.bincount(array_N)).tolist():
                here = np.flatnonzero(array_N == number)
                values[here] = slices(self.arrays[number].values, start[here], length)
        return values.reshape(clips, people, frames, width)
