"""Settings that evaluations share: the task, the encoder it begins with, test-time augmentation and training; and those
of zero-shot recognition. Listing recipes imports this, so nothing here imports what evaluates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tmor_train.data import Normalise, Sampling
from tmor_train.data.augment import View
from tmor_train.data.modalities import Choice, Stream
from tmor_train.encoder.motion import EncoderConfig
from tmor_train.prompts import PromptSet
from tmor_train.training.distributed import Precision
from tmor_train.training.optimizer import OptimizerConfig, ScheduleConfig

SCRATCH = "scratch"
"""Given in place of a checkpoint, it means an encoder with new weights that was never trained."""

TableName = Literal["table1", "table2", "table3", "table4", "table5"]


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """The part of the train clips that settings are chosen on: a ``share`` of each class's ``clips``, or of the
    ``subjects`` where those are known. ``seed`` is that of the draw. A benchmark with a validation part of its own
    needs none."""

    share: float = 0.2
    by: Literal["clips", "subjects"] = "clips"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.seed < 0:
            raise ValueError(f"share lies between 0 and 1 and seed is at least 0, not {self.share} and {self.seed}")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is measured: a ``benchmark`` by one of its ``protocol``s (none: its first), with its files in ``folder``.

    ``part`` is what the metrics are of. ``holdout`` trains on the rest of the train part and measures on what was held
    out of it, so that settings can be compared without the test part.
    """

    benchmark: str | None = None
    protocol: str | None = None
    folder: str | None = None
    part: Literal["test", "holdout"] = "test"
    holdout: HoldOut = field(default_factory=HoldOut)


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """An encoder that was never trained, and how it sees clips."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    sampling: Sampling = field(default_factory=lambda: Sampling(normalise=Normalise("body")))
    streams: tuple[Stream, ...] = ("joint",)
    still: tuple[View, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The encoder that is evaluated.

    ``weights``: a checkpoint, a run's folder (its newest one), UNIK's released weights, or ``scratch``. ``of``: which
    of a run's two encoders (none: the one that was clustered). ``frames`` and ``choice`` of a clip: none is as in its
    training. What a checkpoint says of views and streams holds; ``scratch`` says it for new weights.
    """

    weights: str | None = None
    of: Literal["ema", "online"] | None = None
    frames: int | None = None
    choice: Choice | None = None
    scratch: ScratchConfig = field(default_factory=ScratchConfig)


@dataclass(frozen=True, kw_only=True)
class EncoderEvaluation:
    """What every evaluation of an encoder with seeds says: each of ``seeds`` is a measurement."""

    recipe: str
    about: str
    task: TaskConfig = field(default_factory=TaskConfig)
    start: StartConfig = field(default_factory=StartConfig)
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)
class TTAConfig:
    """Test-time augmentation: how often a clip is encoded when it is measured; the outputs are averaged.

    ``crops``: 1 takes the middle frame of each part of the clip (or its middle window), more add others at random.
    ``mirrored`` adds the mirror image of each. ``batch``: clips in a batch.
    """

    crops: int = 1
    mirrored: Literal["off", "on"] = "off"
    batch: int = 32

    def __post_init__(self) -> None:
        if self.crops < 1 or self.batch < 1:
            raise ValueError(f"crops and batch are at least 1, not {self.crops} and {self.batch}")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How a network with a new head is trained: ``head_lr_ratio`` is the head's learning rate against the others'; a
    checkpoint is written every ``checkpoint_steps``, too, and the loss is logged every ``log_steps``."""

    head_lr_ratio: float = 1.0
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    epochs: int = 30
    device: str = "auto"
    precision: Precision = "auto"
    checkpoint_steps: int = 200
    log_steps: int = 10

    def __post_init__(self) -> None:
        if min(self.epochs, self.checkpoint_steps, self.log_steps) < 1 or self.head_lr_ratio <= 0:
            raise ValueError("epochs, checkpoint_steps and log_steps are at least 1, and head_lr_ratio is above 0")


@dataclass(frozen=True, kw_only=True)
class TableConfig:
    """A table of the paper, measured anew; see :mod:`tmor_train.tables.run`.

    ``data_root`` has a folder for each benchmark, of its name. ``weights`` is a checkpoint or a run's folder; which row
    it is for follows from its losses. ``rows`` name checkpoints for rows, ``KEY=CHECKPOINT`` each, and go before it.
    ``texts`` are the vectors of prompts that zero-shot recognition needs. ``recipes`` puts other recipes in the place
    of the table's, ``finetune=finetune_cpu`` say. ``changes`` are made to each evaluation that has such a field, as
    ``--set`` writes them. ``scratch`` says whether rows of an encoder that was never trained are measured.
    """

    recipe: str
    about: str
    table: TableName
    data_root: str | None = None
    weights: str | None = None
    rows: tuple[str, ...] = ()
    texts: str | None = None
    recipes: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    scratch: Literal["measured", "left_out"] = "measured"
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for pair in (*self.rows, *self.recipes):
            if not all(pair.partition("=")):
                raise ValueError(f"{pair!r} is not a pair KEY=VALUE, such as vmt=runs/stage2")
        if not self.seeds:
            raise ValueError("there is at least one seed")


Visual = Literal["normalised_mean", "raw_mean", "score_mean", "frozen_mean"]
"""How motion and video come together: the mean of the two projected vectors, each of length 1, or as they come out of
their heads; the mean of the two cosines to the text; or of motion's cosine and the one of the frozen video and text
vectors themselves, which asks for vectors of one space."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """Zero-shot recognition: ``texts`` is a Parquet file of sentences and their vectors. Each of
    ``prompts`` is a measurement, and for each of ``visual`` there is another where the measured clips have video
    vectors. ``class_texts`` are all classes in words, in their order (none: those that are known).
    """

    recipe: str
    about: str
    task: TaskConfig = field(default_factory=TaskConfig)
    start: StartConfig = field(default_factory=StartConfig)
    look: TTAConfig = field(default_factory=TTAConfig)
    texts: str | None = None
    prompts: tuple[PromptSet, ...] = ("plain", "person", "templates")
    visual: tuple[Visual, ...] = ("normalised_mean",)
    class_texts: tuple[str, ...] = ()
    device: str = "auto"
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError("prompts names at least one set of them")
