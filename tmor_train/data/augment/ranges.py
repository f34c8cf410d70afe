"""Range checks of augmentation parameters, and random numbers for a whole batch."""

from __future__ import annotations

import torch
from torch import Tensor


def within(name: str, value: float, low: float, high: float) -> None:
    """Check a parameter against [low, high].

    Raises:
        ValueError: names the parameter and its range.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, expected {low:g} to {high:g}")


def drawn(clips: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """One number in [low, high) for each clip, on the generator's device."""
    return torch.rand(clips, generator=generator, device=generator.device) * (high - low) + low


def happens(clips: int, probability: float, generator: torch.Generator) -> Tensor:
    """True for each clip with ``probability``: (N,) bool."""
    return torch.rand(clips, generator=generator, device=generator.device) < probability
