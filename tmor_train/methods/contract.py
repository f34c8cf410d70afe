"""What a method of pre-training is to the loop: a module that makes losses of batches, and remembers after a step.

The loop (:mod:`tmor_train.training`) has the encoder, its average, the optimiser, clusters, checkpoints and the
journal; a method has all else that is learned or remembered, as parameters and buffers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from tmor_train.backbones import Backbone
from tmor_train.data.augment import Augmentation
from tmor_train.data.batch import MotionBatch
from tmor_train.losses.anchors import Anchors
from tmor_train.losses.memory import Entries
from tmor_train.objective_config import ObjectiveConfig

Gather = Callable[[Entries], tuple[Entries, int]]
"""The entries of all ranks in order of rank, and the place of this rank's first one."""

HeadsOf = Literal["objective", "none"]
"""Whether a method's state has the heads that ``objective`` names, by the names that the objective gives them."""


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a method is made for: the settings of contrast, the steps of both views, the encoder as it begins, widths of
    the set's frozen vectors (None: it has none), its number of clips, and the person slots of a clip."""

    objective: ObjectiveConfig
    anchor: Sequence[Augmentation]
    positive: Sequence[Augmentation]
    encoder: Backbone
    video: int | None
    text: int | None
    clips: int
    persons: int
    gather: Gather = field(default=lambda entries: (entries, 0))


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What the loop offers for one batch.

    ``view`` makes a view of clips with numbers of its own generator. ``encode`` and ``encode_key`` are the encoder and
    its average as functions, ``encoder`` and ``key_encoder`` the modules; ``autocast`` is the precision they run in.
    ``cluster_of`` is int64 over the dataset (-1 noise), None while there is none; ``epoch`` counts from 0.
    """

    view: Callable[[MotionBatch, Sequence[Augmentation]], MotionBatch]
    encode: Callable[[Tensor, Tensor], Tensor]
    encode_key: Callable[[Tensor, Tensor], Tensor]
    encoder: Backbone
    key_encoder: Backbone
    autocast: Callable[[], AbstractContextManager[object]]
    cluster_of: Tensor | None
    epoch: int

    def features(self, batch: MotionBatch) -> Tensor:
        """Features of a view by the trained encoder, (N, 256) float32."""
        with self.autocast():
            return self.encode(batch.motion_NCTVM, batch.present).float()

    @torch.no_grad()
    def keys(self, batch: MotionBatch) -> Tensor:
        """Features of a view by the averaged encoder, (N, 256) float32, without gradient."""
        with self.autocast():
            return self.encode_key(batch.motion_NCTVM, batch.present).float()


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a method makes of a batch: ``total`` with its gradient, figures (which wait for the device), the features
    (N, 256) of two views for the monitor, and the entries to remember, one for each memory."""

    total: Tensor
    figures: Callable[[], dict[str, float]]
    features_ND: Tensor
    keys_ND: Tensor
    fresh: tuple[Entries, ...] = ()


class Method(nn.Module, ABC):
    """A way to pre-train. Forward changes nothing that a checkpoint holds but running statistics."""

    @abstractmethod
    def losses(self, batch: MotionBatch, turn: Turn) -> Made:
        """The loss of a batch."""

    def after_step(self, fresh: Sequence[Entries]) -> None:
        """After the optimiser: remembers all batches of the step (memory by memory) and moves averaged heads."""

    def clustered(self, embeddings_KD: Tensor, labels_K: Tensor) -> None:
        """After a clustering: embeddings of the whole set, and its labels, -1 for noise. Every process calls it."""

    def inherit(self, state: Mapping[str, Tensor]) -> list[str]:
        """Takes heads out of another run's state; returns their names. A method has none unless it says so."""
        return []


def told(total: Tensor, terms: Mapping[str, Tensor]) -> Callable[[], dict[str, float]]:
    """The figures of a step: ``loss`` and the terms, all brought from the device together."""
    named = {"loss": total.detach()} | {name: term.detach() for name, term in terms.items()}

    def figures() -> dict[str, float]:
        numbers = torch.stack([number.double() for number in named.values()]).tolist()
        return dict(zip(named, numbers, strict=True))

    return figures


def entries_of(keys_ND: Tensor, batch: MotionBatch) -> Entries:
    """Keys of a batch's clips as entries of a memory, without frozen vectors."""
    clips = Anchors(features_ND=keys_ND, keys_ND=keys_ND, index_N=batch.index_N)
    return clips.entries(keys_ND, video=None, text=None)


__all__ = ["Gather", "HeadsOf", "Made", "Method", "Setup", "Turn", "entries_of", "told"]
