"""The interface of skeleton encoders: from clips of joints to features of frames, features of clips, or class scores.

A clip is (C, T, V, M): coordinates, frames, joints, person slots. Every backbone reduces time by a factor of four, so T
frames become T' = ceil(T / 4) feature frames, each the mean over the joints. A clip's feature is the mean over T' and
people.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

People = Literal["mean", "masked_mean"]
"""How the persons of a clip are pooled: the mean over all slots, including empty ones (as UNIK does), or the mean over
those who are present."""

FEATURES = 256
"""Width of the features of every backbone: that of UNIK's last block."""

STRIDE = 4
"""Number of frames of the clip per feature frame."""


class Backbone(nn.Module, ABC):
    """A skeleton encoder with ``joints`` V and ``channels`` C fixed; a subclass says how joints become features.

    ``model(x)`` is class scores (N, ``classes``), or the clip feature (N, 256) where ``classes`` is None; ``fc``,
    between the two, is then the identity.

    Raises:
        ValueError: a number is below 1, or ``people`` is none of its words.
    """

    def __init__(self, *, joints: int, channels: int, classes: int | None, people: People) -> None:
        super().__init__()
        if people not in ("mean", "masked_mean"):
            raise ValueError(f"people is 'mean' or 'masked_mean', not {people!r}")
        if joints < 1 or channels < 1 or (classes is not None and classes < 1):
            raise ValueError(f"joints, channels and classes are at least 1, not {joints}, {channels} and {classes}")
        self.joints, self.channels, self.classes = joints, channels, classes
        self.people: People = people
        self.fc: nn.Module = nn.Identity() if classes is None else _classifier(classes)

    @abstractmethod
    def joint_features(self, x: Tensor) -> Tensor:
        """(N, C, T, V, M) float to (N * M, 256, T', V), the persons of a clip one after another."""

    def frame_features(self, x: Tensor) -> Tensor:
        """Features of every person in every feature frame, the mean over joints: (N, M, 256, T').

        Raises:
            ValueError: ``x`` is not (N, C, T, V, M) with this model's C and V.
        """
        self._check(x)
        return self.joint_features(x).mean(3).view(x.shape[0], x.shape[4], FEATURES, -1)

    def _check(self, x: Tensor) -> None:
        """Raises ValueError where ``x`` is not (N, C, T, V, M) with this model's C and V."""
        if x.dim() != 5 or x.shape[1] != self.channels or x.shape[3] != self.joints:
            raise ValueError(
                f"{type(self).__name__} takes (N, {self.channels}, T, {self.joints}, M): clips, coordinates, frames, "
                f"joints, persons; got {tuple(x.shape)}"
            )

    def pooled_frames(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Features of every feature frame, persons pooled, as detection needs them: (N, 256, T').

        Args:
            present: as in :meth:`clip_features`. A frame with nobody in it takes the mean over all slots.

        Raises:
            ValueError: ``x`` or ``present`` has another shape.
        """
        return self._mean(self.frame_features(x), x, present, over=(1,))

    def clip_features(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """E_M(sk) of T-MOR: one vector a clip, (N, 256).

        Args:
            present: who is present: (N, M), or (N, M, T) for each frame; bool, or a weight of at least 0. It is used
                where ``people`` is ``masked_mean`` and ignored where it is ``mean``. The weight of a feature frame is
                the mean over its four frames (the last may have fewer). None: a person is present in the whole clip
                where any coordinate is not 0. A clip with nobody in it takes the mean over all slots.

        Raises:
            ValueError: ``x`` or ``present`` has another shape.
        """
        return self._mean(self.frame_features(x), x, present, over=(1, 3))

    def frame_and_clip_features(self, x: Tensor, present: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """:meth:`pooled_frames` (N, 256, T') and :meth:`clip_features` (N, 256) of one pass; arguments and errors are
        theirs."""
        frames = self.frame_features(x)
        return self._mean(frames, x, present, over=(1,)), self._mean(frames, x, present, over=(1, 3))

    def local_features(
        self, x: Tensor, present: Tensor | None = None, *, parts: Sequence[Sequence[int]], spans: int
    ) -> Tensor:
        """Features of regions of a clip: (N, 1 + P + ``spans``, 256).

        The first is that of :meth:`clip_features`, over all joints and frames. P are over the joints of one part each.
        The others are over the feature frames of one of ``spans`` equal shares of time; each has one frame at least, so
        that of a shorter clip some have the same.

        Args:
            present: as in :meth:`clip_features`.
            parts: the joints of each of P parts, by index.

        Raises:
            ValueError: as :meth:`clip_features`; or a part is empty, or ``spans`` is negative.
        """
        if spans < 0 or not all(parts):
            raise ValueError(f"parts have one joint at least, and spans are not below 0; got {parts} and {spans}")
        self._check(x)
        flat = self.joint_features(x)
        joints = flat.view(x.shape[0], x.shape[4], FEATURES, *flat.shape[2:])
        frames = joints.mean(4)
        regions = [self._mean(frames, x, present, over=(1, 3))]
        regions += [self._mean(joints[..., list(part)].mean(4), x, present, over=(1, 3)) for part in parts]
        times = frames.shape[3]
        for span in range(spans):
            begin = min(round(span * times / spans), times - 1)
            end = max(round((span + 1) * times / spans), begin + 1)
            regions.append(self._mean(frames, x, present, over=(1, 3), times=slice(begin, end)))
        return torch.stack(regions, 1)

    def _mean(
        self,
        frames: Tensor,
        x: Tensor,
        present: Tensor | None,
        *,
        over: tuple[int, ...],
        times: slice = slice(None),
    ) -> Tensor:
        """The mean of features ``frames`` (N, M, 256, T') of the clips ``x`` over some of their axes, persons being
        axis 1 and frames, of which ``times`` are taken, axis 3."""
        frames = frames[..., times]
        if self.people == "mean":
            return frames.mean(over)
        weights = _weights(x, present)[:, :, None, times]
        weights = weights.masked_fill(weights.sum(over, keepdim=True) == 0, 1)  # nobody: the plain mean
        return (frames * weights).sum(over) / weights.sum(over)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        scores: Tensor = self.fc(self.clip_features(x, present))
        return scores


def _classifier(classes: int) -> nn.Linear:
    """Initialised as in the released code of UNIK and 2s-AGCN."""
    linear = nn.Linear(FEATURES, classes)
    nn.init.normal_(linear.weight, 0, math.sqrt(2 / classes))
    return linear


def _weights(x: Tensor, present: Tensor | None) -> Tensor:
    """How much each person's feature frames count: (N, M, T') of ``x``'s dtype; ValueError for a ``present`` of another
    shape."""
    clips, _, length, _, persons = x.shape
    if present is None:
        present = (x != 0).flatten(1, 3).any(1)
    if present.shape == (clips, persons):
        return present.to(x.dtype)[:, :, None].expand(-1, -1, -(-length // STRIDE))
    if present.shape == (clips, persons, length):
        return functional.avg_pool1d(present.to(x.dtype), STRIDE, ceil_mode=True)
    raise ValueError(
        f"present is (N, M) = {(clips, persons)} or (N, M, T) = {(clips, persons, length)}, not {tuple(present.shape)}"
    )


__all__ = ["FEATURES", "STRIDE", "Backbone", "People"]
