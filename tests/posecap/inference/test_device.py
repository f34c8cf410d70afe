from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from posecap.inference.device import Batches, DeviceError, ran_out_of_memory, torch_device, torch_dtype
from posecap.stage import TransientError


class Small:
    """Squares numbers, and has memory for ``room`` of them at a time."""

    def __init__(self, room: int, error: Exception) -> None:
        self.room, self.error, self.sizes = room, error, []

    def __call__(self, batch):
        self.sizes.append(len(batch))
        if len(batch) > self.room:
            raise self.error
        return [x * x for x in batch]


FULL = RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")


def test_batches_cover_everything_once_and_in_order():
    square = Small(100, FULL)
    assert Batches(4).run(square, range(10)) == [x * x for x in range(10)]
    assert square.sizes == [4, 4, 2]
    assert Batches(4).run(square, []) == []


@pytest.mark.parametrize("error", [FULL, MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_a_batch_that_does_not_fit_is_halved_and_the_size_remembered(error):
    square, batches = Small(3, error), Batches(8)
    assert batches.run(square, np.arange(10)) == [x * x for x in range(10)]
    assert square.sizes == [8, 4, 2, 2, 2, 2, 2]
    assert batches.run(square, range(3)) == [0, 1, 4]
    assert square.sizes[-2:] == [2, 1]


def test_one_item_that_does_not_fit_is_a_retryable_failure():
    with pytest.raises(TransientError, match="out_of_memory"):
        Batches(4).run(Small(0, FULL), range(3))


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="shapes"):
        Batches(4).run(Small(1, RuntimeError("shapes differ")), range(3))
    assert not ran_out_of_memory(ValueError("out of memory"))
    assert ran_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))


def test_lost_results_are_noticed():
    with pytest.raises(ValueError, match="3 items went in and 2 results came out"):
        Batches(4).run(lambda batch: list(batch)[:2], range(3))


def test_what_gathers_while_a_batch_computes_goes_into_the_next():
    batches, sizes, results = Batches(8), [], {}
    busy, go_on = threading.Event(), threading.Event()

    def square(batch):
        sizes.append(len(batch))
        busy.set()
        go_on.wait(10)
        return [x * x for x in batch]

    def ask(*items):
        results[items] = batches.run_together(square, items)

    threads = [threading.Thread(target=ask, args=(1,))]
    threads[0].start()
    assert busy.wait(10)
    threads += [threading.Thread(target=ask, args=(n, n + 1)) for n in (10, 20, 30)]
    for thread in threads[1:]:
        thread.start()
    while len(batches._waiting) < 3:
        pass
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert sizes == [1, 6]
    assert results == {(1,): [1], (10, 11): [100, 121], (20, 21): [400, 441], (30, 31): [900, 961]}


def test_an_error_in_company_is_told_only_to_whom_it_belongs():
    batches, errors, results = Batches(8), {}, {}
    busy, go_on = threading.Event(), threading.Event()

    def inverse(batch):
        busy.set()
        go_on.wait(10)
        return [1 / x for x in batch]

    def ask(x):
        try:
            results[x] = batches.run_together(inverse, [x])
        except ZeroDivisionError as error:
            errors[x] = error

    threads = [threading.Thread(target=ask, args=(4,))]
    threads[0].start()
    assert busy.wait(10)
    threads += [threading.Thread(target=ask, args=(x,)) for x in (0, 2)]
    for thread in threads[1:]:
        thread.start()
    while len(batches._waiting) < 2:
        pass
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert results == {4: [0.25], 2: [0.5]}
    assert list(errors) == [0]


# .


def test_without_a_gpu_auto_is_the_cpu_with_one_thread(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    torch.set_num_threads(2)
    assert torch_device("auto") == torch.device("cpu")
    assert torch.get_num_threads() == 1


def test_asking_for_a_gpu_that_is_not_there_says_what_to_check(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"Resources\(gpus=1\)"):
        torch_device("cuda")


def test_half_precision_is_for_gpus_unless_asked_for():
    gpu, cpu = torch.device("cuda"), torch.device("cpu")
    assert torch_dtype("auto", gpu) is torch_dtype("bf16", cpu) is torch.bfloat16
    assert torch_dtype("auto", cpu) is torch_dtype("fp32", gpu) is torch.float32
