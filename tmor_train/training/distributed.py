"""Device and precision of a network, and communication between processes that train together, started by torchrun."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tmor_train.losses.queue import Entries

Precision = Literal["auto", "float32", "bfloat16"]
CPU = torch.device("cpu")


def device_of(name: str) -> torch.device:
    """torch's device of that name; ``auto`` is torch's current GPU if there is one, else the CPU. Raises RuntimeError
    for a name that is none of torch's."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def autocast_of(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which torch computes in bfloat16, or in float32 as usual.

    ``auto`` is bfloat16 on a GPU that has it and float32 elsewhere, on every CPU too.

    Raises:
        ValueError: ``bfloat16`` is asked for on a GPU or CPU that has no instructions for it.
    """
    if precision == "float32":
        return nullcontext()
    if device.type == "cuda":
        capable = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        # Whatever a CPU has, `auto` is float32 there: figures of one recipe do not depend on the machine.
        capable = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        if precision == "auto":
            return nullcontext()
    if capable:
        return torch.autocast(device.type, torch.bfloat16)
    if precision == "bfloat16":
        raise ValueError(
            f"{device} computes bfloat16 by emulation, many times slower; set precision (in pre-training "
            "loop.precision) to float32 or auto"
        )
    return nullcontext()


@dataclass(frozen=True, slots=True)
class DistributedContext:
    """This process, number ``rank`` (from 0) of ``world``, and its device. All processes call the same methods in the
    same order, or they wait for each other for ever; with one process they return at once."""

    rank: int = 0
    world: int = 1
    device: torch.device = CPU

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def gather(self, entries: Entries) -> tuple[Entries, int]:
        """The entries of all ranks in order of rank, and the index of this rank's first. Every rank gives equally many,
        which is not checked. Gradients flow back to the ranks that the entries are from."""
        if self.world == 1:
            return entries, 0
        return entries.map(self._gathered), self.rank * len(entries.index_K)

    def _gathered(self, part: Tensor) -> Tensor:
        """The parts of all ranks, one after the other along the first axis."""
        if part.requires_grad:
            from torch.distributed.nn import functional

            gather: Callable[[Tensor], Sequence[Tensor]] = functional.all_gather
            return torch.cat(list(gather(part)))
        parts = [torch.empty_like(part) for _ in range(self.world)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its mean over ranks, in one all-reduce. Parameters without a gradient are left out;
        they have to be the same ones on every rank.

        Done here and not by DistributedDataParallel: the gradients are small (UNIK's 3.4 million take 14 MB), so that
        sending them while others are computed gains little; accumulated batches send once; and UNIK's unused bias,
        which never gets a gradient, is simply not among them.
        """
        if self.world == 1:
            return
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.world
        means = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def average_statistics(self, module: nn.Module) -> None:
        """Replace the running statistics of batch normalisation by their mean over ranks.

        All floating-point buffers of ``module`` are taken for such. Each rank keeps its own while it trains. They are
        moving averages, and averaging over ranks commutes with that: whenever and however often this is done, the mean
        over ranks is the same.
        """
        if self.world > 1:
            for buffer in module.buffers():
                if buffer.is_floating_point():
                    dist.all_reduce(buffer)
                    buffer /= self.world

    def sum(self, values: Tensor) -> Tensor:
        """The sum over ranks, in place."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, values: Tensor) -> Tensor:
        """The main process's values, in place."""
        if self.world > 1:
            dist.broadcast(values, 0)
        return values

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        if self.world > 1:
            dist.barrier()


def distributed_context(device: str) -> DistributedContext:
    """The processes that the environment names (RANK, WORLD_SIZE, LOCAL_RANK), joined if they are not yet.

    Args:
        device: ``auto`` or torch's name. With several processes ``cuda`` and ``auto`` give each the GPU of its
            LOCAL_RANK; a numbered GPU such as ``cuda:1`` is taken as it is, by all of them.

    Raises:
        ValueError: a GPU is named, and torch finds none, or none for each process of this machine.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    device = str(device_of(device))
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"loop.device is {device!r}, but torch finds no GPU here; set loop.device=cpu")
    if world == 1:
        return DistributedContext(device=torch.device(device))
    if device == "cuda":
        number, found = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if number >= found:
            raise ValueError(
                f"process {number} of this machine, counted from 0, has no GPU of its own: torch finds {found}; start "
                "as many processes as there are GPUs (torchrun --nproc-per-node), or set loop.device=cpu"
            )
        device = f"cuda:{number}"
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return DistributedContext(dist.get_rank(), dist.get_world_size(), torch.device(device))
