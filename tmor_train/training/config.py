"""The configuration of a pre-training run, as one frozen tree; recipes are values of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tmor_train.clustering.clusters import ClusterConfig
from tmor_train.data import Batching, Sampling
from tmor_train.data.augment import CropResize, Rotate, View
from tmor_train.data.batch import Stream
from tmor_train.data_sources import DataConfig
from tmor_train.encoder import EncoderConfig
from tmor_train.methods import MethodConfig
from tmor_train.objective_config import ObjectiveConfig
from tmor_train.training.optimizer import OptimizerConfig, ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """The two views of a clip and the one that is clustered, each a list of augmentations.

    ``anchor`` makes sk, ``positive`` makes sk+, and ``still`` makes what is embedded and clustered; an empty list
    leaves the clip as it is. ``still`` is for augmentations that change nothing at random, such as ``Project`` to a
    fixed side; this is not checked, and a resumed run repeats an interrupted one exactly only then. Each view is then
    turned into ``streams``, concatenated as channels: ``encoder.channels`` is their number times that of coordinates.
    """

    anchor: tuple[View, ...] = ()
    positive: tuple[View, ...] = (CropResize(), Rotate())
    still: tuple[View, ...] = ()
    streams: tuple[Stream, ...] = ("joint",)


@dataclass(frozen=True, kw_only=True)
class ClusteringConfig:
    """When clips are clustered, whose features, and how.

    ``after_epochs``: after epoch ``first``, counted from 1 (0: before training begins), and from then on after each
    ``every`` epochs; ``off``: never, and ``first`` and ``every`` are not used. Before the first clustering each clip is
    a cluster of its own; the paper clusters "after each epoch" and does not say from which on: 5 is our choice, the
    epochs in which the rate rises (``schedule.warmup``). ``of`` is the encoder whose features are clustered, and which
    the metrics of embeddings are of, also with ``off``: the ``ema`` of the one being trained, or that one (``online``).

    Raises:
        ValueError: a number is out of its range.
    """

    when: Literal["after_epochs", "off"] = "after_epochs"
    first: int = 5
    every: int = 1
    of: Literal["ema", "online"] = "ema"
    how: ClusterConfig = field(default_factory=ClusterConfig)

    def __post_init__(self) -> None:
        if self.first < 0 or self.every < 1:
            raise ValueError(f"first is at least 0 and every at least 1, not {self.first} and {self.every}")

    def due(self, epoch: int) -> bool:
        """Whether to cluster after ``epoch``, counted from 1."""
        return self.when == "after_epochs" and epoch >= self.first and (epoch - self.first) % self.every == 0


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """The training loop: its length (65 epochs, as UNIK's pre-training), device, precision and checkpoints.

    An epoch is a pass over all clips of the data. A step is one of the optimiser: over ``accumulate`` batches of
    ``batching.size`` clips on each process, and over fewer at the end of an epoch. ``device`` is a name of torch's, or
    ``auto``: a GPU if there is one. ``precision`` ``auto`` is bfloat16 for the encoder on a GPU that has it and float32
    elsewhere; the losses are float32 always. ``compile`` ``on`` compiles the encoders by ``torch.compile``;
    ``graphs`` also records them as CUDA graphs, which spares a GPU the wait for each of two thousand kernels to be
    started (docs/results/gpu.md), and takes one batch a step. Either takes a minute or more before the first step.
    ``workers`` are threads of each process that gather batches (0: the training thread does).

    A checkpoint is written every ``checkpoint_steps`` steps and after every epoch. The newest ``keep`` of them stay,
    and the best: that of the epoch with the lowest mean training loss since the first clustering. Metrics are logged at
    the first step and then every ``log_steps`` steps. These three are our choice: minutes are lost at most by a kill,
    a damaged newest checkpoint has one before it, and a curve of an epoch has points enough to be read. One of
    ``workers`` gathers the next batch while the present one is computed.

    ``seed`` is that of weights, dropout and views; order, frames and captions of clips have ``batching.seed``, the
    other draws ``objective.seed`` and ``clusters.how.seed``. With ``start`` ``checkpoint`` a new run begins with the
    weights of ``start_from``: a checkpoint, or a run's folder, of which the newest is taken. None is for recipes,
    which the command line completes by ``--from``. With ``scratch``, ``start_from`` is not used.

    Raises:
        ValueError: a number is out of its range, or ``graphs`` with several batches a step.
    """

    epochs: int = 65
    seed: int = 0
    start: Literal["scratch", "checkpoint"] = "scratch"
    start_from: str | None = None
    accumulate: int = 1
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["off", "on", "graphs"] = "off"
    workers: int = 1
    checkpoint_steps: int = 500
    keep: int = 2
    log_steps: int = 10

    def __post_init__(self) -> None:
        for name in ("epochs", "accumulate", "checkpoint_steps", "keep", "log_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is at least 1, not {getattr(self, name)}")
        if self.seed < 0 or self.workers < 0:
            raise ValueError(f"seed and workers are at least 0, not {self.seed} and {self.workers}")
        if self.compile == "graphs" and self.accumulate > 1:
            # The gradients of a batch are outputs of its graph, which the next batch's run overwrites.
            raise ValueError(
                f"compile=graphs takes accumulate=1, not {self.accumulate}; set compile=on, or a larger batch"
            )


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """All settings of one pre-training run.

    ``recipe`` is the name of the recipe that they are from and ``about`` one line on it, for lists and logs; neither
    changes what is trained. A default ``data`` names none; recipes leave it so for the command line to complete.
    ``method`` is another work's, by its settings; None is T-MOR's, whose settings are ``objective``. Other methods take
    from ``objective`` only what they share with it, which their classes name. ``schedule`` and ``loop`` count the same
    epochs. The other fields are described by their classes.
    """

    recipe: str
    about: str
    data: DataConfig = field(default_factory=DataConfig)
    sampling: Sampling = field(default_factory=Sampling)
    batching: Batching = field(default_factory=Batching)
    views: ViewConfig = field(default_factory=ViewConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    method: MethodConfig | None = None
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    clusters: ClusteringConfig = field(default_factory=ClusteringConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    loop: LoopConfig = field(default_factory=LoopConfig)
