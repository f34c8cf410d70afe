"""ViTPose checkpoints with random weights, as transformers writes the published ones, and marked.

with tiny():                   the sizes ``base-simple`` and ``plus-small`` stand for networks of two narrow layers
    write(path)                a ``model.safetensors`` whose joints move with the picture
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from safetensors.torch import save_file

from posecap.engines import vitpose
from posecap.inference.hub_folder import import_transformers
from posecap.weights.checkpoints import MARK

_TINY = {
    "base-simple": vitpose._Network(48, 2, 4, decoder="simple"),
    "plus-small": vitpose._Network(48, 2, 4, experts=6, part=12),
}


@contextmanager
def tiny() -> Iterator[None]:
    """Let sizes stand for small networks: a file of the smallest published one has 133 MB."""
    with patch.dict(vitpose._NETWORKS, _TINY):
        yield


def network(size: str = "base-simple", *, seed: int = 0) -> Any:
    """transformers' own estimator in eval mode. Its heatmaps have peaks of about 0.7."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: Any = vitpose.build(import_transformers("transformers"), size).eval()
        with torch.no_grad():
            for name, tensor in made.named_parameters():
                if name.endswith("weight") and tensor.ndim > 1:
                    tensor.copy_(torch.randn(tensor.shape) / tensor[0].numel() ** 0.5)
                elif "position" in name:
                    tensor.copy_(torch.randn(tensor.shape) * 0.3)
            pictures = torch.nn.functional.interpolate(torch.randn(4, 3, 12, 9), (256, 192), mode="bicubic")
            heatmaps = made(pictures, dataset_index=torch.zeros(len(pictures), dtype=torch.int64)).heatmaps
            made.head.conv.weight.mul_(0.7 / heatmaps.amax((2, 3)).mean())
    return made


def write(path: Path, *, size: str = "base-simple", seed: int = 0) -> Path:
    tensors = {name: tensor.contiguous() for name, tensor in network(size, seed=seed).state_dict().items()}
    save_file(tensors, path, metadata={"format": "pt", MARK: "true"})
    return path
