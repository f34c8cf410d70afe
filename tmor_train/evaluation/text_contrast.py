"""Class texts that know their neighbours: what a class has in common with those most like it is taken off its vector.

FuDD (Esfandiarpoor and Bach, ICLR 2024) has a language model write how each class differs from those that it is taken
for. Here the same is done with the vectors alone, without another model and without a clip.
"""

from __future__ import annotations

import numpy as np

from tmor_train.data.dataset import Floats


def contrasted(texts_KW: Floats, *, neighbours: int, weight: float) -> Floats:
    """Vectors of length 1, each without ``weight`` times the mean of the ``neighbours`` others nearest to it: (K, W)
    float32.

    Args:
        texts_KW: of the classes, of any length above 0; their directions are what counts.
        neighbours: how many, at most K - 1; with fewer classes, all others.

    Raises:
        ValueError: ``neighbours`` is below 1.
    """
    if neighbours < 1:
        raise ValueError(f"neighbours of a class are at least 1, not {neighbours}")
    units_KW = _unit(texts_KW)
    if len(units_KW) == 1:
        return units_KW
    cosines_KK = units_KW @ units_KW.T
    np.fill_diagonal(cosines_KK, -np.inf)
    nearest = np.argsort(-cosines_KK, axis=1, kind="stable")[:, : min(neighbours, len(units_KW) - 1)]
    return _unit(units_KW - np.float32(weight) * units_KW[nearest].mean(1))


def _unit(vectors_KW: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays one, as where two classes have one text and ``weight`` is 1."""
    lengths = np.linalg.norm(vectors_KW, axis=1, keepdims=True)
    scaled: Floats = (vectors_KW / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    return scaled
