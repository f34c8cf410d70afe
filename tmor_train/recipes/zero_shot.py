"""Recognition of classes by their texts alone."""

from __future__ import annotations

from collections.abc import Callable

from tmor_train.evaluation.zero_shot.config import ZeroShotConfig


def zero_shot() -> ZeroShotConfig:
    """Three sets of prompts; motion alone, and with the mean of motion and video where there is video."""
    return ZeroShotConfig(
        recipe="zero_shot", about="zero-shot: the class whose text is nearest, by three sets of prompts (--texts)"
    )


RECIPES: dict[str, Callable[[], ZeroShotConfig]] = {"zero_shot": zero_shot}

__all__ = ["RECIPES", "zero_shot"]
