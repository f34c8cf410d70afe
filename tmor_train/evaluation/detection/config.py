"""Settings of detection in recordings, by frames (multi-label) and by events, as frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tmor_train.data.augment import SpaceView
from tmor_train.evaluation.config import EncoderEvaluation, TrainerConfig

Last = Literal["shorter", "shifted"]
"""A recording's last window where fewer frames are left than its length: it has only those, or begins earlier."""
HeadName = Literal["linear", "bilstm", "sdtcn", "tgm", "pdan", "mstct"]
"""See :mod:`tmor_train.evaluation.detection.heads`."""


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Recordings are cut into windows of ``length`` frames at their own rate, one every ``stride`` frames (None: every
    ``length``, so that windows do not overlap). ``last``: the last window of a recording is ``shorter`` where fewer
    frames are left, as UNIK's detector has it, or is ``shifted`` to begin earlier, so that a trunk in training
    gets no windows with absent frames; a recording shorter than ``length`` has one shorter window either way. 300
    frames are those of UNIK's detector.

    Raises:
        ValueError: ``length`` or ``stride`` is out of its range.
    """

    length: int = 300
    stride: int | None = None
    last: Last = "shorter"

    def __post_init__(self) -> None:
        if self.length < 1 or (self.stride is not None and not 1 <= self.stride <= self.length):
            raise ValueError(f"length is at least 1 and stride 1 to length, not {self.length} and {self.stride}")


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """``how`` weights of one kind of skeleton serve another (the paper does not say it of PKU-MMD). ``layout`` and
    ``people`` are used by ``trunk`` alone.

    ``project``: the recordings are brought to what the encoder takes: its layout, and x and y alone where it takes two
    coordinates. ``trunk``: a new encoder for ``layout`` with three coordinates and ``people`` persons takes every
    weight whose name and shape fit; those that are shaped by joints or coordinates are new, so ``head`` alone should
    not be trained then.

    Raises:
        ValueError: ``people`` is below 1.
    """

    how: Literal["project", "trunk"] = "project"
    layout: str = "ntu25"
    people: int = 2

    def __post_init__(self) -> None:
        if self.people < 1:
            raise ValueError(f"people is at least 1, not {self.people}")


@dataclass(frozen=True, kw_only=True)
class DetectorConfig(TrainerConfig):
    """How a detector is trained: an encoder's features of frames and a ``head`` on them.

    ``trains``: only the head, with the trunk's weights as they are, or all. ``statistics`` of the trunk's batch norm:
    ``frozen``, or ``adapting`` to the batches. With ``head``, ``frozen`` and no ``augment``, features of train windows
    are computed once and kept, as ``cache`` numbers; those of test windows always are. Only then can ``scale`` be
    ``standard``: each feature less its mean and divided by its deviation over the train frames. ``batch``: windows a
    step, 32 by our choice. ``context``, above 1 only then and for windows that do not overlap: windows in a row
    whose kept features the head sees at once, one after the other (what ``batch`` counts then); the trunk sees each
    alone. ``augment`` is applied to train windows. ``epochs`` are passes over all train windows, 50 as in UNIK's
    detector. Other conditions than on numbers are checked when training begins.

    Raises:
        ValueError: a number is out of its range.
    """

    head: HeadName = "linear"
    trains: Literal["head", "all"] = "head"
    statistics: Literal["frozen", "adapting"] = "frozen"
    scale: Literal["none", "standard"] = "none"
    cache: Literal["float16", "float32"] = "float16"
    augment: tuple[SpaceView, ...] = ()
    batch: int = 32
    context: int = 1
    epochs: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch < 1 or self.context < 1:
            raise ValueError(f"batch and context are at least 1, not {self.batch} and {self.context}")

    @property
    def cached(self) -> bool:
        """Whether features of the train windows are the same in every step."""
        return self.trains == "head" and self.statistics == "frozen" and not self.augment


@dataclass(frozen=True, kw_only=True)
class DetectConfig(EncoderEvaluation):
    """Frame-wise detection; see :mod:`tmor_train.evaluation.detection.detect`. ``frames`` and ``choice`` of
    ``start`` are not used: ``windows`` says what is seen at a time. ``transfer`` is for encoders of other skeletons."""

    transfer: TransferConfig = field(default_factory=TransferConfig)
    windows: WindowConfig = field(default_factory=WindowConfig)
    train: DetectorConfig = field(default_factory=DetectorConfig)


@dataclass(frozen=True, kw_only=True)
class EventConfig:
    """Events out of class probabilities of frames, of which class 0 is background.

    ``background`` is its weight in the loss, that of every other class being 1. Probabilities are smoothed by the
    median or mean, or not at all (``smoothing``), over ``width`` frames, an odd number, the frame itself in the middle.
    ``grouped`` takes runs of frames with 1 - p(background) of ``threshold`` or more; ``per_class`` takes runs of each
    class at each of ``thresholds``, then drops those that a more confident one of the class overlaps by an IoU above
    ``overlap``. ``settings`` ``chosen``: a second detector, trained with the first seed without the recordings that
    ``task.holdout`` holds out, says on those which of both ``proposals`` and which of ``widths`` is best by
    ``action_0.5``, the first of equals; ``proposals`` and ``width`` are not used then. With ``fixed``, ``widths`` are
    not used. ``background`` and ``threshold`` are those of Graph Distillation (ECCV 2018); the other numbers are our
    choices: 15 frames are half a second at 30 a second.

    Raises:
        ValueError: a number is out of its range.
    """

    background: float = 0.5
    smoothing: Literal["median", "mean", "none"] = "median"
    width: int = 15
    proposals: Literal["grouped", "per_class"] = "grouped"
    threshold: float = 0.4
    thresholds: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    overlap: float = 0.5
    settings: Literal["fixed", "chosen"] = "fixed"
    widths: tuple[int, ...] = (1, 15, 31)

    def __post_init__(self) -> None:
        if not all(width > 0 and width % 2 for width in (self.width, *self.widths)) or self.background <= 0:
            raise ValueError(f"widths are odd and background above 0, not {self.width} and {self.background}")
        if self.settings == "chosen" and not self.widths:
            raise ValueError("settings can be chosen among one width at least")
        if not self.thresholds or not all(0 < share < 1 for share in (self.threshold, *self.thresholds)):
            raise ValueError("thresholds lie between 0 and 1, and there is at least one")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap is from 0 to 1, not {self.overlap}")


@dataclass(frozen=True, kw_only=True)
class DetectEventsConfig(DetectConfig):
    """Detection of events; see :mod:`tmor_train.evaluation.detection.detect`. A frame has one class here: of several
    that are labelled, that of the lowest index. By default windows overlap by half, so that a frame near the end
    of one is in the middle of another."""

    windows: WindowConfig = field(default_factory=lambda: WindowConfig(stride=150))
    events: EventConfig = field(default_factory=EventConfig)
