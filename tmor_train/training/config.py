"""The configuration of a pre-training run, as one frozen tree; recipes are values of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tmor_train.clustering.clusters import ClusterConfig
from tmor_train.data import Batching, Sampling
from tmor_train.data.augment import CropResize, Rotate, View
from tmor_train.data.modalities import Stream
from tmor_train.data_sources import DataConfig
from tmor_train.encoder.motion import EncoderConfig
from tmor_train.methods import MethodConfig
from tmor_train.objective_config import ObjectiveConfig
from tmor_train.training.optimizer import OptimizerConfig, ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """The two views of a clip and the one that is clustered, each a list of augmentations.

    ``anchor`` makes sk (the paper's is the clip as it is), ``positive`` makes sk+, and ``still``, which draws nothing
    at random, makes what is embedded and clustered. Then joints become ``streams``, side by side as channels.
    """

    anchor: tuple[View, ...] = ()
    positive: tuple[View, ...] = (CropResize(), Rotate())
    still: tuple[View, ...] = ()
    streams: tuple[Stream, ...] = ("joint",)


@dataclass(frozen=True, kw_only=True)
class ClusteringConfig:
    """When clips are clustered: after epoch ``first`` (0: before any) and then after each ``every``; ``off``: never.

    ``of`` is the encoder whose features are clustered: the ``ema`` of the one being trained, or that one (``online``).
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
    """The training loop: its length, device, precision and checkpoints.

    An epoch is a pass over all train clips; a step of the optimiser takes ``accumulate`` batches. ``precision``
    ``auto`` is bfloat16 for the encoder on a GPU that has it and float32 elsewhere; the losses are float32 always.
    ``workers`` are threads that gather batches (0: the training thread does). A checkpoint is written every
    ``checkpoint_steps`` and after every epoch; the last ``keep`` stay, and the best. Metrics are logged every
    ``log_steps``. ``seed`` is that of weights, dropout and views. With ``start`` ``checkpoint`` the run begins with the
    weights of another, whose folder or checkpoint is ``start_from``.
    """

    epochs: int = 65
    seed: int = 0
    start: Literal["scratch", "checkpoint"] = "scratch"
    start_from: str | None = None
    accumulate: int = 1
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: Literal["off", "on"] = "off"
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


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """All settings of one pre-training run.

    ``method`` is another work's, by its settings; none is T-MOR's, of which ``objective`` says everything. Methods take
    from ``objective`` what they share with it.
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
