"""ViCLIP checkpoints with random weights, in the published formats, marked as random.

write(path)                        tiny: 8 frames of 32 x 32 pixels, vectors of 32 numbers
write(path, sizes=VICLIP_B16)      the real size
"""

from __future__ import annotations

from pathlib import Path

import torch

from posecap.engines.viclip_model import VICLIP_B16, VICLIP_L14, Sizes, ViCLIP
from posecap.weights.checkpoints import MARK

TINY = Sizes(dimension=32, frames=8, patch=16, grid=2, video_width=128, video_layers=2, text_width=64, text_layers=2)
"""Two heads in the video tower, one in the text tower."""


def tensors(*, sizes: Sizes = TINY, seed: int = 0) -> dict[str, torch.Tensor]:
    """A state dict by the published names. No tensor is zero or one all over, so that each of them counts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in ViCLIP(sizes).state_dict().items()}
    return {name: _values(name, shape, generator) for name, shape in shapes.items()}


def write(path: Path, *, sizes: Sizes = TINY, seed: int = 0) -> Path:
    """``.pth`` as OpenGVLab publishes it (the weights under ``model``), or ``.safetensors`` with the flat names."""
    made = tensors(sizes=sizes, seed=seed)
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(made, path, metadata={MARK: "true"})
    else:
        torch.save({"model": made, MARK: True}, path)
    return path


def _values(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if name == "temp":
        return torch.tensor(0.01)
    values = torch.randn(shape, generator=generator)
    if name.endswith("weight") and values.ndim == 1:
        return 1 + 0.2 * values
    if values.ndim == 1 or "positional_embedding" in name or "token_embedding" in name:
        return 0.3 * values
    return values * (2 / values[0].numel()) ** 0.5


__all__ = ["TINY", "VICLIP_B16", "VICLIP_L14", "tensors", "write"]
