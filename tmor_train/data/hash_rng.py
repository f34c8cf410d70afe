"""Random numbers as hashes of integers: the same seed, epoch, purpose and clip always give the same number.

There is no generator whose state would have to be saved, and a clip's numbers do not depend on the batch, the worker
or the rank that gathers it. The hash is SplitMix64's finaliser. In all functions ``names`` are integers of at least 0
that identify the draw, such as seed, epoch and a number for the purpose; ``index_N`` int64 are the clips' indices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tmor_train.data.arrays import Numbers

Hashes = NDArray[np.uint64]
# SplitMix64's increment and multipliers; _WORD keeps the lower 64 bits.
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
    """:func:`_mixed` of one number, much faster than of an array of one."""
    value = (value ^ value >> 30) * _FIRST & _WORD
    value = (value ^ value >> 27) * _SECOND & _WORD
    return value ^ value >> 31


def hashes(*names: int, index_N: Numbers) -> Hashes:
    """A 64-bit hash of ``names`` and each of ``index_N``: (N,) uint64."""
    base = 0
    for name in names:
        base = _mixed_one(base + _STEP * (name + 1) & _WORD)
    return _mixed(index_N.astype(np.uint64) * np.uint64(_STEP) + np.uint64(base + _STEP & _WORD))


def uniform(*names: int, index_N: Numbers, count: int) -> NDArray[np.float64]:
    """``count`` numbers for each of ``index_N``, uniform in [0, 1): (N, count) float64."""
    row_N1 = hashes(*names, index_N=index_N)[:, None]
    steps = np.uint64(_STEP) * np.arange(1, count + 1, dtype=np.uint64)
    # The upper 53 bits are a float64 exactly.
    return np.asarray((_mixed(row_N1 + steps) >> np.uint64(11)) * 2.0**-53, np.float64)


def permutation(*names: int, count: int) -> Numbers:
    """The integers 0 to ``count`` - 1 in a random order that depends on ``names`` alone: (count,) int64."""
    index = np.arange(count, dtype=np.int64)
    return np.argsort(hashes(*names, index_N=index), kind="stable").astype(np.int64)


def seed_of(*names: int) -> int:
    """A seed for ``torch.Generator``: a hash of ``names``, from 0 to 2^63 - 1."""
    return int(hashes(*names, index_N=np.zeros(1, np.int64))[0] >> np.uint64(1))
