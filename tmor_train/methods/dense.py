"""T-MOR with losses on the features of frames, for detection.

T-MOR's losses see a clip's mean over time. Each term here sees its frames, beside the losses of
:class:`~tmor_train.objective_config.ObjectiveConfig`:

* ``w_frames``: frames of two views at the same times are alike (:mod:`tmor_train.losses.frames`, after LAC);
* ``w_decorrelation``: frames of two views agree, and their columns vary and differ
  (:mod:`tmor_train.losses.frames`, after USDRL);
* ``w_frame_text``: every window of a clip is near to the clip's text (:mod:`tmor_train.losses.frames`).

The head of the first and the last is T-MOR's phi_M; that of the second is a projector of its own, as in USDRL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES
from tmor_train.data.augment import Augmentation, Blur, SpaceView
from tmor_train.data.batch import MotionBatch
from tmor_train.encoder import Projection
from tmor_train.losses.frames import decorrelation, frame_contrast, frame_text, windows
from tmor_train.losses.queue import NOBODY
from tmor_train.methods.base import Method, MethodContext, MethodOutput, MethodSettings, StepContext
from tmor_train.methods.tmor import TMOR, Anchors


@dataclass(frozen=True, kw_only=True)
class Dense(MethodSettings):
    """The settings of the terms on frames; the weights are of the three terms above, and a term of weight 0 is not
    computed.

    ``window`` is in feature frames, each of four frames of the clip: half of a clip of 32 frames, our choice, as less
    seldom shows what the action is. ``projector`` is the width of the projector of ``w_decorrelation``, of three
    layers; USDRL has 2,048 to 4,096 for batches of 256, ours is for small ones. Temperatures are those of
    ``objective``, ``temperature_mm`` for frames and ``temperature_mt`` for texts.

    Raises:
        ValueError: a weight is below 0, or a number below 1.
    """

    w_frames: float = 0.0
    w_decorrelation: float = 0.0
    w_frame_text: float = 0.0
    window: int = 4
    projector: int = 512

    def __post_init__(self) -> None:
        if min(self.w_frames, self.w_decorrelation, self.w_frame_text) < 0:
            raise ValueError("w_frames, w_decorrelation and w_frame_text are at least 0")
        if min(self.window, self.projector) < 1:
            raise ValueError(f"window and projector are at least 1, not {self.window} and {self.projector}")

    def method(self, context: MethodContext) -> Method:
        return DenseTMOR(self, context)


class DenseTMOR(TMOR):
    """The module: T-MOR's, and a projector where features are decorrelated.

    Raises:
        ValueError: as :class:`~tmor_train.methods.tmor.TMOR`; or a view changes times, so that frames of the two views
            do not correspond; or ``w_frame_text`` is above 0 and ``objective.w_mt`` is 0, so that there is no phi_T.
    """

    def __init__(self, config: Dense, context: MethodContext) -> None:
        super().__init__(context)
        for name, view in (("anchor", context.anchor), ("positive", context.positive)):
            check_times(name, view)
        if config.w_frame_text and self.text_head is None:
            raise ValueError(
                "w_frame_text needs the head of texts: set objective.w_mt above 0 or method.w_frame_text=0"
            )
        self.dense = config
        width = config.projector
        self.projector = (
            nn.Sequential(
                nn.Linear(FEATURES, width),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Linear(width, width),
                nn.BatchNorm1d(width),
                nn.ReLU(),
                nn.Linear(width, width),
            )
            if config.w_decorrelation
            else None
        )

    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """The losses of T-MOR and the weighted terms on frames, each logged by its name."""
        config = self.dense
        anchor, positive = (step.view(batch, augmentations) for augmentations in (self._anchor, self._positive))
        frames_NDT, features_ND = _frames(step, anchor, "online")
        key_frames_NDT, keys_ND = _frames(step, positive, "online" if self.config.keys == "same" else "ema")
        output: MethodOutput = self(Anchors.of(batch, features_ND, keys_ND), step.cluster_of)
        terms = {}
        if config.w_frames:
            key_head = self.motion_head if self.key_head is None else self.key_head.module
            queries, keys = _by_frames(self.motion_head, frames_NDT), _by_frames(key_head, key_frames_NDT)
            excluded_NN = _of_one_action(batch.index_N, step.cluster_of)
            terms["frames"] = frame_contrast(queries, keys, excluded_NN, temperature=self.config.temperature_mm)
        if self.projector is not None:
            both = [self.projector(frames.transpose(1, 2).flatten(0, 1)) for frames in (frames_NDT, key_frames_NDT)]
            terms["decorrelation"] = decorrelation(both[0], both[1])
        if config.w_frame_text and self.text_head is not None and batch.text_ND is not None:
            in_windows = _by_frames(self.motion_head, windows(frames_NDT, config.window)).transpose(1, 2)
            texts_NW = self.text_head(batch.text_ND.masked_fill((batch.text_id_N == NOBODY)[:, None], 0))
            terms["frame_text"] = frame_text(
                in_windows, texts_NW, batch.text_id_N, temperature=self.config.temperature_mt
            )
        total = output.total
        for name, loss in terms.items():
            total = total + getattr(config, f"w_{name}") * loss
        logged = {f"{name}/loss": loss.detach() for name, loss in terms.items()}
        return replace(output, total=total, terms={**output.terms, **logged})


def check_times(name: str, view: Sequence[Augmentation]) -> None:
    """Refuses a view that moves frames in time.

    Raises:
        ValueError: it crops, shifts or reverses; the message names the step and the option.
    """
    for step in view:
        if not isinstance(step, SpaceView | Blur):
            raise ValueError(
                f"frames of two views are compared at the same times, but {type(step).__name__} moves them; leave it "
                f"out of views.{name}"
            )


def _frames(step: StepContext, view: MotionBatch, of: str) -> tuple[Tensor, Tensor]:
    """Features of frames (N, 256, T') and of clips (N, 256), float32; those by the ``ema`` encoder without gradient."""
    encoder = step.key_encoder if of == "ema" else step.encoder
    with torch.set_grad_enabled(of != "ema"), step.autocast():
        frames_NDT, features_ND = encoder.frame_and_clip_features(view.motion_NCTVM, view.present)
    return frames_NDT.float(), features_ND.float()


def _by_frames(head: Projection | nn.Module, frames_NDT: Tensor) -> Tensor:
    """Unit vectors of frames through a head: (N, W, T)."""
    clips, _, times = frames_NDT.shape
    projected: Tensor = head(frames_NDT.transpose(1, 2).flatten(0, 1))
    return functional.normalize(projected, dim=1).view(clips, times, -1).transpose(1, 2)


def _of_one_action(index_N: Tensor, cluster_of: Tensor | None) -> Tensor:
    """Which pairs of clips of a batch are no negatives of each other, (N, N) bool: one clip, or those of one
    cluster."""
    same_NN = index_N[:, None] == index_N
    if cluster_of is None:
        return same_NN
    cluster_N = cluster_of[index_N]
    return same_NN | ((cluster_N[:, None] == cluster_N) & (cluster_N[:, None] >= 0))
