"""Where an encoder computes, and in which numbers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

Precision = Literal["auto", "float32", "bfloat16"]


def device_of(name: str) -> torch.device:
    """torch's device of that name; ``auto`` is a GPU if there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast_of(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 for what runs inside, or nothing.

    Raises:
        ValueError: bfloat16 is asked for on a processor without it.
    """
    if precision == "float32":
        return nullcontext()
    if device.type == "cuda":
        capable = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Emulated, a convolution takes fifteen times as long as in float32; so only `bfloat16` asks for it.
        capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        if precision == "auto":
            return nullcontext()
    if capable:
        return torch.autocast(device.type, torch.bfloat16)
    if precision == "bfloat16":
        raise ValueError(f"{device} computes bfloat16 by emulation, many times slower; set loop.precision=float32")
    return nullcontext()
