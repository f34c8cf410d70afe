"""Work on blocks side by side: a thread a core, each block on one thread.

Matrix products release the interpreter's lock. Compared with cutting each product among the cores this keeps the steps
between products on all cores too, and no core waits for another one at the end of each product.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_thread_each(device: torch.device) -> Iterator[int]:
    """Makes torch use one thread for each operation meanwhile; gives the number of threads to work with instead.

    That is 1 on a GPU, which is kept busy by one, and otherwise what torch was set to use.
    """
    before = torch.get_num_threads()
    if device.type != "cpu":
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


def results_in_order(compute: Callable[[Item], Result], items: Iterable[Item], *, workers: int) -> Iterator[Result]:
    """Results of all items in their order. Items are asked for only a few ahead of the results given out."""
    if workers == 1:
        yield from map(compute, items)
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(compute, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
