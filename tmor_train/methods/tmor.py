"""T-MOR (Eqs. 5 and 9): the objective with its heads, temperatures, queue and three losses, and the method that uses
it.

A step of training::

    anchors = Anchors(features_ND=encoder.clip_features(x), keys_ND=ema_features_of_the_view, index_N=…, …)
    output = objective(anchors, cluster_of)
    output.total.backward()
    optimizer.step()
    objective.after_step(output.fresh)  # after the optimiser: memory, EMA head, clamped temperatures
    ema_encoder.update(encoder)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor, nn

from tmor_train.backbones import FEATURES
from tmor_train.data.batch import MotionBatch
from tmor_train.encoder import EMA, Projection, Temperatures
from tmor_train.losses.contrastive import Term, motion_motion, motion_text, motion_video, relate
from tmor_train.losses.queue import NOBODY, Entries, Gather, build_memory
from tmor_train.methods.base import Method, MethodContext, MethodOutput, StepContext
from tmor_train.objective_config import ObjectiveConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchors:
    """The N clips of a batch as anchors: ``features_ND`` by the encoder, and ``keys_ND``, those of their second view.

    Neither is projected. ``video_NDv`` and ``text_NDt`` are the frozen encoders' vectors, None where the set has none;
    the masks ``has_*_N`` bool say which clips have one, None: all. ``index_N`` int64 is the clip's index in the
    dataset; ``text_id_N`` int64 is equal for equal sentences, −1 for none.
    """

    features_ND: Tensor
    keys_ND: Tensor
    index_N: Tensor
    video_NDv: Tensor | None = None
    text_NDt: Tensor | None = None
    text_id_N: Tensor | None = None
    has_video_N: Tensor | None = None
    has_text_N: Tensor | None = None

    @classmethod
    def of(cls, batch: MotionBatch, features_ND: Tensor, keys_ND: Tensor) -> Self:
        """The clips of a batch, with the features of its two views."""
        return cls(
            features_ND=features_ND,
            keys_ND=keys_ND,
            index_N=batch.index_N,
            video_NDv=batch.video_ND,
            text_NDt=batch.text_ND,
            text_id_N=batch.text_id_N,
            has_video_N=batch.has_video_N,
        )

    def entries(self, keys_ND: Tensor, *, video: int | None, text: int | None) -> Entries:
        """The clips as candidates for each other and for later batches.

        Args:
            keys_ND: their projected keys.
            video, text: widths of the frozen vectors to include; None includes none. A clip without one gets zeros.

        Raises:
            ValueError: texts are to be included, and ``text_id_N`` is None.
        """
        text_id_N = torch.full_like(self.index_N, NOBODY) if self.text_id_N is None else self.text_id_N
        if text is not None and self.text_NDt is not None and self.text_id_N is None:
            raise ValueError("clips with text need text_id_N, which says which sentences are equal")
        video_NDv, has_video_N = _present(self.video_NDv, self.has_video_N, video, like=keys_ND)
        text_NDt, has_text_N = _present(self.text_NDt, self.has_text_N, text, like=keys_ND)
        return Entries(
            motion_KD=keys_ND,
            video_KDv=video_NDv,
            text_KDt=text_NDt,
            has_video_K=has_video_N,
            has_text_K=has_text_N & (text_id_N != NOBODY),
            index_K=self.index_N,
            text_id_K=text_id_N,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveOutput(MethodOutput):
    """The output for a batch with each loss and its figures, detached; None for a loss of weight 0. ``terms`` has the
    same figures by names such as ``mm/loss``."""

    mm: Term | None
    mv: Term | None
    mt: Term | None


class Objective(nn.Module):
    """w_mm L_mm + w_mv L_mv + w_mt L_mt of encoder features; see :class:`ObjectiveConfig` for every choice.

    Forward changes no state; the queue or memory bank and the EMA head are updated in :meth:`after_step`.

    Args:
        config: the settings.
        features: width of the encoder's features.
        video, text: widths of the frozen vectors; None: the data has none.
        clips: number of clips of the dataset, which only a memory bank needs.
        gather: collects the entries of all processes; None for a single process.

    Raises:
        ValueError: a loss has a weight above 0 but the data has no vectors for it, an identity head is between unequal
            widths, or a memory bank has no ``clips``.
    """

    def __init__(
        self,
        config: ObjectiveConfig,
        *,
        features: int,
        video: int | None = None,
        text: int | None = None,
        clips: int | None = None,
        gather: Gather | None = None,
    ) -> None:
        super().__init__()
        self.config, self.gather = config, gather
        self.video, self.text = video if config.w_mv else None, text if config.w_mt else None
        for name, weight, width in (("mv", config.w_mv, video), ("mt", config.w_mt, text)):
            if weight and width is None:
                raise ValueError(f"w_{name} is {weight}, but the data has no vectors for it; set w_{name}=0")
        self.motion_head = Projection(config.motion_head, features, config.width)
        self.video_head = None if self.video is None else Projection(config.video_head, self.video, config.width)
        self.text_head = None if self.text is None else Projection(config.text_head, self.text, config.width)
        self.key_head = EMA(self.motion_head, config.momentum) if config.keys == "ema" else None
        self.temperatures = Temperatures(config)
        self.memory = build_memory(config, video=self.video, text=self.text, clips=clips)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.step: Tensor

    def forward(self, anchors: Anchors, cluster_of: Tensor | None) -> ObjectiveOutput:
        """The losses of a batch.

        Args:
            cluster_of: the cluster of each clip of the dataset, int64, −1 for noise; None before the first clustering
                and while the last one found no cluster.

        Raises:
            ValueError: L_mt has a weight above 0 and the batch has texts without ``text_id_N``.
        """
        config = self.config
        motion_ND = self.motion_head(anchors.features_ND)
        keys_ND = (self.motion_head if self.key_head is None else self.key_head)(anchors.keys_ND)
        fresh, first = anchors.entries(keys_ND, video=self.video, text=self.text), 0
        if self.gather is not None:
            fresh, first = self.gather(fresh)
        pool = self._projected(fresh)
        negatives = self.memory.negatives(fresh)
        if negatives is not None:
            pool = pool.concat(self._projected(negatives))
        rows = range(first, first + len(motion_ND))
        relations = relate(pool, rows, cluster_of=cluster_of, step=self.step, config=config)
        scale_mm, scale_mv, scale_mt = self.temperatures()
        keys_KD, total = pool.motion_KD, motion_ND.new_zeros(())
        terms: dict[str, Term] = {}
        if config.w_mm:
            terms["mm"] = motion_motion(motion_ND, keys_KD, relations, scale=scale_mm, config=config)
            total = total + config.w_mm * terms["mm"].loss
        if pool.video_KDv is not None:
            terms["mv"] = motion_video(motion_ND, pool.video_KDv, keys_KD, relations, scale=scale_mv, config=config)
            total = total + config.w_mv * terms["mv"].loss
        if pool.text_KDt is not None:
            terms["mt"] = motion_text(motion_ND, pool.text_KDt, keys_KD, relations, scale=scale_mt, config=config)
            total = total + config.w_mt * terms["mt"].loss
        terms = {name: term.detached() for name, term in terms.items()}
        return ObjectiveOutput(
            total=total,
            terms={f"{name}/{key}": value for name, term in terms.items() for key, value in term.values().items()},
            features_ND=anchors.features_ND,
            keys_ND=anchors.keys_ND,
            fresh=(fresh.map(Tensor.detach),),
            mm=terms.get("mm"),
            mv=terms.get("mv"),
            mt=terms.get("mt"),
        )

    @torch.no_grad()
    def after_step(self, fresh: Sequence[Entries]) -> None:
        """Stores the batch's entries (``fresh`` of the output), updates the EMA head and clamps the temperatures.

        To be called once after each step of the optimiser.
        """
        self.memory.enqueue(fresh[0])
        if self.key_head is not None:
            self.key_head.update(self.motion_head)
        self.temperatures.clamp()
        self.step.add_(1)

    def load_pretrained(self, state: Mapping[str, Tensor]) -> list[str]:
        """Loads heads and temperatures from another objective's ``state_dict``, as stage 2 does from that of stage 1.

        Tensors that only one of the two has are left as they are, and so are the queue or memory bank and the step
        count. Returns the names of the loaded tensors, sorted.

        Raises:
            ValueError: a shape differs.
        """
        own = {name: value for name, value in self.state_dict().items() if not name.startswith(("memory.", "step"))}
        shared = {name: state[name] for name in own if name in state}
        for name, value in shared.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"{name} is {tuple(own[name].shape)} in this objective and {tuple(value.shape)} in the other one; "
                    "give both the same heads and width"
                )
        self.load_state_dict(shared, strict=False)
        return sorted(shared)

    def _projected(self, entries: Entries) -> Entries:
        """``entries`` with their video and text as unit vectors of the width of motion."""
        video_KD = text_KD = None
        if self.video_head is not None and entries.video_KDv is not None:
            video_KD = self.video_head(entries.video_KDv)
        if self.text_head is not None and entries.text_KDt is not None:
            text_KD = self.text_head(entries.text_KDt)
        return replace(entries, video_KDv=video_KD, text_KDt=text_KD)


class TMOR(Objective, Method):
    """T-MOR as a method: encodes two views of each clip for the :class:`Objective`, the second by the EMA encoder or,
    where ``objective.keys`` is ``same``, by the trained encoder, too.

    Its state is the objective's.

    Raises:
        ValueError: as :class:`Objective`.
    """

    def __init__(self, context: MethodContext) -> None:
        super().__init__(
            context.objective,
            features=FEATURES,
            video=context.video,
            text=context.text,
            clips=context.clips,
            gather=context.gather,
        )
        self._anchor, self._positive = context.anchor, context.positive

    def losses(self, batch: MotionBatch, step: StepContext) -> MethodOutput:
        """The loss of Eq. 9 for a batch."""
        anchor, positive = (step.view(batch, augmentations) for augmentations in (self._anchor, self._positive))
        features_ND = step.features(anchor)
        keys_ND = step.features(positive) if self.config.keys == "same" else step.keys(positive)
        output: MethodOutput = self(Anchors.of(batch, features_ND, keys_ND), step.cluster_of)
        return output


def _present(
    vectors_ND: Tensor | None, has_N: Tensor | None, width: int | None, *, like: Tensor
) -> tuple[Tensor | None, Tensor]:
    """The vectors (N, ``width``) with zeros for clips without one, whatever the data holds there, and the mask (N,) of
    clips that have one."""
    if width is None or vectors_ND is None:
        nobody_N = torch.zeros(len(like), dtype=torch.bool, device=like.device)
        return None if width is None else like.new_zeros(len(like), width), nobody_N
    if has_N is None:
        return vectors_ND, torch.ones(len(like), dtype=torch.bool, device=like.device)
    return vectors_ND.masked_fill(~has_N[:, None], 0.0), has_N
