"""UNIK, T-MOR's motion encoder (Yang et al., BMVC 2021): joints mixed by learned dependencies, no skeleton graph.

Ten blocks of a spatial unit (S-LSU) and a temporal unit (T-LSU). Parameters have the names, shapes and initial values
of the released code, so its checkpoints load without conversion; the heads of a unit are computed together.

Loading them removes prefixes of names, compares the tensors with a network, and copies them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from tmor_train.backbones import People
from tmor_train.backbones.layers import BlockBackbone, SpatialUnit

_FIRST_HEADS = 3
"""Heads of block 1, whatever the others have: the released code does not pass the number on to it."""


class UnikSpatialUnit(SpatialUnit):
    """S-LSU: (N, C, T, V) to (N, C', T, V).

    With tau > 1 it mixes the joints of tau neighbouring frames, and a convolution joins them to one frame. ``bias`` is
    not used and gets no gradient; it exists because every released checkpoint has it.
    """

    def __init__(self, wide_in: int, wide_out: int, *, joints: int, tau: int, heads: int) -> None:
        super().__init__(wide_in, wide_out, heads=heads)
        self.tau = tau
        size = joints * tau
        self.DepM = nn.Parameter(torch.empty(heads, size, size).uniform_(-1 / size, 1 / size))
        self.bias = nn.Parameter(torch.empty(size).uniform_(-1 / size, 1 / size))
        if tau > 1:
            self.out_conv = nn.Conv3d(wide_out, wide_out, (1, tau, 1))
            self.out_bn = nn.BatchNorm2d(wide_out)

    def dependencies(self) -> Tensor:
        return self.DepM

    def forward(self, x: Tensor) -> Tensor:
        if self.tau == 1:
            return super().forward(x)
        clips, _, length, joints = x.shape
        wide = super().forward(self._windows(x)).permute(0, 2, 3, 1)
        # Each window becomes a picture of tau rows and V columns, so that the 3-D convolution is a 2-D one.
        pictures = wide.reshape(clips * length, self.tau, joints, -1).permute(0, 3, 1, 2)
        merged = functional.conv2d(pictures, self.out_conv.weight.squeeze(2), self.out_conv.bias)
        frames = merged.permute(0, 2, 3, 1).reshape(clips, length, joints, -1)
        normed: Tensor = self.out_bn(frames.permute(0, 3, 1, 2))
        return normed

    def _windows(self, x: Tensor) -> Tensor:
        """Each frame with its neighbours, zeros beyond the ends: (N, C, T, V) to (N, C, T, tau * V), frame by frame."""
        reach, length = self.tau // 2, x.shape[2]
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 0, 0, reach, reach))
        windows = torch.cat([padded[:, shift : shift + length] for shift in range(self.tau)], 2)
        return windows.permute(0, 3, 1, 2)


class UNIK(BlockBackbone):
    """UNIK of any V, C, M, tau and h; the defaults are those of its configurations for 2D joints.

    Args:
        joints: V, the number of joints.
        channels: C, the number of coordinates of a joint.
        persons: M, the number of person slots; each has statistics of its own, so a checkpoint fits one M alone.
        tau: number of neighbouring frames, odd, whose joints are mixed with each other.
        heads: h, heads of blocks 2 to 10; block 1 always has 3.
        classes: number of class scores that the model returns; None: it returns features.
        people: how persons are pooled; ``mean`` as in the released code.

    Raises:
        ValueError: a size below 1, or an even ``tau``.
    """

    def __init__(
        self,
        *,
        joints: int = 17,
        channels: int = 2,
        persons: int = 2,
        tau: int = 1,
        heads: int = 3,
        classes: int | None = None,
        people: People = "mean",
    ) -> None:
        if heads < 1 or tau < 1 or tau % 2 == 0:
            raise ValueError(f"heads are at least 1 and tau is odd, not {heads} and {tau}")

        def spatial(number: int, wide_in: int, wide_out: int) -> UnikSpatialUnit:
            several = _FIRST_HEADS if number == 1 else heads
            return UnikSpatialUnit(wide_in, wide_out, joints=joints, tau=tau, heads=several)

        super().__init__(
            joints=joints,
            channels=channels,
            persons=persons,
            classes=classes,
            people=people,
            spatial=spatial,
            names=("s_unit", "t_unit"),
        )
        self.tau, self.heads = tau, heads

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, Tensor], *, head: Head = "load", people: People = "mean") -> Self:
        """The model with the weights of a released state dict; every size follows from the shapes of its tensors.

        Args:
            state_dict: by the released names, with or without the prefixes ``module.`` and ``model_action.``; without
                ``fc`` the model returns features.
            head: ``drop`` ignores ``fc``, so that the model returns features.

        Raises:
            WrongWeightsError: a tensor is missing, unknown, or of a shape that does not fit the others or no UNIK.
        """
        weights = bare(state_dict)
        if head == "drop":
            weights = without_head(weights)
        model = cls(**_sizes(weights), people=people)
        load_weights(model, weights)
        return model


def _sizes(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of :class:`UNIK` that a state dict was made with; WrongWeightsError where it is none of UNIK's."""
    first = _shape(weights, "l1.s_unit.DepM", 3)
    heads = _shape(weights, "l2.s_unit.DepM", 3)[0]
    channels = _shape(weights, "l1.s_unit.conv_a.0.weight", 4)[1]
    window = "l1.s_unit.out_conv.weight"
    tau = _shape(weights, window, 5)[3] if window in weights else 1
    joints, left = divmod(first[2], tau)
    if left or not joints or tau % 2 == 0:
        raise WrongWeightsError(
            f"l1.s_unit.DepM is {first}, which is not a whole number of joints times an odd number of frames, tau = "
            f"{tau}"
        )
    slots = _shape(weights, "data_bn.weight", 1)[0]
    persons, left = divmod(slots, joints * channels)
    if left or not persons:
        raise WrongWeightsError(
            f"data_bn.weight has {slots} entries, which is not a whole number of persons of {joints} joints (from "
            f"l1.s_unit.DepM) with {channels} coordinates (from l1.s_unit.conv_a.0.weight)"
        )
    classes = _shape(weights, "fc.weight", 2)[0] if "fc.weight" in weights else None
    sizes = {"joints": joints, "channels": channels, "persons": persons, "tau": tau, "heads": heads}
    return sizes | {"classes": classes}


def _shape(weights: Mapping[str, Tensor], key: str, axes: int) -> tuple[int, ...]:
    """The shape of a tensor; WrongWeightsError where it is missing, has other than ``axes`` axes, or none of some
    length."""
    if key not in weights:
        raise WrongWeightsError(
            f"the state dict has no {key}, so it is not one of UNIK; it has {', '.join(list(weights)[:3])} …"
        )
    shape = tuple(weights[key].shape)
    if len(shape) != axes or 0 in shape:
        raise WrongWeightsError(f"{key} is {shape}; UNIK's has {axes} axes")
    return shape


Head = Literal["load", "drop"]
"""What is done with the classifier in the weights: ``load`` it, so that it must fit the network's, or ``drop`` it."""

_PREFIXES = ("module.", "model_action.")  # of DataParallel, and of the released code's classifier around UNIK
_HEAD = "fc."  # begins the names of the classifier's tensors
_SHOWN = 3  # names in a message


class WrongWeightsError(ValueError):
    """The tensors are not those of the network; the message names the first few and says what to do."""


def bare(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors by names without ``module.`` and ``model_action.`` before them.

    Raises:
        WrongWeightsError: two names become the same, or an entry is not a tensor.
    """
    weights: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        if not isinstance(tensor, Tensor):
            raise WrongWeightsError(f"{key} is a {type(tensor).__name__}, not a tensor; pass the state dict inside it")
        name = key
        while name.startswith(_PREFIXES):
            name = name.split(".", 1)[1]
        if name in weights:
            raise WrongWeightsError(f"two entries are named {name} once their prefixes are gone")
        weights[name] = tensor
    return weights


def without_head(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All weights but the classifier's."""
    return {name: tensor for name, tensor in weights.items() if not name.startswith(_HEAD)}


def load_weights(network: nn.Module, state_dict: Mapping[str, Tensor], *, head: Head = "load") -> None:
    """Copies weights into a network, to its dtype and device; if any of them does not fit, nothing is copied.

    Weights without a classifier leave the network's own as it is. Counters ``num_batches_tracked`` may be missing, as
    in checkpoints of early versions of PyTorch: batch norm with a fixed momentum does not read them.

    Args:
        head: ``drop`` ignores a classifier in the weights, such as one of other classes.

    Raises:
        WrongWeightsError: a weight is missing, unknown or of another shape.
    """
    weights = bare(state_dict)
    if head == "drop":
        weights = without_head(weights)
    own = network.state_dict()
    wanted = own if any(name.startswith(_HEAD) for name in weights) else without_head(own)
    unknown = [name for name in weights if name not in wanted]
    missing = [name for name in wanted if name not in weights and not name.endswith(".num_batches_tracked")]
    reshaped = [
        f"{name} is {tuple(tensor.shape)}, expected {tuple(wanted[name].shape)}"
        for name, tensor in weights.items()
        if name in wanted and tensor.shape != wanted[name].shape
    ]
    wrong = [_listed("unknown: ", unknown), _listed("missing: ", missing), _listed("", reshaped)]
    if any(wrong):
        remedy = ""
        if all(name.startswith(_HEAD) for name in [*unknown, *missing, *(text.split()[0] for text in reshaped)]):
            remedy = "; head='drop' leaves the classifier aside"
        raise WrongWeightsError(
            f"the weights do not fit {type(network).__name__}: {'; '.join(text for text in wrong if text)}{remedy}"
        )
    network.load_state_dict(weights, strict=False)


def _listed(what: str, names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what}{', '.join(names[:_SHOWN])}{more}" if names else ""
