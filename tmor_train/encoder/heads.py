"""The projection heads of a trained model in use: vectors of motion and of texts to where they are compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from tmor_train.backbones import FEATURES
from tmor_train.data.arrays import Floats
from tmor_train.encoder.projection import Projection
from tmor_train.objective_config import Head, ObjectiveConfig


class UnusableEncoderError(ValueError):
    """A model cannot do what it is asked for, or not with these inputs; the message says why."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Heads:
    """phi_M, and phi_T where the model was trained with text: ``width`` is that of both outputs, ``text_width`` that of
    the text vectors that went in."""

    motion: Projection = field(repr=False)
    width: int
    text: Projection | None = field(default=None, repr=False)
    text_width: int | None = None

    def project(self, vectors: ArrayLike) -> Floats:
        """phi_M: unit vectors, (256,) to (width,) or (N, 256) to (N, width).

        Raises:
            UnusableEncoderError: the vectors have another length.
        """
        return _through(self.motion, vectors, FEATURES, "embeddings")

    def text_cosines(self, vectors: ArrayLike, text_vectors: ArrayLike) -> Floats:
        """cos(phi_M, phi_T) of (N, 256) embeddings and (K, D) or (K, P, D) text vectors: (N, K) float32.

        Raises:
            UnusableEncoderError: the model was trained without text, or lengths differ.
        """
        if self.text is None or self.text_width is None:
            raise UnusableEncoderError(
                "the model was trained without text, so it compares no skeletons with texts; load one of stage 2"
            )
        texts = np.asarray(text_vectors, np.float32)
        if texts.ndim not in (2, 3) or 0 in texts.shape:
            raise UnusableEncoderError(f"text vectors are (K, D), or (K, P, D) in P wordings, not {texts.shape}")
        units = _through(self.text, texts.reshape(-1, texts.shape[-1]), self.text_width, "text vectors")
        units_KW = units.reshape(len(texts), -1, self.width).mean(1)  # the mean of cosines is one to the mean
        cosines: Floats = np.atleast_2d(self.project(vectors)) @ units_KW.T
        return cosines


def heads_of(config: ObjectiveConfig, state: Mapping[str, Tensor], *, of: Literal["ema", "online"]) -> Heads:
    """The heads in the state dict of an :class:`~tmor_train.methods.tmor.Objective` of ``config``.

    Args:
        of: the EMA of the motion head, where there is one, or the one that was trained. Of texts there is one.

    Raises:
        KeyError, RuntimeError: tensors are missing, or have other shapes.
    """
    prefix = "key_head.module." if of == config.keys == "ema" else "motion_head."
    motion, _ = _head(config.motion_head, state, prefix, config.width)
    if not config.w_mt:
        return Heads(motion=motion, width=config.width)
    text, text_width = _head(config.text_head, state, "text_head.", config.width)
    return Heads(motion=motion, width=config.width, text=text, text_width=text_width)


def _head(kind: Head, state: Mapping[str, Tensor], prefix: str, width: int) -> tuple[Projection, int]:
    """The head whose tensors are named with ``prefix``, and the width of what it takes."""
    own = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    taken = width if kind == "identity" else own["layers.0.weight"].shape[1]
    head = Projection(kind, taken, width)
    head.load_state_dict(own)
    return head.eval().requires_grad_(False), taken


@torch.no_grad()
def _through(head: Projection, vectors: ArrayLike, width: int, what: str) -> Floats:
    """Unit vectors out of a head, on the CPU."""
    values = np.asarray(vectors, np.float32).copy()  # torch wants to be able to write to it
    if values.ndim not in (1, 2) or values.shape[-1] != width:
        raise UnusableEncoderError(
            f"{what} of {width} numbers are needed, not {values.shape}; did another model make them?"
        )
    if not np.isfinite(values).all():
        raise UnusableEncoderError(f"{what} hold NaN or infinity")
    projected: Floats = head(torch.from_numpy(np.atleast_2d(values))).numpy()
    return projected[0] if values.ndim == 1 else projected
