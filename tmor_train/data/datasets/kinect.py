"""Conversion of Kinect and OpenNI joints to ``ntu25``, and of sensor axes to camera axes.

Joints that a sensor lacks are not seen. OpenNI's "hand" and "foot" are mapped to wrist and ankle, where they
are measured.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from posecap.joints import LAYOUTS

_LIMBS = tuple(
    f"{side}_{joint}"
    for joints in (("shoulder", "elbow", "wrist", "hand"), ("hip", "knee", "ankle", "foot"))
    for side in ("left", "right")
    for joint in joints
)

UTKINECT = ("spine_base", "spine_mid", "spine_shoulder", "head", *_LIMBS)
"""Order of Kinect for Windows, as in UTKinect."""

UTD_MHAD = ("head", "spine_shoulder", "spine_mid", "spine_base", *_LIMBS)

MSR_ACTION3D = (
    *("left_shoulder", "right_shoulder", "spine_shoulder", "spine_mid", "left_hip", "right_hip", "spine_base"),
    *("left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand"),
    *("left_knee", "right_knee", "left_ankle", "right_ankle", "left_foot", "right_foot", "head"),
)

OPENNI = (
    *("head", "neck", "spine_mid", "left_shoulder", "left_elbow", "left_wrist"),
    *("right_shoulder", "right_elbow", "right_wrist"),
    *("left_hip", "left_knee", "left_ankle", "right_hip", "right_knee", "right_ankle"),
)


def as_ntu25(
    metres_MTJ3: NDArray[np.float64], names: tuple[str, ...], score_MTJ: NDArray[np.float64] | None = None
) -> NDArray[np.float32]:
    """Joints in a camera's axes as (M, T, 25, 4) float32: x, y, z and score; zeros where the sensor has no such joint.

    Args:
        score_MTJ: without it, every joint has the score 1. A joint at (0, 0, 0), where the sensor itself stands, was
            not found and is not seen.
    """
    layout = LAYOUTS["ntu25"].names
    at = [layout.index(name) for name in names]
    joints = np.zeros((*metres_MTJ3.shape[:2], len(layout), 4), np.float32)
    joints[:, :, at, :3] = metres_MTJ3
    joints[:, :, at, 3] = (metres_MTJ3 != 0).any(-1) * (1.0 if score_MTJ is None else score_MTJ)
    return joints


def from_kinect(metres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Axes of a Kinect (x to the sensor's own left, y up, z away) as a camera's: x to the right, y down, z away."""
    return np.asarray(metres * np.array([-1.0, -1.0, 1.0]), np.float64)
