"""CrosSCLR (Li et al., "3D Human Action Representation Learning via Cross-View Consistency Pursuit", CVPR 2021).

There are three streams, joints, their motion x_{t+1} - x_t and bones, each with an encoder, its EMA and a queue. At
first each learns by InfoNCE (Eq. 1). From the epoch ``cross_from`` on, for each pair of streams u, v (Eqs. 5 to 8): the
key that is nearest to the clip in v is a positive in u, too, and the products of both streams' similarities are further
logits (the context). In u, q_u is the clip's query, k_u its own key and m_u every other candidate: the other keys of
the batch and those of the queue (:mod:`tmor_train.methods.base`).

    L_u<-v = -(1 / |P|) Σ_{p in P} log(exp(l_p / τ) / Σ_l exp(l / τ)),
    l in {q_u·k_u} ∪ {q_u·m_u} ∪ {(q_u·m_u)(q_v·m_v)}

P is the own key, the top-1 key of v and the context of that key. A stream's loss is the mean over the other two, and
the streams' losses add up.

At test time the authors add the streams' scores. Here the feature of a clip is the mean of the streams' features: it
keeps the width that every user of an encoder (embedding, probe, heads of detection, export) takes. A linear classifier
of that mean is the sum of the streams' scores with one matrix for all three; concatenation would let them differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from tmor_train.backbones import FEATURES, Backbone
from tmor_train.data.batch import MotionBatch
from tmor_train.encoder import EMA, EncoderConfig, Projection, encoder_of
from tmor_train.losses.queue import Entries, Queue
from tmor_train.methods.base import (
    HeadsOf,
    Method,
    MethodContext,
    MethodOutput,
    MethodSettings,
    Pool,
    StepContext,
    multi_positive_info_nce,
    nearest_of,
    pool_of,
)

STREAMS = 3
"""Joints, motion and bones, side by side as channels: ``views.streams`` names them."""


@dataclass(frozen=True, kw_only=True)
class CrosSCLR(MethodSettings):
    """The settings of CrosSCLR.

    From the epoch ``cross_from`` (counted from 0) on, streams learn from each other: the ``nearest`` keys of one stream
    are positives in the others; 150 and 1 are those of the authors' configuration. ``views.streams`` must be joint,
    motion and bone, in this order, by which losses are named, and ``encoder.channels`` the number of coordinates of all
    streams together. Of ``objective`` only ``queue_size``, ``width``, ``motion_head``, ``temperature_mm`` and
    ``momentum`` are used, by each stream alike.

    Raises:
        ValueError: a number is out of its range; or, from ``encoder``, ``channels`` is no multiple of the streams.
    """

    heads: ClassVar[HeadsOf] = "none"  # there is one for each stream, and none for their mean

    cross_from: int = 150
    nearest: int = 1

    def __post_init__(self) -> None:
        if self.cross_from < 0 or self.nearest < 1:
            raise ValueError(f"cross_from is at least 0 and nearest at least 1, not {self.cross_from}, {self.nearest}")

    def method(self, context: MethodContext) -> Method:
        return CrossStreams(self, context)

    def encoder(self, config: EncoderConfig, *, layout: str, persons: int) -> Backbone:
        if config.channels % STREAMS:
            raise ValueError(f"encoder.channels is {config.channels}, of {STREAMS} streams together; set a multiple")
        one = replace(config, channels=config.channels // STREAMS)
        return StreamEncoders([encoder_of(one, layout=layout, persons=persons) for _ in range(STREAMS)])


class StreamEncoders(Backbone):
    """An encoder for each stream; its channels are theirs side by side, and its features their mean.

    All have equally many channels: the input is divided evenly.
    """

    def __init__(self, encoders: Sequence[Backbone]) -> None:
        first = encoders[0]
        super().__init__(
            joints=first.joints, channels=sum(one.channels for one in encoders), classes=None, people=first.people
        )
        self.encoders = nn.ModuleList(encoders)

    def joint_features(self, x: Tensor) -> Tensor:
        parts = zip(self._encoders(), x.chunk(len(self.encoders), 1), strict=True)
        return torch.stack([encoder.joint_features(part) for encoder, part in parts]).mean(0)

    def each(self, x: Tensor, present: Tensor) -> list[Tensor]:
        """The clip features of each stream, (N, 256).

        Args:
            x: (N, C, T, V, M), the streams side by side in C.
            present: who is present, (N, M) or (N, M, T).
        """
        parts = zip(self._encoders(), x.chunk(len(self.encoders), 1), strict=True)
        return [encoder.clip_features(part, present) for encoder, part in parts]

    def _encoders(self) -> list[Backbone]:
        return [one for one in self.encoders if isinstance(one, Backbone)]


class CrossStreams(Method):
    """The module of CrosSCLR: a head, its EMA and a queue for each stream, and the streams' losses."""

    def __init__(self, config: CrosSCLR, context: MethodContext) -> None:
        super().__init__()
        objective = context.objective
        self.config, self.gather, self.temperature = config, context.gather, objective.temperature_mm
        self._anchor, self._positive = context.anchor, context.positive
        self.heads = nn.ModuleList(Projection(objective.motion_head, FEATURES, objective.width) for _ in range(STREAMS))
        self.key_heads = EMA(self.heads, objective.momentum)
        self.queues = nn.ModuleList(
            Queue(objective.queue_size, motion=objective.width, video=None, text=None) for _ in range(STREAMS)
        )

    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """The sum of the streams' losses of a batch, and each."""
        one, other = (step.view(batch, augmentations) for augmentations in (self._anchor, self._positive))
        with step.autocast():
            features = [part.float() for part in _streams(step.encoder).each(one.motion_NCTVM, one.present)]
            with torch.no_grad():
                keys = [part.float() for part in _streams(step.key_encoder).each(other.motion_NCTVM, other.present)]
        queries = [head(part) for head, part in zip(self.heads, features, strict=True)]
        pools, fresh = [], []
        for head, queue, part in zip(self._key_heads(), self.queues, keys, strict=True):
            assert isinstance(queue, Queue)  # noqa: S101, all of them are
            with torch.no_grad():
                entries, first = self.gather(Entries.of_motion(head(part), batch.index_N))
            pools.append(pool_of(queue, entries, first=first, count=len(batch)))
            fresh.append(entries)
        similar = [pool.similarities(part) for pool, part in zip(pools, queries, strict=True)]
        # Which key is a candidate of whom is the same in all streams: their queues hold keys of the same clips.
        if step.epoch < self.config.cross_from:
            each = [multi_positive_info_nce(s / self.temperature, pools[0].own, pools[0].valid_NK) for s in similar]
        else:
            each = [
                cross_stream_loss(similar, u, pools[0], temperature=self.temperature, nearest=self.config.nearest)
                for u in range(STREAMS)
            ]
        total = torch.stack(each).sum()
        return MethodOutput(
            total=total,
            terms=dict(zip(("joint/loss", "motion/loss", "bone/loss"), each, strict=True)),
            features_ND=torch.stack(features).mean(0),
            keys_ND=torch.stack(keys).mean(0),
            fresh=tuple(fresh),
        )

    def after_step(self, fresh: Sequence[Entries]) -> None:
        for queue, entries in zip(self.queues, fresh, strict=True):
            assert isinstance(queue, Queue)  # noqa: S101, all of them are
            queue.enqueue(entries)
        self.key_heads.update(self.heads)

    def _key_heads(self) -> nn.ModuleList:
        heads = self.key_heads.module
        assert isinstance(heads, nn.ModuleList)  # noqa: S101, it is a copy of one
        return heads


def cross_stream_loss(similar: Sequence[Tensor], u: int, pool: Pool, *, temperature: float, nearest: int) -> Tensor:
    """L_u, the mean of L_u<-v over the other streams v; shape ().

    Args:
        similar: for each stream the cosines (N, K) of its queries and keys; column k is the same clip in all streams.
        u: index of the stream.
        nearest: number of keys nearest in v that are positives.
    """
    own_NK, others_NK = pool.own, pool.others
    losses = []
    for v in range(len(similar)):
        if v != u:
            near_NK = nearest_of(similar[v], others_NK, nearest)
            logits = torch.cat([similar[u], similar[u] * similar[v]], 1) / temperature
            positives, valid = torch.cat([own_NK | near_NK, near_NK], 1), torch.cat([pool.valid_NK, others_NK], 1)
            losses.append(multi_positive_info_nce(logits, positives, valid))
    return torch.stack(losses).mean()


def _streams(encoder: Backbone) -> StreamEncoders:
    assert isinstance(encoder, StreamEncoders)  # noqa: S101, the settings make it
    return encoder
