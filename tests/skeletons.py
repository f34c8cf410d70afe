"""Clips for tests of training data, whose numbers say where they come from.

counted(key, frames=5)     x of joint j of person m in frame t is 1000 m + 10 t + j / 100, y is 100 more; 640 x 480
batch_of(joints, seen)     a batch around (N, M, T, V, C) joints
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from posecap.joints import LAYOUTS
from tmor_train.data import Clip, MotionBatch


def counted(key: str, *, frames: int = 5, people: int = 1, layout: str = "coco17", **known: Any) -> Clip:
    joints = np.zeros((people, frames, len(LAYOUTS[layout].names), 3), np.float32)
    joints[..., 0] += np.arange(people)[:, None, None] * 1000
    joints[..., 0] += np.arange(frames)[:, None] * 10 + np.arange(joints.shape[2]) / 100
    joints[..., 1], joints[..., 2] = joints[..., 0] + 100, 0.5
    return Clip(key=key, joints_MTJC=joints, layout=layout, **{"width": 640.0, "height": 480.0, **known})


def batch_of(
    joints: torch.Tensor, seen: torch.Tensor | None = None, *, layout: str = "unik17", depth: torch.Tensor | None = None
) -> MotionBatch:
    clips = len(joints)
    if seen is None:
        seen = torch.ones(joints.shape[:-1], dtype=torch.bool)
    nobody = torch.full((clips,), -1)
    batch = MotionBatch(
        motion_NCTVM=joints.permute(0, 4, 2, 3, 1),
        seen_NTVM=seen.permute(0, 2, 3, 1),
        index_N=torch.arange(clips),
        label_N=nobody,
        text_id_N=nobody,
        has_depth_N=torch.full((clips,), joints.shape[-1] == 3) if depth is None else depth,
        has_video_N=torch.zeros(clips, dtype=torch.bool),
        layout=layout,
    )
    return batch.moved(batch.joints)
