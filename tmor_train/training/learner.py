"""What is trained: encoder, averaged encoder, method and optimiser; one step of it, and the clusters it learns from.

All of its state is in ``state``, and everything drawn at random is a function of seed, step and rank. So a run that
goes on from a checkpoint does what the first would have done, to the last bit on a CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tmor_train.backbones import FEATURES, Backbone
from tmor_train.clustering.clusters import ClusterState, cluster
from tmor_train.data import Batching, Loader, MotionBatch, MotionSet, Place
from tmor_train.data.augment import Augmentation, augmented
from tmor_train.data.hash_rng import hashes
from tmor_train.data.modalities import streamed
from tmor_train.encoder.momentum import EMA
from tmor_train.losses.queue import Entries
from tmor_train.methods import Method, MethodContext, MethodOutput, StepContext, encoder_for, method_of
from tmor_train.methods.tmor import Objective
from tmor_train.pretrain_config import PretrainConfig
from tmor_train.training.device import autocast_of
from tmor_train.training.monitor import watched
from tmor_train.training.optimizer import optimizer_of, set_rate
from tmor_train.training.team import Team

_WEIGHTS, _DROPOUT, _VIEWS = 0, 1, 2


class NotFinite(ArithmeticError):
    """A loss or its gradient is NaN or infinite; ``batches`` are those of this process's step."""

    def __init__(self, batches: Sequence[MotionBatch], what: str) -> None:
        super().__init__(what)
        self.batches = batches


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A step that was taken: its mean loss, and figures of its last batch if they were asked for."""

    loss: float
    figures: Mapping[str, float]


class Learner:
    """Everything that changes in training, for the clips of ``motions``."""

    def __init__(self, config: PretrainConfig, motions: MotionSet, team: Team) -> None:
        self.config, self.motions, self.team = config, motions, team
        torch.manual_seed(seed_of(config.loop.seed, _WEIGHTS))
        layout, persons = config.sampling.layout, config.sampling.people
        self.encoder = encoder_for(config.method, config.encoder, layout=layout, persons=persons)
        self.encoder.to(team.device)
        self.averaged = EMA(self.encoder, config.objective.momentum)
        context = MethodContext(
            objective=config.objective,
            anchor=config.views.anchor,
            positive=config.views.positive,
            encoder=self.encoder,
            video=None if motions.video is None else motions.video.width,
            text=None if motions.text is None else motions.text.width,
            clips=len(motions),
            persons=persons,
            gather=team.gather,
        )
        self.method: Method = method_of(config.method, context).to(team.device)
        own = [*self.encoder.parameters(), *self.method.parameters()]
        self.parameters = [parameter for parameter in own if parameter.requires_grad]
        self.optimizer = optimizer_of(config.optimizer, self.parameters)
        self.clusters = ClusterState()
        self.cluster_of: Tensor | None = None
        self.step = 0
        self._generator = torch.Generator(team.device)
        compiled = config.loop.compile == "on"
        self._encode = torch.compile(self.encoder) if compiled else self.encoder
        self._encode_key = torch.compile(self.averaged.module) if compiled else self.averaged.module

    @property
    def objective(self) -> Objective:
        """The method where it is T-MOR's.

        Raises:
            TypeError: it is another one.
        """
        if not isinstance(self.method, Objective):
            raise TypeError(f"{type(self.method).__name__} is trained here, not T-MOR's objective")
        return self.method

    @property
    def averaged_encoder(self) -> Backbone:
        """The encoder of keys and clusters."""
        assert isinstance(self.averaged.module, Backbone)  # noqa: S101, it is a copy of one
        return self.averaged.module

    def train(self, batches: Sequence[MotionBatch], *, rate: float, watch: bool, epoch: int = 0) -> Step:
        """One step of the optimiser over all ``batches``; ``epoch`` counts from 0 and tells a method what is due.

        Raises:
            NotFinite: before anything has changed but running statistics.
        """
        self.encoder.train()
        self.averaged.train()
        set_rate(self.optimizer, rate * self.config.optimizer.rate)
        self.optimizer.zero_grad(set_to_none=True)
        fresh: list[tuple[Entries, ...]] = []
        total = torch.zeros((), device=self.team.device)
        for number, batch in enumerate(batches):
            losses = self._losses(batch, number, epoch)
            torch.autograd.backward(losses.total / len(batches))
            fresh.append(losses.fresh)
            total += losses.total.detach() / len(batches)
        self.team.average_gradients(self.parameters)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.optimizer.clip or float("inf"))
        total = self.team.sum(total) / self.team.world
        loss, norm_number = torch.stack([total.double(), norm.double()]).tolist()
        if not np.isfinite([loss, norm_number]).all():
            raise NotFinite(batches, f"the loss is {loss} and its gradient's norm {norm_number}")
        self.optimizer.step()
        self.method.after_step([reduce(Entries.concat, memory) for memory in zip(*fresh, strict=True)])
        self._average()
        self.step += 1
        if not watch:
            return Step(loss=loss, figures={})
        figures = losses.metrics() | watched(losses.features_ND, losses.keys_ND)
        return Step(loss=loss, figures=figures | {"gradient": norm_number})

    def _losses(self, batch: MotionBatch, number: int, epoch: int) -> MethodOutput:
        """What the method makes of a batch."""
        seed, rank = self.config.loop.seed, self.team.rank
        # Dropout draws from torch's own generator, views from another one. Set anew each time, none has to be saved.
        torch.manual_seed(seed_of(seed, _DROPOUT, self.step, number, rank))
        self._generator.manual_seed(seed_of(seed, _VIEWS, self.step, number, rank))
        context = StepContext(
            view=self.view,
            encode=self._encode,
            encode_key=self._encode_key,
            encoder=self.encoder,
            key_encoder=self.averaged_encoder,
            autocast=partial(autocast_of, self.config.loop.precision, self.team.device),
            cluster_of=self.cluster_of,
            epoch=epoch,
        )
        return self.method.losses(batch, context)

    @torch.no_grad()
    def _average(self) -> None:
        """Moves the averaged encoder."""
        self.averaged.update(self.encoder)
        if self.config.method is not None and self.config.objective.keys == "same":
            # Nothing goes through the averaged encoder, so it has no statistics of its own.
            for own, new in zip(self.averaged.module.buffers(), self.encoder.buffers(), strict=True):
                own.copy_(new)

    def view(self, batch: MotionBatch, steps: Sequence[Augmentation]) -> MotionBatch:
        """A view of the clips, as the encoder takes them."""
        return streamed(augmented(batch, steps, self._generator), self.config.views.streams)

    @torch.no_grad()
    def embeddings(self, *, size: int = 256) -> Tensor:
        """Features of every clip as it is, (N, 256) float32 on this process's device; the work is shared by all."""
        network: Backbone = self.averaged_encoder if self.config.clusters.of == "averaged" else self.encoder
        self.team.average_statistics(network)
        network.eval()
        loader = Loader(
            self.motions,
            sampling=replace(self.config.sampling, draw="centre"),
            batching=Batching(size=size, order="stored", last="keep"),
            place=Place(self.team.rank, self.team.world),
            workers=self.config.loop.workers,
        )
        found_ND = torch.zeros(len(self.motions), FEATURES, device=self.team.device)
        for batch in loader:
            if len(batch):
                still = self.view(batch.to(self.team.device), self.config.views.still)
                with autocast_of(self.config.loop.precision, self.team.device):
                    features_ND = network.clip_features(still.motion_NCTVM, still.present)
                found_ND[still.index_N] = features_ND.float()
        return self.team.sum(found_ND)

    def recluster(self, embeddings_ND: Tensor) -> dict[str, Any]:
        """Cluster all clips; the next steps learn from it. Returns the figures to log."""
        embeddings_ND = with_directions(embeddings_ND)
        labels_N = torch.empty(len(self.motions), dtype=torch.int64, device=self.team.device)
        figures: dict[str, Any] = {}
        eps = torch.zeros((), dtype=torch.float64, device=self.team.device)
        if self.team.leads:
            clustering = cluster(embeddings_ND, self.config.clusters.how, self.clusters)
            known_N = self.motions.clips.label_N
            figures = clustering.metrics(known_N=known_N, before=self.clusters)
            labels_N = torch.from_numpy(clustering.labels_N).to(self.team.device)
            eps.fill_(clustering.state.eps or 0.0)
        labels_N, eps = self.team.from_lead(labels_N), self.team.from_lead(eps)
        self._take_clusters(ClusterState(float(eps), labels_N.cpu().numpy()))
        self.method.after_clustering(embeddings_ND, labels_N)
        return figures

    def _take_clusters(self, state: ClusterState) -> None:
        self.clusters = state
        # Where no cluster was found, each clip stands for itself, also if noise is dropped otherwise.
        some = state.labels_N is not None and bool((state.labels_N >= 0).any())
        self.cluster_of = torch.from_numpy(state.labels_N).to(self.team.device) if some else None

    def state(self) -> dict[str, Any]:
        """All of it, as tensors and plain values."""
        self.team.average_statistics(self.encoder)
        self.team.average_statistics(self.averaged)
        labels_N = self.clusters.labels_N
        return {
            "step": self.step,
            "encoder": self.encoder.state_dict(),
            "averaged": self.averaged.module.state_dict(),
            "objective": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "clusters": {
                "eps": self.clusters.eps,
                "labels": None if labels_N is None else torch.from_numpy(labels_N),
            },
        }

    def take(self, state: Mapping[str, Any]) -> None:
        """Go on from a ``state`` of the same configuration."""
        self.step = state["step"]
        self.encoder.load_state_dict(state["encoder"])
        self.averaged.module.load_state_dict(state["averaged"])
        self.method.load_state_dict(state["objective"])
        self.optimizer.load_state_dict(state["optimizer"])
        labels_N = state["clusters"]["labels"]
        self._take_clusters(
            ClusterState(state["clusters"]["eps"], None if labels_N is None else labels_N.cpu().numpy())
        )

    def inherit(self, state: Mapping[str, Any]) -> list[str]:
        """Begin with the encoders and the heads of another run's ``state`` (stage 1, for stage 2); names of the heads.

        The optimiser, the memory and the clusters begin anew.

        Raises:
            ValueError: the encoders or heads differ in shape.
        """
        try:
            self.encoder.load_state_dict(state["encoder"])
            self.averaged.module.load_state_dict(state["averaged"])
        except RuntimeError as error:
            raise ValueError(f"the checkpoint's encoder is another one than the recipe's: {error}") from error
        return self.method.load_pretrained(state["objective"])


def with_directions(embeddings_ND: Tensor) -> Tensor:
    """The embeddings, those of zeros put opposite to the mean of the others, where no other is.

    An untrained encoder gives zeros for a clip in which nobody is seen, and zeros lie in no direction.
    """
    empty_N = ~embeddings_ND.any(1)
    if not bool(empty_N.any()) or bool(empty_N.all()):
        return embeddings_ND
    return torch.where(empty_N[:, None], -embeddings_ND[~empty_N].mean(0), embeddings_ND)


def seed_of(*names: int) -> int:
    """A seed for torch that differs for other names; 63 bits."""
    return int(hashes(*names, index_N=np.zeros(1, np.int64))[0] >> np.uint64(1))


__all__ = ["Learner", "NotFinite", "Step", "seed_of", "with_directions"]
