"""What is done to a batch of clips to make another view of them: each a frozen configuration that is called with the
batch and one ``torch.Generator`` of the batch's device. Everything is done to the whole batch at once, where it lies;
each clip draws its own numbers; masks of joints and people travel along, and joints that are not seen stay 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from tmor_train.data.augment.noise import AxisMask, JointDropout, Noise, Occlusion
from tmor_train.data.augment.space import Flip, Project, RandomMove, Rotate, Rotate3D, Shear
from tmor_train.data.augment.time import Blur, CropResize, ShiftCrop, TimeFlip
from tmor_train.data.batch import MotionBatch

SpaceView = AxisMask | Flip | JointDropout | Noise | Occlusion | Project | RandomMove | Rotate | Rotate3D | Shear
"""Augmentations that leave every frame at its time."""

View = SpaceView | Blur | CropResize | ShiftCrop | TimeFlip
"""All of them, for configurations."""


class Augmentation(Protocol):
    """A change of a batch."""

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        """The changed batch; the one given stays as it is."""
        ...


FAITHFUL: tuple[Augmentation, ...] = (CropResize(), Rotate())
"""What T-MOR names for 2D skeletons: random temporal cropping and random rotation."""

FAITHFUL_3D: tuple[Augmentation, ...] = (CropResize(), Rotate3D())
"""The same for skeletons in space."""

_MORE: tuple[Augmentation, ...] = (
    Flip(),
    Shear(),
    Noise(),
    Blur(),
    JointDropout(),
    AxisMask(probability=0.2),
    TimeFlip(probability=0.2),
)

STRONG: tuple[Augmentation, ...] = (*FAITHFUL, *_MORE)
"""And what the field uses besides; not in the paper."""

STRONG_3D: tuple[Augmentation, ...] = (*FAITHFUL_3D, *_MORE)


def augmented(batch: MotionBatch, steps: Sequence[Augmentation], generator: torch.Generator) -> MotionBatch:
    """The batch after all ``steps``, in order."""
    for step in steps:
        batch = step(batch, generator)
    return batch


__all__ = [
    "FAITHFUL",
    "FAITHFUL_3D",
    "STRONG",
    "STRONG_3D",
    "Augmentation",
    "AxisMask",
    "Blur",
    "CropResize",
    "Flip",
    "JointDropout",
    "Noise",
    "Occlusion",
    "Project",
    "RandomMove",
    "Rotate",
    "Rotate3D",
    "Shear",
    "ShiftCrop",
    "SpaceView",
    "TimeFlip",
    "View",
    "augmented",
]
