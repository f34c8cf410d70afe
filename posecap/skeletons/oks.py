"""Object keypoint similarity: how much two skeletons of one layout look like the same person."""

from __future__ import annotations

import numpy as np

from posecap.types import Floats

_COCO17_SIGMAS = np.array(
    [
        0.026,
        0.025,
        0.025,
        0.035,
        0.035,
        0.079,
        0.079,
        0.072,
        0.072,
        0.062,
        0.062,
        0.107,
        0.107,
        0.087,
        0.087,
        0.089,
        0.089,
    ]
)
_OTHER_SIGMA = 0.08


def similarity(joints_J3: Floats, reference_J3: Floats, box_4: Floats, *, least_score: float = 0.1) -> float:
    """OKS in [0, 1] over joints that both sides see.

    Args:
        joints_J3, reference_J3: (x, y, score), pixels, one layout.
        box_4: the reference's box (x0, y0, x1, y1); its area is the person's scale.
        least_score: joints below it on either side do not count.

    Source: COCO keypoint evaluation, ``exp(-d² / (2·area·(2σ)²))``; other layouts use one σ for all joints.
    """
    seen = (joints_J3[:, 2] >= least_score) & (reference_J3[:, 2] >= least_score)
    if not bool(seen.any()):
        return 0.0
    sigmas = _COCO17_SIGMAS if len(joints_J3) == len(_COCO17_SIGMAS) else np.full(len(joints_J3), _OTHER_SIGMA)
    area = max(float((box_4[2] - box_4[0]) * (box_4[3] - box_4[1])), 1.0)
    distance = ((joints_J3[seen, :2].astype(np.float64) - reference_J3[seen, :2]) ** 2).sum(-1)
    return float(np.exp(-distance / (2 * area * (2 * sigmas[seen]) ** 2)).mean())
