"""Where torch computes: on the worker's GPU when it has one, else on one CPU thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]


class NoSuchDevice(RuntimeError):
    """The pipeline asks for a device that this worker does not have."""


def torch_device(wanted: Device) -> torch.device:
    """``auto`` takes the first GPU that the process may see.

    A CPU worker computes with one thread: every core already runs a worker of its own, threads that wait for one
    another on busy cores cost many times what they bring, and sums in one order give the same bits everywhere.

    Raises:
        NoSuchDevice: ``cuda`` is asked for and torch sees no GPU.
    """
    import torch

    if wanted != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if wanted == "cuda":
        raise NoSuchDevice(
            "the pipeline asks for device='cuda', but torch sees no GPU here: is its CUDA build installed, "
            "and does the stage declare Resources(gpus=1)?"
        )
    torch.set_num_threads(1)
    return torch.device("cpu")


def torch_dtype(wanted: Precision, device: torch.device) -> torch.dtype:
    """``auto`` computes in bfloat16 on a GPU and in float32 on a CPU."""
    import torch

    half = device.type == "cuda" if wanted == "auto" else wanted == "bf16"
    return torch.bfloat16 if half else torch.float32
