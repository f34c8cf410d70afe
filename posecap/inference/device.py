"""Device and precision of torch models, and batches that shrink when memory runs out."""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from posecap.stage import TransientError

if TYPE_CHECKING:
    import torch


Device = Literal["auto", "cpu", "cuda"]
Precision = Literal["auto", "fp32", "bf16"]
"""As pipelines ask for them: :func:`torch_device` and :func:`torch_dtype` say what ``auto`` takes."""


class DeviceError(RuntimeError):
    """The pipeline asks for a device that this worker does not have."""


def torch_device(wanted: Device) -> torch.device:
    """``auto`` takes the first GPU that the process may see.

    On a CPU torch is set to one thread: every core already runs a worker of its own, where threads that wait for one
    another slow each other down, and numbers are added in one order, however many cores a machine has.

    Raises:
        DeviceError: ``cuda`` is asked for and torch sees no GPU.
    """
    import torch

    if wanted != "cpu" and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if wanted == "cuda":
        raise DeviceError(
            "the pipeline asks for device='cuda', but torch sees no GPU here: is its CUDA build installed, "
            "and does the pipeline say Pipeline(…, worker=Resources(gpus=1))? device='auto' takes the CPU without a GPU"
        )
    torch.set_num_threads(1)
    return torch.device("cpu")


def torch_dtype(wanted: Precision, device: torch.device) -> torch.dtype:
    """``auto`` computes in bfloat16 on a GPU and in float32 on a CPU."""
    import torch

    half = device.type == "cuda" if wanted == "auto" else wanted == "bf16"
    return torch.bfloat16 if half else torch.float32


T = TypeVar("T")
R = TypeVar("R")
_Request: TypeAlias = "tuple[Sequence[Any], Future[Any]]"
"""Items of one thread, and where it waits for the list of their results."""

_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "failed to allocate memory",
    "bad allocation",
    "std::bad_alloc",
    "_alloc_failed",
)
"""Words, in lower case, by which torch, onnxruntime, C++, cuBLAS and cuDNN report a lack of memory."""

_log = logging.getLogger(__name__)


class Batches:
    """Runs a function over batches of at most ``most`` items, and halves ``most`` for good when memory runs out.

    One thread computes at a time, so a model that several threads share is never run by two of them at once.

    Raises:
        ValueError: ``most`` is below 1.
    """

    def __init__(self, most: int) -> None:
        if most < 1:
            raise ValueError(f"a batch needs at least one item, got batch={most}")
        self.most = most
        self._computing = threading.RLock()  # reentrant: run_together holds it and calls run
        self._waiting: deque[_Request] = deque()

    def run(self, compute: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """One result per item, in order.

        Args:
            compute: gives one result per item of a batch, which is a slice of ``items``.

        Raises:
            ValueError: ``compute`` gave another number of results.
            TransientError: ``out_of_memory`` when not even one item fits.
        """
        results: list[R] = []
        with self._computing:
            while len(results) < len(items):
                batch = items[len(results) : len(results) + self.most]
                if (done := _results_if_memory_suffices(compute, batch)) is not None:
                    if len(done) != len(batch):
                        raise ValueError(f"{len(batch)} items went in and {len(done)} results came out")
                    results.extend(done)
                    continue
                if len(batch) == 1:
                    raise TransientError(
                        "out_of_memory", "not even one item fits in memory: use a smaller model or input size"
                    )
                self.most = len(batch) // 2
                if (torch := sys.modules.get("torch")) is not None and torch.cuda.is_available():
                    torch.cuda.empty_cache()
                _log.warning("out of memory with a batch of %d; continuing with %d", len(batch), self.most)
        return results

    def run_together(self, compute: Callable[[Sequence[T]], Sequence[R]], items: Sequence[T]) -> list[R]:
        """:meth:`run`, in batches shared with the items that other threads ask for while an earlier batch computes.

        No thread waits to fill a batch: the one that finds the model free runs all pending items. Every thread must
        pass the same ``compute``, and items that can be batched with those of the others.
        """
        mine: Future[list[R]] = Future()
        self._waiting.append((items, mine))
        with self._computing:
            if not mine.done():
                gathered = [self._waiting.popleft() for _ in range(len(self._waiting))]
                # A thread that was interrupted may have removed this request from the queue without computing it.
                self._answer(compute, gathered if any(f is mine for _, f in gathered) else [*gathered, (items, mine)])
        return mine.result()

    def _answer(self, compute: Callable[[Sequence[Any]], Sequence[Any]], requests: list[_Request]) -> None:
        """Give each request its results, or the error of computing them."""
        try:
            results = iter(self.run(compute, [item for items, _ in requests for item in items]))
        except Exception as error:
            if len(requests) == 1:
                requests[0][1].set_exception(error)
                return
            for request in requests:  # one by one, so that an error reaches only the thread it belongs to
                self._answer(compute, [request])
            return
        for items, future in requests:
            future.set_result(list(islice(results, len(items))))


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python reports a lack of memory. Those of onnxruntime are no RuntimeErrors: who
    calls it turns them into a MemoryError (:meth:`posecap.inference.onnx.OnnxNetwork.run`).
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in _MEMORY_WORDS)


def _results_if_memory_suffices(
    compute: Callable[[Sequence[T]], Sequence[R]], batch: Sequence[T]
) -> Sequence[R] | None:
    """The results, or None when memory ran out. The error is not kept: its traceback would keep tensors in memory."""
    try:
        return compute(batch)
    except (MemoryError, RuntimeError) as error:
        if not ran_out_of_memory(error):
            raise
    return None
