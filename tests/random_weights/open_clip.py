"""Tiny CLIPs of open_clip with random weights: a folder with configuration and weights, marked as random."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from posecap.inference.package_compat import ensure_torchvision
from posecap.weights.checkpoints import MARK


def configuration(*, width: int = 64, quick_gelu: bool = True) -> dict:
    return {
        "embed_dim": 32,
        "quick_gelu": quick_gelu,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": width, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49_408, "width": 64, "heads": 1, "layers": 2},
    }


def network(*, width: int = 64, seed: int = 0) -> torch.nn.Module:
    """open_clip's own model, every tensor random."""
    ensure_torchvision()
    import open_clip

    model = open_clip.CLIP(**configuration(width=width)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            if name != "logit_scale":
                tensor.copy_(noise * 0.3 if noise.ndim < 2 else noise * (2 / noise[0].numel()) ** 0.5)
            if name.split(".")[-2:][0].startswith("ln_") and name.endswith("weight"):
                tensor.add_(1)
    return model


def write(folder: Path, *, width: int = 64, seed: int = 0, ending: str = ".safetensors") -> Path:
    """``folder`` as ``local-dir:`` takes it, with its weights; returns the file of weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": configuration(width=width), "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    path, state = folder / f"open_clip_model{ending}", network(width=width, seed=seed).state_dict()
    if ending == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path, metadata={MARK: "true"})
    else:
        torch.save({"state_dict": state, MARK: True}, path)
    return path
