"""Augmentations of space: turning, mirroring, moving and seeing from elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from posecap.joints import flip_order
from tmor_train.data.batch import MotionBatch, body_centre, drawn, happens
from tmor_train.field_checks import Checked, ranged


def _turn(angle: Tensor, first: int, second: int, size: int) -> Tensor:
    """Rotations of row vectors from axis ``first`` towards axis ``second``: (..., size, size)."""
    matrix = torch.eye(size, device=angle.device).expand(*angle.shape, size, size).clone()
    matrix[..., first, first] = matrix[..., second, second] = angle.cos()
    matrix[..., first, second] = angle.sin()
    matrix[..., second, first] = -angle.sin()
    return matrix


def _about(batch: MotionBatch, centre: Tensor, matrix_NCC: Tensor) -> MotionBatch:
    joints = batch.joints
    turned = torch.einsum("nmtvc,ncd->nmtvd", joints - centre, matrix_NCC.to(joints.dtype)) + centre
    return batch.moved(turned)


def _radians(clips: int, degrees: float, generator: torch.Generator) -> Tensor:
    return drawn(clips, -math.radians(degrees), math.radians(degrees), generator)


@dataclass(frozen=True, kw_only=True)
class Rotate(Checked):
    """A turn of each clip in the picture's plane about the body's centre, by up to ``degrees`` (0 to 180) either way:
    what rotation 2D skeletons allow."""

    degrees: float = ranged(15.0, 0, 180)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        angle_N = _radians(len(batch), self.degrees, generator)
        matrix = _turn(angle_N, 0, 1, batch.motion_NCTVM.shape[1])
        return _about(batch, body_centre(batch.joints, batch.seen), matrix)


@dataclass(frozen=True, kw_only=True)
class Rotate3D(Checked):
    """A turn in space about the body's centre: up to ``vertical`` degrees about the vertical axis and up to ``others``
    about the other two (0 to 180 each). Clips without depth stay as they are."""

    vertical: float = ranged(30.0, 0, 180)
    others: float = ranged(5.0, 0, 180)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips = len(batch)
        yaw, pitch, roll = (_radians(clips, d, generator) for d in (self.vertical, self.others, self.others))
        if batch.motion_NCTVM.shape[1] != 3:
            return batch
        matrix = _turn(yaw, 0, 2, 3) @ _turn(pitch, 1, 2, 3) @ _turn(roll, 0, 1, 3)
        matrix = torch.where(batch.has_depth_N[:, None, None], matrix, torch.eye(3, device=matrix.device))
        return _about(batch, body_centre(batch.joints, batch.seen), matrix)


@dataclass(frozen=True, kw_only=True)
class Project(Checked):
    """Clips with depth as a camera sees them from somewhere: two coordinates come out, for every clip.

    The camera goes round the body's centre by up to ``yaw`` degrees (0 to 180) and up or down by up to ``pitch``
    (0 to 80), both either way; 0 and 0 is the view of recording. ``perspective`` cameras stand ``nearest`` to
    ``farthest`` away (2 to 100, in the units of the joints: a body is about 2 tall once normalised);
    ``orthographic`` ones endlessly far. Clips without depth only lose their empty third coordinate.
    """

    yaw: float = ranged(90.0, 0, 180)
    pitch: float = ranged(10.0, 0, 80)
    camera: Literal["perspective", "orthographic"] = "perspective"
    nearest: float = ranged(4.0, 2, 100)
    farthest: float = ranged(10.0, "nearest", 100)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips = len(batch)
        yaw, pitch = _radians(clips, self.yaw, generator), _radians(clips, self.pitch, generator)
        distance_N = drawn(clips, self.nearest, self.farthest, generator)
        joints = batch.joints
        if joints.shape[-1] == 2:
            return batch
        centre = body_centre(joints, batch.seen)
        matrix = (_turn(yaw, 0, 2, 3) @ _turn(pitch, 1, 2, 3)).to(joints.dtype)
        seen_from = torch.einsum("nmtvc,ncd->nmtvd", joints - centre, matrix)
        flat = seen_from[..., :2]
        if self.camera == "perspective":
            distance = distance_N[:, None, None, None, None].to(joints.dtype)
            # Whoever comes within a tenth of the distance is held there, so that nobody is behind the camera.
            flat = flat * (distance / (distance + seen_from[..., 2:]).clamp(min=0.1 * distance))
        deep = batch.has_depth_N[:, None, None, None, None]
        return batch.moved(torch.where(deep, flat + centre[..., :2], joints[..., :2])).flattened()


@dataclass(frozen=True, kw_only=True)
class Flip(Checked):
    """The mirror image, left and right joints swapped, with a ``probability`` of 0 to 1. The mirror stands at x = 0,
    the middle of a normalised picture."""

    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        order = list(flip_order(batch.layout))
        turned = happens(len(batch), self.probability, generator)[:, None, None, None]
        joints, seen = batch.joints, batch.seen
        mirrored = joints[..., order, :].clone()
        mirrored[..., 0].neg_()
        return batch.moved(
            torch.where(turned[..., None], mirrored, joints), torch.where(turned, seen[..., order], seen)
        )


@dataclass(frozen=True, kw_only=True)
class RandomMove(Checked):
    """UNIK's moving camera, in the picture's plane: an angle, a scale and a shift, each going evenly over the clip from
    one drawn value to another, about the point (0, 0).

    ``angles`` in degrees; ``scales`` above 0; ``shifts`` in normalised coordinates, drawn for x and y apart.
    """

    angles: tuple[float, ...] = ranged((-10.0, -5.0, 0.0, 5.0, 10.0), -180, 180)
    scales: tuple[float, ...] = ranged((0.9, 1.0, 1.1), 0.01, 100)
    shifts: tuple[float, ...] = ranged((-0.2, -0.1, 0.0, 0.1, 0.2), -10, 10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.angles and self.scales and self.shifts):
            raise ValueError("one of angles, scales and shifts holds nothing to draw from")

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        joints = batch.joints
        clips, frames = len(batch), joints.shape[2]
        angle_NT = self._course(self.angles, clips, frames, generator) * (math.pi / 180)
        scale_NT = self._course(self.scales, clips, frames, generator)
        across, down = (self._course(self.shifts, clips, frames, generator) for _ in range(2))
        matrix_NTCC = _turn(angle_NT, 0, 1, 2) * scale_NT[..., None, None]
        moved = joints.clone()
        moved[..., :2] = torch.einsum("nmtvc,ntcd->nmtvd", joints[..., :2], matrix_NTCC.to(joints.dtype))
        moved[..., :2] += torch.stack([across, down], -1)[:, None, :, None].to(joints.dtype)
        return batch.moved(moved)

    @staticmethod
    def _course(values: tuple[float, ...], clips: int, frames: int, generator: torch.Generator) -> Tensor:
        """From one value at the first frame evenly to another at the last: (N, T)."""
        known = torch.tensor(values, device=generator.device)
        ends = known[torch.randint(len(values), (2, clips), generator=generator, device=generator.device)]
        share = torch.linspace(0, 1, frames, device=generator.device)
        return torch.lerp(ends[0][:, None], ends[1][:, None], share)


@dataclass(frozen=True, kw_only=True)
class Shear(Checked):
    """Each coordinate gets a share of each other one, drawn up to ``amount`` (0 to 1) either way, about the body's
    centre. Clips without depth are sheared in their plane."""

    amount: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        size = batch.motion_NCTVM.shape[1]
        matrix = drawn(len(batch) * size * size, -self.amount, self.amount, generator).view(-1, size, size)
        if size == 3:
            flat = ~batch.has_depth_N[:, None]
            matrix[:, 2] = matrix[:, 2].masked_fill(flat, 0)
            matrix[:, :, 2] = matrix[:, :, 2].masked_fill(flat, 0)
        matrix.diagonal(dim1=1, dim2=2).fill_(1)
        return _about(batch, body_centre(batch.joints, batch.seen), matrix)
