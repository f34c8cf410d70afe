"""The projection heads phi and the temperatures of Eq. 4, for training and, loaded from a checkpoint, for use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import FEATURES
from tmor_train.data.arrays import Floats
from tmor_train.objective_config import Head, ObjectiveConfig

Scale = float | Tensor
"""1 / Temp of Eq. 4."""

SHORTEST = 1e-6
"""Vectors are divided by their length, or by this where they are shorter: their direction is then only rounding
error."""


class Projection(nn.Module):
    """A projection head phi: (N, ``width_in``) to unit vectors (N, ``width_out``).

    The result is float32 also under autocast, and float64 for float64. ``mlp`` is Linear, ReLU, Linear with a hidden
    layer as wide as the input and without batch norm; ``linear`` is one layer; ``identity`` only scales to unit length.

    Raises:
        ValueError: ``identity`` with two different widths.
    """

    def __init__(self, head: Head, width_in: int, width_out: int) -> None:
        super().__init__()
        if head == "identity" and width_in != width_out:
            raise ValueError(
                f"an identity head keeps the width, but the features have {width_in} and the projection {width_out}; "
                f"set width={width_in} or another head"
            )
        layers: list[nn.Module] = []
        if head == "mlp":
            layers += [nn.Linear(width_in, width_in), nn.ReLU()]
        if head != "identity":
            layers += [nn.Linear(width_in, width_out)]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        projected: Tensor = self.layers(features)
        with torch.autocast(projected.device.type, enabled=False):
            return functional.normalize(single(projected), dim=1, eps=SHORTEST)


def single(x: Tensor) -> Tensor:
    """``x`` as float32, or unchanged if it is float64."""
    return x if x.dtype == torch.float64 else x.float()


class Temperatures(nn.Module):
    """1 / Temp of each loss: constant, or a learned parameter (its logarithm).

    :meth:`clamp` is to be called after each step of the optimiser.
    """

    def __init__(self, config: ObjectiveConfig) -> None:
        super().__init__()
        self.fixed = (1 / config.temperature_mm, 1 / config.temperature_mv, 1 / config.temperature_mt)
        self.highest = math.log(1 / config.lowest_temperature)
        learned = nn.Parameter(torch.tensor(self.fixed).log()) if config.temperature == "learned" else None
        self.register_parameter("log_scales", learned)
        self.log_scales: nn.Parameter | None

    def forward(self) -> tuple[Scale, Scale, Scale]:
        """1 / Temp of L_mm, L_mv and L_mt, the factors of their cosines: numbers, or tensors of shape () if learned."""
        if self.log_scales is None:
            return self.fixed
        mm, mv, mt = single(self.log_scales).exp().unbind()
        return mm, mv, mt

    @torch.no_grad()
    def clamp(self) -> None:
        """Clamps learned temperatures to ``lowest_temperature`` to 1, where the logit is the cosine itself. A clamp in
        ``forward`` would make their gradient 0."""
        if self.log_scales is not None:
            self.log_scales.clamp_(0.0, self.highest)


class UnusableEncoderError(ValueError):
    """A model cannot do what it is asked for, or not with these inputs; the message says why."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Heads:
    """The trained heads phi_M and phi_T of an encoder.

    ``width`` is the width of their outputs. ``text`` and ``text_width``, the width of the text vectors that phi_T
    takes, are None where the encoder was trained without text.
    """

    motion: Projection = field(repr=False)
    width: int
    text: Projection | None = field(default=None, repr=False)
    text_width: int | None = None

    def project(self, vectors: ArrayLike) -> Floats:
        """phi_M of embeddings: (256,) to a unit vector (width,), or (N, 256) to (N, width) float32.

        Raises:
            UnusableEncoderError: the vectors have another length, or hold NaN or infinity.
        """
        return _through(self.motion, vectors, FEATURES, "embeddings")

    def text_cosines(self, vectors: ArrayLike, text_vectors: ArrayLike) -> Floats:
        """Cosines of projected embeddings and texts, cos(phi_M, phi_T): (N, K) float32.

        Args:
            vectors: (N, 256) embeddings, or (256,) for N = 1.
            text_vectors: (K, D), one vector per text, or (K, P, D), P wordings of each text, whose cosines are
                averaged; D is ``text_width``.

        Raises:
            UnusableEncoderError: the model was trained without text, or vectors have another shape, NaN or infinity.
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
    """The heads in the state dict of an :class:`~tmor_train.methods.tmor.Objective` with the settings ``config``.

    Args:
        of: which motion head: ``ema``, its EMA if the objective has one, or ``online``, the trained one. There is only
            one text head.

    Raises:
        KeyError, RuntimeError: tensors are missing, or have other shapes.
    """
    prefix = "key_head.module." if of == config.keys == "ema" else "motion_head."
    motion, _ = head_of(config.motion_head, state, prefix, config.width)
    if not config.w_mt:
        return Heads(motion=motion, width=config.width)
    text, text_width = head_of(config.text_head, state, "text_head.", config.width)
    return Heads(motion=motion, width=config.width, text=text, text_width=text_width)


def head_of(kind: Head, state: Mapping[str, Tensor], prefix: str, width: int) -> tuple[Projection, int]:
    """The head whose tensors' names in ``state`` begin with ``prefix``, and the width of its input; ``width`` is that
    of its output.

    Raises:
        KeyError, RuntimeError: tensors are missing, or have other shapes.
    """
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
