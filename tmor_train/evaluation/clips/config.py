"""Settings of evaluations of whole clips, as frozen dataclasses; recipes are values of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from tmor_train.data import Batching
from tmor_train.data.augment import CropResize, Flip, Rotate, View
from tmor_train.evaluation.config import EncoderEvaluation, TaskConfig, TrainerConfig, TTAConfig, check_seeds


@dataclass(frozen=True, kw_only=True)
class DescentConfig:
    """SGD of a linear classifier on cached features. The defaults are those of CrosSCLR and AimCLR, but for the first
    rate, which is UNIK's.

    ``rates`` are learning rates that are compared on the hold-out; of equally good ones the first is taken. The rate
    falls to a tenth after each of ``milestones`` epochs. ``batch`` is in clips; an epoch's last may be smaller.
    ``weight_decay`` and ``momentum`` are SGD's.

    Raises:
        ValueError: a number is out of its range.
    """

    rates: tuple[float, ...] = (0.1, 3.0)
    weight_decay: float = 0.0
    momentum: float = 0.9
    batch: int = 128
    epochs: int = 100
    milestones: tuple[int, ...] = (80,)

    def __post_init__(self) -> None:
        rates = self.rates and all(0 < rate < math.inf for rate in self.rates)
        if not rates or self.batch < 1 or self.epochs < 1 or not 0 <= self.weight_decay < math.inf:
            raise ValueError("rates are above 0, at least one; batch and epochs at least 1, weight_decay at least 0")


@dataclass(frozen=True, kw_only=True)
class ExactConfig:
    """Multinomial logistic regression to its optimum by L-BFGS.

    ``strengths`` are values of scikit-learn's C, the weight of the summed cross-entropy against half the squared
    weights; they are compared on the hold-out, and of equally good ones the first is taken. L-BFGS stops after
    ``iterations`` at the latest; what it has reached by then is measured, without a warning. The defaults are our
    choices: every factor of ten around 0.1.

    Raises:
        ValueError: a number is out of its range.
    """

    strengths: tuple[float, ...] = (0.001, 0.01, 0.1, 1.0, 10.0)
    iterations: int = 300

    def __post_init__(self) -> None:
        strengths = self.strengths and all(0 < strength < math.inf for strength in self.strengths)
        if not strengths or self.iterations < 1:
            raise ValueError("strengths are above 0, at least one, and iterations at least 1")


@dataclass(frozen=True, kw_only=True)
class LinearConfig:
    """One linear classifier of cached features, trained by ``solver`` (``sgd``: ``descent``; ``lbfgs``: ``exact``).

    ``scale`` ``standard`` takes each feature's mean off and divides by its deviation over the train part: a linear map,
    so the classifier remains one linear layer. It changes what is penalised: weights of the scaled features.
    """

    solver: Literal["sgd", "lbfgs"] = "lbfgs"
    scale: Literal["none", "standard"] = "standard"
    descent: DescentConfig = field(default_factory=DescentConfig)
    exact: ExactConfig = field(default_factory=ExactConfig)


@dataclass(frozen=True, kw_only=True)
class RawConfig:
    """Raw coordinates as features, which learned ones are to exceed.

    ``frames`` are taken of the whole clip at even steps, rounded to the nearest frame, so that those of a shorter clip
    repeat. Each joint is relative to the middle of the first person's hips and to the size of the picture (in space:
    in metres). Whether joints were seen is ignored. ``centre``: the hips of each ``frame``, or of the ``first`` one,
    which keeps the path of the body. At most two people of a clip are used. 32 frames are our choice: about
    one every tenth of a second of a clip of three seconds. ``linear`` is
    the classifier.

    Raises:
        ValueError: ``frames`` is below 1.
    """

    frames: int = 32
    centre: Literal["frame", "first"] = "frame"
    linear: LinearConfig = field(default_factory=lambda: LinearConfig(exact=ExactConfig(strengths=(1.0,))))

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames is at least 1, not {self.frames}")


@dataclass(frozen=True, kw_only=True)
class LogisticConfig:
    """Logistic regression on raw coordinates; see :mod:`tmor_train.evaluation.clips.linear_probe`. ``recipe``,
    ``about`` and ``task`` as in :class:`~tmor_train.evaluation.config.EncoderEvaluation`. Each of ``seeds`` is a
    measurement; they differ only with ``raw.linear.solver`` ``sgd``."""

    recipe: str
    about: str
    task: TaskConfig = field(default_factory=TaskConfig)
    raw: RawConfig = field(default_factory=RawConfig)
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        check_seeds(self.seeds)


@dataclass(frozen=True, kw_only=True)
class ProbeConfig(EncoderEvaluation):
    """A linear probe; see :mod:`tmor_train.evaluation.clips.linear_probe`.

    ``beside`` says whether baselines are measured with it, once, with the first seed. ``logistic``: logistic regression
    on ``raw`` coordinates and, beside an encoder that was trained, the same network with new weights.
    ``people`` is for encoders of one person: so many people of a clip are encoded one by one, and their features
    joined, (N, ``people`` * 256); with another encoder it is 1. ``look`` is test-time augmentation, of train clips,
    too. ``workers`` are threads that gather clips (0: the calling thread does). ``device`` is a name of torch's, or
    ``auto``: a GPU if there is one.

    Raises:
        ValueError: ``people`` is below 1, or ``seeds`` is empty.
    """

    look: TTAConfig = field(default_factory=TTAConfig)
    people: int = 1
    linear: LinearConfig = field(default_factory=LinearConfig)
    beside: Literal["logistic", "nothing"] = "logistic"
    raw: RawConfig = field(default_factory=RawConfig)
    device: str = "auto"
    workers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.people < 1:
            raise ValueError(f"people is at least 1, not {self.people}")


@dataclass(frozen=True, kw_only=True)
class TuneConfig(TrainerConfig):
    """How a network with a new head is trained on labelled clips.

    ``trains``: the whole network, or only its ``head`` with the trunk's weights as they are. ``statistics`` of batch
    norm: ``adapting`` to the batches (training's usual way), or ``frozen``; either with either of ``trains``.
    ``augment`` follows the encoder's own fixed augmentations, on train clips alone. ``smoothing`` is label smoothing,
    ``dropout`` the share of the pooled feature that is set to 0. ``average`` is the momentum of a moving average of
    weights and statistics over the steps, which is then measured; None: the last step's weights are. Order, frames and
    captions of clips have the seed ``batching.seed`` plus that of the measurement. ``workers`` are threads that gather
    batches (0: the training thread does).

    Raises:
        ValueError: a number is out of its range.
    """

    trains: Literal["all", "head"] = "all"
    statistics: Literal["adapting", "frozen"] = "adapting"
    augment: tuple[View, ...] = (CropResize(), Rotate(), Flip())
    smoothing: float = 0.0
    dropout: float = 0.0
    average: float | None = None
    batching: Batching = field(default_factory=lambda: Batching(size=64))
    workers: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(share is None or 0 <= share < 1 for share in (self.smoothing, self.dropout, self.average)):
            raise ValueError("smoothing, dropout and average are from 0 to below 1, and average may be none")
        if self.workers < 0:
            raise ValueError(f"workers is at least 0, not {self.workers}")


@dataclass(frozen=True, kw_only=True)
class FineTuneConfig(EncoderEvaluation):
    """Fine-tuning; see :mod:`tmor_train.evaluation.clips.fine_tune`. ``look`` is test-time augmentation, of the
    measured clips alone."""

    look: TTAConfig = field(default_factory=TTAConfig)
    tune: TuneConfig = field(default_factory=TuneConfig)


@dataclass(frozen=True, kw_only=True)
class FewShotConfig(EncoderEvaluation):
    """Probes and fine-tuning with a share of the labels; see :mod:`tmor_train.evaluation.clips.few_shot`.

    ``percent`` are the shares of the train part in percent, each drawn once for every one of ``seeds``; each is
    measured in all ``modes``. ``look`` is test-time augmentation. Fine-tuning has the epochs
    of ``tune``, or as many more as make ``steps`` steps (200 is our choice: epochs of a handful of clips are too few
    steps to learn from); the warm-up is lengthened with them, milestones, which count epochs, are not. The linear
    classifier has one setting, because few labels leave none to choose on; its features are computed by
    ``tune.device`` and ``tune.workers``. ``beside`` and ``raw`` as in :class:`ProbeConfig`, on every draw; with the
    mode ``linear`` only.

    Raises:
        ValueError: a share or ``steps`` is out of its range, there is no mode, or ``linear`` or ``raw.linear`` has
            several settings.
    """

    percent: tuple[float, ...] = (1.0, 5.0, 10.0)
    modes: tuple[Literal["linear", "finetune"], ...] = ("linear", "finetune")
    look: TTAConfig = field(default_factory=TTAConfig)
    linear: LinearConfig = field(default_factory=lambda: LinearConfig(exact=ExactConfig(strengths=(1.0,))))
    tune: TuneConfig = field(default_factory=TuneConfig)
    steps: int = 200
    beside: Literal["logistic", "nothing"] = "logistic"
    raw: RawConfig = field(default_factory=RawConfig)
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.percent or not self.modes or not all(0 < percent <= 100 for percent in self.percent):
            raise ValueError("there is at least one mode, and one percent; each lies above 0 and up to 100")
        linears = (self.linear, self.raw.linear)
        if any(len(one.exact.strengths if one.solver == "lbfgs" else one.descent.rates) > 1 for one in linears):
            raise ValueError("with few labels nothing is chosen on a hold-out: name one rate, or one strength")
        if self.steps < 1:
            raise ValueError(f"steps is at least 1, not {self.steps}")
