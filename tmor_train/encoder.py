"""The motion encoder E_M that a configuration names and moving averages of modules; the projection heads phi and the
temperatures of Eq. 4, for training and, loaded from a checkpoint, for use."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from posecap.joints import layout_named
from tmor_train.backbones import FEATURES, Backbone, People
from tmor_train.backbones.agcn import AGCN
from tmor_train.backbones.stgcn import STGCN
from tmor_train.backbones.unik import UNIK
from tmor_train.data.dataset import Floats
from tmor_train.objective_config import Head, ObjectiveConfig


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Which backbone, and its sizes.

    ``channels`` is the number of values per joint that it takes: 2 or 3 coordinates, times the number of streams. It
    is not derived from the data: clips of another number are an error when the first batch is encoded. ``tau`` (frames
    whose joints are mixed with each other, odd) and ``heads`` (of blocks 2 to 10) are used by UNIK alone; the features
    are :data:`~tmor_train.backbones.FEATURES` wide in any case. ``people`` says how the people of a clip are pooled.
    """

    backbone: Literal["unik", "agcn", "stgcn"] = "unik"
    channels: int = 2
    tau: int = 1
    heads: int = 3
    people: People = "mean"


def encoder_of(config: EncoderConfig, *, layout: str, persons: int) -> Backbone:
    """A backbone with new weights and without a classifier.

    Args:
        layout: the joints of the clips, a name of :data:`posecap.joints.LAYOUTS`.
        persons: number of person slots of a clip; ST-GCN takes any number and does not use it.

    Raises:
        posecap.joints.LayoutError: unknown layout.
        ValueError: a size that the backbone does not take.
    """
    if config.backbone == "unik":
        return UNIK(
            joints=len(layout_named(layout).names),
            channels=config.channels,
            persons=persons,
            tau=config.tau,
            heads=config.heads,
            people=config.people,
        )
    if config.backbone == "agcn":
        return AGCN(layout=layout, channels=config.channels, persons=persons, people=config.people)
    return STGCN(layout=layout, channels=config.channels, people=config.people)


class EMA(nn.Module):
    """An exponential moving average of the module ``online``: each update sets parameters to m * own + (1 - m) *
    online.

    The average is a copy of the module, ``module``, without gradient; ``EMA(...)`` is called as that module is. Its
    batch norms compute their running statistics from the batches that the copy itself gets (in train mode), as in MoCo.
    With ``average_buffers`` floating-point buffers such as running statistics are averaged too, for a copy that is only
    evaluated.

    Args:
        online: the module to copy; it is not changed.
        momentum: m, at least 0 and below 1.

    Raises:
        ValueError: ``momentum`` is out of range.
    """

    def __init__(self, online: nn.Module, momentum: float, *, average_buffers: bool = False) -> None:
        super().__init__()
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum is at least 0 and below 1; got {momentum}")
        self.momentum, self.average_buffers = momentum, average_buffers
        self.module = copy.deepcopy(online).requires_grad_(False)

    @torch.no_grad()
    def forward(self, *args: object, **named: object) -> object:
        return self.module(*args, **named)

    @torch.no_grad()
    def update(self, online: nn.Module) -> None:
        """Updates the average with the present weights of ``online``; to be called after each step of the optimiser."""
        own: list[Tensor] = list(self.module.parameters())
        new: list[Tensor] = list(online.parameters())
        if own:
            torch._foreach_lerp_(own, new, 1 - self.momentum)
        if self.average_buffers:
            for mean, value in zip(self.module.buffers(), online.buffers(), strict=True):
                if mean.is_floating_point():
                    mean.lerp_(value, 1 - self.momentum)
                else:  # a count of batches
                    mean.copy_(value)

    @torch.no_grad()
    def copy_from(self, online: nn.Module) -> None:
        """Sets the average to the present state of ``online``."""
        self.module.load_state_dict(online.state_dict())


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
    """The trained heads of an encoder, ``motion`` phi_M and ``text`` phi_T.

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
        cosines: Floats = np.atleast_2d(self.project(vectors)) @ self.project_texts(text_vectors).T
        return cosines

    def project_texts(self, text_vectors: ArrayLike) -> Floats:
        """phi_T of texts: (K, width) float32, a unit vector for each of K texts; of a text in several wordings the mean
        of their unit vectors, whose product with a clip is the mean of the wordings' cosines.

        Args:
            text_vectors: (K, D), or (K, P, D) in P wordings.

        Raises:
            UnusableEncoderError: as :meth:`text_cosines`.
        """
        if self.text is None or self.text_width is None:
            raise UnusableEncoderError(
                "the model was trained without text, so it compares no skeletons with texts; load one of stage 2"
            )
        texts = np.asarray(text_vectors, np.float32)
        if texts.ndim not in (2, 3) or 0 in texts.shape:
            raise UnusableEncoderError(f"text vectors are (K, D), or (K, P, D) in P wordings, not {texts.shape}")
        units = _through(self.text, texts.reshape(-1, texts.shape[-1]), self.text_width, "text vectors")
        means: Floats = units.reshape(len(texts), -1, self.width).mean(1)
        return means


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
    """Unit vectors out of a head, on the CPU; UnusableEncoderError for vectors, called ``what``, that are not of
    ``width`` finite numbers."""
    values = np.asarray(vectors, np.float32).copy()  # torch wants to be able to write to it
    if values.ndim not in (1, 2) or values.shape[-1] != width:
        raise UnusableEncoderError(
            f"{what} of {width} numbers are needed, not {values.shape}; did another model make them?"
        )
    if not np.isfinite(values).all():
        raise UnusableEncoderError(f"{what} hold NaN or infinity")
    projected: Floats = head(torch.from_numpy(np.atleast_2d(values))).numpy()
    return projected[0] if values.ndim == 1 else projected
