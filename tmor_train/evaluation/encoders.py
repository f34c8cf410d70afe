"""Encoders to evaluate: out of checkpoints, or new ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tmor_train.data import Sampling
from tmor_train.encoder.motion import encoder_of
from tmor_train.evaluation.config import SCRATCH, StartConfig
from tmor_train.pretrain_config import ViewConfig
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.pretrained.loading import load
from tmor_train.training.device import device_of
from tmor_train.training.learner import seed_of

_WEIGHTS = 0


class NoEncoder(ValueError):
    """It is not said what is to be evaluated."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where an encoder's weights are from: a file's name and SHA-256, or ``scratch`` and None."""

    name: str
    sha256: str | None


def named(config: StartConfig) -> str:
    """What an encoder's weights are called.

    Raises:
        NoEncoder: they are not named.
    """
    if config.weights is None:
        raise NoEncoder(f"no encoder is named: say --from CHECKPOINT (a file or a run's folder), or --from {SCRATCH}")
    return config.weights


def started(config: StartConfig, *, seed: int, device: str) -> tuple[Pretrained, Source]:
    """The encoder that a configuration names, in evaluation mode. ``seed`` is that of new weights.

    Raises:
        NoEncoder: none is named.
        tmor_train.training.checkpoint.BadCheckpoint, tmor_train.pretrained.encoder.CannotUse: as
            :func:`tmor_train.load`.
    """
    weights = named(config)
    if weights == SCRATCH:
        found, source = _scratch(config, seed, device), Source(SCRATCH, None)
    else:
        found = load(weights, of=config.of, device=device)
        source = Source(f"{found.path.name} ({found.of})", found.sha256)
    return replace(found, sampling=_seen(found.sampling, config)), source


def _seen(sampling: Sampling, config: StartConfig) -> Sampling:
    """How clips are seen: as in training, but for what the configuration says."""
    frames, choice = config.frames or sampling.frames, config.choice or sampling.choice
    return replace(sampling, frames=frames, choice=choice)


def _scratch(config: StartConfig, seed: int, device: str) -> Pretrained:
    where = device_of(device)
    scratch = config.scratch
    torch.manual_seed(seed_of(seed, _WEIGHTS))
    network = encoder_of(scratch.encoder, layout=scratch.sampling.layout, persons=scratch.sampling.people)
    return Pretrained(
        network=network.to(where).eval().requires_grad_(False),
        sampling=scratch.sampling,
        views=ViewConfig(still=scratch.still, streams=scratch.streams),
        path=Path(SCRATCH),
        sha256="",
        device=where,
    )


__all__ = ["NoEncoder", "Source", "named", "started"]
