"""The objective, Eqs. 5 and 9, as one module: heads, temperatures, memory and the three losses.

A step of training::

    anchors = Anchors(features_ND=encoder.clip_features(x), keys_ND=averaged_features_of_the_view, index_N=…, …)
    losses = objective(anchors, cluster_of)
    losses.total.backward()
    optimizer.step()
    objective.advance(losses.fresh)  # after the optimiser: memory, averaged head, clamped temperatures
    averaged_encoder.update(encoder)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor, nn

from tmor_train.encoder.momentum import Momentum
from tmor_train.encoder.projection import Projection, Temperatures
from tmor_train.losses import Term, motion_motion, motion_text, motion_video
from tmor_train.losses.anchors import Anchors
from tmor_train.losses.candidates import relations_of
from tmor_train.losses.memory import Entries, memory_of
from tmor_train.objective_config import ObjectiveConfig

Gather = Callable[[Entries], tuple[Entries, int]]
"""The entries of all ranks in order of rank, and the place of this rank's first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """``total`` with its gradient; the terms that have a weight, all detached; the entries for ``advance``."""

    total: Tensor
    mm: Term | None
    mv: Term | None
    mt: Term | None
    fresh: Entries

    def figures(self) -> dict[str, float]:
        """All numbers by name (``loss``, ``mm/loss``, ``mm/positives``, …). Waits for the device, once."""
        named = {"loss": self.total.detach()}
        for name, term in (("mm", self.mm), ("mv", self.mv), ("mt", self.mt)):
            if term is not None:
                named |= {f"{name}/{field.name}": getattr(term, field.name) for field in fields(term)}
        numbers = torch.stack([number.double() for number in named.values()]).tolist()
        return dict(zip(named, numbers, strict=True))


class Objective(nn.Module):
    """w_mm L_mm + w_mv L_mv + w_mt L_mt of encoder features; see :class:`ObjectiveConfig` for every choice.

    ``features`` is the width of the encoder's features, ``video`` and ``text`` those of the frozen vectors (None: there
    are none), ``clips`` the size of the dataset, which only a memory bank needs. ``gather`` brings the batches of other
    ranks together. Forward changes nothing: the memory and the averages move in ``advance``.

    Raises:
        ValueError: a loss has a weight, but its vectors have no width; an identity head between unequal widths.
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
        self.key_head = Momentum(self.motion_head, config.momentum) if config.keys == "ema" else None
        self.temperatures = Temperatures(config)
        self.memory = memory_of(config, video=self.video, text=self.text, clips=clips)
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.step: Tensor

    def forward(self, anchors: Anchors, cluster_of: Tensor | None) -> Losses:
        """The losses of a step; ``cluster_of`` is int64 over the dataset (−1 noise), None before the first clustering.

        Raises:
            ValueError: a loss has a weight and the step has text without ``text_id_N``.
        """
        config = self.config
        motion_ND = self.motion_head(anchors.features_ND)
        fresh, first = anchors.entries(self._keys(anchors), video=self.video, text=self.text), 0
        if self.gather is not None:
            fresh, first = self.gather(fresh)
        pool = self._projected(fresh)
        beside = self.memory.beside(fresh)
        if beside is not None:
            pool = pool.then(self._projected(beside))
        of = relations_of(
            pool, range(first, first + len(motion_ND)), cluster_of=cluster_of, step=self.step, config=config
        )
        scale_mm, scale_mv, scale_mt = self.temperatures()
        total = motion_ND.new_zeros(())
        terms: dict[str, Term] = {}
        if config.w_mm:
            terms["mm"] = motion_motion(motion_ND, pool.motion_KD, of, scale=scale_mm, config=config)
            total = total + config.w_mm * terms["mm"].loss
        if pool.video_KDv is not None:
            terms["mv"] = motion_video(motion_ND, pool.video_KDv, pool.motion_KD, of, scale=scale_mv, config=config)
            total = total + config.w_mv * terms["mv"].loss
        if pool.text_KDt is not None:
            terms["mt"] = motion_text(motion_ND, pool.text_KDt, pool.motion_KD, of, scale=scale_mt, config=config)
            total = total + config.w_mt * terms["mt"].loss
        detached = {name: term.detached() for name, term in terms.items()}
        return Losses(
            total=total,
            mm=detached.get("mm"),
            mv=detached.get("mv"),
            mt=detached.get("mt"),
            fresh=fresh.each(Tensor.detach),
        )

    @torch.no_grad()
    def advance(self, fresh: Entries) -> None:
        """Remembers the batch and moves the averaged head; once after each forward, after the optimiser's step."""
        self.memory.take(fresh)
        if self.key_head is not None:
            self.key_head.update(self.motion_head)
        self.temperatures.clamp()
        self.step.add_(1)

    def inherit(self, state: Mapping[str, Tensor]) -> list[str]:
        """Takes the heads and temperatures out of another objective's ``state_dict`` (stage 1, for stage 2).

        What only one side has stays as it is; so do the memory and the step. Returns the names that were taken.

        Raises:
            ValueError: a shape differs.
        """
        own = {name: value for name, value in self.state_dict().items() if not name.startswith(("memory.", "step"))}
        shared = {name: state[name] for name in own if name in state}
        for name, value in shared.items():
            if value.shape != own[name].shape:
                raise ValueError(
                    f"{name} is {tuple(own[name].shape)} here and {tuple(value.shape)} in the other objective; "
                    f"give both the same heads and width"
                )
        self.load_state_dict(shared, strict=False)
        return sorted(shared)

    def _keys(self, anchors: Anchors) -> Tensor:
        """The projected keys, (N, D)."""
        head = self.motion_head if self.key_head is None else self.key_head
        keys_ND: Tensor = head(anchors.keys_ND)
        return keys_ND

    def _projected(self, entries: Entries) -> Entries:
        """``entries`` with their video and text as unit vectors of the width of motion."""
        video_KD = text_KD = None
        if self.video_head is not None and entries.video_KDv is not None:
            video_KD = self.video_head(entries.video_KDv)
        if self.text_head is not None and entries.text_KDt is not None:
            text_KD = self.text_head(entries.text_KDt)
        return replace(entries, video_KDv=video_KD, text_KDt=text_KD)
