"""Frames of a real man, out of the demo's footage."""

from pathlib import Path

import numpy as np
import pytest

from posecap.engines.pyav import PyAV


@pytest.fixture(scope="session")
def real_frames(media: Path) -> np.ndarray:
    """(T, H, W, 3) uint8: the first frames of ``people.mp4``."""
    path, engine = media / "people.mp4", PyAV()
    facts = engine.probe(path)
    blocks = list(engine.frames(path, facts, span=None, size=(facts.width // 2 * 2, facts.height // 2 * 2)))
    return np.concatenate([block.frames_THW3 for block in blocks])[:4]
