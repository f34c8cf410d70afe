"""Augmentations of batches, as random views for contrastive learning.

Each is a frozen configuration, called with a :class:`MotionBatch` and a ``torch.Generator`` on the batch's device, and
returns a changed batch of the same shape (``Project`` excepted). All clips are processed at once, each with its own
random numbers. Joints that are not seen stay 0 and have no part in interpolated frames; masks are updated. Lengths are
in normalised coordinates (:class:`~tmor_train.data.batch.Normalise`), where a picture spans -1 to 1 in x, y points
down and z away from the camera. A clip with depth has three coordinates (``has_depth_N``). Batches hold joints, not
streams: augmentations come first. Each class says where its default amounts are from; amounts of 3D skeletons of NTU
are in metres there, and taken over as they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from posecap.joints import JOINT_KINDS, LAYOUTS, flip_order, joint_kind
from tmor_train.configuration import Checked, ranged
from tmor_train.data.batch import MotionBatch, body_centre


def drawn(clips: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """A number uniform from ``low`` to ``high`` for each clip: (N,) float32 on the generator's device. Rounding may
    give ``high`` itself."""
    return torch.rand(clips, generator=generator, device=generator.device) * (high - low) + low


def happens(clips: int, probability: float, generator: torch.Generator) -> Tensor:
    """For each clip True with a chance of ``probability``: (N,) bool on the generator's device."""
    return torch.rand(clips, generator=generator, device=generator.device) < probability


# Augmentations of space: rotation, projection, mirroring, moving, shear.


def _rotation(angle: Tensor, first: int, second: int, size: int) -> Tensor:
    """Matrices (..., size, size) that rotate row vectors by ``angle`` radians from axis ``first`` towards
    ``second``."""
    matrix = torch.eye(size, device=angle.device).expand(*angle.shape, size, size).clone()
    matrix[..., first, first] = matrix[..., second, second] = angle.cos()
    matrix[..., first, second] = angle.sin()
    matrix[..., second, first] = -angle.sin()
    return matrix


def _about(batch: MotionBatch, centre: Tensor, matrix_NCC: Tensor) -> MotionBatch:
    """The clips with each joint, relative to ``centre`` (N, 1, 1, 1, C), multiplied by its clip's matrix."""
    joints = batch.joints
    turned = torch.einsum("nmtvc,ncd->nmtvd", joints - centre, matrix_NCC.to(joints.dtype)) + centre
    return batch.moved(turned)


def _radians(clips: int, degrees: float, generator: torch.Generator) -> Tensor:
    """An angle for each clip, up to ``degrees`` either way: (N,) radians."""
    return drawn(clips, -math.radians(degrees), math.radians(degrees), generator)


@dataclass(frozen=True, kw_only=True)
class Rotate(Checked):
    """Rotates each clip in the plane of the picture about the body's centre (the mean of the joints seen, over all
    people and frames), by up to ``degrees`` (0 to 180) either way: the only rotation that 2D skeletons allow. Clips
    with depth turn about the camera's axis. The default is our choice (T-MOR names no angle): a camera held askew, and
    no one standing becomes one who leans."""

    degrees: float = ranged(15.0, 0, 180)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        angle_N = _radians(len(batch), self.degrees, generator)
        matrix = _rotation(angle_N, 0, 1, batch.motion_NCTVM.shape[1])
        return _about(batch, body_centre(batch.joints, batch.seen), matrix)


@dataclass(frozen=True, kw_only=True)
class Rotate3D(Checked):
    """Rotates each clip in space about the body's centre: up to ``vertical`` degrees about the vertical axis and up to
    ``others`` about each of the other two (0 to 180), either way. Clips without depth stay as they are. The defaults
    are our choice: 30 is the widest that AimCLR's code turns about one axis; up and down cameras differ less."""

    vertical: float = ranged(30.0, 0, 180)
    others: float = ranged(5.0, 0, 180)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips = len(batch)
        # Drawn in any case, so that what the next augmentations draw does not depend on the kind of clips.
        yaw, pitch, roll = (_radians(clips, d, generator) for d in (self.vertical, self.others, self.others))
        if batch.motion_NCTVM.shape[1] != 3:
            return batch
        matrix = _rotation(yaw, 0, 2, 3) @ _rotation(pitch, 1, 2, 3) @ _rotation(roll, 0, 1, 3)
        matrix = torch.where(batch.has_depth_N[:, None, None], matrix, torch.eye(3, device=matrix.device))
        return _about(batch, body_centre(batch.joints, batch.seen), matrix)


@dataclass(frozen=True, kw_only=True)
class Project(Checked):
    """Projects clips with depth to the picture of a camera at a random place; the batch then has two coordinates.

    The camera is moved round the body's centre by up to ``yaw`` degrees (0 to 180) and up or down by up to ``pitch``
    degrees (0 to 80: at 90 it would look straight down), either way; 0 and 0 is the view of the recording. A
    ``perspective`` camera stands ``nearest`` to ``farthest`` away (2 to 100, in normalised coordinates, in which a body
    is about 2 tall); an ``orthographic`` one is infinitely far. Clips without depth only lose their empty third
    coordinate. The defaults are our choice: a person is seen from the front and both sides, by cameras at the height of
    a head or a shelf, two to five body heights away.
    """

    yaw: float = ranged(90.0, 0, 180)
    pitch: float = ranged(10.0, 0, 80)
    camera: Literal["perspective", "orthographic"] = "perspective"
    nearest: float = ranged(4.0, 2, 100)
    farthest: float = ranged(10.0, "nearest", 100)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips = len(batch)
        # Drawn in any case, as in Rotate3D.
        yaw, pitch = _radians(clips, self.yaw, generator), _radians(clips, self.pitch, generator)
        distance_N = drawn(clips, self.nearest, self.farthest, generator)
        joints = batch.joints
        if joints.shape[-1] == 2:
            return batch
        centre = body_centre(joints, batch.seen)
        matrix = (_rotation(yaw, 0, 2, 3) @ _rotation(pitch, 1, 2, 3)).to(joints.dtype)
        seen_from = torch.einsum("nmtvc,ncd->nmtvd", joints - centre, matrix)
        flat = seen_from[..., :2]
        if self.camera == "perspective":
            distance = distance_N[:, None, None, None, None].to(joints.dtype)
            # Depths are clamped to a tenth of the camera's distance, so that no joint is behind the camera.
            flat = flat * (distance / (distance + seen_from[..., 2:]).clamp(min=0.1 * distance))
        deep = batch.has_depth_N[:, None, None, None, None]
        return batch.moved(torch.where(deep, flat + centre[..., :2], joints[..., :2])).without_depth()


@dataclass(frozen=True, kw_only=True)
class Flip(Checked):
    """Mirrors a clip at x = 0, the middle of a normalised picture, and swaps left and right joints, with a
    ``probability`` of 0 to 1, AimCLR's by default."""

    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        order = list(flip_order(batch.layout))
        turned = happens(len(batch), self.probability, generator)[:, None, None, None]
        joints, seen = batch.joints, batch.seen
        mirrored = joints[..., order, :]  # a copy, as every selection by a list of indices
        mirrored[..., 0].neg_()
        return batch.moved(
            torch.where(turned[..., None], mirrored, joints), torch.where(turned, seen[..., order], seen)
        )


@dataclass(frozen=True, kw_only=True)
class RandomMove(Checked):
    """UNIK's moving camera, with the values of its code: rotates and scales x and y about the point (0, 0), then shifts
    them, by amounts that change linearly over the clip from one drawn value to another; z stays.

    Values are drawn from ``angles`` in degrees, ``scales`` (factors above 0) and ``shifts`` in normalised coordinates,
    the last for x and y independently.

    Raises:
        ValueError: one of the three is empty.
    """

    angles: tuple[float, ...] = ranged((-10.0, -5.0, 0.0, 5.0, 10.0), -180, 180)
    scales: tuple[float, ...] = ranged((0.9, 1.0, 1.1), 0.01, 100)
    shifts: tuple[float, ...] = ranged((-0.2, -0.1, 0.0, 0.1, 0.2), -10, 10)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.angles and self.scales and self.shifts):
            raise ValueError("angles, scales and shifts need at least one value each")

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        joints = batch.joints
        clips, frames = len(batch), joints.shape[2]
        angle_NT = self._course(self.angles, clips, frames, generator) * (math.pi / 180)
        scale_NT = self._course(self.scales, clips, frames, generator)
        across, down = (self._course(self.shifts, clips, frames, generator) for _ in range(2))
        matrix_NTCC = _rotation(angle_NT, 0, 1, 2) * scale_NT[..., None, None]
        moved = joints.clone()
        moved[..., :2] = torch.einsum("nmtvc,ntcd->nmtvd", joints[..., :2], matrix_NTCC.to(joints.dtype))
        moved[..., :2] += torch.stack([across, down], -1)[:, None, :, None].to(joints.dtype)
        return batch.moved(moved)

    @staticmethod
    def _course(values: tuple[float, ...], clips: int, frames: int, generator: torch.Generator) -> Tensor:
        """Values that go linearly from a drawn one at the first frame to another at the last: (N, T)."""
        known = torch.tensor(values, device=generator.device)
        ends = known[torch.randint(len(values), (2, clips), generator=generator, device=generator.device)]
        share = torch.linspace(0, 1, frames, device=generator.device)
        return torch.lerp(ends[0][:, None], ends[1][:, None], share)


@dataclass(frozen=True, kw_only=True)
class Shear(Checked):
    """Shears each clip about the body's centre: adds to each coordinate each other one times a factor drawn from
    -``amount`` to ``amount`` (0 to 1). Clips without depth are sheared in their plane. The default is that of
    SkeletonCLR's, CrosSCLR's and AimCLR's code."""

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


# Augmentations of time.


def resampled(batch: MotionBatch, position_NT: Tensor) -> MotionBatch:
    """The clips at times between their frames, by linear interpolation.

    Where a joint is seen in only one of the two frames around a time, that frame's value is taken if it is the nearer
    of the two (midway: if it is the later); else the joint is not seen. A time that falls on a frame gives that frame.

    Args:
        position_NT: times in frames, from 0 to T - 1; their number is that of the result's frames.
    """
    joints, seen = batch.joints, batch.seen
    before_NT = position_NT.floor().clamp(max=joints.shape[2] - 1)
    share = (position_NT - before_NT)[:, None, :, None]
    after_NT = (before_NT + 1).clamp(max=joints.shape[2] - 1)
    (left, left_seen), (right, right_seen) = _frames(joints, seen, before_NT), _frames(joints, seen, after_NT)
    share = torch.where(left_seen & right_seen, share, (share >= 0.5).to(share.dtype))
    shown = torch.where(share == 0, left_seen, torch.where(share == 1, right_seen, left_seen & right_seen))
    return batch.moved(torch.lerp(left, right, share[..., None].to(left.dtype)), shown)


def _frames(joints: Tensor, seen: Tensor, frame_NT: Tensor) -> tuple[Tensor, Tensor]:
    """The given frames of each clip, (N, T) in any float dtype: joints and their mask."""
    people, clips = joints.shape[1], torch.arange(len(joints), device=joints.device)
    at = clips[:, None, None], torch.arange(people, device=joints.device)[None, :, None], frame_NT.long()[:, None, :]
    return joints[at], seen[at]


@dataclass(frozen=True, kw_only=True)
class CropResize(Checked):
    """Crops a random stretch of each clip and resamples it to T frames: T-MOR's "random temporal cropping".

    The stretch is ``shortest`` to ``longest`` of the clip (shares, 0.02 to 1), but at least two frames. Clips of fewer
    than three frames stay as they are. The defaults are our choice (T-MOR names no length): two views of a clip then
    share at least a moment.
    """

    shortest: float = ranged(0.5, 0.02, 1)
    longest: float = ranged(1.0, "shortest", 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips, frames = len(batch), batch.motion_NCTVM.shape[2]
        if frames < 3:
            return batch
        length_N = (drawn(clips, self.shortest, self.longest, generator) * frames).clamp(min=2)
        begin_N = drawn(clips, 0, 1, generator) * (frames - length_N)
        step_N = (length_N - 1) / (frames - 1)
        steps_T = torch.arange(frames, device=length_N.device)
        return resampled(batch, (begin_N[:, None] + step_N[:, None] * steps_T).clamp(0, frames - 1))


@dataclass(frozen=True, kw_only=True)
class ShiftCrop(Checked):
    """Crops T frames at a random place of the clip after it was extended at both ends by ``share`` of T (0 to 1,
    frames rounded down) in mirrored order, as SkeletonCLR, CrosSCLR and AimCLR do."""

    share: float = ranged(1 / 6, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        frames = batch.motion_NCTVM.shape[2]
        most = int(frames * self.share)
        shift_N = torch.randint(-most, most + 1, (len(batch),), generator=generator, device=generator.device)
        at = torch.arange(frames, device=shift_N.device) + shift_N[:, None]
        at = torch.where(at < 0, -1 - at, torch.where(at >= frames, 2 * frames - 1 - at, at))
        return batch.moved(*_frames(batch.joints, batch.seen, at))


@dataclass(frozen=True, kw_only=True)
class TimeFlip(Checked):
    """Reverses the frames of a clip with a ``probability`` of 0 to 1, AimCLR's by default."""

    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        turned = happens(len(batch), self.probability, generator)[:, None, None, None]
        joints = torch.where(turned[..., None], batch.joints.flip(2), batch.joints)
        return batch.moved(joints, torch.where(turned, batch.seen.flip(2), batch.seen))


@dataclass(frozen=True, kw_only=True)
class Blur(Checked):
    """Blurs a clip over time, with a ``probability`` of 0 to 1, by a Gaussian of ``taps`` frames (odd, 1 to 99) whose
    standard deviation is drawn from ``least`` to ``most`` frames (0.05 to 20). Only frames in which the joint is seen
    are averaged. The defaults are those of AimCLR's code.

    Raises:
        ValueError: ``taps`` is even.
    """

    taps: int = ranged(15, 1, 99)
    least: float = ranged(0.1, 0.05, 20)
    most: float = ranged(2.0, "least", 20)
    probability: float = ranged(0.5, 0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.taps % 2 == 0:
            raise ValueError(f"taps is {self.taps}, expected an odd number")

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        joints, seen = batch.joints, batch.seen
        sigma_N = drawn(len(batch), self.least, self.most, generator)
        blurred = happens(len(batch), self.probability, generator)
        steps = torch.arange(joints.shape[2], device=sigma_N.device)
        apart = steps[:, None] - steps
        weight_NTS = (-(apart**2) / (2 * sigma_N[:, None, None] ** 2)).exp() * (apart.abs() <= self.taps // 2)
        shown = seen.to(joints.dtype)
        total = torch.einsum("nts,nmsv->nmtv", weight_NTS.to(joints.dtype), shown)
        summed = torch.einsum("nts,nmsvc->nmtvc", weight_NTS.to(joints.dtype), joints * shown[..., None])
        smooth = summed / total.clamp(min=torch.finfo(joints.dtype).tiny)[..., None]
        return batch.moved(torch.where(blurred[:, None, None, None, None], smooth, joints))


# Augmentations that hide joints or make their positions less exact.


@dataclass(frozen=True, kw_only=True)
class Noise(Checked):
    """Adds Gaussian noise to the coordinates of seen joints, with a ``probability`` of 0 to 1 per clip; ``sigma`` is
    its standard deviation (0 to 1) in normalised coordinates. The defaults are those of AimCLR's code (``gaus_noise``),
    where it is in metres."""

    sigma: float = ranged(0.01, 0, 1)
    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        joints = batch.joints
        noisy = happens(len(batch), self.probability, generator)[:, None, None, None, None].repeat(
            1, 1, 1, 1, joints.shape[-1]
        )
        if joints.shape[-1] == 3:
            noisy[..., 2] &= batch.has_depth_N[:, None, None, None]
        noise = torch.randn(joints.shape, generator=generator, device=generator.device, dtype=joints.dtype)
        return batch.moved(joints + self.sigma * noise * noisy)


@dataclass(frozen=True, kw_only=True)
class JointDropout(Checked):
    """Hides or moves a ``share`` (0 to 1) of a clip's joints, their number rounded to the nearest, the same ones in all
    its frames and people, with a ``probability`` of 0 to 1. ``how``: ``hide`` makes them not seen; ``corrupt`` moves
    each coordinate of a joint by an amount of its own, up to ``amount`` (0 to 10, normalised) either way and the same
    in all frames and people. ``amount`` is used by ``corrupt`` alone. ``share`` is 15 of NTU's 25 joints; ``amount``,
    half of the picture, and ``probability`` are our choice."""

    share: float = ranged(0.6, 0, 1)
    how: Literal["hide", "corrupt"] = "hide"
    amount: float = ranged(1.0, 0, 10)
    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips, channels, _, joints, _ = batch.motion_NCTVM.shape
        lots_NV = torch.rand(clips, joints, generator=generator, device=generator.device)  # the lowest are hit
        struck = happens(clips, self.probability, generator)
        away = drawn(clips * joints * channels, -self.amount, self.amount, generator).view(clips, 1, 1, joints, -1)
        hit_NV = (lots_NV.argsort(1).argsort(1) < round(self.share * joints)) & struck[:, None]
        if self.how == "hide":
            return batch.moved(batch.joints, batch.seen & ~hit_NV[:, None, None])
        if channels == 3:
            away[..., 2] *= batch.has_depth_N[:, None, None, None]
        return batch.moved(batch.joints + away.to(batch.joints.dtype) * hit_NV[:, None, None, :, None])


@dataclass(frozen=True, kw_only=True)
class AxisMask(Checked):
    """Sets one coordinate of a clip, drawn from those of the batch, to 0 in all frames, with a ``probability`` of 0 to
    1, AimCLR's by default. Masks do not change, and a clip without depth in a batch with it stays as it is where z is
    drawn."""

    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        channels = batch.motion_NCTVM.shape[1]
        axis_N = torch.randint(channels, (len(batch),), generator=generator, device=generator.device)
        struck = happens(len(batch), self.probability, generator)
        kept_NC = ~((torch.arange(channels, device=axis_N.device) == axis_N[:, None]) & struck[:, None])
        return batch.moved(batch.joints * kept_NC[:, None, None, None])


@dataclass(frozen=True, kw_only=True)
class Occlusion(Checked):
    """Hides joints for a while, as a body hides a hand: each joint of a clip with a ``probability`` of 0 to 1, for its
    own stretch of frames of up to ``longest`` (a share of the clip, 0 to 1), in all people at once. The defaults are
    our choice: of 13 to 17 joints, two or three are hidden, at most for all of the clip."""

    probability: float = ranged(0.2, 0, 1)
    longest: float = ranged(1.0, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips, _, frames, joints, _ = batch.motion_NCTVM.shape
        struck, length, begin = (
            values.view(clips, 1, joints)
            for values in (
                happens(clips * joints, self.probability, generator),
                drawn(clips * joints, 0, self.longest, generator),
                drawn(clips * joints, 0, 1, generator),
            )
        )
        hidden_NTV = struck & _while(begin, length, frames)
        return batch.moved(batch.joints, batch.seen & ~hidden_NTV[:, None])


def _while(begin: Tensor, length: Tensor, frames: int) -> Tensor:
    """Which frames are in a stretch of ``length`` (a share of the clip) that ``begin``, 0 to 1, places: (N, T, V) bool
    of (N, 1, V). It may have begun before the clip, or end after it, so that all frames are hit as often."""
    moment_T = (torch.arange(frames, device=begin.device) + 0.5) / frames
    since_NTV = moment_T[:, None] + length - begin * (1 + length)
    return (since_NTV >= 0) & (since_NTV < length)


@dataclass(frozen=True, kw_only=True)
class EstimatorError(Checked):
    """Errs as an estimator of joints in pictures does, with a ``probability`` of 0 to 1 per clip: every seen joint is
    off by noise that lasts a while, and some joints are elsewhere for a stretch.

    ``errors`` are standard deviations, 0 to 1, for each of :data:`~posecap.joints.JOINT_KINDS`, in body radii
    (the mean distance of a person's joints from their middle); ``amount``, 0 to 10, multiplies them all. ``memory`` is
    the share of a clip, from 0.001 to 10, after which an error has lost all but 1/e of itself. For a stretch of up to
    ``longest`` (a share of the clip, 0 to 1) a joint is ``far`` radii (0 to 10) away in a random direction; each joint
    has such a stretch with the chance of ``lost``, 0 to 1, for its kind. Coordinates of depth do not change.

    The defaults were measured between MoveNet, in the default pipeline, and YOLO11n-pose on the same clips of sports,
    as if both erred as much (docs/results/estimators.md): ``errors`` and the mean ``memory`` are those of its table,
    and ``lost`` gives half of its shares of joints that are far off, as such stretches take up 0.19 of a clip on
    average. The trunk, which neither estimates, has the hips' numbers. ``longest`` and ``far`` are our choice: half of
    a clip, and a forearm. Both estimators name a place for every joint, so none is hidden here (:class:`Occlusion`).

    Raises:
        ValueError: a number is out of its range, or ``errors`` or ``lost`` have not one number for each kind of joint.
    """

    errors: tuple[float, ...] = ranged((0.052, 0.094, 0.083, 0.102, 0.095, 0.094, 0.113, 0.116), 0, 1)
    lost: tuple[float, ...] = ranged((0.18, 0.29, 0.24, 0.37, 0.40, 0.29, 0.71, 0.85), 0, 1)
    amount: float = ranged(1.0, 0, 10)
    memory: float = ranged(0.115, 0.001, 10)
    longest: float = ranged(0.5, 0, 1)
    far: float = ranged(0.75, 0, 10)
    probability: float = ranged(1.0, 0, 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not len(self.errors) == len(self.lost) == len(JOINT_KINDS):
            raise ValueError(f"errors and lost have a number for each of {', '.join(JOINT_KINDS)}")

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips, _, frames, joints, people = batch.motion_NCTVM.shape
        struck_N = happens(clips, self.probability, generator)
        device = generator.device
        noise = torch.randn(clips, people, frames, joints * 2, generator=generator, device=device)
        lot, length, begin, turn = (
            torch.rand(clips * people, 1, joints, generator=generator, device=device) for _ in range(4)
        )
        kind_V = [JOINT_KINDS.index(joint_kind(name)) for name in LAYOUTS[batch.layout].names]
        error_V, lost_V = (torch.tensor(known, device=device)[kind_V] for known in (self.errors, self.lost))
        lasting = torch.einsum("ts,nmsk->nmtk", _lasting(frames, self.memory, device), noise)
        away = lasting.view(clips, people, frames, joints, 2) * (self.amount * error_V)[:, None]
        elsewhere = (lot < lost_V) & _while(begin, length * self.longest, frames)
        angle = turn * (2 * math.pi)
        jump = self.far * torch.stack([angle.cos(), angle.sin()], -1) * elsewhere[..., None]
        away = away + jump.view(clips, people, frames, joints, 2)
        away = away * (body_radius(batch.joints, batch.seen) * struck_N[:, None])[:, :, None, None, None]
        moved = batch.joints.clone()
        moved[..., :2] += away.to(moved.dtype)
        return batch.moved(moved)


def _lasting(frames: int, memory: float, device: torch.device) -> Tensor:
    """The matrix (T, T) that makes of independent noise with deviation 1 noise that also has deviation 1, and whose
    correlation falls to 1/e within ``memory`` of the clip (an autoregressive process of order 1)."""
    kept = math.exp(-1 / (memory * frames))
    steps = torch.arange(frames, device=device)
    matrix = torch.tril(kept ** (steps[:, None] - steps).clamp(min=0).float())
    matrix[:, 1:] *= math.sqrt(1 - kept**2)
    return matrix


def body_radius(joints: Tensor, seen: Tensor) -> Tensor:
    """The mean distance of each person's joints, in the picture, from their middle in the frame: (N, M), 0 where nobody
    is seen.

    Args:
        joints: (N, M, T, V, C), x and y first.
        seen: (N, M, T, V) bool.
    """
    weight = seen[..., None].to(joints.dtype)
    flat = joints[..., :2]
    middle = (flat * weight).sum(3, keepdim=True) / weight.sum(3, keepdim=True).clamp(min=1)
    distance = (flat - middle).norm(dim=-1) * weight[..., 0]
    radius_NM: Tensor = distance.sum((2, 3)) / weight.sum((2, 3, 4)).clamp(min=1)
    return radius_NM


SpaceView = (
    AxisMask
    | EstimatorError
    | Flip
    | JointDropout
    | Noise
    | Occlusion
    | Project
    | RandomMove
    | Rotate
    | Rotate3D
    | Shear
)
"""Augmentations that do not change timing."""

View = SpaceView | Blur | CropResize | ShiftCrop | TimeFlip
"""All augmentations, as configurations name them."""


class Augmentation(Protocol):
    """A random change of a batch."""

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        """The changed batch; ``batch`` itself is not modified. ``generator`` is on the batch's device."""
        ...


FAITHFUL: tuple[Augmentation, ...] = (CropResize(), Rotate())
"""T-MOR's augmentations for 2D skeletons: random temporal cropping and random rotation. The paper gives neither the
lengths nor the angles; both have our defaults."""

FAITHFUL_3D: tuple[Augmentation, ...] = (CropResize(), Rotate3D())
"""The same for 3D skeletons."""

_MORE: tuple[Augmentation, ...] = (
    Flip(),
    Shear(),
    Noise(),
    Blur(),
    JointDropout(),
    AxisMask(probability=0.2),
    TimeFlip(probability=0.2),
)

STRONG: tuple[Augmentation, ...] = (*FAITHFUL, *_MORE)
"""``FAITHFUL`` and further common augmentations, which are not in the paper, with the default amounts of each. Setting
an axis to 0 and reversing time may take away what tells actions apart, so they are rarer here: our choice."""

STRONG_3D: tuple[Augmentation, ...] = (*FAITHFUL_3D, *_MORE)
"""``STRONG`` for 3D skeletons."""


def augmented(batch: MotionBatch, steps: Sequence[Augmentation], generator: torch.Generator) -> MotionBatch:
    """The batch after all ``steps``, in order."""
    for step in steps:
        batch = step(batch, generator)
    return batch
