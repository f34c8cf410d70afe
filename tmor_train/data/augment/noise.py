"""Augmentations that take something away from each clip, or blur where it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from tmor_train.data.batch import MotionBatch, drawn, happens
from tmor_train.field_checks import Checked, ranged


@dataclass(frozen=True, kw_only=True)
class Noise(Checked):
    """Gaussian noise on every coordinate that is seen, of a ``sigma`` of 0 to 1 in normalised coordinates, with a
    ``probability`` of 0 to 1."""

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
    """A ``share`` (0 to 1) of each clip's joints, the same in all its frames and people, with a ``probability`` of
    0 to 1: ``hide`` makes them not seen; ``corrupt`` moves each by up to ``amount`` (0 to 10) either way, all frames
    alike."""

    share: float = ranged(0.6, 0, 1)
    how: Literal["hide", "corrupt"] = "hide"
    amount: float = ranged(1.0, 0, 10)
    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        clips, channels, _, joints, _ = batch.motion_NCTVM.shape
        lots_NV = torch.rand(clips, joints, generator=generator, device=generator.device)
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
    """One coordinate of each clip, drawn, becomes 0 throughout, with a ``probability`` of 0 to 1."""

    probability: float = ranged(0.5, 0, 1)

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        channels = batch.motion_NCTVM.shape[1]
        axis_N = torch.randint(channels, (len(batch),), generator=generator, device=generator.device)
        struck = happens(len(batch), self.probability, generator)
        kept_NC = ~((torch.arange(channels, device=axis_N.device) == axis_N[:, None]) & struck[:, None])
        return batch.moved(batch.joints * kept_NC[:, None, None, None])


@dataclass(frozen=True, kw_only=True)
class Occlusion(Checked):
    """Joints that go out of sight for a while, as hands do behind a body: each joint of a clip with a ``probability``
    of 0 to 1, for a stretch of frames of its own of up to ``longest`` (a share of the clip, 0 to 1), in all people
    alike."""

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
        moment_T = (torch.arange(frames, device=begin.device) + 0.5) / frames
        since_NTV = moment_T[:, None] + length - begin * (1 + length)  # may have begun before the clip, or end after it
        hidden_NTV = struck & (since_NTV >= 0) & (since_NTV < length)
        return batch.moved(batch.joints, batch.seen & ~hidden_NTV[:, None])
