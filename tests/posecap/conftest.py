"""Frames of real people: a man out of the demo's footage, and others of the shared videos."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from posecap.engines.pyav import PyAV
from tests.footage import real_video


def _decoded(path: Path) -> np.ndarray:
    engine = PyAV()
    facts = engine.probe(path)
    blocks = list(engine.frames(path, facts, span=None, size=(facts.width // 2 * 2, facts.height // 2 * 2)))
    return np.concatenate([block.frames_THW3 for block in blocks])


@pytest.fixture(scope="session")
def real_frames(media: Path) -> np.ndarray:
    """(T, H, W, 3) uint8: the first frames of ``people.mp4``."""
    return _decoded(media / "people.mp4")[:4]


@pytest.fixture(scope="session")
def shared_frames() -> Callable[[str], np.ndarray]:
    """Gives all frames, (T, H, W, 3) uint8, of a video of the shared data, by its path there; or skips."""
    return lambda name: _decoded(real_video(name))
