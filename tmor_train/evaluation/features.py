"""Clips as an evaluation looks at them: once or several times, and as mirror images too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from tmor_train.data import Batching, Loader, LoaderState, MotionBatch, MotionSet, Sampling
from tmor_train.data.arrays import Floats
from tmor_train.data.augment import Augmentation, Flip
from tmor_train.evaluation.config import LookConfig
from tmor_train.pretrained.encoder import CannotUse, Pretrained
from tmor_train.training.device import autocast_of
from tmor_train.training.progress import Progress


def features_of(
    encoder: Pretrained, motions: MotionSet, look: LookConfig, *, people: int = 1, workers: int = 1
) -> Floats:
    """E_M of all clips, the mean over all looks: (N, 256 * people) float32.

    Args:
        people: so many are seen one by one, by an encoder of single people, and their features stand side by side.

    Raises:
        CannotUse: the encoder does not take such clips, or sees several people at once.
    """
    if people > 1 and encoder.sampling.people > 1:
        raise CannotUse(
            f"{encoder.path} sees {encoder.sampling.people} people at once; leave people=1 for it: only an encoder of "
            "single people is shown one after the other"
        )

    def features(batch: MotionBatch) -> Tensor:
        with autocast_of(encoder.precision, encoder.device):
            return encoder.network.clip_features(batch.motion_NCTVM, batch.present).float()

    ranked = (replace(encoder.sampling, rank=encoder.sampling.rank + number) for number in range(people))
    found = [looked_at(motions, replace(encoder, sampling=seen), look, features, workers=workers) for seen in ranked]
    return np.concatenate(found, 1)


@torch.no_grad()
def looked_at(
    motions: MotionSet, encoder: Pretrained, look: LookConfig, answer: Callable[[MotionBatch], Tensor], *, workers: int
) -> Floats:
    """The mean of ``answer`` over all looks at each clip: (N, D) float32.

    Args:
        answer: what is wanted of a batch that the encoder takes: (n, D).
    """
    total: Floats | None = None
    flips: tuple[tuple[Augmentation, ...], ...] = ((),) if look.mirrored == "off" else ((), (Flip(probability=1.0),))
    progress = Progress(steps=look.crops * -(-len(motions) // look.batch))
    for crop in range(look.crops):
        for batch in _crop(motions, encoder.sampling, look, crop, workers):
            here = batch.to(encoder.device)
            for flip in flips:
                seen = encoder.taken(here, (*encoder.views.still, *flip), torch.Generator(encoder.device))
                found_ND = answer(seen).float().cpu().numpy()
                if total is None:
                    total = np.zeros((len(motions), found_ND.shape[1]), np.float32)
                total[batch.index_N.numpy()] += found_ND
            progress.step(clips=len(batch), waited=0.0, words="looking at clips")
    if total is None:
        raise ValueError("there are no clips to look at")
    return total / np.float32(look.crops * len(flips))


def _crop(motions: MotionSet, sampling: Sampling, look: LookConfig, number: int, workers: int) -> Iterator[MotionBatch]:
    """All clips once: look number 0 at their middle, others at places that depend on the number alone."""
    loader = Loader(
        motions,
        sampling=replace(sampling, draw="random" if number else "centre"),
        batching=Batching(size=look.batch, order="stored", last="keep"),
        workers=workers,
    )
    loader.state = LoaderState(epoch=number)
    yield from loader


__all__ = ["features_of", "looked_at"]
