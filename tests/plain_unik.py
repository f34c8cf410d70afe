"""UNIK and AGCN written plainly, one head after the other, with which tests compare the fast implementations."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

Weights = Mapping[str, Tensor]


def scores(
    weights: Weights,
    x: Tensor,
    *,
    training: bool,
    tau: int = 1,
    units: tuple[str, str] = ("s_unit", "t_unit"),
    dependencies: Callable[[str], Tensor] | None = None,
) -> Tensor:
    """(N, C, T, V, M) to scores, or to clip features where there is no ``fc``. Running statistics are updated."""
    clips, channels, length, joints, persons = x.shape
    dependencies = dependencies or (lambda unit: weights[f"{unit}.DepM"])
    flat = torch.stack([x[:, c, :, v, m] for m in range(persons) for v in range(joints) for c in range(channels)], 1)
    flat = _norm(weights, "data_bn", flat, training)
    y = flat.view(clips, persons, joints, channels, length).permute(0, 1, 3, 4, 2)
    y = y.reshape(clips * persons, channels, length, joints)
    for number in range(1, 11):
        stride = 2 if number in (5, 8) else 1
        inside = _spatial(weights, f"l{number}.{units[0]}", y, dependencies, tau, training)
        inside = _temporal(weights, f"l{number}.{units[1]}", inside, stride, training)
        if f"l{number}.residual.conv.weight" in weights:
            inside = inside + _temporal(weights, f"l{number}.residual", y, stride, training)
        elif number > 1:
            inside = inside + y
        y = functional.relu(inside)
    features = y.mean((2, 3)).view(clips, persons, 256).mean(1)
    return functional.linear(features, weights["fc.weight"], weights["fc.bias"]) if "fc.weight" in weights else features


def randomise(model: nn.Module, seed: int) -> None:
    """Weights at which every part of a network counts: no norm scales by 1e-6, no statistics are 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            drawn = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            if name.endswith("running_var"):
                tensor.copy_(drawn + 0.5)
            elif tensor.dim() == 1 and name.endswith("weight"):
                tensor.copy_(drawn * 0.5 + 0.5)
            elif tensor.dim() == 1:
                tensor.copy_(drawn * 0.2 - 0.1)
            elif tensor.is_floating_point() and tensor.dim() > 3:
                tensor.copy_((drawn - 0.5) * 3 / tensor[0].numel() ** 0.5)


def _norm(weights: Weights, name: str, x: Tensor, training: bool) -> Tensor:
    mean, var = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    return functional.batch_norm(x, mean, var, weights[f"{name}.weight"], weights[f"{name}.bias"], training)


def _temporal(weights: Weights, name: str, x: Tensor, stride: int, training: bool) -> Tensor:
    kernel = weights[f"{name}.conv.weight"]
    padding = (kernel.shape[2] // 2, 0)
    x = functional.conv2d(x, kernel, weights[f"{name}.conv.bias"], stride=(stride, 1), padding=padding)
    return _norm(weights, f"{name}.bn", x, training)


def _spatial(
    weights: Weights, name: str, x: Tensor, dependencies: Callable[[str], Tensor], tau: int, training: bool
) -> Tensor:
    if tau > 1:
        x = _windows(x, tau)
    clips, channels, length, joints = x.shape
    summed = torch.zeros(())
    for head, dependency in enumerate(dependencies(name)):

        def convolved(letter: str, of: Tensor, head: int = head) -> Tensor:
            key = f"{name}.conv_{letter}.{head}"
            return functional.conv2d(of, weights[f"{key}.weight"], weights[f"{key}.bias"])

        one, other = convolved("a", x).permute(0, 3, 1, 2).flatten(2), convolved("b", x).flatten(1, 2)
        matrix = torch.softmax(one @ other / one.shape[2], 1) + dependency
        summed = summed + convolved("d", (x.flatten(1, 2) @ matrix).view(clips, channels, length, joints))
    inside = _norm(weights, f"{name}.bn", summed, training)
    if f"{name}.down.0.weight" in weights:
        down = functional.conv2d(x, weights[f"{name}.down.0.weight"], weights[f"{name}.down.0.bias"])
        x = _norm(weights, f"{name}.down.1", down, training)
    y = functional.relu(inside + x)
    if tau == 1:
        return y
    y = y.view(clips, -1, length, tau, joints // tau)
    y = functional.conv3d(y, weights[f"{name}.out_conv.weight"], weights[f"{name}.out_conv.bias"]).squeeze(3)
    return _norm(weights, f"{name}.out_bn", y, training)


def _windows(x: Tensor, tau: int) -> Tensor:
    clips, channels, length, joints = x.shape
    wide = x.new_zeros(clips, channels, length, tau, joints)
    for frame in range(length):
        for place in range(tau):
            source = frame + place - tau // 2
            if 0 <= source < length:
                wide[:, :, frame, place] = x[:, :, source]
    return wide.flatten(3)
