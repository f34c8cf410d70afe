"""Augmentations of time. Joints that are not seen have no say in the frames made of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tmor_train.data.batch import MotionBatch, drawn, happens
from tmor_train.field_checks import Checked, ranged


def resampled(batch: MotionBatch, position_NT: Tensor) -> MotionBatch:
    """The clips at moments between their frames, by linear interpolation.

    Where one of the two frames around a moment does not show a joint, the other one's value is taken if it is the
    nearer of the two; else the joint is not seen. A moment that falls on a frame is that frame.

    Args:
        position_NT: in frames, from 0 to T - 1; any number of moments for each clip.
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
    people, clips = joints.shape[1], torch.arange(len(joints), device=joints.device)
    at = clips[:, None, None], torch.arange(people, device=joints.device)[None, :, None], frame_NT.long()[:, None, :]
    return joints[at], seen[at]


@dataclass(frozen=True, kw_only=True)
class CropResize(Checked):
    """A random stretch of each clip, resized to its T frames: "random temporal cropping" of T-MOR.

    Of T frames, between ``shortest`` and ``longest`` (shares, 0.02 to 1) are kept, but at least two.
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
    """A window of T frames at a random place of the clip, mirrored at both ends by ``share`` of T (0 to 1): as
    SkeletonCLR, CrosSCLR and AimCLR crop."""

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
    """Each clip backwards, with a ``probability`` of 0 to 1."""

    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        turned = happens(len(batch), self.probability, generator)[:, None, None, None]
        joints = torch.where(turned[..., None], batch.joints.flip(2), batch.joints)
        return batch.moved(joints, torch.where(turned, batch.seen.flip(2), batch.seen))


@dataclass(frozen=True, kw_only=True)
class Blur(Checked):
    """A Gaussian over time, of ``taps`` frames (odd, 1 to 99) and a width drawn between ``least`` and ``most`` frames
    (0.05 to 20), with a ``probability`` of 0 to 1. It averages only frames that show the joint."""

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
