"""MotionCLIP (Tevet et al., "MotionCLIP: Exposing Human Motion Generation to CLIP Space", ECCV 2022) on this encoder.

A clip's feature is decoded to its joints, and its projection z is made similar to the frozen vectors of its text and
video, without negatives (Eqs. 1 to 4):

    L = λ L_recon + λ_text (1 - cos(z, text)) + λ_video (1 - cos(z, video)),
    L_recon = mean |x̂ - x|² + w mean |(x̂_{t+1} - x̂_t) - (x_{t+1} - x_t)|²

The authors' encoder is a transformer on joint rotations whose latent vector itself is compared with CLIP's, and their
second vector is that of a rendered picture. Here the encoder is the backbone, joints are decoded, a projection head
gives vectors of the frozen vectors' width, and the second vector is that of the clip's video.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from tmor_train.backbones import FEATURES
from tmor_train.data.batch import MotionBatch
from tmor_train.encoder import Projection
from tmor_train.losses.queue import NOBODY
from tmor_train.methods.base import (
    ClipDecoder,
    Method,
    MethodContext,
    MethodOutput,
    MethodSettings,
    StepContext,
    distance,
)


@dataclass(frozen=True, kw_only=True)
class MotionCLIP(MethodSettings):
    """The settings of MotionCLIP.

    ``reconstruction`` is λ, the weight of L_recon, and ``velocity`` is w, that of velocities in it: 100 and 1, as the
    command by which the authors reproduce their model has it (``--lambda_rc 100 --lambda_rcxyz 100 --lambda_vel 100``
    and 1 for each cosine). λ_text and λ_video are ``objective.w_mt`` and ``objective.w_mv``; the losses are for one
    view, ``views.anchor``.

    ``objective.width`` must be the width of the frozen vectors, ``objective.text_head`` and ``video_head`` must be
    ``identity`` and ``objective.keys`` ``same``. Of the rest of ``objective``, only ``motion_head`` is used, and
    ``momentum`` for the EMA encoder.

    Raises:
        ValueError: a weight is below 0.
    """

    reconstruction: float = 100.0
    velocity: float = 1.0

    def __post_init__(self) -> None:
        if self.reconstruction < 0 or self.velocity < 0:
            raise ValueError(f"weights are at least 0, not {self.reconstruction} and {self.velocity}")

    def method(self, context: MethodContext) -> Method:
        return VectorRegression(self, context)


class VectorRegression(Method):
    """The module of MotionCLIP: a projection head to the frozen vectors, and a decoder to joints.

    Raises:
        ValueError: a loss has a weight but the data has no vectors for it, or of another width than
            ``objective.width``; or the objective has other heads than identities for them, or an EMA encoder for keys.
    """

    def __init__(self, config: MotionCLIP, context: MethodContext) -> None:
        super().__init__()
        objective = context.objective
        self.config, self.weights = config, {"text": objective.w_mt, "video": objective.w_mv}
        for name, width, weight in (("mt", context.text, objective.w_mt), ("mv", context.video, objective.w_mv)):
            if weight and width != objective.width:
                have = "none" if width is None else f"vectors of width {width}"
                raise ValueError(
                    f"MotionCLIP regresses to frozen vectors of width {objective.width}, but the data has {have}; set "
                    + (f"objective.w_{name}=0" if width is None else f"objective.width={width}")
                )
        if {objective.text_head, objective.video_head} != {"identity"} or objective.keys != "same":
            raise ValueError(
                "MotionCLIP leaves frozen vectors as they are and has no EMA head; set "
                "objective.text_head=identity objective.video_head=identity objective.keys=same"
            )
        self._view, encoder = context.anchor, context.encoder
        self.motion_head = Projection(objective.motion_head, FEATURES, objective.width)
        # All people of a clip are decoded from one vector, so the decoder has outputs for each person slot.
        self.decoder = ClipDecoder(encoder.channels * encoder.joints * context.persons)

    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """L of a batch, and each of its terms that has a weight."""
        view = step.view(batch, self._view)
        features_ND = step.features(view)
        shape = view.motion_NCTVM.shape
        made = self.decoder(features_ND, shape[2]).view(shape[0], shape[1], shape[3], shape[4], shape[2])
        terms = {"recon/loss": reconstruction(made.permute(0, 1, 4, 2, 3), view, velocity=self.config.velocity)}
        units_ND = self.motion_head(features_ND)
        vectors = {"text": (batch.text_ND, batch.text_id_N != NOBODY), "video": (batch.video_ND, batch.has_video_N)}
        total = self.config.reconstruction * terms["recon/loss"]
        for name, (vectors_ND, has_N) in vectors.items():
            if self.weights[name] and vectors_ND is not None:
                terms[f"{name}/loss"] = cosine_distance(units_ND, vectors_ND, has_N)
                total = total + self.weights[name] * terms[f"{name}/loss"]
        return MethodOutput(total=total, terms=terms, features_ND=features_ND, keys_ND=features_ND)


def reconstruction(made_NCTVM: Tensor, view: MotionBatch, *, velocity: float) -> Tensor:
    """L_recon over seen joints, shape (); a velocity counts where the joint is seen in both frames.

    Args:
        made_NCTVM: the decoded joints.
        view: the batch they are compared with.
        velocity: weight w of velocities.
    """
    motion, seen = view.motion_NCTVM, view.seen_NTVM
    steps = distance(made_NCTVM.diff(dim=2), motion.diff(dim=2), seen[:, 1:] & seen[:, :-1])
    return distance(made_NCTVM, motion, seen) + velocity * steps


def cosine_distance(units_ND: Tensor, vectors_ND: Tensor, has_N: Tensor) -> Tensor:
    """Mean of 1 - cos over the clips that have a vector, shape (); 0 where none has. Neither side need be of length
    1."""
    cosines_N = functional.cosine_similarity(units_ND, vectors_ND.to(units_ND.dtype), dim=1)
    return torch.where(has_N, 1 - cosines_N, 0).sum() / has_N.sum().clamp(min=1)
