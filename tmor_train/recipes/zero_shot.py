"""Recognition of classes by their texts alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tmor_train.evaluation.zero_shot.config import ZeroShotConfig


def zero_shot() -> ZeroShotConfig:
    """Three sets of prompts; motion alone, and with the mean of motion and video where there is video."""
    return ZeroShotConfig(
        recipe="zero_shot", about="zero-shot: the class whose text is nearest, by three sets of prompts (--texts)"
    )


def zero_shot_movement() -> ZeroShotConfig:
    """For encoders whose captions said what the body does, such as those of
    :func:`~tmor_train.recipes.transfer.sets_no_penn`."""
    return replace(
        zero_shot(),
        recipe="zero_shot_movement",
        about="zero-shot by sentences that say what the body does in each class (--texts)",
        prompts=("movement",),
    )


RECIPES: dict[str, Callable[[], ZeroShotConfig]] = {made.__name__: made for made in (zero_shot, zero_shot_movement)}

__all__ = ["RECIPES", "zero_shot", "zero_shot_movement"]
