"""The interface of a method of pre-training: a module that computes a loss from a batch, and what it is built from.

Training (:mod:`tmor_train.training`) owns the encoder, its EMA, the optimiser, the clustering, checkpoints and metrics;
a method owns everything else that is learned or kept between steps (heads, queues), as parameters and buffers. In a
step training calls :meth:`Method.losses` for each batch, then the optimiser, then :meth:`Method.after_step`.
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
from tmor_train.encoder import EncoderConfig, encoder_of
from tmor_train.losses.queue import Entries, Gather
from tmor_train.objective_config import ObjectiveConfig

HeadsOf = Literal["objective", "none"]
"""Which projection heads the state of a method has: those of the settings ``objective``, under the names that
:class:`tmor_train.methods.tmor.Objective` gives them, or none that can be loaded for use."""


@dataclass(frozen=True, kw_only=True)
class MethodContext:
    """What a method is built from.

    ``objective`` are the settings that methods share with T-MOR. ``anchor`` and ``positive`` are the augmentations of a
    clip's first and second view (``views.anchor`` and ``views.positive``). ``encoder`` is the encoder with its initial
    weights, for its sizes; training passes it to each step and trains it. ``video`` and ``text`` are the widths of the
    data's video and text vectors, None where it has none. ``clips`` is the number of clips of the training set,
    ``persons`` the number of person slots of a clip. ``gather`` collects entries from all processes, and tells the
    index of this process's first among them; the default is for one process.
    """

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

    ``view(batch, augmentations)`` returns an augmented batch in the streams that the encoder takes, with random numbers
    of training's own generator. ``encode(motion_NCTVM, present_NMT)`` returns features (N, 256) by the trained encoder,
    ``encode_key`` by its EMA, in the dtype of the configured precision; ``encoder`` and ``key_encoder`` are the modules
    behind them, not compiled. ``autocast()`` is the context in which all four must be called, for the configured
    precision; :meth:`features` and :meth:`keys` do so. ``cluster_of`` int64 is the cluster of each clip of the dataset,
    -1 for noise; None before the first clustering and after one that found no cluster. ``epoch`` counts from 0.
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
        """Features of a view by the trained encoder, (N, 256) float32, with gradient."""
        with self.autocast():
            return self.encode(batch.motion_NCTVM, batch.present).float()

    @torch.no_grad()
    def keys(self, batch: MotionBatch) -> Tensor:
        """Features of a view by the EMA encoder, (N, 256) float32, without gradient."""
        with self.autocast():
            return self.encode_key(batch.motion_NCTVM, batch.present).float()


@dataclass(frozen=True, kw_only=True)
class MethodOutput:
    """The loss of a batch, and what is logged and stored of it.

    ``total`` is the loss, of shape () with gradient. ``terms`` are tensors of shape () to log, by name. ``features_ND``
    and ``keys_ND`` (N, 256) are the features of the clips' two views before projection, for metrics; a method of one
    view has the same in both. ``fresh`` are the entries to store, of the clips of all processes and without gradient,
    one element for each queue or memory bank of the method, in the same order in every batch.
    """

    total: Tensor
    terms: Mapping[str, Tensor]
    features_ND: Tensor
    keys_ND: Tensor
    fresh: tuple[Entries, ...] = ()

    def metrics(self) -> dict[str, float]:
        """``total``, as ``loss``, and the terms as numbers; all are copied from the device at once."""
        named = {"loss": self.total, **self.terms}
        numbers = torch.stack([number.detach().double() for number in named.values()]).tolist()
        return dict(zip(named, numbers, strict=True))


class Method(nn.Module, ABC):
    """A method of pre-training as a module, whose state is part of checkpoints."""

    @abstractmethod
    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """The loss of a batch. Of what a checkpoint holds, it changes only running statistics of norms."""

    def after_step(self, fresh: Sequence[Entries]) -> None:
        """Called once after each step of the optimiser: stores entries and updates EMA heads.

        Args:
            fresh: ``MethodOutput.fresh`` of all batches of the step, concatenated for each queue or memory bank. On
                every process it is the same, so that all store the same.
        """

    def after_clustering(self, embeddings_KD: Tensor, labels_K: Tensor) -> None:
        """Called after each clustering, on every process.

        Args:
            embeddings_KD: embeddings (K, 256) float32 of all K clips of the training set, in its order, not scaled.
            labels_K: the cluster of each, int64 from 0, -1 for noise; all -1 where no cluster was found.
        """

    def load_pretrained(self, state: Mapping[str, Tensor]) -> list[str]:
        """Loads heads from the state dict of another run's method and returns the names of the loaded tensors, sorted.

        This default loads nothing.

        Raises:
            ValueError: a tensor has another shape.
        """
        return []


@dataclass(frozen=True, kw_only=True)
class MethodSettings(ABC):
    """The settings of a method, as part of a configuration. Those that it shares with T-MOR (temperature, width, queue,
    momentum, heads) are in ``PretrainConfig.objective``."""

    heads: ClassVar[HeadsOf] = "objective"

    @abstractmethod
    def method(self, context: MethodContext) -> Method:
        """A new method with these settings.

        Raises:
            ValueError: it does not fit the data or ``context.objective``; the message says what to set.
        """

    def encoder(self, config: EncoderConfig, *, layout: str, persons: int) -> Backbone:
        """The encoder that the method trains, with new weights; arguments as for :func:`encoder_of`.

        Raises:
            ValueError: a size that the backbone or the method does not take.
        """
        return encoder_of(config, layout=layout, persons=persons)
