"""ViA (Yang et al., "View-invariant Skeleton Action Representation Learning via Motion Retargeting", IJCV 2024).

Two views u, v of one clip show the same motion of bodies that look different. Feature frames r_t, 256 numbers each,
are split by an orthogonal basis D (256 x 64, the Q of a QR decomposition of learned numbers):

    static s = D Dᵀ mean_t r_t,    motion m_t = r_t - s

A decoder makes joints from the sum of a motion and a static part. The loss compares all four combinations of the views
with the joints they should give, and makes the motions of both views similar (the triplet loss):

    L = Σ_{a, b in {u, v}} |dec(m^a + s^b) - x^b|² + w max(0, |m̄^u - m̄^v|² - |m̄^u - m̄^n|² + 1)

m̄ is the mean over time and people; n is the next clip of the batch. The authors' code is not public: splitting by the
mean over time, and using means of squares, follow LAC's released code, a later work of the same authors that splits in
the same way (Yang et al., ICCV 2023). There the triplets are of flattened frames, the negatives are the other clip of a
pair, and static parts have triplets, too. Views
of 3D skeletons are projections from other yaws (``Project``); 2D skeletons are sheared and rotated instead, which only
approximates another view. Frame t of both views shows the same moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from tmor_train.backbones import FEATURES
from tmor_train.data.augment import CropResize, ShiftCrop, TimeFlip
from tmor_train.data.batch import MotionBatch
from tmor_train.methods.base import (
    FrameDecoder,
    HeadsOf,
    Method,
    MethodContext,
    MethodOutput,
    MethodSettings,
    StepContext,
    distance,
)

_CHANGE_TIME = (CropResize, ShiftCrop, TimeFlip)  # after these, frame t is another moment


@dataclass(frozen=True, kw_only=True)
class ViA(MethodSettings):
    """The settings of ViA: ``directions`` is the number of columns of D, ``triplet`` the weight w and ``margin`` the
    margin of the triplet loss. Weight and margin are 1, as in the configuration of LAC's code; 64 is our choice, a
    quarter of the features (LAC's static part has 32 of 160). Nothing of ``objective`` is used but ``momentum``, for
    the EMA encoder. The views are ``views.anchor`` and ``views.positive``, of which no augmentation may change time.

    Raises:
        ValueError: a number is out of its range.
    """

    heads: ClassVar[HeadsOf] = "none"

    directions: int = 64
    triplet: float = 1.0
    margin: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.directions <= FEATURES or self.triplet < 0 or self.margin < 0:
            raise ValueError(
                f"directions are 1 to {FEATURES}, triplet and margin at least 0, not {self.directions}, {self.triplet} "
                f"and {self.margin}"
            )

    def method(self, context: MethodContext) -> Method:
        return Retargeting(self, context)


class Retargeting(Method):
    """The module of ViA: the basis, the decoder and the losses.

    Raises:
        ValueError: an augmentation of a view changes time.
    """

    def __init__(self, config: ViA, context: MethodContext) -> None:
        super().__init__()
        self.config = config
        self._anchor, self._positive = context.anchor, context.positive
        changing = [
            type(step).__name__ for step in (*context.anchor, *context.positive) if isinstance(step, _CHANGE_TIME)
        ]
        if changing:
            raise ValueError(
                f"ViA's two views show the same moments, but {', '.join(changing)} changes time; leave it out of "
                "views.anchor and views.positive"
            )
        self.basis = nn.Parameter(torch.randn(FEATURES, config.directions))
        self.decoder = FrameDecoder(context.encoder.channels * context.encoder.joints)

    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """L of a batch, and its two terms."""
        views = [step.view(batch, augmentations) for augmentations in (self._anchor, self._positive)]
        with step.autocast():
            frames = [step.encoder.frame_features(view.motion_NCTVM).float() for view in views]
        parts = [split(one, orthogonal(self.basis)) for one in frames]
        recon = frames[0].new_zeros(())
        for motion, _ in parts:
            for (_, static), view in zip(parts, views, strict=True):
                recon = recon + distance(self._decoded(motion + static, view), view.motion_NCTVM, view.seen_NTVM)
        means = [motion.mean((1, 3)) for motion, _ in parts]
        trip = triplet(*means, margin=self.config.margin)
        total = recon + self.config.triplet * trip
        return MethodOutput(
            total=total,
            terms={"recon/loss": recon, "triplet/loss": trip},
            features_ND=frames[0].mean((1, 3)),
            keys_ND=frames[1].mean((1, 3)),
        )

    def _decoded(self, frames: Tensor, view: MotionBatch) -> Tensor:
        """Joints as in ``view`` out of feature frames (N, M, 256, T')."""
        clips, channels, length, joints, persons = view.motion_NCTVM.shape
        made: Tensor = self.decoder(frames.flatten(0, 1))[..., :length]
        return made.view(clips, persons, channels, joints, length).permute(0, 2, 4, 3, 1)


def orthogonal(basis: Tensor) -> Tensor:
    """Orthonormal columns (256, K) that span the same space as the columns of ``basis`` (256, K)."""
    columns: Tensor = torch.linalg.qr(basis)[0]
    return columns


def split(frames_NMDT: Tensor, basis_DK: Tensor) -> tuple[Tensor, Tensor]:
    """Motion (N, M, 256, T') and static part (N, M, 256, 1) of feature frames (N, M, 256, T'); their sum is the frames.

    ``basis_DK`` has orthonormal columns.
    """
    mean_NMD = frames_NMDT.mean(3)
    static = (mean_NMD @ basis_DK @ basis_DK.T)[..., None]
    return frames_NMDT - static, static


def triplet(one_ND: Tensor, same_ND: Tensor, *, margin: float) -> Tensor:
    """The triplet loss on mean squared differences, with the next clip of the batch as the negative; shape ().

    ``one_ND`` and ``same_ND`` are vectors of two views of the same clips. A batch of one clip gives 0.
    """
    if len(one_ND) < 2:
        return 0.0 * one_ND.sum()
    near_N = (one_ND - same_ND).square().mean(1)
    far_N = (one_ND - one_ND.roll(-1, 0)).square().mean(1)
    return (near_N - far_N + margin).clamp(min=0).mean()
