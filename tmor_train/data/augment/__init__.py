"""Augmentations of batches. Each is a frozen configuration, called with the batch and a ``torch.Generator`` on the
batch's device. All clips are processed at once on that device, each with its own random numbers; masks are updated, and
joints that are not seen stay 0.
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
"""Augmentations that do not change timing."""

View = SpaceView | Blur | CropResize | ShiftCrop | TimeFlip
"""All of them, for configurations."""


class Augmentation(Protocol):
    """A change of a batch."""

    def __call__(self, batch: MotionBatch, generator: torch.Generator) -> MotionBatch:
        """The changed batch; the one given stays as it is."""
        ...


FAITHFUL: tuple[Augmentation, ...] = (CropResize(), Rotate())
"""T-MOR's augmentations for 2D skeletons: random temporal cropping and random rotation."""

FAITHFUL_3D: tuple[Augmentation, ...] = (CropResize(), Rotate3D())
"""The same for 3D skeletons."""

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
"""With further common augmentations, which are not in the paper."""

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
