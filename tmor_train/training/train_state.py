"""What is trained: encoder, its EMA, method and optimiser; one step of it, and the clusters it learns from.

All of it is in ``state_dict``, and everything drawn at random is a function of seed, step and rank. So a resumed run
does what the first would have done, to the last bit on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import torch
from torch import Tensor, nn

from tmor_train import legacy
from tmor_train.backbones import FEATURES, Backbone
from tmor_train.clustering.clusters import ClusterState, cluster
from tmor_train.data import Batching, Loader, MotionBatch, MotionSet, ProcessRank
from tmor_train.data.augment import Augmentation, augmented
from tmor_train.data.batch import streamed
from tmor_train.data.loader import seed_of
from tmor_train.encoder import EMA
from tmor_train.losses.queue import Entries
from tmor_train.methods import Method, MethodContext, MethodOutput, StepContext, encoder_for, method_of
from tmor_train.methods.tmor import Objective
from tmor_train.training.config import LoopConfig, PretrainConfig
from tmor_train.training.distributed import DistributedContext, autocast_of
from tmor_train.training.metric_logger import step_metrics
from tmor_train.training.optimizer import Optimizer
from tmor_train.training.runs import RunError

_WEIGHTS, _DROPOUT, _VIEWS = 0, 1, 2  # purposes of random numbers; each has its own sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """A step that was taken: its loss, the mean over its batches and all processes, and metrics of its last batch on
    this process if they were asked for, with ``gradient``, the norm of the step's gradient before clipping."""

    loss: float
    metrics: Mapping[str, float]


class TrainState:
    """Everything that changes in training, for the clips of ``motions``.

    ``step`` counts the steps taken. ``cluster_of`` int64 (N,) on this process's device is each clip's cluster, -1 for
    noise; None where each clip stands for itself.

    Raises:
        ValueError: the configuration does not fit the data, such as a loss of video without video vectors.
    """

    def __init__(self, config: PretrainConfig, motions: MotionSet, distributed: DistributedContext) -> None:
        self.config, self.motions, self.distributed = config, motions, distributed
        torch.manual_seed(seed_of(config.loop.seed, _WEIGHTS))
        layout, persons = config.sampling.layout, config.sampling.people
        self.encoder = encoder_for(config.method, config.encoder, layout=layout, persons=persons)
        self.encoder.to(distributed.device)
        self.ema = EMA(self.encoder, config.objective.momentum)
        context = MethodContext(
            objective=config.objective,
            anchor=config.views.anchor,
            positive=config.views.positive,
            encoder=self.encoder,
            video=None if motions.video is None else motions.video.width,
            text=None if motions.text is None else motions.text.width,
            clips=len(motions),
            persons=persons,
            gather=distributed.gather,
        )
        self.method: Method = method_of(config.method, context).to(distributed.device)
        own = [*self.encoder.parameters(), *self.method.parameters()]
        self.optimizer = Optimizer(config.optimizer, ([parameter for parameter in own if parameter.requires_grad], 1.0))
        self.clusters = ClusterState()
        self.cluster_of: Tensor | None = None
        self.step = 0
        self._generator = torch.Generator(distributed.device)
        self._encode, self._encode_key = (_compiled(one, config.loop) for one in (self.encoder, self.ema.module))

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
    def ema_encoder(self) -> Backbone:
        """The encoder of keys and clusters."""
        assert isinstance(self.ema.module, Backbone)  # noqa: S101, it is a copy of one
        return self.ema.module

    def train_step(self, batches: Sequence[MotionBatch], *, lr_ratio: float, watch: bool, epoch: int = 0) -> StepResult:
        """One step of the optimiser over ``batches``, at least one, which weigh the same whatever their sizes.

        Args:
            batches: this process's, on its device; as many as on each other process.
            lr_ratio: the learning rate, as a ratio of ``config.optimizer.lr``.
            watch: whether to compute metrics.
            epoch: counts from 0 and tells a method what is due.

        Raises:
            NonFiniteError: the loss or its gradient is NaN or infinite; nothing but running statistics of batch norms
                has changed.
        """
        # Whatever ran since the last step may have put either, or the module in the wrapper, into evaluation mode.
        self.encoder.train()
        self.ema.train()
        self.optimizer.zero_grad(lr_ratio=lr_ratio)
        fresh: list[tuple[Entries, ...]] = []
        total = torch.zeros((), device=self.distributed.device)
        for number, batch in enumerate(batches):
            output = self._output(batch, number, epoch)
            torch.autograd.backward(output.total / len(batches))
            fresh.append(output.fresh)
            total += output.total.detach() / len(batches)
        self.distributed.average_gradients(self.optimizer.parameters)
        loss, norm = self.optimizer.step(self.distributed.sum(total) / self.distributed.world)
        self.method.after_step([reduce(Entries.concat, memory) for memory in zip(*fresh, strict=True)])
        self._update_ema()
        self.step += 1
        if not watch:
            return StepResult(loss=loss, metrics={})
        metrics = output.metrics() | step_metrics(output.features_ND, output.keys_ND)
        return StepResult(loss=loss, metrics=metrics | {"gradient": norm})

    def _output(self, batch: MotionBatch, number: int, epoch: int) -> MethodOutput:
        """What the method returns for a batch, the ``number``-th of the step, from 0."""
        seed, rank = self.config.loop.seed, self.distributed.rank
        # Dropout draws from torch's own generator, views from another one. Set anew each time, none has to be saved.
        torch.manual_seed(seed_of(seed, _DROPOUT, self.step, number, rank))
        self._generator.manual_seed(seed_of(seed, _VIEWS, self.step, number, rank))
        if self.config.loop.compile == "graphs":
            # Forwards and backward of a batch belong together: what CUDA graphs wrote for the batch before may be
            # overwritten from now on, and what they write for this one may not until the next.
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        context = StepContext(
            view=self.view,
            encode=self._encode,
            encode_key=self._encode_key,
            encoder=self.encoder,
            key_encoder=self.ema_encoder,
            autocast=partial(autocast_of, self.config.loop.precision, self.distributed.device),
            cluster_of=self.cluster_of,
            epoch=epoch,
        )
        return self.method.losses(batch, context)

    @torch.no_grad()
    def _update_ema(self) -> None:
        """Moves the EMA of the encoder."""
        self.ema.update(self.encoder)
        if self.config.method is not None and self.config.objective.keys == "same":
            # Nothing goes through the EMA encoder, so it has no statistics of its own.
            for own, new in zip(self.ema.module.buffers(), self.encoder.buffers(), strict=True):
                own.copy_(new)

    def view(self, batch: MotionBatch, steps: Sequence[Augmentation]) -> MotionBatch:
        """A view of the clips, as the encoder takes them: augmented by ``steps``, then turned into the configured
        streams. Random numbers are drawn from a generator that each batch of training seeds anew.

        Raises:
            RunError: the encoder takes another number of coordinates.
        """
        streams = self.config.views.streams
        seen = streamed(augmented(batch, steps, self._generator), streams)
        channels, count = seen.motion_NCTVM.shape[1], len(streams)
        if channels != self.encoder.channels:
            raise RunError(
                f"a view of the clips has {channels // count} coordinates in {count} streams, and encoder.channels is "
                f"{self.encoder.channels}; set encoder.channels={channels}, or project clips in space to pictures in "
                "all three views (Project)"
            )
        return seen

    @torch.no_grad()
    def embeddings(self, *, size: int = 256) -> Tensor:
        """Features of every clip in the ``still`` view, by the encoder that ``clusters.of`` names: (N, 256) float32 on
        this process's device, in the order of the set. Frames and captions are the ``deterministic`` ones. All
        processes call this and share the work; the encoder is left in eval mode.

        Args:
            size: clips of a batch on each process, as many as the default of :class:`Batching`.
        """
        network: Backbone = self.ema_encoder if self.config.clusters.of == "ema" else self.encoder
        self.distributed.average_statistics(network)
        network.eval()
        loader = Loader(
            self.motions,
            sampling=replace(self.config.sampling, draw="deterministic"),
            batching=Batching(size=size, order="stored", last="keep"),
            process=ProcessRank(self.distributed.rank, self.distributed.world),
            workers=self.config.loop.workers,
        )
        embeddings_ND = torch.zeros(len(self.motions), FEATURES, device=self.distributed.device)
        for batch in loader:
            if len(batch):
                still = self.view(batch.to(self.distributed.device), self.config.views.still)
                with autocast_of(self.config.loop.precision, self.distributed.device):
                    features_ND = network.clip_features(still.motion_NCTVM, still.present)
                embeddings_ND[still.index_N] = features_ND.float()
        return self.distributed.sum(embeddings_ND)

    def recluster(self, embeddings_ND: Tensor) -> dict[str, Any]:
        """Cluster all clips; the next steps learn from it. Returns the metrics to log, none but in the main process,
        which alone computes; all processes call this.

        Args:
            embeddings_ND: as :meth:`embeddings` returns them.
        """
        embeddings_ND = with_directions(embeddings_ND)
        labels_N = torch.empty(len(self.motions), dtype=torch.int64, device=self.distributed.device)
        metrics: dict[str, Any] = {}
        eps = torch.zeros((), dtype=torch.float64, device=self.distributed.device)
        if self.distributed.is_main:
            clustering = cluster(embeddings_ND, self.config.clusters.how, self.clusters)
            known_N = self.motions.clips.label_N
            metrics = clustering.metrics(known_N=known_N, before=self.clusters)
            labels_N = torch.from_numpy(clustering.labels_N).to(self.distributed.device)
            eps.fill_(clustering.state.eps or 0.0)  # after a clustering it is a number
        labels_N, eps = self.distributed.broadcast(labels_N), self.distributed.broadcast(eps)
        self._set_clusters(ClusterState(float(eps), labels_N.cpu().numpy()))
        self.method.after_clustering(embeddings_ND, labels_N)
        return metrics

    def _set_clusters(self, state: ClusterState) -> None:
        self.clusters = state
        # Where no cluster was found, every clip is a cluster of its own, also if noise is otherwise left out.
        some = state.labels_N is not None and bool((state.labels_N >= 0).any())
        self.cluster_of = torch.from_numpy(state.labels_N).to(self.distributed.device) if some else None

    def state_dict(self) -> dict[str, Any]:
        """All of it, as tensors and plain values. All processes call this, for statistics are averaged over them."""
        self.distributed.average_statistics(self.encoder)
        self.distributed.average_statistics(self.ema)
        labels_N = self.clusters.labels_N
        return {  # keys are stored; that of the method is from when T-MOR's was the only one
            "step": self.step,
            "encoder": self.encoder.state_dict(),
            "ema": self.ema.module.state_dict(),
            "objective": self.method.state_dict(),
            "optimizer": self.optimizer.state_dicts()[0],
            "clusters": {
                "eps": self.clusters.eps,
                "labels": None if labels_N is None else torch.from_numpy(labels_N),
            },
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes from a ``state_dict`` of the same configuration."""
        state = legacy.train_state(state)
        self.step = state["step"]
        self.encoder.load_state_dict(state["encoder"])
        self.ema.module.load_state_dict(state["ema"])
        self.method.load_state_dict(state["objective"])
        self.optimizer.load_state_dicts([state["optimizer"]])
        labels_N = state["clusters"]["labels"]
        self._set_clusters(ClusterState(state["clusters"]["eps"], None if labels_N is None else labels_N.cpu().numpy()))

    def load_pretrained(self, state: Mapping[str, Any]) -> list[str]:
        """Begins with encoders and heads of another run's ``state_dict`` (stage 1, for stage 2); returns the names of
        the heads' tensors that were taken. Heads that the other run lacks keep their new weights.

        The optimiser, the memory, the clusters and ``step`` begin anew.

        Raises:
            ValueError: the encoders or heads differ in shape.
        """
        state = legacy.train_state(state)
        try:
            self.encoder.load_state_dict(state["encoder"])
            self.ema.module.load_state_dict(state["ema"])
        except RuntimeError as error:
            raise ValueError(f"the encoder of the checkpoint does not fit that of the recipe: {error}") from error
        return self.method.load_pretrained(state["objective"])


def _compiled(encoder: nn.Module, loop: LoopConfig) -> Callable[..., Any]:
    """The encoder as ``loop.compile`` says."""
    if loop.compile == "off":
        return encoder
    compiled: Callable[..., Any] = torch.compile(encoder, mode="reduce-overhead" if loop.compile == "graphs" else None)
    return compiled


def with_directions(embeddings_ND: Tensor) -> Tensor:
    """The embeddings (N, D), each that is all zeros replaced by the negative mean of the others.

    An untrained encoder gives zeros for a clip in which nobody is seen. Zeros have no direction to cluster by; opposite
    to the mean, such clips are near each other and far from all others. Where all are zeros, nothing is replaced.
    """
    empty_N = ~embeddings_ND.any(1)
    if not bool(empty_N.any()) or bool(empty_N.all()):
        return embeddings_ND
    return torch.where(empty_N[:, None], -embeddings_ND[~empty_N].mean(0), embeddings_ND)
