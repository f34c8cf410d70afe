"""Motion capture in BVH files (Biovision hierarchy): a tree of joints with their channels, a row of numbers for each
frame, and from both the joints' places.

After Meredith and Maddock, "Motion Capture File Formats Explained" (2001). A joint's rotations are about the axes that
its parent has turned, in the order of its channels: R = R_first R_second R_third. Where a joint has position channels,
they are its place relative to its parent and stand for its ``OFFSET`` on those axes, as Blender's importer reads them;
most files have them at the root alone, Bandai-Namco's at every joint, where adding them would double every bone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.datasets.files import DatasetSource, parsing, read_text

MOST_JOINTS = 256
"""Joints above which a file is refused: our choice; bodies with fingers and a face have about a hundred."""
MOST_VALUES = 4 << 20
"""Numbers above which a file is refused: our choice, 18 minutes of 22 joints with six channels at 30 frames per
second."""

_AXES = {"X": 0, "Y": 1, "Z": 2}
_CHANNELS = {f"{axis}{kind}": (kind, at) for axis, at in _AXES.items() for kind in ("position", "rotation")}


@dataclass(frozen=True, slots=True)
class Joint:
    """A joint: the index of its parent, -1 for a root, its offset from there, and its channels, each a kind
    (``position`` or ``rotation``) and the index of an axis."""

    name: str
    parent: int
    offset: tuple[float, float, float]
    channels: tuple[tuple[str, int], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Capture:
    """What a file holds: its ``joints``, parents before children and end sites left out, ``values_TC`` float64, the
    channels of all joints in that order, in the file's unit and in degrees, and ``fps``, frames per second."""

    joints: tuple[Joint, ...]
    values_TC: NDArray[np.float64] = field(repr=False)
    fps: float

    def places(self) -> NDArray[np.float64]:
        """Where each joint is in each frame, in the axes and the unit of the file: (T, J, 3) float64."""
        frames = len(self.values_TC)
        places_TJ3 = np.zeros((frames, len(self.joints), 3))
        turned: list[NDArray[np.float64]] = []
        first = 0
        for at, joint in enumerate(self.joints):
            local_T3 = np.tile(np.array(joint.offset), (frames, 1))
            turn_T33 = np.tile(np.eye(3), (frames, 1, 1))
            for column, (kind, axis) in enumerate(joint.channels, first):
                if kind == "position":
                    local_T3[:, axis] = self.values_TC[:, column]
                else:
                    turn_T33 = turn_T33 @ _rotation(np.radians(self.values_TC[:, column]), axis)
            first += len(joint.channels)
            if joint.parent < 0:
                places_TJ3[:, at] = local_T3
            else:
                parent_T33 = turned[joint.parent]
                places_TJ3[:, at] = places_TJ3[:, joint.parent] + (parent_T33 @ local_T3[..., None])[..., 0]
                turn_T33 = parent_T33 @ turn_T33
            turned.append(turn_T33)
        return places_TJ3


def read_bvh(path: Path, *, source: DatasetSource) -> Capture:
    """The capture in a file of at most 64 MiB, :data:`MOST_JOINTS` joints and :data:`MOST_VALUES` numbers.

    Raises:
        MissingFilesError: it is not there.
        DamagedFileError: it is no BVH file, is cut off, has more than that, or numbers that are not finite.
    """
    lines = read_text(path, source=source).splitlines()
    with parsing(path, "BVH file"):
        head = next((at for at, line in enumerate(lines) if line.strip() == "MOTION"), None)
        if head is None:
            raise ValueError("it has no line MOTION")
        joints = _hierarchy(iter(" ".join(lines[:head]).split()))
        rows = (line for line in lines[head + 1 :] if line.strip())
        frames, seconds = int(_after("Frames:", next(rows))), float(_after("Frame Time:", next(rows)))
        columns = sum(len(joint.channels) for joint in joints)
        if frames < 1 or not 0 < seconds < np.inf or not columns:
            raise ValueError(f"it has {frames} frames of {columns} channels, each {seconds} s")
        # A number takes a character and a space: a count that cannot be is refused before there is room made for it.
        if frames * columns > min(MOST_VALUES, sum(map(len, lines))):
            raise ValueError(f"it says it has {frames} frames of {columns} channels, more than are there or are read")
        values_TC = np.empty((frames, columns))
        for at in range(frames):
            row = next(rows).split()
            if len(row) != columns:
                raise ValueError(f"frame {at} has {len(row)} numbers, not {columns}")
            values_TC[at] = [float(number) for number in row]
        if next(rows, None) is not None:
            raise ValueError(f"there are numbers after its {frames} frames")
        if not np.isfinite(values_TC).all():
            raise ValueError("a number is not finite")
    return Capture(joints=joints, values_TC=values_TC, fps=1 / seconds)


def _after(key: str, line: str) -> str:
    """What follows ``key`` in a line; ValueError where it does not begin with that."""
    if not line.strip().startswith(key):
        raise ValueError(f"{line.strip()[:60]!r} stands where {key!r} is expected")
    return line.strip()[len(key) :]


def _hierarchy(words: Iterator[str]) -> tuple[Joint, ...]:
    """The joints of the first part of a file, without the recursion that a deep tree would take; ValueError,
    LookupError or StopIteration where it is none."""
    _expect(words, "HIERARCHY")
    joints: list[Joint] = []
    open_at: list[int | None] = []  # the joints whose braces are open, None for an end site
    for word in words:
        if word == "}":
            if not open_at:
                raise ValueError("a brace is closed that was not opened")
            open_at.pop()
        elif word == "End":
            _expect(words, "Site", "{", "OFFSET")
            _offset(words)
            open_at.append(None)
        elif word in ("ROOT", "JOINT"):
            parent = open_at[-1] if open_at else -1
            if parent is None or (word == "ROOT") != (parent == -1):
                raise ValueError(f"{word} stands {'inside' if open_at else 'outside'} of a joint")
            if len(joints) == MOST_JOINTS:
                raise ValueError(f"it has more than {MOST_JOINTS} joints")
            open_at.append(len(joints))
            joints.append(_joint(words, parent))
        else:
            raise ValueError(f"{word[:60]!r} stands where a joint is expected")
    if open_at or not joints:
        raise ValueError("its hierarchy is cut off or empty")
    return tuple(joints)


def _joint(words: Iterator[str], parent: int) -> Joint:
    """A joint from its name on, up to the end of its channels; raises as :func:`_hierarchy`."""
    name = next(words)
    _expect(words, "{", "OFFSET")
    offset = _offset(words)
    _expect(words, "CHANNELS")
    count = int(next(words))
    if not 0 <= count <= len(_CHANNELS):
        raise ValueError(f"joint {name[:60]!r} has {count} channels")
    channels = tuple(_CHANNELS[next(words)] for _ in range(count))
    if len(set(channels)) < count:
        raise ValueError(f"joint {name[:60]!r} has a channel twice")
    return Joint(name, parent, offset, channels)


def _expect(words: Iterator[str], *expected: str) -> None:
    for wanted in expected:
        if (word := next(words)) != wanted:
            raise ValueError(f"{word[:60]!r} stands where {wanted!r} is expected")


def _offset(words: Iterator[str]) -> tuple[float, float, float]:
    """Three finite numbers; ValueError otherwise."""
    x, y, z = (float(next(words)) for _ in range(3))
    if not np.isfinite((x, y, z)).all():
        raise ValueError(f"an offset is {(x, y, z)}")
    return x, y, z


def _rotation(radians_T: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Matrices (T, 3, 3) that turn column vectors about an axis, anticlockwise as seen from its positive end."""
    one, other = (axis + 1) % 3, (axis + 2) % 3
    matrix_T33 = np.tile(np.eye(3), (len(radians_T), 1, 1))
    matrix_T33[:, one, one] = matrix_T33[:, other, other] = np.cos(radians_T)
    matrix_T33[:, other, one] = np.sin(radians_T)
    matrix_T33[:, one, other] = -np.sin(radians_T)
    return matrix_T33
