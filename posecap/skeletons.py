"""Tracks from detections, object keypoint similarity of two skeletons, and kinematic quality measures of a clip's
skeletons.

A joint is *seen* in a frame when its score is above 0, a person when any joint is. A person's *size* is the median,
over the frames with at least two seen joints, of the diagonal of the bounding box of the seen joints. Distances are
divided by it, so that near and far people count alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from posecap.interfaces import Detections
from posecap.joints import LAYOUTS
from posecap.types import Floats, Quality, Seconds, Tracks

Doubles = NDArray[np.float64]

BONE_FACTOR = 1.5
BONE_SLACK = 0.05
SWAP_FACTOR = 0.5
JUMP_SECONDS = 0.25
"""These four are explained by :func:`measure`. They are our choice: they define measures, which compare clips."""
_MOTION_QUANTILE = 0.9
"""See :func:`own_motion`."""
_DIGITS = 6
"""Far below any difference that means something, and above those of the last bits."""

_COCO17_SIGMAS = np.array([0.026, *np.repeat([0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089], 2)])
"""COCO's own, of nose, eyes, ears, shoulders, elbows, wrists, hips, knees and ankles; (17,) float64, as shares of the
square root of a person's area."""
_OTHER_SIGMA = 0.08
"""Of every joint in other layouts: about the mean of COCO's from shoulders to ankles, 0.083."""


def tracks_of(people: Sequence[Mapping[int, int]], detections: Sequence[Detections], layout: str | None) -> Tracks:
    """Tracks of M people through T frames, with the boxes, scores and joints of their detections.

    Args:
        people: for each person, the index within ``detections[t]`` by frame ``t`` in which the person is seen.
        detections: one per frame, T in all.
        layout: of the detections' joints, None to leave them out.
    """
    boxes = np.zeros((len(people), len(detections), 4), np.float32)
    scores = np.zeros((len(people), len(detections)), np.float32)
    first = next((found.joints_NJ3 for found in detections if found.joints_NJ3 is not None), None)
    joints = None if layout is None or first is None else np.zeros((*scores.shape, first.shape[1], 3), np.float32)
    for m, track in enumerate(people):
        for t, index in track.items():
            found = detections[t]
            boxes[m, t], scores[m, t] = found.boxes_N4[index], found.scores_N[index]
            if joints is not None and found.joints_NJ3 is not None:
                joints[m, t] = found.joints_NJ3[index]
    return Tracks(boxes_MT4=boxes, scores_MT=scores, joints_MTJ3=joints, layout=None if joints is None else layout)


def similarity(joints_J3: Floats, reference_J3: Floats, box_4: Floats, *, least_score: float = 0.1) -> float:
    """OKS in [0, 1] over the joints that count in both skeletons; 0 where there is none.

    Args:
        joints_J3, reference_J3: (x, y, score), pixels, one layout.
        box_4: the reference's box (x0, y0, x1, y1); its area, 1 square pixel at least, is the person's scale.
        least_score: joints below it on either side do not count, as their place is a guess. 0.1 is our choice, half of
            the score from which joints count elsewhere.

    Source: COCO keypoint evaluation, ``exp(-d² / (2·area·(2σ)²))``, the mean over joints. Skeletons of 17 joints are
    taken for ``coco17`` and use COCO's σ of each joint; all others use one σ for all joints.
    """
    seen = (joints_J3[:, 2] >= least_score) & (reference_J3[:, 2] >= least_score)
    if not bool(seen.any()):
        return 0.0
    sigmas = _COCO17_SIGMAS if len(joints_J3) == len(_COCO17_SIGMAS) else np.full(len(joints_J3), _OTHER_SIGMA)
    area = max(float((box_4[2] - box_4[0]) * (box_4[3] - box_4[1])), 1.0)
    distance = ((joints_J3[seen, :2].astype(np.float64) - reference_J3[seen, :2]) ** 2).sum(-1)
    return float(np.exp(-distance / (2 * area * (2 * sigmas[seen]) ** 2)).mean())


def box_iou(a_4: Floats | Doubles, b_4: Floats | Doubles) -> float:
    """Intersection over union, in [0, 1], of two boxes (x0, y0, x1, y1)."""
    # As plain numbers: trackers call this for every pair of boxes, and arrays of four cost more than the arithmetic.
    ax0, ay0, ax1, ay1 = map(float, a_4)
    bx0, by0, bx1, by1 = map(float, b_4)
    width, height = min(ax1, bx1) - max(ax0, bx0), min(ay1, by1) - max(ay0, by0)
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / ((ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - both)


def distinct(joints_NJ3: Floats, boxes_N4: Floats, *, same_person: float) -> list[int]:
    """Indices of the people of one frame that remain when every duplicate of a better one is left out.

    Args:
        joints_NJ3: (x, y, score) of the people, best first.
        boxes_N4: (x0, y0, x1, y1).
        same_person: :func:`similarity` from which on two detections are one person.
    """
    kept: list[int] = []
    for i, joints in enumerate(joints_NJ3):
        if all(similarity(joints, joints_NJ3[k], boxes_N4[k]) < same_person for k in kept):
            kept.append(i)
    return kept


def measure(joints_MTJ3: Floats, pts_T: Seconds, layout: str) -> Quality:
    """Quality of one clip's skeletons; every number is finite, 0 where there is nothing to measure, and rounded to 6
    decimals. Shares are in [0, 1].

    * ``coverage``: share of the clip's frames in which a person is seen, averaged over the people.
    * ``mean_score``: mean score of all seen joints.
    * ``zero_pose_share``: share of frames in which a person is not seen, among those from the person's first to last
      seen frame, all people together: holes inside tracks.
    * ``jitter``: median, over joints seen in three consecutive frames, of the distance in sizes between the joint in
      the middle frame and its linear interpolation in time between the first and the last frame.
    * ``bone_jump_share``: share of bones seen in two consecutive frames of which the longer length exceeds 1.5 times
      the shorter one plus 0.05 sizes (:data:`BONE_FACTOR`, :data:`BONE_SLACK`).
    * ``identity_switches``: frames in which some pair of people, exchanged, would have moved less than half as far
      since the frame before (:data:`SWAP_FACTOR`; mean distance of their joints), or in which a person's joints lie
      (median) more than a size from where they were last seen, at most 0.25 s earlier (:data:`JUMP_SECONDS`).
    * ``motion``: :func:`own_motion` of the person who moves most.

    Args:
        joints_MTJ3: (M, T, J, 3) float32, pixels and score; missing joints (0, 0, 0).
        pts_T: (T,) float64 seconds, strictly increasing.
        layout: of the joints, a name in :data:`posecap.joints.LAYOUTS`; its bones are measured.

    Raises:
        KeyError: unknown layout.
    """
    sizes_M = body_sizes(joints_MTJ3)
    seen_MT = np.asarray((joints_MTJ3[..., 2] > 0).any(-1), np.bool_)
    scores = joints_MTJ3[..., 2].astype(np.float64)
    bones = _bone_jumps(joints_MTJ3, sizes_M, layout)
    return Quality(
        coverage=_rounded(seen_MT.mean() if seen_MT.size else 0.0),
        mean_score=_rounded(scores[scores > 0].mean() if (scores > 0).any() else 0.0),
        zero_pose_share=_rounded(_hole_share(seen_MT)),
        jitter=_rounded(_jitter(joints_MTJ3, pts_T, sizes_M)),
        bone_jump_share=_rounded(bones.mean() if bones.size else 0.0),
        identity_switches=_switches(joints_MTJ3, pts_T, sizes_M),
        motion=_rounded(max(own_motion(joints_MTJ3), default=0.0)),
    )


MEASURES = {
    "coverage": "share of frames in which a person is seen, averaged over the people",
    "mean_score": "mean score of the seen joints, 0 to 1",
    "zero_pose_share": "share of frames without the person between the first and the last with it, all people together",
    "jitter": "unevenness of motion from frame to frame, in body sizes",
    "bone_jump_share": "share of bones whose length jumps from one frame to the next",
    "identity_switches": "frames in which people seem to change places, or one to become another",
    "motion": "how much the pose of the person who moves most changes, in body sizes",
}
"""What :func:`measure` gives, each number in a few words for cards and descriptions."""


def body_sizes(joints_MTJ3: Floats) -> Doubles:
    """(M,) size of each person in pixels, 0 where no frame has two seen joints."""
    sizes = np.zeros(len(joints_MTJ3))
    for person, joints_TJ3 in enumerate(joints_MTJ3):
        seen_TJ = joints_TJ3[..., 2] > 0
        enough_T = seen_TJ.sum(-1) >= 2
        if enough_T.any():
            xy = joints_TJ3[enough_T, :, :2].astype(np.float64)
            inside = seen_TJ[enough_T][..., None]
            low, high = np.where(inside, xy, np.inf).min(1), np.where(inside, xy, -np.inf).max(1)
            sizes[person] = np.median(np.linalg.norm(high - low, axis=-1))
    return sizes


def own_motion(joints_MTJ3: Floats) -> Doubles:
    """(M,) how much each person's pose changes, in sizes, without motion common to the whole body such as panning.

    The displacement of a joint from its median position, minus the frame's median displacement over its seen joints,
    has a root mean square over the frames that see the joint; the result is its 0.9 quantile over joints, so that one
    moving arm is enough. Joints seen in less than half of the frames that see the person are excluded as unreliable,
    also from these medians. 0 where no joint is left.
    """
    sizes = body_sizes(joints_MTJ3)
    return np.array(
        [_relative_motion(joints, size) for joints, size in zip(joints_MTJ3, sizes, strict=True)], np.float64
    )


def _relative_motion(joints_TJ3: Floats, size: float) -> float:
    """:func:`own_motion` of one person of that size in pixels."""
    seen_TJ = joints_TJ3[..., 2] > 0
    seen_TJ = seen_TJ[seen_TJ.any(-1)]
    steady_J = seen_TJ.sum(0) * 2 >= max(len(seen_TJ), 1)
    if size == 0 or not steady_J.any():
        return 0.0
    joints = joints_TJ3[:, steady_J].astype(np.float64)
    joints = joints[(joints[..., 2] > 0).any(-1)]
    away = np.where(joints[..., 2:] > 0, joints[..., :2], np.nan)
    away -= _medians(away, axis=0)
    away -= _medians(away, axis=1)
    deviation_J = np.sqrt(np.nanmean((away**2).sum(-1), axis=0))
    return float(np.quantile(deviation_J, _MOTION_QUANTILE)) / size


def _hole_share(seen_MT: NDArray[np.bool_]) -> float:
    """``zero_pose_share`` of :func:`measure`."""
    holes, frames = 0, 0
    for seen_T in seen_MT:
        seen_frames = np.flatnonzero(seen_T)
        if seen_frames.size:
            length = int(seen_frames[-1] - seen_frames[0]) + 1
            holes, frames = holes + length - seen_frames.size, frames + length
    return holes / frames if frames else 0.0


def _jitter(joints_MTJ3: Floats, pts_T: Seconds, sizes_M: Doubles) -> float:
    """``jitter`` of :func:`measure`."""
    if len(pts_T) < 3:
        return 0.0
    xy, seen = joints_MTJ3[..., :2].astype(np.float64), joints_MTJ3[..., 2] > 0
    seen &= (sizes_M > 0)[:, None, None]
    share_T = ((pts_T[1:-1] - pts_T[:-2]) / (pts_T[2:] - pts_T[:-2]))[:, None, None]
    expected = xy[:, :-2] + share_T * (xy[:, 2:] - xy[:, :-2])
    miss = np.linalg.norm(xy[:, 1:-1] - expected, axis=-1) / np.where(sizes_M > 0, sizes_M, 1)[:, None, None]
    counted = miss[seen[:, :-2] & seen[:, 1:-1] & seen[:, 2:]]
    return float(np.median(counted)) if counted.size else 0.0


def _bone_jumps(joints_MTJ3: Floats, sizes_M: Doubles, layout: str) -> NDArray[np.bool_]:
    """For every bone seen in two consecutive frames, whether its length jumped."""
    child, parent = np.array(LAYOUTS[layout].bones).T
    xy, seen = joints_MTJ3[..., :2].astype(np.float64), joints_MTJ3[..., 2] > 0
    length = np.linalg.norm(xy[:, :, child] - xy[:, :, parent], axis=-1)
    both_seen = seen[:, :, child] & seen[:, :, parent]
    longer, shorter = np.maximum(length[:, 1:], length[:, :-1]), np.minimum(length[:, 1:], length[:, :-1])
    jumped = longer > BONE_FACTOR * shorter + BONE_SLACK * sizes_M[:, None, None]
    return np.asarray(jumped[both_seen[:, 1:] & both_seen[:, :-1]], np.bool_)


def _switches(joints_MTJ3: Floats, pts_T: Seconds, sizes_M: Doubles) -> int:
    """Number of frames in which two people seem exchanged, or one seems to have become another; see :func:`measure`."""
    odd_T = np.zeros(len(pts_T), np.bool_)
    for person, joints_TJ3 in enumerate(joints_MTJ3):
        seen_frames = np.flatnonzero((joints_TJ3[..., 2] > 0).any(-1))
        before, after = seen_frames[:-1], seen_frames[1:]
        steps = _medians(_steps(joints_TJ3[before], joints_TJ3[after]), axis=1)[:, 0]
        odd_T[after] |= (pts_T[after] - pts_T[before] <= JUMP_SECONDS) & (steps > sizes_M[person])
    for one, other in combinations(joints_MTJ3, 2):
        unswapped = _mean_step(one, one) + _mean_step(other, other)
        swapped = _mean_step(one, other) + _mean_step(other, one)
        odd_T[1:] |= swapped < SWAP_FACTOR * unswapped
    return int(odd_T.sum())


def _steps(before_TJ3: Floats, after_TJ3: Floats) -> Doubles:
    """(T, J) distances of joints in pixels; NaN where one is not seen in both."""
    both = (before_TJ3[..., 2] > 0) & (after_TJ3[..., 2] > 0)
    moved = np.linalg.norm(after_TJ3[..., :2].astype(np.float64) - before_TJ3[..., :2], axis=-1)
    return np.asarray(np.where(both, moved, np.nan), np.float64)


def _medians(values: Doubles, *, axis: int) -> Doubles:
    """What ``numpy.nanmedian(values, axis, keepdims=True)`` gives, bit by bit, at a tenth of the time for small arrays;
    NaN without a warning where all are NaN, which compares as larger than nothing."""
    if values.shape[axis] == 0:
        shape = [*values.shape]
        shape[axis] = 1
        return np.full(shape, np.nan)
    ordered = np.sort(values, axis=axis)  # NaN last
    counts = np.expand_dims((~np.isnan(values)).sum(axis), axis)
    low = np.take_along_axis(ordered, np.maximum(counts - 1, 0) // 2, axis)
    high = np.take_along_axis(ordered, counts // 2, axis)
    return np.asarray((low + high) / 2)


def _mean_step(before_TJ3: Floats, after_TJ3: Floats) -> Doubles:
    """(T-1,) mean distance in pixels from one's joints to the other's in the next frame; NaN where no joint is seen in
    both, which compares as no swap."""
    both = (before_TJ3[:-1, :, 2] > 0) & (after_TJ3[1:, :, 2] > 0)
    distance = np.linalg.norm(after_TJ3[1:, :, :2].astype(np.float64) - before_TJ3[:-1, :, :2], axis=-1)
    shared = both.sum(-1)
    total = np.where(both, distance, 0.0).sum(-1)
    return np.asarray(np.where(shared > 0, total / np.maximum(shared, 1), np.nan), np.float64)


def _rounded(value: float | np.floating) -> float:
    """To :data:`_DIGITS` decimals."""
    return round(float(value), _DIGITS)
