"""AimCLR (Guo et al., "Contrastive Learning from Extremely Augmented Skeleton Sequences", AAAI 2022) as a method.

A clip gives three queries: z from a normal view, z' from an extremely augmented one, and z'' from the latter with the
features of the most attended joints and frames dropped (EADM). With p(·|z) the softmax over {key, queue} at temperature
τ:

    L = L_info(z) + (L_d(z, z') + L_d(z, z'')) / 2,    L_d(z, z') = -Σ_i p(i|z) log p(i|z')        (D³M, Eqs. 6 to 8)

In L_d, p(·|z) has no gradient. From the epoch ``mine_from`` on (NNM, Eq. 9), the positives of L_info are the clip's own
key and the keys nearest to z, to z' and to z''; the mean over them is outside the logarithm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tmor_train.backbones import FEATURES, Backbone
from tmor_train.data.augment import (
    AxisMask,
    Blur,
    CropResize,
    Flip,
    Noise,
    Rotate,
    Rotate3D,
    Shear,
    ShiftCrop,
    TimeFlip,
)
from tmor_train.data.batch import MotionBatch
from tmor_train.encoder import EMA, Projection
from tmor_train.losses.queue import Entries, Queue
from tmor_train.methods.base import (
    Method,
    MethodContext,
    MethodOutput,
    MethodSettings,
    StepContext,
    log_shares,
    multi_positive_info_nce,
    nearest_of,
    pool_of,
)

Extreme = AxisMask | Blur | CropResize | Flip | Noise | Rotate | Rotate3D | Shear | ShiftCrop | TimeFlip
"""Augmentations that the extreme view may have."""

_SMALL = 1e-4  # SimAM's lambda


@dataclass(frozen=True, kw_only=True)
class AimCLR(MethodSettings):
    """The settings of AimCLR.

    ``extreme`` are the augmentations that the extreme view has in addition to, and after, those of the normal view,
    ``views.anchor``. The authors' normal view is sheared and cropped in time; with these six there are eight, of the
    same kinds. Amounts are those of their released code (``feeder/tools.py``), but for two: rotation is in the
    picture's plane here, and noise has a deviation of 0.05, where the code has 0.01 metres. Theirs are in another
    order: mirrored, rotated, reversed, noise, blurred, an axis set to 0.

    ``keep`` is the mean share of feature positions (joints of a frame) that EADM keeps, above 0 and at most 1; 0.9 is
    our choice (:func:`dropped` says what their code does). From the epoch ``mine_from`` (counted from 0) on, the
    ``nearest`` keys of each of the three queries are positives too; 150 (of 300 epochs) and 1 are the authors'.

    Of ``objective`` only ``queue_size``, ``width``, ``motion_head``, ``temperature_mm`` and ``momentum`` are used.

    Raises:
        ValueError: a number is out of its range.
    """

    extreme: tuple[Extreme, ...] = (
        Flip(),
        Rotate(degrees=30.0),
        AxisMask(probability=0.5),
        TimeFlip(probability=0.5),
        Noise(sigma=0.05),
        Blur(),
    )
    keep: float = 0.9
    mine_from: int = 150
    nearest: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1 or self.mine_from < 0 or self.nearest < 1:
            raise ValueError(
                "keep is above 0 and at most 1, mine_from at least 0 and nearest at least 1, not "
                f"{self.keep}, {self.mine_from} and {self.nearest}"
            )

    def method(self, context: MethodContext) -> Method:
        return ExtremeContrast(self, context)


class ExtremeContrast(Method):
    """The module of AimCLR: a head, its EMA, a queue of keys, and the losses of the three queries."""

    def __init__(self, config: AimCLR, context: MethodContext) -> None:
        super().__init__()
        objective = context.objective
        self.config, self.gather, self.temperature = config, context.gather, objective.temperature_mm
        self._anchor, self._positive = context.anchor, context.positive
        self.motion_head = Projection(objective.motion_head, FEATURES, objective.width)
        self.key_head = EMA(self.motion_head, objective.momentum)
        self.queue = Queue(objective.queue_size, motion=objective.width, video=None, text=None)

    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """L of a batch, and its three terms."""
        config = self.config
        normal, positive = (step.view(batch, augmentations) for augmentations in (self._anchor, self._positive))
        extreme = step.view(batch, (*self._anchor, *config.extreme))
        features_ND, keys_ND = step.features(normal), step.keys(positive)
        with step.autocast():
            whole_ND, dropped_ND = both_features(step.encoder, extreme, keep=config.keep)
        queries = [self.motion_head(part.float()) for part in (features_ND, whole_ND, dropped_ND)]
        with torch.no_grad():
            projected_ND: Tensor = self.key_head.module(keys_ND)
        fresh, first = self.gather(Entries.of_motion(projected_ND, batch.index_N))
        pool = pool_of(self.queue, fresh, first=first, count=len(batch))
        similar = [pool.similarities(query) for query in queries]
        positives_NK = pool.own
        if step.epoch >= config.mine_from:
            for s in similar:
                positives_NK = positives_NK | nearest_of(s, pool.others, config.nearest)
        logits = [s / self.temperature for s in similar]
        info = multi_positive_info_nce(logits[0], positives_NK, pool.valid_NK)
        first_d, second_d = (divergence(logits[0], other, pool.valid_NK) for other in logits[1:])
        total = info + (first_d + second_d) / 2
        return MethodOutput(
            total=total,
            terms={"info/loss": info, "extreme/loss": first_d, "dropped/loss": second_d},
            features_ND=features_ND,
            keys_ND=keys_ND,
            fresh=(fresh,),
        )

    def after_step(self, fresh: Sequence[Entries]) -> None:
        self.queue.enqueue(fresh[0])
        self.key_head.update(self.motion_head)


def divergence(normal_NK: Tensor, extreme_NK: Tensor, valid_NK: Tensor) -> Tensor:
    """L_d of D³M: the cross-entropy between the distributions of two queries over the same candidates, the mean over N.

    Args:
        normal_NK: logits of the normal query, which get no gradient.
        extreme_NK: logits of the other query.
        valid_NK: which keys are candidates of a query.
    """
    shares_NK = log_shares(normal_NK.detach(), valid_NK).exp()
    logs_NK = log_shares(extreme_NK, valid_NK).masked_fill(~valid_NK, 0)
    return -(shares_NK * logs_NK).sum(1).mean()


def both_features(encoder: Backbone, view: MotionBatch, *, keep: float) -> tuple[Tensor, Tensor]:
    """Features (N, 256) of a view without and with dropped feature positions (:func:`dropped`)."""
    last = encoder.joint_features(view.motion_NCTVM)
    pooled = (_Given(encoder, part) for part in (last, dropped(last, keep=keep)))
    whole_ND, dropped_ND = (one.clip_features(view.motion_NCTVM, view.present) for one in pooled)
    return whole_ND, dropped_ND


def attention(last: Tensor) -> Tensor:
    """SimAM's attention (Yang et al., ICML 2021) of features (B, D, T', V), the mean over channels: (B, T', V), B being
    clips times person slots.

    sigmoid((x - μ)² / (4 (σ² + λ)) + 1/2), with μ and σ² of each channel over its frames and joints, λ = 1e-4.
    """
    values = last.float()
    squares = (values - values.mean((2, 3), keepdim=True)).square()
    count = max(squares[0, 0].numel() - 1, 1)
    variance = squares.sum((2, 3), keepdim=True) / count
    return (squares / (4 * (variance + _SMALL)) + 0.5).sigmoid().mean(1)


def dropped(last: Tensor, *, keep: float) -> Tensor:
    """EADM: features (B, D, T', V) in which some positions (a joint in a frame) are set to 0 in all D channels.

    A position is dropped with a probability in proportion to its attention, 1 - ``keep`` on average (less where that
    would be above 1 for some), drawn by torch's own generator. The others are scaled by the number of positions over
    that of those kept.

    The released code (``net/att_drop.py``) draws nothing: it sets to 0 the joints whose mean attention is 0.7 or more,
    then the frames of a joint and channel with as much, and scales by the shares kept.
    """
    with torch.no_grad():
        weight = attention(last)
        chance = ((1 - keep) * weight / weight.mean((1, 2), keepdim=True)).clamp(max=1)
        kept = torch.bernoulli(1 - chance)
        scale = kept[0].numel() / kept.sum((1, 2), keepdim=True).clamp(min=1)
    return last * (kept * scale)[:, None].to(last.dtype)


class _Given(Backbone):
    """A backbone with fixed joint features, which it pools over joints, frames and people as ``like`` does."""

    def __init__(self, like: Backbone, given: Tensor) -> None:
        super().__init__(joints=like.joints, channels=like.channels, classes=None, people=like.people)
        self._given = given

    def joint_features(self, x: Tensor) -> Tensor:
        return self._given
