"""Random numbers that depend on names, not on a sequence: the same seed, epoch and clip always draw the same.

Every number is a hash of its place (SplitMix64's finaliser), so that a clip's draws do not depend on the batch, the
worker or the rank that gathers it, and no generator has a state to save.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.arrays import Numbers

Hashes = NDArray[np.uint64]
_STEP = 0x9E3779B97F4A7C15
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD = 2**64 - 1


def _mixed(values: Hashes) -> Hashes:
    """SplitMix64's finaliser, in place."""
    values ^= values >> np.uint64(30)
    values *= np.uint64(_FIRST)
    values ^= values >> np.uint64(27)
    values *= np.uint64(_SECOND)
    values ^= values >> np.uint64(31)
    return values


def _mixed_one(value: int) -> int:
    """The same of one number, much faster than as an array of one."""
    value = (value ^ value >> 30) * _FIRST & _WORD
    value = (value ^ value >> 27) * _SECOND & _WORD
    return value ^ value >> 31


def hashes(*names: int, index_N: Numbers) -> Hashes:
    """A number for each of ``index_N``, different for other ``names`` (seed, epoch, purpose); all at least 0."""
    found = 0
    for name in names:
        found = _mixed_one(found + _STEP * (name + 1) & _WORD)
    return _mixed(index_N.astype(np.uint64) * np.uint64(_STEP) + np.uint64(found + _STEP & _WORD))


def uniform(*names: int, index_N: Numbers, count: int) -> NDArray[np.float64]:
    """``count`` numbers in [0, 1) for each of ``index_N``: (N, count)."""
    row_N1 = hashes(*names, index_N=index_N)[:, None]
    steps = np.uint64(_STEP) * np.arange(1, count + 1, dtype=np.uint64)
    # The upper 53 bits are a float64 exactly.
    return np.asarray((_mixed(row_N1 + steps) >> np.uint64(11)) * 2.0**-53, np.float64)


def permutation(*names: int, count: int) -> Numbers:
    """The numbers below ``count`` in an order that depends on ``names`` alone."""
    index = np.arange(count, dtype=np.int64)
    return np.argsort(hashes(*names, index_N=index), kind="stable").astype(np.int64)


def seed_of(*names: int) -> int:
    """A seed for torch that differs for other names; 63 bits."""
    return int(hashes(*names, index_N=np.zeros(1, np.int64))[0] >> np.uint64(1))
