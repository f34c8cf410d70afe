"""The interface of skeleton encoders: from clips of joints to features of frames, features of clips, or class scores.

A clip is (C, T, V, M): coordinates, frames, joints, person slots. Every backbone reduces time by a factor of four, so T
frames become T' = ceil(T / 4) feature frames, each the mean over the joints. A clip's feature is the mean over T' and
people.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

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
        if x.dim() != 5 or x.shape[1] != self.channels or x.shape[3] != self.joints:
            raise ValueError(
                f"{type(self).__name__} takes (N, {self.channels}, T, {self.joints}, M): clips, coordinates, frames, "
                f"joints, persons; got {tuple(x.shape)}"
            )
        return self.joint_features(x).mean(3).view(x.shape[0], x.shape[4], FEATURES, -1)

    def pooled_frames(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """Features of every feature frame, persons pooled, as detection needs them: (N, 256, T').

        Args:
            present: as in :meth:`clip_features`. A frame with nobody in it takes the mean over all slots.

        Raises:
            ValueError: ``x`` or ``present`` has another shape.
        """
        return self._mean(x, present, over=(1,))

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
        return self._mean(x, present, over=(1, 3))

    def _mean(self, x: Tensor, present: Tensor | None, *, over: tuple[int, ...]) -> Tensor:
        """The mean of :meth:`frame_features` over some of their axes, persons being axis 1 and frames axis 3."""
        frames = self.frame_features(x)
        if self.people == "mean":
            return frames.mean(over)
        weights = _weights(x, present)[:, :, None]
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
