"""What a schedule asks of started workers: single tasks, on one node or several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from posecap.run.execute import ItemResult
from posecap.run.health import NodeChange
from posecap.types import PartName

WHOLE_PART = -1
"""In place of a row's position: the task that writes the part."""


@dataclass(frozen=True)
class Task:
    """One item for one worker.

    Args:
        row: position of its row in the part; :data:`WHOLE_PART` for what writes the part.
        order: sorts the items of one row: 0, then the number of the item among the outputs of each earlier segment.
        segment: number of the pipeline's segment that is to run, from 0.
        attempt: how often the row has started over before.
        node: the only node that can run the task, whose disk has the item's file; None if every node can.
        avoid: nodes that should not run it; not asked where ``node`` is given.
    """

    part: PartName
    row: int
    order: tuple[int, ...]
    segment: int
    item: Any
    attempt: int = 0
    node: str | None = None
    avoid: frozenset[str] = frozenset()

    def may_run_on(self, node: str) -> bool:
        """Whether the task is for a node of this name, or for any and this is none to avoid."""
        return node == self.node if self.node is not None else node not in self.avoid


@dataclass(frozen=True)
class WorkerLost:
    """The worker died or was stopped while it ran the task; ``reason`` is a snake_case word."""

    reason: str
    detail: str


@dataclass(frozen=True)
class NodeLost:
    """The task's node is gone; the task is not the cause, and what it was made from may be gone too."""


@dataclass(frozen=True)
class Finished:
    """A task that a worker of ``node`` is done with. The result None: it was not run and must be submitted again."""

    task: Task
    node: str
    result: ItemResult | WorkerLost | NodeLost | None


@dataclass(frozen=True)
class Load:
    """The workers of a segment on one node: how many there are, how many threads they have, each of which processes
    items one by one (``slots``), how many of these are at work (``busy``), and the items that were given to them."""

    node: str
    segment: int
    workers: int
    slots: int
    items: int
    busy: int


class Pool(Protocol):
    """Started workers for every segment of a pipeline, on one node or several.

    ``segments`` is the number of segments, ``start_seconds`` how long the workers took to start.
    """

    segments: int
    start_seconds: float

    def nodes(self, segment: int) -> frozenset[str]:
        """Names of the nodes with workers of a segment, without those that are drained or gone."""
        ...

    def free_slots(self, segment: int, node: str | None = None) -> int:
        """How many more items the segment's workers accept now, a short queue included; on one node or on all."""
        ...

    def takes(self, task: Task) -> bool:
        """Whether a worker that may run the task has a slot free."""
        ...

    def submit(self, task: Task) -> None:
        """Give a task that the pool takes to a worker of its segment; never blocks."""
        ...

    def wait(self) -> Finished | NodeChange | None:
        """Block until a submitted task is done, nodes come or go, or other slots are free (None)."""
        ...

    def drain(self, node: str) -> bool:
        """Give a node no more tasks; False where the others could not do without it, and nothing changes."""
        ...

    def load(self) -> Iterable[Load]:
        """The load of every node's workers now."""
        ...

    def close(self) -> None:
        """End the workers, whether tasks are left or not."""
        ...
