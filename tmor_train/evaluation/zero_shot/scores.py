"""Scores of clips and classes from vectors of motion, video and text: cosines, and ways to bring two of them together.

Of a class in several wordings the cosines are averaged, which is one product with the mean of their unit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike

from tmor_train.configuration import from_json
from tmor_train.data.arrays import Floats
from tmor_train.encoder.projection import SHORTEST, Projection, UnusableEncoderError
from tmor_train.evaluation.zero_shot.config import Visual
from tmor_train.pretrained.encoder import Pretrained
from tmor_train.training import checkpoint
from tmor_train.training.checkpoint import CheckpointError
from tmor_train.training.config import PretrainConfig

_PREFIX = "video_head."


@dataclass(frozen=True, eq=False, kw_only=True)
class Sides:
    """Motion, video and text of N clips and K classes in P wordings. ``motion_ND`` is E_M, ``video_NDv`` E_V and
    ``texts_KPDt`` E_T."""

    motion_ND: Floats
    video_NDv: Floats
    texts_KPDt: Floats


def unit(vectors: ArrayLike) -> Floats:
    """Vectors of length 1 along the last axis; one that is almost 0 stays so."""
    values = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    scaled: Floats = values / np.maximum(lengths, np.float32(SHORTEST))
    return scaled


def combined(encoder: Pretrained, video_head: Projection | None, sides: Sides, how: Visual) -> Floats:
    """Motion and video against text: (N, K) float32.

    Args:
        video_head: phi_V; ``frozen_mean`` needs none.

    Raises:
        UnusableEncoderError: a head is missing, or vectors have other lengths than it takes.
    """
    if encoder.heads is None or encoder.heads.text is None:
        raise UnusableEncoderError(f"{encoder.path} was trained without text, so it compares nothing with texts")
    motion_NK = encoder.text_cosines(sides.motion_ND, sides.texts_KPDt)
    if how == "frozen_mean":
        mean_NK: Floats = (motion_NK + frozen(sides)) / np.float32(2)
        return mean_NK
    if video_head is None:
        raise UnusableEncoderError(
            f"{encoder.path} was trained without video, so it has no projection of video vectors"
        )
    texts_KW = _through(encoder.heads.text, sides.texts_KPDt).mean(1)
    video_NW = _through(video_head, sides.video_NDv)
    if how == "score_mean":
        average_NK: Floats = (motion_NK + video_NW @ texts_KW.T) / np.float32(2)
        return average_NK
    if how == "raw_mean":
        both_NW = _through(encoder.heads.motion.layers, sides.motion_ND) + _through(video_head.layers, sides.video_NDv)
    else:
        both_NW = encoder.project(sides.motion_ND) + video_NW
    scores_NK: Floats = unit(both_NW) @ texts_KW.T
    return scores_NK


def frozen(sides: Sides) -> Floats:
    """cos(E_V, E_T), no head between: (N, K) float32.

    Raises:
        UnusableEncoderError: the two have different lengths, so they are of no common space.
    """
    video, text = sides.video_NDv.shape[-1], sides.texts_KPDt.shape[-1]
    if video != text:
        raise UnusableEncoderError(
            f"video vectors have {video} numbers and text vectors {text}: they are of two models"
        )
    cosines: Floats = unit(sides.video_NDv) @ unit(sides.texts_KPDt).mean(1).T
    return cosines


def video_head_of(encoder: Pretrained) -> Projection | None:
    """phi_V of the run that an encoder is from; None where it was trained without video.

    Raises:
        CheckpointError: its checkpoint is gone, or does not hold what it says.
    """
    if encoder.config is None:
        return None
    config = from_json(PretrainConfig, encoder.config).objective
    if not config.w_mv:
        return None
    try:
        state = checkpoint.load(encoder.path)["learner"]["objective"]
        own = {name.removeprefix(_PREFIX): tensor for name, tensor in state.items() if name.startswith(_PREFIX)}
        taken = config.width if config.video_head == "identity" else own["layers.0.weight"].shape[1]
        head = Projection(config.video_head, taken, config.width)
        head.load_state_dict(own)
    except (FileNotFoundError, KeyError, RuntimeError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{encoder.path} holds no projection of video vectors: {error}") from error
    return head.eval().requires_grad_(False)


@torch.no_grad()
def _through(head: Any, vectors: Floats) -> Floats:
    """Vectors (…, D) through a head or its layers, on the CPU."""
    flat = torch.from_numpy(np.array(vectors.reshape(-1, vectors.shape[-1]), np.float32))
    try:
        out: Floats = head(flat).numpy()
    except RuntimeError as error:
        raise UnusableEncoderError(f"a projection does not take vectors of {flat.shape[1]} numbers: {error}") from error
    return out.reshape(*vectors.shape[:-1], out.shape[-1])
