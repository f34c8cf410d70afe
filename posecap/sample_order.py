"""Who reads which samples of an epoch, in which order, and what is left of an epoch that was interrupted.

An epoch is a sequence of samples, numbered from 0. Each rank gets a stretch of it, and each DataLoader worker a
stretch of its rank's, in whole batches, which it shuffles through a buffer. All of it follows from a few numbers, so
that a state needs no list of samples: a :class:`Pass` says how the sequence was divided and how many batches each rank
had when it was interrupted, and the next pass divides what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
"""(N,) numbers of samples in an epoch, or in what was left of one."""
Uneven = Literal["repeat", "drop", "keep"]
"""What is done where samples do not divide evenly (:class:`posecap.stream.ShardStream`)."""

_MOST = 1 << 31
"""Above every number of a sound pass (ranks, workers, batches): a damaged state must not cost memory or hours."""


class StateError(ValueError):
    """A state of a loader cannot be continued from; the message says why and what to do."""


@dataclass(frozen=True)
class Shuffle:
    """How each consumer shuffles, by a buffer of ``buffer`` samples, at least 1; ``seed`` None leaves the order of the
    sequence."""

    seed: int | None
    epoch: int
    buffer: int

    def order(self, first: int, end: int, *, consumer: int, number: int) -> Iterator[int]:
        """The numbers ``first`` to ``end - 1``, mixed no farther than the buffer is large.

        Args:
            consumer: which of all ranks' workers.
            number: of the pass within its epoch.
        """
        if self.seed is None:
            return iter(range(first, end))
        # 1 keeps these draws apart from those of the order of parts, which have 0 there.
        more = () if number == 0 else (number,)
        return _shuffled(first, end, self.buffer, np.random.default_rng([self.seed, self.epoch, 1, consumer, *more]))


@dataclass(frozen=True)
class Pass:
    """One way through (the rest of) an epoch: how it is divided, and how far it went.

    Args:
        world_size, workers: ranks, and workers of each; a rank that reads by itself has one.
        batch_size: samples of a batch.
        drop_last: whether a rank's last batch is left out if it is smaller.
        delivered: batches that each rank has had.
    """

    world_size: int = 1
    workers: int = 1
    batch_size: int = 1
    drop_last: bool = False
    delivered: int = 0

    def __post_init__(self) -> None:
        sizes = (self.world_size, self.workers, self.batch_size)
        sound = all(type(n) is int and 0 < n < _MOST for n in sizes) and type(self.delivered) is int
        if not sound or not 0 <= self.delivered < _MOST:
            raise StateError(f"{self} is no pass through a dataset; the state is damaged")

    def same_division(self, other: Pass) -> bool:
        """Whether both divide the samples alike."""
        return self.as_numbers()[:-1] == other.as_numbers()[:-1]

    def as_numbers(self) -> list[int]:
        """The five fields, as a state holds them."""
        return [self.world_size, self.workers, self.batch_size, int(self.drop_last), self.delivered]

    @classmethod
    def from_numbers(cls, numbers: Sequence[int]) -> Pass:
        """The pass of :meth:`as_numbers`.

        Raises:
            StateError: these are no such numbers.
        """
        if not isinstance(numbers, list | tuple) or len(numbers) != 5 or any(type(n) is not int for n in numbers):
            raise StateError(f"{numbers!r} is no pass through a dataset; the state is damaged")
        world_size, workers, batch_size, drop_last, delivered = numbers
        return cls(world_size, workers, batch_size, bool(drop_last), delivered)

    def rank_share(self, total: int, rank: int, uneven: Uneven) -> tuple[int, int]:
        """The stretch (first, end) of a rank, of ``total`` samples; numbers from ``total`` on begin at 0 again."""
        if uneven == "keep":
            return total * rank // self.world_size, total * (rank + 1) // self.world_size
        each = total // self.world_size if uneven == "drop" else -(-total // self.world_size)
        return each * rank, each * (rank + 1)

    def worker_share(self, total: int, rank: int, worker: int, uneven: Uneven) -> tuple[int, int]:
        """The stretch of one worker of a rank: whole batches but for the rank's last one."""
        first, end = self.rank_share(total, rank, uneven)
        batches = -(-(end - first) // self.batch_size)
        low, high = (first + self.batch_size * (batches * w // self.workers) for w in (worker, worker + 1))
        return min(low, end), min(high, end)

    def batches(self, total: int, rank: int, uneven: Uneven) -> int:
        """Batches of a whole pass of a rank."""
        first, end = self.rank_share(total, rank, uneven)
        return (end - first) // self.batch_size if self.drop_last else -(-(end - first) // self.batch_size)

    def had(self, total: int, rank: int, uneven: Uneven) -> tuple[list[int], int]:
        """Samples that each worker of a rank has given, and the worker whose turn it is: a DataLoader takes a batch of
        each in turn, without those that have none left."""
        shares = [self.worker_share(total, rank, worker, uneven) for worker in range(self.workers)]
        sizes = [end - first for first, end in shares]
        have = [n // self.batch_size if self.drop_last else -(-n // self.batch_size) for n in sizes]
        had, turn = [0] * self.workers, 0
        left = min(self.delivered, sum(have))
        while left:
            waiting = [worker for worker in range(self.workers) if had[worker] < have[worker]]
            rounds = min(left // len(waiting), min(have[worker] - had[worker] for worker in waiting))
            for worker in waiting if rounds else waiting[:left]:
                had[worker] += max(rounds, 1)
            turn = 0 if rounds else waiting[left]
            left -= rounds * len(waiting) or left
        return [min(batches * self.batch_size, size) for batches, size in zip(had, sizes, strict=True)], turn


@dataclass(frozen=True)
class Rest:
    """What is left of an epoch of ``total`` samples after some passes through it, and the pass that goes on.

    Args:
        ended: passes that were interrupted and then divided otherwise.
        current: the pass at hand, of which each rank has had some batches.
    """

    total: int
    uneven: Uneven
    ended: tuple[Pass, ...]
    current: Pass

    @classmethod
    def of(cls, total: int, uneven: Uneven, passes: Sequence[Pass], division: Pass) -> Rest:
        """What is left after ``passes``, to be divided as ``division`` is, which delivered nothing yet: the last pass
        goes on exactly as it would have if it is divided the same, else its rest is divided anew."""
        if passes and passes[-1].same_division(division):
            return cls(total, uneven, tuple(passes[:-1]), passes[-1])
        return cls(total, uneven, tuple(passes), division)

    def left(self, shuffle: Shuffle) -> Positions | None:
        """Numbers of the samples that no rank had in a pass that ended, ascending; None where no pass did."""
        left: Positions | None = None
        for number, ended in enumerate(self.ended):
            count = self.total if left is None else len(left)
            kept = np.ones(count, np.bool_)
            for rank in range(ended.world_size):
                for worker, had in enumerate(ended.had(count, rank, self.uneven)[0]):
                    first, end = ended.worker_share(count, rank, worker, self.uneven)
                    consumer = rank * ended.workers + worker
                    order = shuffle.order(first, end, consumer=consumer, number=number)
                    kept[np.fromiter(islice(order, had), np.int64, had) % max(count, 1)] = False
            left = np.flatnonzero(kept) if left is None else left[kept]
        return left

    def share(self, rank: int, worker: int, shuffle: Shuffle) -> Share:
        """What one worker of a rank still gives in the pass at hand. A loader begins with worker 0, which therefore
        takes the share of the worker whose turn it was."""
        left = self.left(shuffle)
        count = self.total if left is None else len(left)
        samples_had, turn = self.current.had(count, rank, self.uneven)
        worker = (worker + turn) % self.current.workers
        first, end = self.current.worker_share(count, rank, worker, self.uneven)
        consumer, number = rank * self.current.workers + worker, len(self.ended)
        order = shuffle.order(first, end, consumer=consumer, number=number)
        waiting = np.arange(first, end)
        if had := samples_had[worker]:
            waiting = np.delete(waiting, np.fromiter(islice(order, had), np.int64, had) - first)
        return Share(waiting, order, _of_each_round(waiting, count, left))

    def batches(self, rank: int, shuffle: Shuffle) -> int:
        """Batches that a rank still gets in the pass at hand."""
        left = self.left(shuffle)
        whole = self.current.batches(self.total if left is None else len(left), rank, self.uneven)
        return max(0, whole - self.current.delivered)


@dataclass(frozen=True)
class Share:
    """What a consumer reads.

    Args:
        numbers: of the samples in the consumer's pass, ascending, in which they are read.
        order: the same numbers, in the order in which they are given.
        rounds: the numbers of the samples in the epoch, ascending within each round; several rounds where samples are
            read again so that all ranks have as many.
    """

    numbers: Positions
    order: Iterator[int]
    rounds: Sequence[Positions]


def in_order(order: Iterator[int], read: Iterator[tuple[int, Any]]) -> Iterator[Any]:
    """Things in a given order that are read in another, each with its number; those that come early are held. ``read``
    has every number of ``order``; RuntimeError where it ends before."""
    held: dict[int, Any] = {}
    for wanted in order:
        while wanted not in held:
            number, thing = next(read)
            held[number] = thing
        yield held.pop(wanted)


def _of_each_round(numbers: Positions, count: int, left: Positions | None) -> list[Positions]:
    """Numbers of a pass as numbers of the epoch, divided where they begin at 0 again."""
    if not len(numbers):
        return []
    ends = np.arange(count, int(numbers[-1]) + 1, count)
    rounds = [part % count for part in np.split(numbers, np.searchsorted(numbers, ends)) if len(part)]
    return rounds if left is None else [left[part] for part in rounds]


def _shuffled(first: int, end: int, size: int, rng: np.random.Generator) -> Iterator[int]:
    """The numbers ``first`` to ``end - 1`` in an order drawn from a buffer of ``size``: each number given is drawn from
    it, and the next one takes its place."""
    buffer = list(range(first, min(first + size, end)))
    draws: Iterator[int] = iter(())
    for number in range(first + len(buffer), end):
        draw = next(draws, None)
        if draw is None:
            draws = iter(rng.integers(0, size, 4096).tolist())  # many at once: one by one each costs microseconds
            draw = next(draws)
        yield buffer[draw]
        buffer[draw] = number
    rng.shuffle(buffer)
    yield from buffer
