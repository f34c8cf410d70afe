"""Accuracy of whole clips (Top-1, and the mean over classes of Toyota Smarthome's tables), and its spread over
seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as students_t

from tmor_train.data.dataset import Floats, Numbers


@dataclass(frozen=True, eq=False, slots=True)
class Accuracy:
    """Shares from 0 to 1: ``top1`` of all clips, ``mean_per_class`` of the classes. ``per_class_K`` float64 is NaN for
    a class without a clip; the mean leaves such classes out. ``confusion_KK`` int64 counts clips by true class (rows)
    and predicted class (columns)."""

    top1: float
    mean_per_class: float
    per_class_K: NDArray[np.float64]
    confusion_KK: Numbers


def accuracy(scores_NK: Floats, label_N: Numbers) -> Accuracy:
    """Accuracy of the highest score of each clip; of equal ones the first class counts.

    Args:
        scores_NK: any scores (N, K) of N clips, more is likelier.
        label_N: the true classes, integers from 0 to K - 1.

    Raises:
        ValueError: no clips, shapes that do not fit, a label out of range, or a score that is NaN.
    """
    scores_NK, label_N = np.asarray(scores_NK), np.asarray(label_N)
    if scores_NK.ndim != 2 or label_N.shape != (len(scores_NK),) or not len(label_N):
        raise ValueError(f"scores {scores_NK.shape} and labels {label_N.shape} are not of the same clips, or of none")
    classes = scores_NK.shape[1]
    if label_N.min() < 0 or label_N.max() >= classes:
        raise ValueError(f"labels lie from {label_N.min()} to {label_N.max()}, but there are {classes} classes")
    if np.isnan(scores_NK).any():
        raise ValueError(f"{int(np.isnan(scores_NK).any(1).sum())} of {len(scores_NK)} clips have a score that is NaN")
    pairs = label_N * classes + scores_NK.argmax(1)
    confusion_KK = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes).astype(np.int64)
    count_K = confusion_KK.sum(1)
    per_class_K = np.full(classes, np.nan)
    np.divide(confusion_KK.diagonal(), count_K, out=per_class_K, where=count_K > 0)
    return Accuracy(
        top1=float(confusion_KK.trace() / len(label_N)),
        mean_per_class=float(np.nanmean(per_class_K)),
        per_class_K=per_class_K,
        confusion_KK=confusion_KK,
    )


def wilson(share: float, count: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval (1927) of a share of ``count`` clips that are drawn independently, from 0 to 1.

    With p the share, n the count and z the normal quantile (1.96 for 95 %), its ends are
    (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n). It holds for few clips and for shares near 0 or 1, too.

    Raises:
        ValueError: no clips, or a share or a confidence out of its range.
    """
    if count < 1 or not 0 <= share <= 1 or not 0 < confidence < 1:
        raise ValueError(f"a share of {share} of {count} clips has no interval of confidence {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = share + z * z / (2 * count)
    half = z * (share * (1 - share) / count + (z / (2 * count)) ** 2) ** 0.5
    scale = 1 + z * z / count
    return max((middle - half) / scale, 0.0), min((middle + half) / scale, 1.0)


@dataclass(frozen=True, slots=True)
class Spread:
    """The ``mean`` over seeds and the ``half_width`` of its confidence interval, mean ± half width, in the unit of the
    values; the latter is NaN for a single seed."""

    mean: float
    half_width: float


def spread(values: Sequence[float], *, confidence: float = 0.95) -> Spread:
    """Mean and confidence interval by Student's t, which suits few seeds: t · s / √n, s being the standard deviation
    with n - 1 in its denominator and t of n - 1 degrees of freedom. A NaN among the values makes both NaN.

    Raises:
        ValueError: no values, or a confidence that does not lie between 0 and 1.
    """
    if not len(values) or not 0 < confidence < 1:
        raise ValueError(f"{len(values)} values and a confidence of {confidence} have no interval")
    found = np.asarray(values, np.float64)
    if len(found) == 1:
        return Spread(float(found[0]), float("nan"))
    factor = float(students_t.ppf((1 + confidence) / 2, len(found) - 1))
    return Spread(float(found.mean()), factor * float(found.std(ddof=1)) / len(found) ** 0.5)
