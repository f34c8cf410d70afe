"""The interface of a method of pre-training: a module that makes a loss of a batch, and what it is built from.

Training (:mod:`tmor_train.training`) has the encoder, its average, the optimiser, clusters, checkpoints and metrics; a
method has all else that is learned or remembered, as parameters and buffers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from tmor_train.backbones import Backbone
from tmor_train.data.augment import Augmentation
from tmor_train.data.batch import MotionBatch
from tmor_train.encoder.motion import EncoderConfig, encoder_of
from tmor_train.losses.queue import Entries, Gather
from tmor_train.objective_config import ObjectiveConfig

HeadsOf = Literal["objective", "none"]
"""Whether a method's state has the heads that ``objective`` names, by the names that the objective gives them."""


@dataclass(frozen=True, kw_only=True)
class MethodContext:
    """What a method is built from: the settings of contrast, the augmentations of both views, the encoder as it begins,
    widths of the set's frozen vectors (None: it has none), its number of clips, and the person slots of a clip."""

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
class StepContext:
    """What a method may use for one batch.

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
        """Features of a view by the EMA encoder, (N, 256) float32, without gradient."""
        with self.autocast():
            return self.encode_key(batch.motion_NCTVM, batch.present).float()


@dataclass(frozen=True, kw_only=True)
class MethodOutput:
    """The loss of a batch and what is logged and remembered of it.

    ``total`` has its gradient. ``terms`` are scalars to log by name. ``features_ND`` and ``keys_ND`` (N, 256) are those
    of two views, before projection. ``fresh`` are the entries to remember, one for each memory.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    features_ND: Tensor
    keys_ND: Tensor
    fresh: tuple[Entries, ...] = ()

    def metrics(self) -> dict[str, float]:
        """``loss`` and the terms as numbers, all brought from the device together."""
        named = {"loss": self.total, **self.terms}
        numbers = torch.stack([number.detach().double() for number in named.values()]).tolist()
        return dict(zip(named, numbers, strict=True))


class Method(nn.Module, ABC):
    """A way to pre-train. Forward changes nothing that a checkpoint holds but running statistics."""

    @abstractmethod
    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """The loss of a batch."""

    def after_step(self, fresh: Sequence[Entries]) -> None:
        """After the optimiser: remembers all batches of the step (memory by memory) and moves EMA heads."""

    def after_clustering(self, embeddings_KD: Tensor, labels_K: Tensor) -> None:
        """After a clustering: embeddings of the whole set, and its labels, -1 for noise. Every process calls it."""

    def load_pretrained(self, state: Mapping[str, Tensor]) -> list[str]:
        """Loads heads out of another run's state; returns their names. A method has none unless it says so."""
        return []


@dataclass(frozen=True, kw_only=True)
class MethodSettings(ABC):
    """A method's own numbers, a configuration; what it shares with T-MOR (temperature, width, queue, momentum, heads)
    stands in ``objective``."""

    heads: ClassVar[HeadsOf] = "objective"

    @abstractmethod
    def method(self, context: MethodContext) -> Method:
        """The method.

        Raises:
            ValueError: it does not fit the data or the settings of contrast; the message says what to set.
        """

    def encoder(self, config: EncoderConfig, *, layout: str, persons: int) -> Backbone:
        """The encoder that the method trains.

        Raises:
            ValueError: it does not fit.
        """
        return encoder_of(config, layout=layout, persons=persons)
