"""Made-up footage with structure at every scale: waves that drift, and two discs that move."""

from __future__ import annotations

import numpy as np

WIDTH, HEIGHT, FPS = 160, 90, 25.0


def times(frames: int) -> np.ndarray:
    """(T) seconds at 25 frames a second."""
    return np.arange(frames) / FPS


def picture_at(seed: int, seconds: float) -> np.ndarray:
    """(H, W, 3) uint8: the scene ``seed`` at a moment."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH] / HEIGHT
    grey = np.full((HEIGHT, WIDTH), 120.0)
    for across, down, phase, amplitude, drift in rng.uniform(
        [-9, -9, 0, 4, -0.2], [9, 9, 2 * np.pi, 16, 0.2], (24, 5)
    ).tolist():
        grey += amplitude * np.sin(across * x + down * y + phase + drift * seconds)
    for left, top, right, bottom, size, light in rng.uniform(
        [0.2, 0.1, -0.3, -0.15, 0.1, -100], [1.4, 0.8, 0.3, 0.15, 0.3, 100], (2, 6)
    ).tolist():
        there = (x - left - right * seconds) ** 2 + (y - top - bottom * seconds) ** 2 < size**2
        grey[there] += light
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, 2)


def scene(seed: int, *, seconds: float = 3.0) -> np.ndarray:
    """(T, H, W, 3) frames of a scene."""
    return np.stack([picture_at(seed, at) for at in times(round(seconds * FPS)).tolist()])
