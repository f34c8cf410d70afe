"""Settings that evaluations share: the task, the encoder it begins with, test-time augmentation and training; and those
of zero-shot recognition. Listing recipes imports this, so nothing here imports what evaluates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tmor_train.data import Normalise, Sampling
from tmor_train.data.augment import View
from tmor_train.data.batch import Choice, Stream
from tmor_train.encoder import EncoderConfig
from tmor_train.prompts import PromptSet
from tmor_train.training.distributed import Precision
from tmor_train.training.optimizer import OptimizerConfig, ScheduleConfig

SCRATCH = "scratch"
"""Given in place of a checkpoint, it means an encoder with new weights that was never trained."""

TableName = Literal["table1", "table2", "table3", "table4", "table5"]
"""The paper's tables by their numbers."""


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Check the field ``seeds`` of an evaluation.

    Raises:
        ValueError: there is none.
    """
    if not seeds:
        raise ValueError("seeds has at least one number, and is empty; write seeds=0 for a single measurement")


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """The part of the train clips that settings are chosen on, where a benchmark has no validation part of its own.

    ``by`` ``clips``: a ``share`` of each class's clips (of the recordings, where the benchmark is measured in frames).
    ``subjects``: all clips of a ``share`` of the subjects; evaluations raise
    :class:`~tmor_train.evaluation.task.TaskError` where a clip's subject is not known. Counts are rounded; at least one
    is held out where there are two. ``seed`` is that of the draw. A fifth is our choice, the usual one.

    Raises:
        ValueError: ``share`` or ``seed`` is out of its range.
    """

    share: float = 0.2
    by: Literal["clips", "subjects"] = "clips"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.seed < 0:
            raise ValueError(f"share lies between 0 and 1 and seed is at least 0, not {self.share} and {self.seed}")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """What is measured: a ``benchmark`` by one of its ``protocol``s (None: its first), with its files in ``folder``.

    ``benchmark`` and ``folder`` are needed to measure; they are None only in recipes, which the command line completes
    (``--benchmark``, ``--data``).

    ``part`` is what the metrics are of. ``holdout``: of the benchmark's own validation part, trained on all of the
    train part; where it has none, of the clips that ``holdout`` takes out of the train part, trained on the rest. So
    settings can be compared without the test part.

    ``leaks`` is what is done where footage of a posecap dataset's test part stands in its train part, too:
    :class:`~tmor_train.evaluation.task.LeakError`, or a note beside every metric.
    """

    benchmark: str | None = None
    protocol: str | None = None
    folder: str | None = None
    part: Literal["test", "holdout"] = "test"
    holdout: HoldOut = field(default_factory=HoldOut)
    leaks: Literal["refuse", "note"] = "refuse"


@dataclass(frozen=True, kw_only=True)
class ScratchConfig:
    """An encoder that was never trained, and how it sees clips.

    ``still``: augmentations that draw nothing at random, applied to each clip before it is encoded; ``streams`` are
    then computed of its joints (:class:`tmor_train.training.config.ViewConfig`). By default ``sampling`` scales clips
    in pixels and in metres alike, by the size of the body, as nothing is known of what the encoder will be given."""

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    sampling: Sampling = field(default_factory=lambda: Sampling(normalise=Normalise("body")))
    streams: tuple[Stream, ...] = ("joint",)
    still: tuple[View, ...] = ()


@dataclass(frozen=True, kw_only=True)
class StartConfig:
    """The encoder that is evaluated.

    ``weights``: a checkpoint, a run's folder (its newest one), UNIK's released weights, or ``scratch``; None only in
    recipes, which the command line completes (``--from``). ``of``, for runs only: which of its two encoders (None: the
    one that was clustered). ``frames`` is T, the number of frames taken of each clip, and ``choice`` how they are
    taken; None is as the encoder was trained (UNIK's weights: 150 frames, ``window``; new weights:
    ``scratch.sampling``). Views, streams and all other sampling are those of the checkpoint; ``scratch`` is read only
    if ``weights`` is ``"scratch"``.
    """

    weights: str | None = None
    of: Literal["ema", "online"] | None = None
    frames: int | None = None
    choice: Choice | None = None
    scratch: ScratchConfig = field(default_factory=ScratchConfig)


@dataclass(frozen=True, kw_only=True)
class EncoderEvaluation:
    """What every evaluation of an encoder with seeds says: the ``task``, and the encoder that it ``start``s with.

    ``recipe`` is the name it is listed by and ``about`` a line that describes it. Each of ``seeds`` is a measurement:
    the seed of new weights (of ``scratch`` and of the head), of the order of clips and of augmentations. The draw of
    held-out clips has its own, ``task.holdout.seed``. One by default; more give a spread.

    Raises:
        ValueError: ``seeds`` is empty.
    """

    recipe: str
    about: str
    task: TaskConfig = field(default_factory=TaskConfig)
    start: StartConfig = field(default_factory=StartConfig)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)


@dataclass(frozen=True, kw_only=True)
class TTAConfig:
    """Test-time augmentation: how often a clip is encoded when it is measured.

    What is averaged are features (probing, zero-shot recognition) or class probabilities (fine-tuning). ``crops``: 1
    takes the middle frame of each part of the clip (or its middle window), more add others at random. ``mirrored`` adds
    the mirror image of each. ``batch``: clips encoded at once; each crop and mirror image is a pass of its own, so
    memory does not grow with them. By default a clip is encoded once; 32 at once is our
    choice, which results do not depend on.

    Raises:
        ValueError: ``crops`` or ``batch`` is below 1.
    """

    crops: int = 1
    mirrored: Literal["off", "on"] = "off"
    batch: int = 32

    def __post_init__(self) -> None:
        if self.crops < 1 or self.batch < 1:
            raise ValueError(f"crops and batch are at least 1, not {self.crops} and {self.batch}")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """How a network with a new head is trained.

    ``head_lr_ratio`` is the head's learning rate divided by that of all other parameters. A checkpoint is written after
    each epoch (in detection after each tenth of the epochs) and, besides, every ``checkpoint_steps`` steps of the
    optimizer; the last two are kept, as one may get damaged. The loss is logged every ``log_steps`` steps. ``schedule``
    counts ``epochs``; ``device`` and ``precision`` are as in :class:`tmor_train.training.config.LoopConfig`.

    30 epochs are UNIK's for Penn Action; recipes set their own. 200 and 10 steps are our choice: some minutes of work
    are lost at most, and a curve has some hundreds of points.

    Raises:
        ValueError: a number is out of its range.
    """

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
    """A table of the paper, measured anew; see :mod:`tmor_train.tables.run`. ``recipe`` and ``about`` as in
    :class:`EncoderEvaluation`.

    ``data_root`` has a folder for each benchmark, of its name. ``weights`` is a checkpoint, a run's folder or
    ``scratch`` (then only rows of new weights are measured). Its row follows from the losses it was trained with:
    ``vmt`` with text, ``vm`` without. ``rows`` are pairs ``KEY=CHECKPOINT`` with the keys of
    :data:`tmor_train.tables.paper.TABLES`; for its key, a pair wins over ``weights``. ``texts`` is the Parquet file of
    prompts' vectors that zero-shot recognition needs. ``recipes`` are pairs ``RECIPE OF THE TABLE=RECIPE TO RUN``, such
    as ``finetune=finetune_cpu``. ``changes`` (``path=value``, as ``--set`` takes them) are made to each evaluation that
    has such a field, after all other settings, so that ``seeds=…`` among them wins over ``seeds``. ``scratch`` says
    whether rows of an encoder that was never trained are measured. ``seeds`` replace those of each recipe; zero-shot
    recognition takes the first alone.

    Raises:
        ValueError: ``rows`` or ``recipes`` has what is no pair, or ``seeds`` is empty.
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
        for pairs, example in (
            (self.rows, "KEY=CHECKPOINT, such as vmt=runs/stage2"),
            (self.recipes, "RECIPE=RECIPE, such as finetune=finetune_cpu"),
        ):
            for pair in pairs:
                if not all(pair.partition("=")):
                    raise ValueError(f"{pair!r} is not a pair {example}")
        check_seeds(self.seeds)


Visual = Literal["normalised_mean", "raw_mean", "score_mean", "frozen_mean"]
"""How motion and video come together: the mean of the two projected vectors, each of length 1, or as they come out of
their heads; the mean of the two cosines to the text; or of motion's cosine and the one of the frozen video and text
vectors themselves, which must come from two encoders with one joint space (such as a CLIP model's)."""


RescoringByVectors = Literal["centred", "csls", "prototypes", "cache"]
"""The ways of :data:`Rescoring` that see one vector of each clip."""

Rescoring = Literal[RescoringByVectors, "skeleton_cache"]
"""How scores are corrected by the measured clips. ``centred``: each modality's mean is subtracted before the cosine.
``csls``: centred, and from each text's cosines the mean of those to its nearest clips is subtracted (Conneau et al.,
"Word translation without parallel data", ICLR 2018, eq. 3). ``prototypes``: centred, then the most confident clips of
each class stand beside its text. ``cache``: centred, and clips come one after the other; confident ones are kept and
compared with later ones (after Karmanov et al., "Efficient test-time adaptation of vision-language models", CVPR
2024). ``skeleton_cache``: the same with features of the whole clip, of body parts and of thirds of time
(:mod:`tmor_train.evaluation.rescoring`)."""


@dataclass(frozen=True, kw_only=True)
class RescoringConfig:
    """Settings of :func:`tmor_train.evaluation.rescoring.rescored`. Their defaults were chosen on Penn Action's train
    part, not on the clips that are measured (docs/results/penn_action.md).

    Args:
        neighbours: of a text, by which csls knows a hub: clips.
        share: of the clips of an average class that become its prototype.
        rounds: how often prototypes are made anew from the scores that they gave.
        prototype_weight: of a prototype's cosine, in 0..1; the text's has the rest.
        kept: most clips of a class in the cache (K = 8 in Skeleton-Cache).
        sharpness: beta of the cache's affinity exp(-beta (1 - cos)).
        cache_weight: of the mean of affinities, beside the text's score.
        local_share: of the body parts and thirds of time in the affinities of ``skeleton_cache``, in 0..1; the whole
            clip has the rest. Our choice, half.
        temperature: of the softmax over classes by which clips are confident.

    Raises:
        ValueError: a number is out of its range.
    """

    neighbours: int = 100
    share: float = 0.25
    rounds: int = 5
    prototype_weight: float = 0.5
    kept: int = 8
    sharpness: float = 1.0
    cache_weight: float = 3.0
    local_share: float = 0.5
    temperature: float = 0.1

    def __post_init__(self) -> None:
        if min(self.neighbours, self.rounds, self.kept) < 1:
            raise ValueError("neighbours, rounds and kept of a rescoring are at least 1")
        if not 0 < self.share <= 1:
            raise ValueError("share of a rescoring is above 0 and at most 1")
        if not (0 <= self.prototype_weight <= 1 and 0 <= self.local_share <= 1):
            raise ValueError("prototype_weight and local_share of a rescoring are from 0 to 1")
        if min(self.sharpness, self.temperature) <= 0 or self.cache_weight < 0:
            raise ValueError("sharpness and temperature of a rescoring are above 0, cache_weight is not below")


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """Zero-shot recognition. ``recipe``, ``about``, ``task`` and ``start`` as in :class:`EncoderEvaluation`, ``device``
    as in :class:`tmor_train.training.config.LoopConfig`.

    ``texts`` is a Parquet file of sentences and their vectors (``pipelines/prompt_vectors.py`` writes it); None only in
    recipes, which the command line completes (``--texts``). ``class_texts``: one phrase for each class, in the
    benchmark's order; empty: those that :mod:`tmor_train.prompts` has. ``look`` is test-time augmentation. ``workers``
    are threads that gather clips (0: the calling thread does; 1, our choice, gathers while the encoder computes).
    ``seed`` is stored with the result and draws the order in which clips come for the rescorings ``cache`` and
    ``skeleton_cache``, nothing else: encoders with new weights are refused here.

    Each of ``prompts`` is a measurement of motion alone. There is one more

    * for each of ``rescoring``, motion alone corrected by the measured clips themselves, without their labels, as
      ``rescored_by`` says;
    * where ``part_pooling`` is ``on``, for the prompts ``body_parts``, and as often rescored: each sentence is compared
      with the feature over its own joints; the four parts together count ``part_share``, the whole body the rest;
    * with each of ``visual``, where every measured clip has a video vector (and the encoder a video head, except for
      ``frozen_mean``).

    Where ``text_neighbours`` is above 0, motion alone is compared with texts from which ``text_contrast`` times the
    mean of that many classes nearest to each was taken off
    (:func:`tmor_train.evaluation.rescoring.contrasted`).

    Raises:
        ValueError: ``prompts`` is empty, a number is out of its range, or ``part_pooling`` is ``on`` without the
            prompts ``body_parts``.
    """

    recipe: str
    about: str
    task: TaskConfig = field(default_factory=TaskConfig)
    start: StartConfig = field(default_factory=StartConfig)
    look: TTAConfig = field(default_factory=TTAConfig)
    texts: str | None = None
    prompts: tuple[PromptSet, ...] = ("plain", "person", "templates")
    visual: tuple[Visual, ...] = ("normalised_mean",)
    rescoring: tuple[Rescoring, ...] = ()
    rescored_by: RescoringConfig = field(default_factory=RescoringConfig)
    part_pooling: Literal["off", "on"] = "off"
    part_share: float = 0.5
    text_neighbours: int = 0
    text_contrast: float = 0.5
    class_texts: tuple[str, ...] = ()
    device: str = "auto"
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.prompts:
            raise ValueError("prompts names at least one set of them")
        if self.part_pooling == "on" and "body_parts" not in self.prompts:
            raise ValueError("part_pooling is of the prompts body_parts; add them: prompts=body_parts")
        if not 0 <= self.part_share <= 1:
            raise ValueError(f"part_share is from 0 to 1, not {self.part_share}")
        if self.text_neighbours < 0 or not 0 <= self.text_contrast <= 1:
            raise ValueError("text_neighbours is not below 0, and text_contrast from 0 to 1")
