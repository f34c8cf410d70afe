"""Loads the weights of released checkpoints: removes prefixes of names, compares them with a network, and copies
them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

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
