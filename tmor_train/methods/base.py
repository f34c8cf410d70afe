"""The interface of a method of pre-training, a module that computes a loss from a batch, what it is built from, and
parts that several methods share.

Training (:mod:`tmor_train.training`) owns the encoder, its EMA, the optimiser, the clustering, checkpoints and metrics;
a method owns everything else that is learned or kept between steps (heads, queues), as parameters and buffers. In a
step training calls :meth:`Method.losses` for each batch, then the optimiser, then :meth:`Method.after_step`.

The shared parts are a query's candidates, the loss over them, and decoders from features to joints. Candidates of a
query are its own key, the other keys of the batch and those in the queue, but no older key of the query's own clip. In
the code of AimCLR and of CrosSCLR, candidates are the own key and the whole queue.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES, STRIDE, Backbone
from tmor_train.data.augment import Augmentation
from tmor_train.data.batch import MotionBatch
from tmor_train.encoder import EncoderConfig, encoder_of
from tmor_train.losses.queue import NOBODY, Entries, Gather, Queue
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


# Of the decoders: channels of their layers, which begin at FEATURES and whose two steps of 2 make up for STRIDE, and
# frames of a convolution. Halving widths and five frames are our choice: decoders that train in little time.
_WIDTHS = (256, 128, 64)
_TAPS = 5


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The keys that N queries are compared with.

    ``keys_KD`` are unit vectors; ``own_N`` int64 is the index of each query's own key; ``valid_NK`` bool marks the
    candidates of each query, its own key among them.
    """

    keys_KD: Tensor
    own_N: Tensor
    valid_NK: Tensor

    @property
    def others(self) -> Tensor:
        """The candidates of each query without its own key, (N, K) bool."""
        return self.valid_NK.scatter(1, self.own_N[:, None], False)

    @property
    def own(self) -> Tensor:
        """The mask of each query's own key, (N, K) bool."""
        return torch.zeros_like(self.valid_NK).scatter(1, self.own_N[:, None], True)

    def similarities(self, queries_ND: Tensor) -> Tensor:
        """Cosines of unit queries and all keys, (N, K), also of keys that are not candidates."""
        return queries_ND @ self.keys_KD.T


def pool_of(queue: Queue, fresh: Entries, *, first: int, count: int) -> Pool:
    """The pool of ``count`` queries whose own keys are ``fresh[first : first + count]``; ``fresh`` holds the keys of
    all processes. Its K keys are those of ``fresh``, then those of the queue, also where no query may use them."""
    keys = fresh.concat(queue.negatives(fresh))
    own_N = torch.arange(first, first + count, device=keys.index_K.device)
    index_N = fresh.index_K[own_N]
    taken_K = keys.index_K != NOBODY
    valid_NK = (keys.index_K != index_N[:, None]) & taken_K
    return Pool(keys_KD=keys.motion_KD, own_N=own_N, valid_NK=valid_NK.scatter(1, own_N[:, None], True))


def multi_positive_info_nce(logits_NK: Tensor, positives_NK: Tensor, valid_NK: Tensor) -> Tensor:
    """The negative mean, over a query's positives, of log softmax over its candidates; then the mean over queries;
    shape ().

    Logits are similarities divided by the temperature. Each query needs a positive, and every positive must be a
    candidate, or the loss is not finite. With the own key as the one positive it is InfoNCE (MoCo, Eq. 1).
    """
    logs_NK = log_shares(logits_NK, valid_NK).masked_fill(~positives_NK, 0)
    return -(logs_NK.sum(1) / positives_NK.sum(1)).mean()


def log_shares(logits_NK: Tensor, valid_NK: Tensor) -> Tensor:
    """log softmax of logits over a query's candidates, (N, K); -inf for all others."""
    return logits_NK.masked_fill(~valid_NK, -torch.inf).log_softmax(1)


def nearest_of(similarities_NK: Tensor, others_NK: Tensor, count: int) -> Tensor:
    """Marks the ``count`` candidates of ``others_NK`` with the largest similarity, (N, K) bool; fewer where there are
    fewer."""
    masked = similarities_NK.detach().masked_fill(~others_NK, -torch.inf)
    top = masked.topk(min(count, masked.shape[1]), dim=1).indices
    return torch.zeros_like(others_NK).scatter(1, top, True) & others_NK


class FrameDecoder(nn.Module):
    """Decodes feature frames to frames of the clip: (B, 256, T') to (B, ``outputs``, 4 T'); callers cut off what is
    beyond the clip, whose T' is T / 4 rounded up.

    Two layers each double the number of frames; a last convolution gives the ``outputs`` coordinates of a frame.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for taken, given in pairwise(_WIDTHS):
            layers += [nn.Upsample(scale_factor=2), nn.Conv1d(taken, given, _TAPS, padding=_TAPS // 2), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv1d(_WIDTHS[-1], outputs, _TAPS, padding=_TAPS // 2))

    def forward(self, frames: Tensor) -> Tensor:
        made: Tensor = self.layers(frames)
        return made


class ClipDecoder(nn.Module):
    """Decodes one vector per clip to ``length`` frames: (N, 256) to (N, ``outputs``, ``length``).

    The vector is repeated for every feature frame, added to a sinusoidal code of the frame's position (Vaswani et al.,
    2017), and decoded by a :class:`FrameDecoder`.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.into = nn.Linear(FEATURES, FEATURES)
        self.frames = FrameDecoder(outputs)

    def forward(self, features_ND: Tensor, length: int) -> Tensor:
        times = -(-length // STRIDE)
        repeated = self.into(features_ND)[:, :, None] + time_code(times, features_ND.device).T
        made: Tensor = self.frames(functional.relu(repeated))[..., :length]
        return made


def time_code(times: int, device: torch.device) -> Tensor:
    """Sines and cosines of the positions 0 to ``times`` - 1 at 128 frequencies: (``times``, 256) float32."""
    # From 1 down to about 1e-4: 9.21 is log(10,000).
    rates = torch.exp(torch.arange(FEATURES // 2, device=device) * (-9.21 / (FEATURES // 2)))
    angles = torch.arange(times, device=device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1)


def distance(made_NCTVM: Tensor, motion_NCTVM: Tensor, seen_NTVM: Tensor) -> Tensor:
    """Mean squared difference of the coordinates of seen joints, shape (); 0 where no joint is seen.

    ``seen_NTVM`` bool holds for all coordinates of a joint.
    """
    weight = seen_NTVM[:, None].to(made_NCTVM.dtype)
    squares = (made_NCTVM - motion_NCTVM).square() * weight
    return squares.sum() / (weight.sum() * motion_NCTVM.shape[1]).clamp(min=1)
