"""Settings of zero-shot recognition."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tmor_train.evaluation.config import StartConfig, TaskConfig, TTAConfig
from tmor_train.prompts import PromptSet

Visual = Literal["normalised_mean", "raw_mean", "score_mean", "frozen_mean"]
"""How motion and video come together: the mean of the two projected vectors, each of length 1, or as they come out of
their heads; the mean of the two cosines to the text; or of motion's cosine and the one of the frozen video and text
vectors themselves, which asks for vectors of one space."""


@dataclass(frozen=True, kw_only=True)
class ZeroShotConfig:
    """Zero-shot recognition; see :mod:`tmor_train.evaluation.zero_shot.recognition`.

    ``texts`` is a Parquet file of sentences and their vectors. Each of ``prompts`` is a measurement, and for each of
    ``visual`` there is another where the measured clips have video vectors. ``class_texts`` are all classes in words,
    in their order (none: those that are known).
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
